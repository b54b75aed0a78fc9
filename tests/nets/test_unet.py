"""The U-Net of the cascade: what reaches the output, by which path, and what a broken net would look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rnasynth.errors import InputError
from rnasynth.nets.attention import Attention, Tokens, attend
from rnasynth.nets.unet import UNet

BASE = {"width": 256, "multipliers": (1, 2, 3, 4), "blocks": (3, 3, 3, 3)}
SUPER = {"width": 128, "multipliers": (1, 2, 4, 8), "blocks": (2, 4, 8, 8)}
PX, CONDITION = 8, 6


def small(**changed: Any) -> UNet:
    """A small net with seeded weights, nothing zero in it: as after some training."""
    options: dict[str, Any] = {
        "width": 16,
        "multipliers": (1, 2),
        "blocks": (1, 2),
        "self_attention": (False, True),
        "cross_attention": (False, True),
        "condition_dim": CONDITION,
        "head_dim": 16,
    }
    torch.manual_seed(0)
    return perturbed(UNet(**(options | changed)))


def perturbed(net: UNet) -> UNet:
    """Move the parameters that begin at zero."""
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return net


def inputs(n: int = 4, condition_dim: int = CONDITION, *, low: bool = False) -> dict[str, Any]:
    """Arguments of a forward pass; the last row has no profile."""
    generator = torch.Generator().manual_seed(1)
    given: dict[str, Any] = {
        "image": torch.randn(n, 3, PX, PX, generator=generator),
        "level": torch.linspace(-1.5, 1.0, n),
        "condition": torch.randn(n, condition_dim, generator=generator),
        "keep": torch.arange(n) < n - 1,
    }
    if low:
        given |= {"low": torch.randn(n, 3, PX, PX, generator=generator), "low_level": torch.linspace(0.0, 0.9, n)}
    return given


def without_gradient(net: nn.Module, given: dict[str, Any]) -> list[str]:
    """Names of parameters that a training step would not move."""
    target = torch.randn(given["image"].shape, generator=torch.Generator().manual_seed(2))
    net.zero_grad()
    (net(**given) - target).square().mean().backward()
    return [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]


VARIANTS: list[dict[str, Any]] = [
    {},
    {"low_resolution": True},
    {"paths": "scale-shift"},
    {"paths": "attention"},
    {"injection": "once"},
    {"paths": "attention", "injection": "once"},
    {"condition_dim": 0},
    {"self_attention": (False, False)},
    {"feed_forward": 0.0},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_parameter_gets_a_gradient(variant: dict[str, Any]) -> None:
    given = inputs(condition_dim=variant.get("condition_dim", CONDITION), low=variant.get("low_resolution", False))
    assert without_gradient(small(**variant), given) == []


def test_a_dead_path_would_be_seen() -> None:
    net = small()
    net.profile.register_forward_hook(lambda module, given, out: out.detach())  # type: ignore[union-attr]
    assert [name for name in without_gradient(net, inputs()) if name.startswith("profile")] != []


def test_every_parameter_moves_within_three_steps_from_the_zero_start() -> None:
    torch.manual_seed(0)
    net = UNet(
        width=16, multipliers=(1, 2), blocks=(1, 1), self_attention=(False, True), cross_attention=(False, True),
        condition_dim=CONDITION,
    )  # fmt: skip
    given, before = inputs(), [parameter.clone() for parameter in net.parameters()]
    assert not net(**given).any()  # a new net says nothing
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(3):
        without_gradient(net, given)
        optimizer.step()
    still = [name for (name, new), old in zip(net.named_parameters(), before, strict=True) if torch.equal(new, old)]
    assert still == []


def tokens_differ(tokens: Tokens) -> bool:
    """The tokens of one condition are different vectors that do not say the same of it."""
    made = tokens(torch.eye(CONDITION), torch.ones(CONDITION, dtype=torch.bool))
    similar = torch.cosine_similarity(made[:, :, None], made[:, None], dim=-1)
    return bool((similar - torch.eye(made.shape[1])).abs().max() < 0.95)


def test_tokens_differ_and_one_vector_repeated_would_be_seen() -> None:
    net = small()
    assert net.tokens is not None and tokens_differ(net.tokens)

    class Repeated(Tokens):
        def forward(self, condition: Tensor, keep: Tensor) -> Tensor:
            return super().forward(condition, keep)[:, :1].expand(-1, self.tokens, -1)

    broken = Repeated(CONDITION, 4, 16)
    assert not tokens_differ(broken)
    net.tokens = broken
    assert any("read" in name for name in names_blind_to_tokens(net))
    assert names_blind_to_tokens(small()) == []


def names_blind_to_tokens(net: UNet) -> list[str]:
    """Query weights of cross-attention without a gradient: where all tokens are one, there is nothing to choose."""
    without_gradient(net, inputs())
    blind = []
    for name, block in net.named_modules():
        if isinstance(block, Attention) and block.cross_attention:
            start = block.parts[0]
            assert block.read.weight.grad is not None
            gradient = block.read.weight.grad[start : start + block.parts[1]]
            if gradient.abs().max() < 1e-5 * block.read.weight.grad.abs().max():
                blind.append(f"{name}.read")
    return blind


@pytest.mark.parametrize("injection", ["every", "once"])
@pytest.mark.parametrize("paths", ["both", "scale-shift", "attention"])
def test_the_condition_changes_the_output_by_each_path_alone(paths: str, injection: str) -> None:
    net, given = small(paths=paths, injection=injection), inputs()
    moved = (net(**given) - net(**(given | {"condition": given["condition"].flip(0)}))).abs().amax((1, 2, 3))
    assert (moved[:-1] > 1e-4).all()


@pytest.mark.parametrize("paths", ["both", "scale-shift", "attention"])
def test_without_keep_the_output_does_not_know_the_condition(paths: str) -> None:
    net, given = small(paths=paths), inputs()
    other = net(**(given | {"condition": given["condition"] * 100}))
    first = net(**given)
    assert torch.equal(first[-1], other[-1]) and not torch.allclose(first[0], other[0])
    kept = net(**(given | {"keep": None}))
    assert torch.equal(kept, net(**(given | {"keep": torch.ones(4, dtype=torch.bool)})))
    assert not torch.allclose(kept[-1], first[-1])


def test_injection_once_leaves_the_profile_out_of_later_blocks() -> None:
    seen: dict[str, list[Tensor]] = {"every": [], "once": []}
    for injection, embedded in seen.items():
        net, given = small(injection=injection), inputs()
        for condition in (given["condition"], given["condition"].flip(0)):
            hooks = [
                block.register_forward_pre_hook(lambda _, args, into=embedded: into.append(args[1]))
                for name, block in net.named_modules()
                if name.endswith(".block")
            ]
            net(**(given | {"condition": condition}))
            for hook in hooks:
                hook.remove()
    half = len(seen["once"]) // 2
    changed = {
        name: [not torch.equal(one, other) for one, other in zip(parts[:half], parts[half:], strict=True)]
        for name, parts in seen.items()
    }
    assert all(changed["every"]) and changed["once"] == [True] + [False] * (half - 1)
    looking = [sum(m.cross_attention for m in small(injection=i).modules() if isinstance(m, Attention)) for i in seen]
    assert looking == [5, 1]


def batch_mates_matter(run: Callable[[dict[str, Any]], Tensor]) -> bool:
    """A sample's output alone differs from that in a batch."""
    given = inputs(low=True)
    alone = run({name: part[:1] for name, part in given.items()})
    return not torch.allclose(run(given)[:1], alone, atol=1e-5)


def test_a_sample_does_not_depend_on_its_batch_mates() -> None:
    net = small(low_resolution=True)
    assert not batch_mates_matter(lambda given: net(**given))
    net.first = nn.Sequential(net.first, nn.BatchNorm2d(16))  # type: ignore[assignment]
    assert batch_mates_matter(lambda given: net(**given))


@pytest.mark.parametrize("name", ["level", "low_level"])
def test_a_noise_level_is_a_float(name: str) -> None:
    net, given = small(low_resolution=True), inputs(low=True)
    outs = [net(**(given | {name: torch.full((4,), level)})) for level in (0.1, 0.2)]
    assert not torch.allclose(*outs, atol=1e-3)
    rounded = [net(**(given | {name: torch.full((4,), level).int()})) for level in (0.1, 0.2)]
    assert torch.equal(*rounded)  # what the fault would look like


@pytest.mark.parametrize("pair", [(0.0, 0.01), (-1.5, -1.49), (500.0, 501.0), (999.0, 1000.0)])
def test_both_scales_of_levels_are_told_apart_in_bfloat16(pair: tuple[float, float]) -> None:
    net = small()
    with torch.autocast("cpu", torch.bfloat16):
        one, other = net.level(torch.tensor(pair))
    assert one.dtype == torch.float32 and (one - other).abs().max() > 1e-3


def test_the_low_resolution_tile_is_seen() -> None:
    net, given = small(low_resolution=True), inputs(low=True)
    assert not torch.allclose(net(**given), net(**(given | {"low": given["low"].flip(0)})), atol=1e-3)


def test_checkpointing_gives_equal_gradients_and_keeps_less() -> None:
    kept: list[int] = []
    gradients: list[list[Tensor]] = []
    for checkpointing in (False, True):
        net, sizes = small(checkpointing=checkpointing, dropout=0.2).train(), [0]

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes[0] += tensor.numel() * (not tensor.requires_grad or tensor.grad_fn is not None)
            return tensor

        torch.manual_seed(5)  # equal dropout
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = net(**inputs()).square().mean()
        loss.backward()
        kept.append(sizes[0])
        gradients.append([parameter.grad for parameter in net.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(*gradients, strict=True))
    assert kept[1] < 0.5 * kept[0]


def test_bfloat16_stays_near_float32() -> None:
    net, given = small(low_resolution=True), inputs(low=True)
    exact = net(**given)
    with torch.autocast("cpu", torch.bfloat16):
        near = net(**given)
        near.float().square().mean().backward()
    assert (near.float() - exact).norm() < 0.03 * exact.norm()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("keys", [4, 300])
def test_attention_equals_its_formula(keys: int, learning: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, n, 16, generator=generator) for n in (20, keys, keys))
    weights = torch.einsum("bhnd,bhmd->bhnm", query, key).div(4.0).softmax(-1)
    ours = attend(query.requires_grad_(learning), key, value)
    assert torch.allclose(ours, torch.einsum("bhnm,bhmd->bhnd", weights, value), atol=1e-5)


@pytest.mark.parametrize(
    ("design", "millions", "low_resolution", "attention"),
    [(BASE, 412.7, False, (False, True, True, True)), (SUPER, 733.6, True, (False, False, False, True))],
    ids=["base", "super-resolution"],
)
def test_the_published_sizes_are_reached(
    design: dict[str, Any], millions: float, low_resolution: bool, attention: tuple[bool, ...]
) -> None:
    with torch.device("meta"):
        net = UNet(
            **design, self_attention=attention, cross_attention=attention, condition_dim=200, low_resolution=low_resolution
        )
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(millions * 1e6, rel=0.05)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"image": torch.zeros(4, 3, 7, 8)}, "image; expected .* divisible by 2"),
        ({"image": torch.zeros(4, 1, 8, 8)}, "image"),
        ({"condition": torch.zeros(4, CONDITION + 1)}, r"condition; expected shape \(4, 6\)"),
        ({"condition": None}, "condition.*found none"),
        ({"level": torch.zeros(3)}, "level"),
        ({"keep": torch.ones(1, dtype=torch.bool)}, "keep"),
        ({"low": torch.zeros(4, 3, 8, 8)}, "low; expected none"),
    ],
)
def test_a_wrong_shape_is_named(change: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=names):
        small()(**(inputs() | change))


@pytest.mark.parametrize("missing", ["low", "low_level"])
def test_a_missing_low_resolution_tile_is_named(missing: str) -> None:
    with pytest.raises(InputError, match=f"{missing}; .*found none"):
        small(low_resolution=True)(**(inputs(low=True) | {missing: None}))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"width": 15}, "width"),
        ({"blocks": (1,)}, "blocks"),
        ({"blocks": (1, 0)}, "blocks"),
        ({"cross_attention": (True,)}, "cross_attention"),
        ({"paths": "none"}, "paths"),
        ({"injection": "twice"}, "injection"),
        ({"paths": "attention", "cross_attention": (False, False)}, "paths"),
        ({"head_dim": 9}, "head_dim"),
    ],
)
def test_a_wrong_design_is_named(change: dict[str, Any], name: str) -> None:
    with pytest.raises(InputError, match=name):
        small(**change)


def test_a_net_without_condition_takes_none_or_no_columns() -> None:
    net, given = small(condition_dim=0), inputs()
    assert torch.equal(net(given["image"], given["level"], None), net(given["image"], given["level"], torch.zeros(4, 0)))
    with pytest.raises(InputError, match="condition"):
        net(**given)
