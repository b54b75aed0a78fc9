"""Checkerboards: planted ones are found, white noise has the flat share, and the form of a generator shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.spectrum import (
    checkerboard_excess,
    checkerboard_share,
    compare_spectra,
    flat_share,
    grid_points,
    power_spectrum,
    untrained_tiles,
)

PX = 32


def noise(n: int = 200, *, seed: int = 0, amplitude: float = 6.0) -> NDArray[np.float64]:
    """White grey noise around a middle grey, (n, px, px)."""
    return 128.0 + amplitude * np.random.default_rng(seed).standard_normal((n, PX, PX))


def tiles(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Grey levels as RGB tiles."""
    return np.repeat(np.clip(grey.round(), 0, 255).astype(np.uint8)[..., None], 3, axis=3)


def board(period: int, *, phase: int = 0) -> NDArray[np.float64]:
    """A checkerboard of fields of half a period, of -1 and 1."""
    field = (np.arange(PX) + phase) // (period // 2) % 2
    return np.where(field[:, None] == field[None], 1.0, -1.0)


def smooth(n: int = 200, *, seed: int = 0) -> NDArray[np.float64]:
    """Grey levels whose power falls with frequency, as tissue's does: no grid."""
    frequency = np.fft.fftfreq(PX)
    radius = np.hypot(frequency[:, None], frequency[None])
    shaped = np.fft.fft2(noise(n, seed=seed) - 128.0) / (radius + 1 / PX) ** 1.5
    field = np.fft.ifft2(shaped).real
    return 128.0 + 20.0 * field / field.std()


def test_grid_points_are_the_frequencies_of_a_pattern_of_that_period() -> None:
    for period in (2, 4, 8):
        pattern = np.zeros((PX, PX))
        pattern[::period, ::period] = 1.0  # has all multiples of px / period
        present = np.abs(np.fft.fft2(pattern)) > 1e-9
        shorter = [grid_points(PX, each) for each in (2, 4) if each < period]
        expected = present & ~np.logical_or.reduce([*shorter, np.zeros((PX, PX), bool)])
        expected[0, 0] = False
        assert np.array_equal(grid_points(PX, period), expected)
        assert grid_points(PX, period).sum() == period**2 - (period // 2) ** 2


@pytest.mark.parametrize("period", [2, 4])
@pytest.mark.parametrize("phase", [0, 1])
def test_a_pure_checkerboard_has_the_whole_share(period: int, phase: int) -> None:
    made = tiles((128.0 + 20.0 * board(period, phase=phase))[None])
    assert checkerboard_share(made, period=period)[0] == pytest.approx(1.0, abs=1e-9)
    assert checkerboard_share(made, period=6 - period)[0] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("period", [2, 4])
def test_white_noise_has_the_flat_share_and_no_excess(period: int) -> None:
    made = tiles(noise(600))
    shares = checkerboard_share(made, period=period)
    error = shares.std() / math.sqrt(len(shares))
    assert abs(shares.mean() - flat_share(PX, period)) < 4 * error
    excess = checkerboard_excess(made, period=period)
    assert excess.low < 1.0 < excess.high


def test_a_faint_planted_grid_is_found_and_its_share_is_the_planted_one() -> None:
    plain = smooth()
    planted = plain + 3.0 * board(2)
    before, after = checkerboard_excess(tiles(plain)), checkerboard_excess(tiles(planted))
    assert before.high < 2.0 < 20.0 < after.low
    # Parseval: the board's variance (9 grey levels squared) over the whole one, as a share of power
    power = 9.0 / (plain.var(axis=(1, 2)).mean() + 9.0)
    assert checkerboard_share(tiles(planted)).mean() - checkerboard_share(tiles(plain)).mean() == pytest.approx(
        power, rel=0.2
    )


def test_sharpness_alone_raises_the_share_and_not_the_excess() -> None:
    blurred, sharp = smooth(), smooth(seed=1) + 8.0 * (noise(seed=2) - 128.0) / 6.0
    assert checkerboard_share(tiles(sharp)).mean() > 3 * checkerboard_share(tiles(blurred)).mean()
    assert checkerboard_excess(tiles(sharp)).low < 1.0 < 1.5 > checkerboard_excess(tiles(sharp)).high


def test_power_obeys_parseval_and_holds_no_mean() -> None:
    made = tiles(noise(3))
    density = -np.log((made.astype(float) + 1) / 256).mean(axis=3)
    power = power_spectrum(made)
    assert np.allclose(power.sum(axis=(1, 2)), density.var(axis=(1, 2)) * PX**4)
    assert np.allclose(power[:, 0, 0], 0.0, atol=1e-9)


def test_a_tile_of_one_colour_has_no_share() -> None:
    assert np.isnan(checkerboard_share(np.full((1, PX, PX, 3), 200, np.uint8)))[0]
    with pytest.raises(InputError):
        checkerboard_excess(np.full((4, PX, PX, 3), 200, np.uint8))


@pytest.mark.parametrize("shape", [(4, 32, 30, 3), (4, 31, 31, 3), (4, 32, 32), (4, 4, 4, 3)])
def test_other_shapes_are_errors(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        power_spectrum(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("period", [0, 1, 3, 6, 64])
def test_other_periods_are_errors(period: int) -> None:
    with pytest.raises(InputError):
        grid_points(PX, period)


def test_untrained_transposed_convolutions_leave_a_grid_and_resizing_none() -> None:
    sets = {kind: untrained_tiles(kind, networks=6, tiles=8) for kind in ("resize", "transposed")}
    table = compare_spectra(sets, periods=(2,)).set_index("set")
    assert table.loc["transposed", "excess"].low > 5 > 2 > table.loc["resize", "excess"].high
    again = untrained_tiles("resize", networks=6, tiles=8)
    assert np.array_equal(again[0], sets["resize"][0]) and list(again[1][:9]) == [0] * 8 + [1]
