"""Real tiles, the same tiles at the generator's pixel size, and generated ones: their nuclei, counted the same way.

Coarse pixels may be too few for what a nuclei model looks for, whatever a generator has learnt. So real tiles that were
brought down to its pixel size and up again always stand beside what it made: only what they still show can be asked of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError
from rnasynth.evaluation.cells.composition import (
    MARGIN,
    Comparison,
    Composition,
    Empty,
    compare,
    composition,
    count_table,
)
from rnasynth.evaluation.cells.nuclei import Nuclei, NucleiModel, find_nuclei, resampled
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units

SETS = {"real": "real", "coarse": "real, at the generator's pixel size", "generated": "generated"}


class Generator(Protocol):
    """Profiles -> tiles: `systems.generation.TileGenerator` is one; a diffusion cascade may be another."""

    mpp_um: float
    px: int

    def generate(self, profiles: AnnData, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
        """Shape (N, n_per_profile, px, px, 3), uint8."""
        ...


@dataclass(frozen=True, eq=False)
class CellStudy:
    """What was found in three sets of tiles of the same held-out samples.

    Attributes
    ----------
    counts : set (see `SETS`) -> a row a tile, a column a class.
    compositions : set -> percentages, see `Composition`.
    comparisons : "coarse" and "generated", each against "real".
    nuclei_ratio : "coarse" and "generated" -> nuclei a tile as a share of the real tiles', interval over `unit`.
    examples : set -> tiles with their nuclei, the first of each of the first samples of every tissue in turn.
    mpp_um : set -> um/px of its tiles.
    unit : what intervals resample, in words; n of them.
    n_tiles : tiles of each set.
    """

    counts: dict[str, pd.DataFrame]
    compositions: dict[str, Composition]
    comparisons: dict[str, Comparison]
    nuclei_ratio: dict[str, Interval]
    examples: dict[str, list[tuple[NDArray[np.uint8], Nuclei]]]
    mpp_um: dict[str, float]
    unit: str
    n: int
    n_tiles: int

    @property
    def visible(self) -> bool:
        """Whether the control shows nuclei as real tiles do: between half and twice as many, with the whole interval."""
        ratio = self.nuclei_ratio["coarse"]
        return bool(ratio.low > 0.5 and ratio.high < 2.0)

    @property
    def follows(self) -> bool:
        """Whether generated percentages follow their own patients' within tissues: the whole interval above zero."""
        return bool(self.comparisons["generated"].within.low > 0)  # NaN: no

    def verdict(self, generator: str = "") -> str:
        """Say in words what the control allows to ask, and what the generator answers."""
        coarse, made = (self.nuclei_ratio[name] for name in ("coarse", "generated"))
        control = self.comparisons["coarse"]
        first = (
            f"Brought to {self.mpp_um['generated']:g} um a pixel and back, the real tiles show {coarse} times as many "
            f"nuclei, and {_share(control.equivalent)} of the percentages stay within the margin."
        )
        if not self.visible:
            return (
                f"{first} At this pixel size nuclei cannot be counted, in real tissue neither: "
                f"{_tiles_of(generator)} show {made} times as many, which says nothing for or against the generator."
            )
        found = self.comparisons["generated"]
        return (
            f"{first} So nuclei can be counted at this pixel size. {_tiles_of(generator)} show {made} times as many "
            f"as the real ones; {_share(found.equivalent)} of their percentages are within the margin of the real ones. "
            f"Within tissues they correlate with their own patients' by {found.within}"
            + ("." if self.follows else ": what is counted there need not be nuclei, for texture is outlined as readily.")
        )


def study(
    cohort: Cohort,
    generator: Generator,
    model: NucleiModel,
    *,
    tiles_per_profile: int = 4,
    seed: int = 0,
    empty: Empty = "count as zero share",
    margin: float = MARGIN,
    max_profiles: int = 200,
    n_examples: int = 6,
    known: dict[float, list[Nuclei]] | None = None,
) -> CellStudy:
    """Count the nuclei of held-out samples' real tiles, of these at the generator's pixel size, and of generated tiles.

    Parameters
    ----------
    cohort : with tiles; its test samples are used, the first `max_profiles` that have tiles.
    generator, model : what makes tiles from raw profiles, and what finds nuclei.
    tiles_per_profile : generated tiles of each sample, and at most as many real ones (the first in the store).
    seed : of the generator's noise and of the resampling.
    empty, margin : see `composition` and `equivalence`.
    n_examples : tiles kept of each set.
    known : um/px -> nuclei of the real tiles, filled here: a second generator's study of the same samples, by the same
        model, spares the search where it is given what the first one filled.

    Raises
    ------
    InputError : the cohort has no tiles, no test sample has one, or counts below 1.
    """
    if cohort.tiles is None or min(tiles_per_profile, max_profiles) < 1:
        raise InputError(f"cohort {cohort.name}", expected="tiles, and one or more of each sample", found="none")
    profiles, rows = _held_out(cohort, tiles_per_profile, max_profiles)
    index = cohort.tiles.index
    real = cohort.tiles.read_batch(np.concatenate(rows))
    mpp_um = float(index["mpp_um"].iloc[np.concatenate(rows)].median())
    sample = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    made = generator.generate(profiles, tiles_per_profile, seed=seed)
    made = made.reshape(-1, *made.shape[2:])
    px = max(1, round(real.shape[1] * mpp_um / generator.mpp_um))
    coarse = np.stack([resampled(tile, (px, px)) for tile in real])
    sets = {"real": (real, mpp_um, sample), "coarse": (coarse, mpp_um * real.shape[1] / px, sample)}
    sets["generated"] = (made, generator.mpp_um, np.repeat(np.arange(len(rows)), tiles_per_profile))
    groups = profiles.obs["split_group" if "split_group" in profiles.obs else "patient_id"].astype(str)
    units, unit = resampling_units(groups)
    tissues = profiles.obs["tissue"].astype(str).to_numpy()
    shown = _in_turn(tissues, n_examples)
    counts, compositions, examples = {}, {}, {}
    known = {} if known is None else known
    for name, (tiles, scale, of) in sets.items():
        found = known.get(scale, []) if name != "generated" else []
        if len(found) != len(tiles):
            found = [find_nuclei(tile, model, mpp_um=scale) for tile in tiles]
        if name != "generated":
            known[scale] = found
        counts[name] = count_table(found, model.classes)
        compositions[name] = composition(
            counts[name], classes=model.classes, patients=units[of], tissues=tissues[of], empty=empty
        )
        first = [int(np.flatnonzero(of == row)[0]) for row in shown]
        examples[name] = [(tiles[place], found[place]) for place in first]
    others = ("coarse", "generated")
    n = {name: compositions[name].patients["n"].to_numpy(np.float64) for name in sets}
    return CellStudy(
        counts=counts,
        compositions=compositions,
        comparisons={name: compare(compositions["real"], compositions[name], margin=margin, seed=seed) for name in others},
        nuclei_ratio={name: bootstrap(_ratio, n[name], n["real"], seed=seed) for name in others},
        examples=examples,
        mpp_um={name: float(scale) for name, (_, scale, _) in sets.items()},
        unit=unit,
        n=len(set(units.tolist())),
        n_tiles=len(real),
    )


def _tiles_of(generator: str) -> str:
    return f"Generated tiles of {generator}" if generator else "Generated tiles"


def _share(value: float) -> str:
    return "an unknown share (too few patients)" if math.isnan(value) else f"{value:.0%}"


def _ratio(found: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    return float(found.sum() / real.sum()) if real.sum() > 0 else float("nan")


def _held_out(cohort: Cohort, tiles_per_profile: int, max_profiles: int) -> tuple[AnnData, list[NDArray[np.intp]]]:
    """Return the test profiles that have tiles, and the first tiles of each."""
    assert cohort.tiles is not None
    profiles = cohort.only("test").profiles
    by_sample: dict[str, list[int]] = {}
    for row, name in enumerate(cohort.tiles.index["sample_id"].astype(str)):
        by_sample.setdefault(name, []).append(row)
    names = profiles.obs["sample_id"].astype(str).to_numpy()
    chosen = [row for row, name in enumerate(names) if name in by_sample][:max_profiles]
    if not chosen:
        raise InputError(f"cohort {cohort.name}", expected="a test sample with tiles", found="none")
    return profiles[chosen].copy(), [np.array(by_sample[names[row]][:tiles_per_profile]) for row in chosen]


def _in_turn(tissues: NDArray[np.str_], n: int) -> list[int]:
    """Return rows: the first of every tissue, then the second of every tissue, and so on, `n` at most."""
    rank = pd.Series(tissues).groupby(tissues).cumcount()
    return [int(row) for row in np.lexsort((tissues, rank))[:n]]


def confusion(table: pd.DataFrame, *, there: Sequence[str], named: Sequence[str]) -> pd.DataFrame:
    """Return shares of each true class (rows) that were given each name (columns), with the number of nuclei."""
    counts = pd.crosstab(table["there"], table["named"]).reindex(index=list(there), columns=list(named), fill_value=0)
    total = counts.sum(axis=1)
    shares = counts.div(total.clip(lower=1), axis=0)
    shares.insert(0, "nuclei", total)
    return shares.rename_axis("there").rename_axis(None, axis=1)


def class_accuracy(table: pd.DataFrame, classes: Sequence[str], *, n_boot: int = 500, seed: int = 0) -> dict[str, Interval]:
    """Share of each class's nuclei that were named right, and "balanced", their mean; intervals resample patients.

    Parameters
    ----------
    table : columns patient, there, named; nuclei of other classes than `classes` are left out.

    Raises
    ------
    InputError : a class without a nucleus.
    """
    known = table[table["there"].isin(list(classes))]
    if missing := sorted(set(classes) - set(known["there"])):
        raise InputError("nuclei of known class", expected=", ".join(classes), found=f"none of {', '.join(missing)}")
    there, named = known["there"].to_numpy(dtype=str), known["named"].to_numpy(dtype=str)

    def recall(name: str, a: NDArray[np.str_], b: NDArray[np.str_]) -> float:
        mine = a == name
        return float((b[mine] == name).mean()) if mine.any() else float("nan")

    def balanced(a: NDArray[np.str_], b: NDArray[np.str_]) -> float:
        return float(np.mean([recall(name, a, b) for name in classes]))

    groups = known["patient"].to_numpy(dtype=str)
    found = {
        name: bootstrap(lambda a, b, name=name: recall(name, a, b), there, named, groups=groups, n_boot=n_boot, seed=seed)
        for name in classes
    }
    found["balanced"] = bootstrap(balanced, there, named, groups=groups, n_boot=n_boot, seed=seed)
    return found
