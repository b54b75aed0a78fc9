"""Beside the race: how many tiles a patient, what narrow noise is, checkerboards, and tiles to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.engine import seeded
from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.spectrum import compare_spectra, power_spectrum, untrained_tiles
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.race.arms import ARMS, settings, train_arms
from rnasynth.evaluation.race.judge import Judge
from rnasynth.evaluation.race.milestones import over_seeds
from rnasynth.evaluation.stats import Interval, groups_if_enough
from rnasynth.nets.dcgan import Generator, Norm, Upsample
from rnasynth.runs import Run
from rnasynth.systems.training import train_preset

NARROW_SD = 0.3 / 3**0.5  # of the uniform noise in [-0.3, 0.3]
SETS = ("real, held out", "resize, untrained", "transposed, untrained", "resize, trained", "transposed, trained")


@dataclass(frozen=True, eq=False)
class TilesStudy:
    """Quality against the number of tiles a patient.

    Attributes
    ----------
    table : rows asked, tiles (used of a sample, on average), frechet, kernel (Interval: mean and range over training
        seeds), each (Frechet distance by seed).
    runs : all that were trained or found.
    """

    table: pd.DataFrame
    runs: list[Run]

    @property
    def gain(self) -> Interval:
        """Frechet distance with the most tiles minus that with the fewest, by training seed; below 0: more are better."""
        first, last = (np.array(self.table["each"].iloc[row]) for row in (0, -1))
        return over_seeds(last - first)

    def shown(self) -> pd.DataFrame:
        """Return the table as text, indexed by the number of tiles."""
        table = self.table.assign(**{name: self.table[name].map(str) for name in ("frechet", "kernel")})
        names = {"tiles": "tiles a sample", "frechet": "Frechet distance", "kernel": "kernel distance"}
        return table.set_index("tiles").rename_axis(names["tiles"])[["frechet", "kernel"]].rename(columns=names)

    def summary(self) -> str:
        """Say whether more tiles were better."""
        if len(self.table) < 2:
            return "No sample has more tiles than the fewest asked for: this cohort cannot say what more tiles bring."
        gain, table = self.gain, self.table
        where = "better" if gain.high < 0 else "worse" if gain.low > 0 else "neither better nor worse in every seed"
        return (
            f"With {table['tiles'].iloc[-1]:.0f} tiles a sample instead of {table['tiles'].iloc[0]:.0f}, after as many"
            f" steps, the GAN is {where} (Frechet distance {gain.value:+.3g}, range {gain.low:+.3g} to {gain.high:+.3g} over"
            f" {gain.n} training seeds)."
        )


def quality_by_tiles(
    cohort: Cohort,
    preset: str,
    judge: Judge,
    counts: Sequence[int],
    *,
    seeds: Sequence[int],
    steps: int = 0,
    snapshots: int = 5,
    changes: Sequence[str] = (),
    folder: str | Path | None = None,
    progress: bool = True,
) -> TilesStudy:
    """Train the plain GAN on the first so many tiles of every sample, for the same number of steps.

    Counts that a cohort cannot tell apart, because no sample has more tiles, are left out; where one is left, nothing is
    trained.

    Parameters
    ----------
    counts : tiles a sample, rising.
    seeds : of training, each with the noise of that seed.
    steps, snapshots, changes, folder : as of `arms.train_arms`.

    Raises
    ------
    InputError : counts that do not rise.
    """
    if not counts or list(counts) != sorted(set(counts)) or counts[0] < 1:
        raise InputError("tiles a sample", expected="rising numbers of 1 or more", found=str(list(counts)))
    names = set(cohort.only("train").profiles.obs["sample_id"].astype(str))
    there = cohort.tile_store().index["sample_id"].astype(str).value_counts()
    there = there[there.index.isin(names)]
    distinct: dict[float, int] = {}
    for count in counts:
        distinct.setdefault(float(np.minimum(there, count).mean()), count)
    rows: list[dict[str, Any]] = []
    runs: list[Run] = []
    for used, count in distinct.items() if len(distinct) > 1 else ():
        more = [*changes, f"tiles_per_patient={count}"]
        several = train_arms(
            cohort,
            preset,
            arms=ARMS[:1],
            seeds=seeds,
            steps=steps,
            snapshots=snapshots,
            changes=more,
            folder=folder,
            progress=progress,
        )[ARMS[0].name]
        found = np.array(
            [judge.distances(judge.features(run.load(), seed=seed)) for run, seed in zip(several, seeds, strict=True)]
        )
        frechet, kernel = (over_seeds(column) for column in found.T)
        rows.append({"asked": count, "tiles": used, "frechet": frechet, "kernel": kernel, "each": found[:, 0].tolist()})
        runs += several
    return TilesStudy(pd.DataFrame(rows), runs)


def narrowing_effect(
    norm: Norm, *, px: int = 32, width: int = 12, networks: int = 4, tiles: int = 32, seed: int = 0
) -> float:
    """Return how much an untrained generator's tiles change when its noise is made as narrow as [-0.3, 0.3].

    Returns
    -------
    Mean absolute change of a pixel by narrowing, over the mean absolute difference of two tiles of other noise; 0 where the
    width of the noise cannot matter. A normalisation after the first layer divides the width out: with no bias before it
    the first map of z and of 0.17 z are one direction, and only its length differs.
    """
    shares = []
    for number in range(networks):
        with seeded("narrowing", seed, number), torch.no_grad():
            network = Generator(input_dim=32, image_px=px, width=width, norm=norm).train()
            noise = torch.randn(tiles, 32)
            wide, narrow = network(noise), network(noise * NARROW_SD)
        change = (wide - narrow).abs().mean()
        shares.append(float(change / (wide - wide.roll(1, dims=0)).abs().mean().clamp(min=1e-9)))
    return float(np.mean(shares))


@dataclass(frozen=True, eq=False)
class Narrowing:
    """What narrowing the noise does to untrained generators, by normalisation.

    Attributes
    ----------
    numbers, labels : "narrowing_NORM", of `narrowing_effect`.
    """

    numbers: dict[str, float]
    labels: dict[str, str]

    def summary(self) -> str:
        """Say it in percent."""
        shown = ", ".join(
            f"{100 * effect:.2g} % ({name.removeprefix('narrowing_')})" for name, effect in self.numbers.items()
        )
        return (
            f"Narrowing the noise changes the tiles of an untrained generator by {shown} of what other noise changes, by the"
            " normalisation: batch as published, pixel in `demo` and `gpu`."
        )


def narrowing(norms: Sequence[Norm] = ("pixel", "batch", "none"), *, seed: int = 0) -> Narrowing:
    """Measure `narrowing_effect` for several normalisations."""
    words = "change of an untrained generator's tiles by narrowing its noise, over what other noise changes; norm"
    found = {f"narrowing_{norm}": narrowing_effect(norm, seed=seed) for norm in norms}
    return Narrowing(found, {name: f"{words} {name.removeprefix('narrowing_')}" for name in found})


@dataclass(frozen=True, eq=False)
class Checkerboards:
    """Share of power at the upsampling frequencies, and maps to look at.

    Attributes
    ----------
    table : of `spectrum.compare_spectra`, sets as in `SETS`.
    maps : set -> log10 of the mean power relative to its mean, frequency 0 in the middle, shape (px, px).
    run : the one trained with transposed convolutions.
    """

    table: pd.DataFrame
    maps: dict[str, NDArray[np.float64]]
    run: Run

    def rows(self) -> pd.DataFrame:
        """Return label (set), group (period), value, low, high of log10 of the excess, for `plots.intervals`."""
        return pd.DataFrame(
            [
                {
                    "label": row["set"],
                    "group": f"period of {row['period']} px",
                    **{end: math.log10(max(getattr(row["excess"], end), 1e-6)) for end in ("value", "low", "high")},
                }
                for row in self.table.to_dict("records")
            ]
        )

    @property
    def numbers(self) -> dict[str, Interval]:
        """Shares and excesses as "grid_share_SET_PERIOD" and "grid_excess_SET_PERIOD"."""
        return {
            f"grid_{kind}_{_key(row['set'])}_{row['period']}": row[kind]
            for row in self.table.to_dict("records")
            for kind in ("share", "excess")
        }

    @property
    def labels(self) -> dict[str, str]:
        """The same keys in words."""
        words = {"share": "share of power", "excess": "power over the neighbours'"}
        return {
            f"grid_{kind}_{_key(row['set'])}_{row['period']}": f"{word}, period of {row['period']} px, {row['set']}"
            for row in self.table.to_dict("records")
            for kind, word in words.items()
        }

    def excess(self, name: str, period: int = 2) -> Interval:
        """Return the excess of a set."""
        mine = self.table[(self.table["set"] == name) & (self.table["period"] == period)]
        found: Interval = mine["excess"].iloc[0]
        return found

    def summary(self) -> str:
        """Say in which sets a grid of two pixels stands out more than in real tiles."""
        real = self.excess(SETS[0])
        said = [f"At a period of 2 px real tiles have {real} times the power of the neighbouring frequencies."]
        for name in SETS[1:]:
            found = self.excess(name)
            where = "more than" if found.low > real.high else "less than" if found.high < real.low else "not clearly unlike"
            said.append(f"{name[:1].upper()}{name[1:]}: {found}, {where} real ones.")
        return " ".join(said)


def checkerboards(
    cohort: Cohort,
    preset: str,
    judge: Judge,
    resize: Run,
    *,
    seed: int,
    steps: int = 0,
    snapshots: int = 5,
    changes: Sequence[str] = (),
    folder: str | Path | None = None,
    progress: bool = True,
) -> Checkerboards:
    """Compare resize and transposed convolution, untrained and trained alike, with real tiles.

    Parameters
    ----------
    resize : the race's run of the plain GAN, with resize-convolution.
    seed, steps, snapshots, changes, folder : as of `arms.train_arms`; for the run with transposed convolution.

    Raises
    ------
    InputError : `resize` was not trained with resize-convolution.
    """
    if resize.config.upsample != "resize":
        raise InputError(f"run {resize.id}", expected="upsample resize", found=resize.config.upsample)
    changed = [*settings(preset, seed=seed, steps=steps, snapshots=snapshots), *changes, "upsample=transposed"]
    transposed = train_preset(ARMS[0].system, cohort, preset, overrides=changed, folder=folder, progress=progress)
    sets: dict[str, tuple[NDArray[np.uint8], Any]] = {SETS[0]: judge.real_pictures(cohort)}
    kinds: tuple[Upsample, ...] = ("resize", "transposed")
    for name, kind in zip(SETS[1:3], kinds, strict=True):
        sets[name] = untrained_tiles(
            kind, px=judge.px, width=resize.config.width_generator, norm=resize.config.norm_generator, seed=seed
        )
    for name, run in zip(SETS[3:], (resize, transposed), strict=True):
        sets[name] = judge.pictures(run.load(), seed=seed)
    sets = {name: (tiles, groups_if_enough(groups)) for name, (tiles, groups) in sets.items()}
    maps = {name: _map(tiles) for name, (tiles, _) in sets.items()}
    return Checkerboards(compare_spectra(sets), maps, transposed)


def _key(name: str) -> str:
    return key_of(name.replace(",", ""))


def _map(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    power = power_spectrum(tiles).mean(axis=0)
    power[0, 0] = power[0, 1]  # frequency 0 was taken out: shown as its neighbour is
    return np.asarray(np.fft.fftshift(np.log10(np.maximum(power / power.mean(), 1e-6))))
