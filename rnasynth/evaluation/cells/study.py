"""Real tiles, the same tiles at the generator's pixel size, and generated ones: their nuclei, counted the same way.

Coarse pixels may be too few for what a nuclei model looks for, whatever a generator has learnt. So real tiles that were
brought down to its pixel size and up again always stand beside what it made: only what they still show can be asked of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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

    def verdict(self) -> str:
        """Say in words what the control allows to ask, and what the generator answers."""
        coarse, made = (self.nuclei_ratio[name] for name in ("coarse", "generated"))
        control = self.comparisons["coarse"]
        first = (
            f"Brought to {self.mpp_um['generated']:g} um a pixel and back, the real tiles show {coarse} times as many "
            f"nuclei, and {_share(control.equivalent)} of the percentages stay within the margin."
        )
        if not self.visible:
            return (
                f"{first} At this pixel size nuclei cannot be counted, in real tissue neither: the numbers of the generated "
                f"tiles ({made} times as many nuclei) say nothing for or against the generator."
            )
        found = self.comparisons["generated"]
        return (
            f"{first} So nuclei can be counted at this pixel size. Generated tiles show {made} times as many as the real "
            f"ones; {_share(found.equivalent)} of their percentages are within the margin of the real ones. "
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
    for name, (tiles, scale, of) in sets.items():
        found = [find_nuclei(tile, model, mpp_um=scale) for tile in tiles]
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


def composition_rows(results: CellStudy) -> pd.DataFrame:
    """Return rows for a chart of intervals: label (tissue: class), group (set), value, low, high (percent)."""
    rows = []
    for place, (name, found) in enumerate(results.comparisons.items()):
        for row in found.table.to_dict("records"):
            label = f"{row['tissue']}: {row['class']}"
            sides = [(name, "other")] if place else [("real", "real"), (name, "other")]
            for which, side in sides:
                ends = {key: row[f"{side}{end}"] for key, end in (("value", ""), ("low", "_low"), ("high", "_high"))}
                rows.append({"label": label, "group": SETS[which], **ends})
    return pd.DataFrame(rows).sort_values("label", kind="stable")


def equivalence_table(found: Comparison) -> pd.DataFrame:
    """Show a comparison for readers: a row a tissue and class."""
    table = found.table
    return pd.DataFrame(
        {
            "tissue": table["tissue"],
            "class": table["class"],
            "real (%)": table["real"],
            "other (%)": table["other"],
            "difference, 90 %": [
                f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]" for row in table.itertuples(index=False)
            ],
            "p, equivalence": table["p"],
            "p, difference": table["p_difference"],
            "verdict": table["verdict"],
            "n": table["n"],
        }
    )


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


def published_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Arrange the paper's Table 1 by tissue and class: real, synthetic, difference, and the sum of the real percentages.

    Parameters
    ----------
    rows : of `data_manifests/papers`, with ids such as "cells_coad_real_tumour"; others are left out.
    """
    parts = rows["id"].astype(str).str.extract(r"^cells_([a-z]+)_(real|synthetic)_([a-z]+)$")
    known = parts.notna().all(axis=1)
    table = parts[known].set_axis(["tissue", "set", "class"], axis=1).assign(value=rows.loc[known, "value"].astype(float))
    wide = table.pivot(index=["tissue", "class"], columns="set", values="value").reset_index()
    wide["tissue"] = wide["tissue"].str.upper()
    wide["difference"] = wide["synthetic"] - wide["real"]
    wide["sum of real"] = wide.groupby("tissue")["real"].transform("sum")
    return wide.rename_axis(None, axis=1)


def counts_by_tile(found: Mapping[str, NDArray[np.floating]], there: Mapping[str, NDArray[np.floating]]) -> pd.DataFrame:
    """Return points for a scatter plot: x (there), y (found), group (class), a row a tile and class."""
    parts = [pd.DataFrame({"x": there[name], "y": found[name], "group": name}) for name in found]
    return pd.concat(parts, ignore_index=True)


def empty_table(results: CellStudy, other: Empty) -> pd.DataFrame:
    """Return for each set of tiles the share without nuclei, and the mean percentages both ways of counting these."""
    rows = []
    for name, own in results.compositions.items():
        again = composition(
            results.counts[name],
            classes=own.classes,
            patients=own.tiles["patient"],
            tissues=own.tiles["tissue"],
            empty=other,
        )
        row: dict[str, object] = {"tiles": SETS[name], "number": len(own.tiles), "without nuclei": own.empty_share}
        for kind in own.classes:
            row[f"{kind}, {own.empty}"] = float(own.patients[kind].mean())
            row[f"{kind}, {other}"] = float(again.patients[kind].mean())
        rows.append(row)
    return pd.DataFrame(rows)


def published_note(table: pd.DataFrame, margin: float) -> str:
    """Say what the paper's printed means (`published_table`) show by themselves."""
    sums = table.groupby("tissue")["sum of real"].first()
    r = float(np.corrcoef(table["real"], table["synthetic"])[0, 1])
    near = int((table["difference"].abs() <= margin).sum())
    return (
        f"Of the paper's {len(table)} pairs of means {near} differ by at most {margin:g} points, and real and synthetic "
        f"means correlate with r = {r:.2f}. The real percentages of a cancer add up to {sums.min():.0f} to "
        f"{sums.max():.0f}. "
        "Which tiles were whose patient's is not printed, so its means allow no test of equivalence."
    )
