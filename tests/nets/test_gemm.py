"""GeMM-GAN's networks: masks, learnt tokens, gradients, sizes; and the flow's paths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rnasynth.nets.gemm import (
    ConditionalVAE,
    Conditioner,
    FlowNet,
    Patients,
    ProfileCritic,
    ProfileGenerator,
    bag_moments,
    follow,
    mlp,
    straight_path,
)

KINDS = [(attention, fusion) for attention in ("published", "residual") for fusion in ("sum", "film")]


def network(attention: str = "residual", fusion: str = "sum", **changes: Any) -> Conditioner:
    torch.manual_seed(0)
    sizes = {"word_dim": 6, "buckets": 20, "width": 16, "feed_forward": 24, "dropout": 0.0}
    made = Conditioner(5, **{**sizes, **changes}, attention=attention, fusion=fusion)  # type: ignore[arg-type]
    return made.eval()


def batch() -> Patients:
    """Both; tiles alone; text alone; neither."""
    generator = torch.Generator().manual_seed(1)
    patches = torch.randn(4, 7, 5, generator=generator)
    words = torch.randint(1, 20, (4, 4), generator=generator)
    tiles, texts = torch.tensor([3, 7, 0, 0]), torch.tensor([4, 0, 2, 0])
    return Patients(patches, torch.arange(7) < tiles[:, None], words, torch.arange(4) < texts[:, None])


def padding_matters(conditioner: Any) -> bool:
    """Whether what stands in the padding, or how much of it there is, moves the output."""
    told = batch()
    expected = conditioner(told)
    for filling in (100.0, float("nan")):
        patches = torch.where(told.patch_there[..., None], told.patches, filling)
        words = torch.where(told.word_there, told.words, 7)
        if not torch.allclose(conditioner(told._replace(patches=patches, words=words)), expected, atol=1e-5):
            return True
    more = Patients(
        torch.cat([told.patches, torch.full((4, 9, 5), 3.0)], dim=1),
        torch.cat([told.patch_there, torch.zeros(4, 9, dtype=torch.bool)], dim=1),
        torch.cat([told.words, torch.full((4, 2), 3)], dim=1),
        torch.cat([told.word_there, torch.zeros(4, 2, dtype=torch.bool)], dim=1),
    )
    return not torch.allclose(conditioner(more), expected, atol=1e-5)


@pytest.mark.parametrize(("attention", "fusion"), KINDS)
def test_padding_is_never_read(attention: str, fusion: str) -> None:
    assert not padding_matters(network(attention, fusion))
    assert not padding_matters(network(attention, fusion).train())  # without dropout


def test_unmasked_padding_as_released_fails_the_check() -> None:
    conditioner = network("published")

    def unmasked(told: Patients) -> Tensor:
        everything = Patients(
            told.patches.nan_to_num(0.0), torch.ones_like(told.patch_there), told.words, torch.ones_like(told.word_there)
        )
        made: Tensor = conditioner(everything)
        return made

    assert padding_matters(unmasked)


@pytest.mark.parametrize(("attention", "fusion"), KINDS)
def test_a_bag_has_no_order_and_a_patient_no_neighbours(attention: str, fusion: str) -> None:
    conditioner, told = network(attention, fusion), batch()
    expected = conditioner(told)
    order = torch.tensor([2, 0, 1, 3, 4, 5, 6])
    turned = told._replace(patches=told.patches[:, order], patch_there=told.patch_there[:, order])
    torch.testing.assert_close(conditioner(turned)[0], expected[0], atol=1e-5, rtol=1e-4)
    for row in range(4):
        alone = conditioner(Patients(*(part[[row]] for part in told)))
        torch.testing.assert_close(alone[0], expected[row], atol=1e-5, rtol=1e-4)
    assert torch.pdist(expected).min() > 1e-3


@pytest.mark.parametrize(("attention", "fusion"), KINDS)
def test_a_patient_without_tiles_or_text_has_learnt_tokens(attention: str, fusion: str) -> None:
    conditioner = network(attention, fusion)
    nothing = Patients(torch.zeros(2, 0, 5), torch.zeros(2, 0).bool(), torch.zeros(2, 0).long(), torch.zeros(2, 0).bool())
    empty = conditioner(nothing)
    torch.testing.assert_close(empty[0], conditioner(batch())[3], atol=1e-5, rtol=1e-4)  # padded or not
    empty[0].square().sum().backward()
    for token in (conditioner.no_tiles, conditioner.no_text):
        assert token.grad is not None and token.grad.abs().max() > 0
    conditioner.zero_grad()
    conditioner(batch())[0].square().sum().backward()  # who has both is not moved by them
    for token in (conditioner.no_tiles, conditioner.no_text):
        assert token.grad is None or not token.grad.any()


def without_gradient(module: nn.Module, loss: Tensor) -> list[str]:
    module.zero_grad()
    loss.backward()
    return [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize(("attention", "fusion"), KINDS)
def test_every_parameter_gets_a_gradient(attention: str, fusion: str) -> None:
    told, noise = batch(), torch.randn(4, 3)
    generator = ProfileGenerator(9, 3, 16, (8, 8), network(attention, fusion))
    made = generator(noise, generator.condition(told))
    assert made.shape == (4, 9) and without_gradient(generator, made.square().sum()) == []
    critic = ProfileCritic(9, 16, (8, 8), network(attention, fusion))
    score = critic(made.detach(), critic.condition(told))
    assert score.shape == (4,) and without_gradient(critic, score.square().sum()) == []
    flow = FlowNet(3, network(attention, fusion), 16, width=8, blocks=2)
    torch.nn.init.normal_(flow.end.weight)  # it begins at zero
    known = flow.condition(told)
    speed = flow.velocity(noise, torch.rand(4), known, flow.mean(known))
    assert speed.shape == (4, 3) and without_gradient(flow, speed.square().sum()) == []


def test_the_paper_sizes() -> None:
    with torch.device("meta"):
        conditioner = Conditioner(1024, word_dim=768)
        generator = ProfileGenerator(17_000, 256, 256, (256, 256), conditioner)
        critic = ProfileCritic(17_000, 256, (256, 256), Conditioner(1024, word_dim=768))
    shapes = {name: tuple(p.shape) for name, p in generator.named_parameters()}
    assert shapes["conditioner.read_patch.weight"] == (256, 1024) and shapes["conditioner.read_word.weight"] == (256, 768)
    assert [s for n, s in shapes.items() if n.startswith("layers") and "weight" in n] == [
        (256, 512),
        (256, 256),
        (17_000, 256),
    ]
    assert [tuple(p.shape) for n, p in critic.layers.named_parameters() if "weight" in n] == [
        (256, 17_256),
        (256, 256),
        (1, 256),
    ]
    layers = [layer for layer in conditioner.encoder.layers if isinstance(layer, nn.TransformerEncoderLayer)]
    assert len(layers) == 2
    for layer in layers:
        assert layer.self_attn.num_heads == 4 and layer.linear1.out_features == 512 and layer.dropout.p == 0.1
    told = Patients(
        torch.zeros(8, 256, 1024, device="meta"),
        torch.ones(8, 256, dtype=torch.bool, device="meta"),
        torch.zeros(8, 300, 768, device="meta"),
        torch.ones(8, 300, dtype=torch.bool, device="meta"),
    )
    assert generator(torch.zeros(8, 256, device="meta"), generator.condition(told)).shape == (8, 17_000)


def test_moments_are_those_of_the_tiles_that_are_there() -> None:
    told = batch()
    moments = bag_moments(torch.where(told.patch_there[..., None], told.patches, 0.0), told.patch_there)
    for row, n in ((0, 3), (1, 7)):
        bag = told.patches[row, :n]
        torch.testing.assert_close(moments[row, :5], bag.mean(dim=0))
        torch.testing.assert_close(moments[row, 5:], bag.std(dim=0, correction=0), atol=2e-4, rtol=1e-3)
    assert moments[2].abs().max() < 1e-6


def test_a_straight_path_ends_where_it_should() -> None:
    data, noise = torch.randn(3, 2), torch.randn(3, 2)
    for time, end in ((0.0, noise), (1.0, data)):
        point, direction = straight_path(data, noise, torch.full((3,), time))
        torch.testing.assert_close(point, end)
        torch.testing.assert_close(direction, data - noise)


def test_following_the_exact_velocity_of_a_gaussian_gives_that_gaussian() -> None:
    """Data N(m, s^2): with a = (1 - t)^2 + (t s)^2 the velocity is m + (t s^2 - (1 - t)) (x - t m) / a."""
    mean, sd = 3.0, 0.5

    def velocity(x: Tensor, time: Tensor) -> Tensor:
        t = time[:, None]
        variance = (1 - t) ** 2 + (t * sd) ** 2
        return mean + (t * sd**2 - (1 - t)) * (x - t * mean) / variance

    start = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = mean + sd * start
    errors = [float((follow(velocity, start, steps) - exact).abs().max()) for steps in (8, 16, 32)]
    assert errors[2] < 0.005 and errors[0] / errors[1] > 3 and errors[1] / errors[2] > 3  # second order
    assert float((follow(velocity, start, 32, heun=False) - exact).abs().max()) > 5 * errors[2]


def test_the_conditional_vae_hears_its_label() -> None:
    torch.manual_seed(0)
    vae = ConditionalVAE(6, 2, 3, (8,))
    mean, logvar = vae.encode(torch.randn(4, 6), torch.eye(2)[[0, 1, 0, 1]])
    assert mean.shape == logvar.shape == (4, 3)
    one, other = (vae.decode(torch.zeros(1, 3), torch.eye(2)[[row]]) for row in (0, 1))
    assert one.shape == (1, 6) and not torch.allclose(one, other)
    assert isinstance(mlp([2, 3, 1])[-1], nn.Linear)
