"""Checkerboards: how much of a tile's spectrum lies where upsampling leaves its grid.

A generator doubles its maps several times. Where the doubling repeats a pattern (transposed convolutions whose taps overlap
unevenly), the last one writes a pattern with a period of two pixels, the one before it of four, and so on: in the power
spectrum single points, at half of the sampling frequency (Nyquist), at a quarter, and their combinations. Real tissue has
no reason to have power at exactly these points, so generated tiles are read beside real ones.

Source of the effect: Odena, Dumoulin and Olah 2016; of reading it off the spectrum: Durall, Keuper and Keuper 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from rnasynth.engine import seeded
from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval, bootstrap, mean_of_known
from rnasynth.nets.dcgan import Generator, Norm, Upsample

PERIODS = (2, 4)  # px; a period of 8 px is already that of nuclei at the demo's um/px


def power_spectrum(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the power of every tile's mean optical density at each frequency.

    Parameters
    ----------
    tiles : uint8 RGB, shape (n, px, px, 3).

    Returns
    -------
    Shape (n, px, px), float64; |DFT|^2 of the density minus its mean, frequency 0 (which is therefore 0) first. No window
    is applied: on a square of even side the grid's frequencies are exact, and a window would spread them.

    Raises
    ------
    InputError : not uint8 RGB squares of an even side of 8 or more.
    """
    shape = tiles.shape
    if tiles.dtype != np.uint8 or tiles.ndim != 4 or shape[3] != 3 or shape[1] != shape[2] or shape[1] % 2 or shape[1] < 8:
        raise InputError("tiles", expected="uint8 (n, px, px, 3), px even, 8 or more", found=f"{tiles.dtype} {shape}")
    density = -np.log((tiles.astype(np.float64) + 1.0) / 256.0).mean(axis=3)
    centred = density - density.mean(axis=(1, 2), keepdims=True)
    return np.asarray(np.abs(np.fft.fft2(centred)) ** 2)


def grid_points(px: int, period: int) -> NDArray[np.bool_]:
    """Return which frequencies of a tile of `px` pixels a pattern of exactly `period` pixels has; shape (px, px), bool.

    Those are the multiples of px / period in both directions that no shorter period of a power of two has: 3 points for a
    period of 2, 12 for one of 4.

    Raises
    ------
    InputError : the period is no power of two of 2 or more that divides `px`.

    Examples
    --------
    >>> int(grid_points(32, 2).sum()), int(grid_points(32, 4).sum())
    (3, 12)
    """
    if period < 2 or period & (period - 1) or px % period:
        raise InputError("period", expected=f"a power of two from 2 that divides {px}", found=str(period))

    def multiples(step: int) -> NDArray[np.bool_]:
        on = np.arange(px) % step == 0
        return on[:, None] & on[None]

    return multiples(px // period) & ~multiples(2 * px // period)


def checkerboard_share(tiles: NDArray[np.uint8], *, period: int = 2) -> NDArray[np.float64]:
    """Return the share of every tile's power at the frequencies of a grid of `period` pixels.

    Returns
    -------
    Shape (n,), in [0, 1]; NaN for a tile of one colour. A pure checkerboard has 1, white noise on average `flat_share`;
    natural images, whose power falls with frequency, have less.

    Raises
    ------
    InputError : see `power_spectrum` and `grid_points`.
    """
    power = power_spectrum(tiles)
    total = power.sum(axis=(1, 2))
    there = total > 1e-9 * tiles.shape[1] ** 4  # below it a tile is of one colour
    share = power[:, grid_points(tiles.shape[1], period)].sum(axis=1) / np.where(there, total, 1.0)
    return np.where(there, share, np.nan)


def flat_share(px: int, period: int = 2) -> float:
    """Return the share that white noise has at the grid's frequencies: the number of points over all but frequency 0.

    Examples
    --------
    >>> round(flat_share(32, 2), 5)
    0.00293
    """
    return float(grid_points(px, period).sum()) / (px * px - 1)


def checkerboard_excess(tiles: NDArray[np.uint8], *, period: int = 2, groups: ArrayLike | None = None) -> Interval:
    """Power at the grid's frequencies over that of their eight neighbours, as a ratio of means over tiles.

    A set of tiles that is sharper has more power at all high frequencies, at the grid's as well; a grid alone stands out
    from its neighbours. About 1 without one.

    Parameters
    ----------
    groups : patient of each tile, over which the interval resamples; tiles where None.

    Raises
    ------
    InputError : see `power_spectrum` and `grid_points`; no tile with any structure.
    """
    power, on = power_spectrum(tiles), grid_points(tiles.shape[1], period)
    every = np.zeros_like(on)
    for each in (2, 4, 8):
        every |= grid_points(len(on), each) if len(on) % each == 0 else False
    rows, columns = np.nonzero(on)
    steps = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]
    around = np.array(
        [
            [(r + down) % len(on), (c + right) % len(on)]
            for r, c in zip(rows, columns, strict=True)
            for down, right in steps
            if not every[(r + down) % len(on), (c + right) % len(on)]
        ]
    )
    peaks, level = power[:, on].mean(axis=1), power[:, around[:, 0], around[:, 1]].mean(axis=1)
    if not level.sum() > 0:
        raise InputError("tiles", expected="any structure beside a grid", found="none")
    return bootstrap(lambda p, q: float(p.mean() / max(q.mean(), 1e-300)), peaks, level, groups=groups, n_boot=300)


def compare_spectra(
    sets: Mapping[str, tuple[NDArray[np.uint8], ArrayLike | None]], *, periods: tuple[int, ...] = PERIODS
) -> pd.DataFrame:
    """Measure share and excess of several sets of tiles.

    Parameters
    ----------
    sets : name -> (tiles, patient of each tile or None).

    Returns
    -------
    One row a set and period: set, period, share (Interval), excess (Interval), flat (share of white noise), n (tiles).
    """
    rows: list[dict[str, Any]] = []
    for name, (tiles, groups) in sets.items():
        for period in periods:
            shares = checkerboard_share(tiles, period=period)
            rows.append(
                {
                    "set": name,
                    "period": period,
                    "share": bootstrap(mean_of_known, shares, groups=groups, n_boot=300),
                    "excess": checkerboard_excess(tiles, period=period, groups=groups),
                    "flat": flat_share(tiles.shape[1], period),
                    "n": len(tiles),
                }
            )
    return pd.DataFrame(rows)


def untrained_tiles(
    upsample: Upsample,
    *,
    px: int = 32,
    width: int = 12,
    norm: Norm = "pixel",
    networks: int = 8,
    tiles: int = 16,
    seed: int = 0,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Make tiles with generators that were never trained: the checkerboard that the network's form alone gives.

    Parameters
    ----------
    upsample, px, width, norm : as of `nets.dcgan.Generator`.
    networks, tiles : generators, each of other first weights, and tiles of each.
    seed : of the first weights and the noise.

    Returns
    -------
    uint8 (networks x tiles, px, px, 3), stretched to half of the grey range around its middle, for the first weights may
    give faint ones; and the number of the network of each.
    """
    parts = []
    for number in range(networks):
        with seeded("spectrum", seed, number), torch.inference_mode():
            network = Generator(input_dim=32, image_px=px, width=width, upsample=upsample, norm=norm).eval()
            made = torch.atanh(network(torch.randn(tiles, 32)).clamp(-0.999, 0.999))
        centred = made - made.mean(dim=(1, 2, 3), keepdim=True)
        stretched = centred / centred.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-9)
        parts.append((stretched * 63.0 + 128.0).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts), np.repeat(np.arange(networks), tiles)
