"""Augmentation before the critic: what each does to a tile, its gradient, its steering, and that it does not leak."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rnasynth.nets.ada import (
    ADA_CHANCES,
    ADA_NORMALS,
    DIFF_DRAWS,
    EVERY,
    LARGEST,
    AdaptiveProbability,
    adaptive,
    diffaugment,
    sureness,
)
from rnasynth.nets.adversarial import between, critic_loss, generator_loss, gradient_penalty

PX = 32
STILL = 0.5  # of DiffAugment's draws: no change of colour, no shift


def tiles_of(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, PX, PX, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_diffaugment_moves_what_its_draws_say() -> None:
    tiles = tiles_of(2)
    draws = torch.full((2, DIFF_DRAWS), STILL)
    draws[:, 5:] = torch.tensor([0.0, 0.0])  # the square lies in a corner: a quarter of it is seen
    plain = diffaugment(tiles, draws)
    seen = torch.ones(PX, PX, dtype=torch.bool)
    seen[: PX // 4, : PX // 4] = False
    torch.testing.assert_close(plain[..., seen], tiles[..., seen])
    assert (plain[..., ~seen] == 0).all()
    draws[0, 3] = 0.999  # down by an eighth of the side, and nothing comes in from above
    moved = diffaugment(tiles, draws)
    torch.testing.assert_close(moved[0, :, PX // 4 + 4 :], tiles[0, :, PX // 4 : -4])
    assert (moved[0, :, : PX // 8] == 0).all() and torch.equal(moved[1], plain[1])
    draws[1, 0] = 1.0
    torch.testing.assert_close(diffaugment(tiles, draws)[1][:, seen], tiles[1][:, seen] + 0.5)


def test_adaptive_at_nought_changes_nothing_and_one_tile_s_change_is_its_own() -> None:
    tiles = tiles_of(8)
    chances, normals = torch.rand(8, ADA_CHANCES), torch.randn(8, ADA_NORMALS)
    torch.testing.assert_close(adaptive(tiles, chances, normals, 0.0), tiles)
    whole = adaptive(tiles, chances, normals, 0.8)
    assert ((whole - tiles).abs().amax(dim=(1, 2, 3)) > 0.1).sum() >= 6
    torch.testing.assert_close(adaptive(tiles[3:4], chances[3:4], normals[3:4], 0.8), whole[3:4], atol=1e-5, rtol=0)


def only(change: int, **values: float) -> tuple[Tensor, Tensor]:
    """Draws by which one tile gets one change at probability one half."""
    chances, normals = torch.full((1, ADA_CHANCES), 0.9), torch.zeros(1, ADA_NORMALS)
    chances[0, change] = 0.0
    for name, value in values.items():
        (chances if name[0] == "c" else normals)[0, int(name[1:])] = value
    return chances, normals


def test_each_adaptive_change_is_the_one_it_is_called() -> None:
    tile = tiles_of(1)
    torch.testing.assert_close(adaptive(tile, *only(0, c8=0.1), 0.5), tile.flip(3))
    for turns in range(4):
        torch.testing.assert_close(adaptive(tile, *only(1, c9=turns / 4 + 0.01), 0.5), tile.rot90(turns, (2, 3)))
    down = adaptive(tile, *only(4, n1=1.0), 0.5)  # one standard deviation: an eighth of the side
    torch.testing.assert_close(down[:, :, PX // 8 :], tile[:, :, : -PX // 8], atol=1e-4, rtol=0)
    half_turn = adaptive(tile, *only(3, c10=0.0), 0.5)
    torch.testing.assert_close(half_turn, tile.flip(2, 3), atol=1e-4, rtol=0)
    smooth = torch.linspace(-0.9, 0.9, PX).expand(1, 3, PX, PX)
    larger = adaptive(smooth, *only(2, n0=1 / 0.2), 0.5)  # twice as large: half the slope
    slope = (larger[..., 1:] - larger[..., :-1])[..., 4:-4].mean() / (1.8 / (PX - 1))
    assert slope.item() == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(adaptive(tile, *only(5, n3=1.0), 0.5), tile + 0.2)
    doubled = adaptive(tile, *only(6, n4=2.0), 0.5)
    assert doubled.std().item() == pytest.approx(2 * tile.std().item(), rel=1e-4)
    grey = adaptive(tile, *only(7, n5=-20.0), 0.5)
    torch.testing.assert_close(grey, tile.mean(dim=1, keepdim=True).expand_as(tile), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["diffaugment", "ada"])
def test_gradients_pass_to_what_is_seen_of_the_tile(kind: str) -> None:
    tiles = tiles_of(4).double().requires_grad_(True)
    torch.manual_seed(0)
    if kind == "diffaugment":
        draws = torch.rand(4, DIFF_DRAWS).double()
        change: Callable[[Tensor], Tensor] = lambda x: diffaugment(x, draws)  # noqa: E731
    else:
        chances, normals = torch.rand(4, ADA_CHANCES).double(), torch.randn(4, ADA_NORMALS).double()
        change = lambda x: adaptive(x, chances, normals, 0.8)  # noqa: E731
    weights = torch.randn_like(tiles)
    (gradient,) = torch.autograd.grad((change(tiles) * weights).sum(), tiles)
    step = torch.randn_like(tiles) * 1e-6
    moved = ((change(tiles + step) - change(tiles)) * weights).sum()
    assert moved.item() == pytest.approx((gradient * step).sum().item(), rel=1e-4)
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_the_probability_rises_while_the_critic_is_sure_and_falls_when_it_is_not() -> None:
    steered = AdaptiveProbability(target=0.6, images=1000)
    for _ in range(EVERY - 1):
        steered.observe(torch.tensor(1.0), 10)
    assert steered.probability == 0.0
    steered.observe(torch.tensor(1.0), 10)
    assert steered.probability.item() == pytest.approx(EVERY * 10 / 1000)
    for _ in range(100 * EVERY):
        steered.observe(torch.tensor(1.0), 10)
    assert steered.probability.item() == pytest.approx(LARGEST)
    for _ in range(5 * EVERY):
        steered.observe(torch.tensor(0.0), 10)
    assert steered.probability.item() == pytest.approx(LARGEST - 5 * EVERY * 10 / 1000)
    assert set(steered.state_dict()) == {"probability", "signs", "steps"}


def test_sureness_is_one_where_all_is_told_apart_and_nought_by_chance() -> None:
    real, fake = torch.tensor([3.0, 4.0, 5.0]), torch.tensor([1.0, 2.0])
    assert sureness(real, (real.mean() + fake.mean()) / 2) == 1.0
    assert sureness(real - 100) == -1.0 and sureness(real - 100, (real.mean() + fake.mean()) / 2 - 100) == 1.0
    scores = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    assert abs(float(sureness(scores, scores.mean()))) < 0.05


# ---------------------------------------------------------------------- leaks
SMALL = 16  # px of the tiles below


def real_batch(count: int, generator: torch.Generator) -> Tensor:
    """Tiles of one colour: left half dark, right half light, hardly any variation."""
    tile = torch.full((count, 3, SMALL, SMALL), 0.4)
    tile[..., : SMALL // 2] = -0.4
    return tile + 0.03 * torch.randn(count, 3, 1, 1, generator=generator)


def trained_on_oriented_tiles(change: Callable[[Tensor], Tensor], *, alike: bool, steps: int = 400) -> Tensor:
    """Train a small GAN with a change before the critic, of both kinds of tiles or (broken) of the real ones alone."""
    size = 3 * SMALL * SMALL
    with torch.random.fork_rng():
        torch.manual_seed(0)
        maker = nn.Sequential(nn.Linear(8, 64), nn.LeakyReLU(0.2), nn.Linear(64, size), nn.Unflatten(1, (3, SMALL, SMALL)))
        judge = nn.Sequential(
            nn.Flatten(), nn.Linear(size, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1)
        )
    draw = torch.Generator().manual_seed(1)
    optimizers = [torch.optim.Adam(net.parameters(), 1e-3, betas=(0.5, 0.9)) for net in (maker, judge)]
    for _ in range(steps):
        with torch.no_grad():
            real, fake = change(real_batch(32, draw)), maker(torch.randn(32, 8, generator=draw))
            fake = change(fake) if alike else fake
        points = between(real, fake, torch.rand(32, generator=draw))
        penalty = gradient_penalty(lambda tiles: judge(tiles).flatten(), points).mean()
        optimizers[1].zero_grad()
        (critic_loss(judge(real), judge(fake)) + 10 * penalty).backward()
        optimizers[1].step()
        fake = maker(torch.randn(32, 8, generator=draw))
        optimizers[0].zero_grad()
        generator_loss(judge(change(fake) if alike else fake)).backward()
        optimizers[0].step()
    with torch.no_grad():
        return torch.as_tensor(maker(torch.randn(200, 8, generator=draw)))


def leak(made: Tensor) -> tuple[float, float]:
    """How far generated tiles are changed: share not light on the right and dark on the left, and spread of their means."""
    right, left = made[..., SMALL // 2 :].mean(dim=(1, 2, 3)), made[..., : SMALL // 2].mean(dim=(1, 2, 3))
    return float((right - left < 0.3).float().mean()), float(made.mean(dim=(1, 2, 3)).std())


@pytest.mark.parametrize("kind", ["diffaugment", "ada"])
def test_changes_do_not_leak_unless_real_tiles_alone_are_changed(kind: str) -> None:
    draw = torch.Generator().manual_seed(2)

    def change(tiles: Tensor) -> Tensor:
        count = len(tiles)
        if kind == "diffaugment":
            return diffaugment(tiles, torch.rand(count, DIFF_DRAWS, generator=draw))
        chances = torch.rand(count, ADA_CHANCES, generator=draw)
        return adaptive(tiles, chances, torch.randn(count, ADA_NORMALS, generator=draw), 0.3)

    leaks = {alike: leak(trained_on_oriented_tiles(change, alike=alike)) for alike in (True, False)}
    assert max(leaks[True]) < 0.1 < 0.2 < max(leaks[False])
