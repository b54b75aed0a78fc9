"""Inception V3 of the Frechet distance: shapes, the count of weights, the two odd poolings, the names of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rnasynth.nets.inception import CLASSES, FEATURES, InceptionV3, Mixed, convert, prepare

# Names of the published copy, by block: each has .conv.weight and .bn.{weight,bias,running_mean,running_var}.
A = ["branch1x1", "branch5x5_1", "branch5x5_2", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3", "branch_pool"]
B = ["branch3x3", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]
C = ["branch1x1", *(f"branch7x7_{n}" for n in (1, 2, 3)), *(f"branch7x7dbl_{n}" for n in range(1, 6)), "branch_pool"]
D = ["branch3x3_1", "branch3x3_2", *(f"branch7x7x3_{n}" for n in range(1, 5))]
E = ["branch1x1", "branch3x3_1", "branch3x3_2a", "branch3x3_2b", "branch3x3dbl_1", "branch3x3dbl_2"]
E += ["branch3x3dbl_3a", "branch3x3dbl_3b", "branch_pool"]
BLOCKS = {"5b": A, "5c": A, "5d": A, "6a": B, "6b": C, "6c": C, "6d": C, "6e": C, "7a": D, "7b": E, "7c": E}
STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
PARTS = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


def published_names() -> set[str]:
    owners = [f"Conv2d_{name}" for name in STEM]
    owners += [f"Mixed_{block}.{branch}" for block, branches in BLOCKS.items() for branch in branches]
    return {f"{owner}.{part}" for owner in owners for part in PARTS} | {"fc.weight", "fc.bias"}


@pytest.fixture(scope="module")
def network() -> InceptionV3:
    torch.manual_seed(0)
    network = InceptionV3().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
    return network


def test_names_and_count_of_weights_are_the_published_ones(network: InceptionV3) -> None:
    names = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    assert names == published_names()
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count - sum(parameter.numel() for parameter in network.fc.parameters()) == 21_785_568
    assert count == 21_785_568 + 1008 * 2048 + 1008  # 23,834,568 with the 1,000 classes of the printed network


def test_shapes_of_every_stage_are_the_published_ones(network: InceptionV3) -> None:
    seen: dict[str, tuple[int, ...]] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, tuple(out.shape[1:])))
        for name, module in network.named_children()
    ]
    with torch.inference_mode():
        features = network(prepare(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)))
        assert features.shape == (1, FEATURES) and network.logits(features).shape == (1, CLASSES)
    for hook in hooks:
        hook.remove()
    assert seen["Conv2d_1a_3x3"] == (32, 149, 149) and seen["Conv2d_4a_3x3"] == (192, 71, 71)  # table 1
    assert seen["Mixed_5d"] == (288, 35, 35) and seen["Mixed_6e"] == (768, 17, 17) and seen["Mixed_7c"] == (2048, 8, 8)


def pooled_by(block: Mixed, maps: Tensor, pool: str) -> Tensor:
    """What comes out of a block's last channels if its pooling is `pool`."""
    if pool == "max":
        pooled = functional.max_pool2d(maps, 3, stride=1, padding=1)
    else:
        pooled = functional.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=pool == "with zeros")
    return block.get_submodule("branch_pool")(pooled)


@pytest.mark.parametrize(("name", "channels", "pool"), [("5b", 192, "without"), ("6c", 768, "without"), ("7c", 2048, "max")])
def test_pooling_is_that_of_the_tensorflow_graph(network: InceptionV3, name: str, channels: int, pool: str) -> None:
    block = network.get_submodule(f"Mixed_{name}")
    assert isinstance(block, Mixed)
    maps = torch.rand(1, channels, 8, 8)
    with torch.inference_mode():
        for other in ("with zeros", "without", "max"):  # the textbook's pooling would be seen
            expected = pooled_by(block, maps, other)
            same = torch.allclose(block(maps)[:, -expected.shape[1] :], expected, atol=1e-6)
            assert same == (other == pool), other


def test_published_weights_are_taken_over_completely(network: InceptionV3) -> None:
    published = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    published["module.AuxLogits.fc.weight"] = torch.zeros(3)
    other = InceptionV3().eval()
    other.load_state_dict(convert(published))
    tiles = prepare(torch.randint(0, 256, (2, 40, 40, 3), dtype=torch.uint8))[:, :, :99, :99]
    with torch.inference_mode():
        torch.testing.assert_close(other(tiles), network(tiles))
    without_counters = {name: t for name, t in network.state_dict().items() if "num_batches" not in name}
    other.load_state_dict(convert(without_counters))


def test_other_networks_weights_are_refused(network: InceptionV3) -> None:
    published = dict(network.state_dict())
    for change, message in (
        ({"fc.weight": torch.zeros(1000, 2048)}, "expected shape"),
        ({"Mixed_8a.conv.weight": torch.zeros(1)}, "unknown"),
        ({"fc.bias": torch.full((1008,), float("nan"))}, "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            convert({**published, **change})
    published.pop("Mixed_7c.branch_pool.bn.running_var")
    with pytest.raises(ValueError, match="missing"):
        convert(published)


def test_preparation_is_bilinear_to_299_and_scaled() -> None:
    tiles = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    made = prepare(tiles)
    assert made.shape == (2, 3, 299, 299) and made.min() >= -1 and made.max() <= 1
    white = prepare(torch.full((1, 32, 32, 3), 255, dtype=torch.uint8))
    torch.testing.assert_close(white, torch.ones_like(white))
    torch.testing.assert_close(made, prepare(tiles, antialias=True))  # made larger: nothing to blur
    large = torch.randint(0, 256, (1, 640, 640, 3), dtype=torch.uint8)
    assert (prepare(large) - prepare(large, antialias=True)).abs().max() > 0.1


def test_logits_leave_the_bias_out_unless_asked(network: InceptionV3) -> None:
    features = torch.rand(3, FEATURES)
    with torch.inference_mode():
        torch.testing.assert_close(network.logits(features, bias=True) - network.fc.bias, network.logits(features))
