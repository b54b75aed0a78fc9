"""Views, resizing and the loss of SimCLR; residual networks of any width."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rnasynth.nets.contrastive import CROP_DRAWS, STAIN_DRAWS, crop, jitter_stain, nt_xent, resize
from rnasynth.nets.resnet import ResNet


def by_hand(first: Tensor, second: Tensor, temperature: float) -> float:
    """Equation 1 of the paper, pair by pair."""
    z = functional.normalize(torch.cat([first, second]), dim=1).double()
    n, total = len(first), 0.0
    for i in range(2 * n):
        scores = [float(z[i] @ z[j]) / temperature for j in range(2 * n)]
        partner = (i + n) % (2 * n)
        total -= scores[partner] - math.log(sum(math.exp(scores[j]) for j in range(2 * n) if j != i))
    return total / (2 * n)


def test_loss_is_the_papers_pair_by_pair() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(5, 7), torch.randn(5, 7)
    loss, _ = nt_xent(first, second, temperature=0.3)
    assert float(loss) == pytest.approx(by_hand(first, second, 0.3), rel=1e-5)
    loss, _ = nt_xent(3 * first, 0.1 * second, temperature=0.3)  # lengths do not count
    assert float(loss) == pytest.approx(by_hand(first, second, 0.3), rel=1e-5)


def test_partners_lower_the_loss_and_strangers_do_not() -> None:
    torch.manual_seed(0)
    tiles = torch.randn(16, 32)
    together, right = nt_xent(tiles, tiles + 0.01 * torch.randn_like(tiles), temperature=0.2)
    assert float(right) == 1 and float(together) < 0.5
    apart, wrong = nt_xent(tiles, tiles.roll(1, 0), temperature=0.2)  # partners mixed up
    assert float(wrong) == 0 and float(apart) > math.log(31)
    equal, _ = nt_xent(torch.ones(16, 4), torch.ones(16, 4), temperature=0.2)
    assert float(equal) == pytest.approx(math.log(31), rel=1e-5)


@pytest.mark.parametrize(("size", "out"), [(128, 64), (32, 64), (50, 33), (64, 64)])
def test_resizing_is_torchs_antialiased_bilinear(size: int, out: int) -> None:
    tiles = torch.rand(2, 3, size, size)
    theirs = functional.interpolate(tiles, size=(out, out), mode="bilinear", antialias=True)
    torch.testing.assert_close(resize(tiles, out), theirs, atol=1e-5, rtol=1e-4)


def test_a_whole_crop_is_the_tile_and_a_turn_keeps_its_pixels() -> None:
    tiles = torch.rand(1, 3, 64, 64)
    draws = torch.tensor([[1.0, 0.0, 0.0, 0.9, 0.9, 0.9]])
    torch.testing.assert_close(crop(tiles, draws, out=64, smallest=0.5), tiles)
    draws[:, 3:] = torch.tensor([0.1, 0.9, 0.1])
    torch.testing.assert_close(crop(tiles, draws, out=64, smallest=0.5), tiles.flip(2).mT)


def test_crops_lie_where_the_draws_say_and_each_by_its_own() -> None:
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)[None].repeat(2, 1, 1, 1)
    draws = torch.tensor([[0.0, 0.0, 0.5, 0.9, 0.9, 0.9], [0.0, 0.99999, 0.5, 0.9, 0.9, 0.9]])
    left, right = crop(ramp, draws, out=32, smallest=0.5)
    assert left.mean() == pytest.approx(0.25, abs=0.02) and right.mean() == pytest.approx(0.75, abs=0.02)
    assert crop(ramp, torch.rand(2, CROP_DRAWS), out=32, smallest=0.3).shape == (2, 3, 32, 32)


def test_no_jitter_leaves_colours_and_more_haematoxylin_darkens() -> None:
    tiles = torch.rand(3, 3, 16, 16) * 1.6 - 0.7
    middle = torch.full((3, STAIN_DRAWS), 0.5)
    torch.testing.assert_close(jitter_stain(tiles, middle, factor=0.3, offset=0.1), tiles, atol=1e-4, rtol=1e-3)
    more = middle.clone()
    more[:, 0] = 1.0
    blue_pink = torch.tensor([0.3, 0.1, 0.5]).view(1, 3, 1, 1).expand(3, 3, 4, 4)
    assert (jitter_stain(blue_pink, more, factor=0.3, offset=0.0) < blue_pink).all()


@pytest.mark.parametrize(("depth", "width", "weights"), [(18, 64, 11_176_512), (50, 64, 23_508_032)])
def test_published_networks_have_the_published_weights(depth: int, width: int, weights: int) -> None:
    with torch.device("meta"):
        network = ResNet(depth=depth, width=width)
    assert sum(parameter.numel() for parameter in network.parameters()) == weights  # without the classifier
    assert network.dim == {18: 512, 50: 2048}[depth]


@pytest.mark.parametrize(("depth", "stem"), [(18, "published"), (18, "small"), (50, "small")])
def test_every_weight_gets_a_gradient(depth: int, stem: str) -> None:
    torch.manual_seed(0)
    network = ResNet(depth=depth, width=4, stem=stem)  # type: ignore[arg-type]
    out = network(torch.randn(4, 3, 64, 64))
    assert out.shape == (4, network.dim)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_other_networks_are_refused() -> None:
    for wrong in ({"depth": 34}, {"stem": "none"}, {"width": 0}):
        with pytest.raises(ValueError, match="expected"):
            ResNet(**wrong)  # type: ignore[arg-type]
