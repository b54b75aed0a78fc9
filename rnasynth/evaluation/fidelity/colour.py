"""Do generated tiles have the colours of real ones? Mean optical density by channel, and the directions of the two stains.

A generator whose colours drift makes tiles that look dark, washed out or of the wrong hue, and every quantity read from
colour is off with them. Real slides differ in colour as well, so a drift is called one only beyond what real tiles of other
patients or sections show: they are the floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.data.splits import evenly_spaced
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.conditioning.experiment import with_tiles
from rnasynth.evaluation.fidelity.stains import Colours, angle, stain_vectors
from rnasynth.evaluation.stats import Interval, resampling_units
from rnasynth.features import same_stain

CHANNELS = ("red", "green", "blue")
CHUNK = 16  # profiles whose generated tiles are held at a time
ALL = "all tissues"
FLOOR = "real, other patients"
MADE = "generated"
MIN_SAMPLES = 3  # of a tissue on both sides; below it nothing is said of the tissue
MEASURES = {
    "density_red": "mean red optical density, minus real",
    "density_green": "mean green optical density, minus real",
    "density_blue": "mean blue optical density, minus real",
    "density": "distance of mean optical density (three channels)",
    "haematoxylin": "angle of the haematoxylin direction to the real one (degrees)",
    "eosin": "angle of the eosin direction to the real one (degrees)",
}
MAGNITUDES = ("density", "haematoxylin", "eosin")


@dataclass(frozen=True, eq=False)
class ColourReport:
    """What was found.

    Attributes
    ----------
    table : rows tissue, set ("generated" or the floor), n (samples) and an Interval for each of `MEASURES`.
    vectors : rows tissue, set ("real", "generated"), stain, red, green, blue: the stains' directions.
    numbers, labels : over all tissues: "MEASURE_generated" and "MEASURE_floor".
    """

    table: pd.DataFrame
    vectors: pd.DataFrame
    numbers: dict[str, Interval]
    labels: dict[str, str]

    def rows(self, measure: str) -> pd.DataFrame:
        """Return label (tissue), group (set), value, low, high of a measure for `plots.intervals`."""
        found = [
            {"label": row["tissue"], "group": row["set"], **row[measure].to_dict()}
            for row in self.table.to_dict("records")
            if math.isfinite(row[measure].value)
        ]
        return pd.DataFrame(found, columns=["label", "group", "value", "low", "high"])

    @property
    def drifts(self) -> pd.DataFrame:
        """One row a tissue and magnitude: tissue, measure, generated, floor, drifts.

        A drift: the interval of the generated tiles lies wholly above that of real tiles of other patients or sections.
        """
        sets = {name: part.set_index("tissue") for name, part in self.table.groupby("set")}
        rows = []
        for tissue in sets[MADE].index:
            for measure in MAGNITUDES:
                made, floor = sets[MADE].loc[tissue, measure], sets[FLOOR].loc[tissue, measure]
                known = math.isfinite(made.low) and math.isfinite(floor.high)
                rows.append(
                    {
                        "tissue": tissue,
                        "measure": measure,
                        "generated": made,
                        "floor": floor,
                        "drifts": bool(known and made.low > floor.high),
                    }
                )
        return pd.DataFrame(rows)

    def verdict(self) -> str:
        """Say in which tissues colours drift, by what, and in which direction; and what they differ by within the floor."""
        found = self.drifts
        drifting = found[found["drifts"]]
        told = []
        for tissue, part in drifting.groupby("tissue", sort=False):
            words = [
                f"{MEASURES[row['measure']]} {row['generated']} (floor {row['floor']})" for row in part.to_dict("records")
            ]
            told.append(f"{tissue}: {', '.join(words)}")
        if told:
            summary = "Colours drift beyond what real tiles of other patients or sections differ by. " + "; ".join(told)
        else:
            summary = "No drift of colour beyond what real tiles of other patients or sections differ by"
        whole = self.table[(self.table["tissue"] == ALL) & (self.table["set"] == MADE)].to_dict("records")[0]
        signed = []
        for channel in CHANNELS:
            off = whole[f"density_{channel}"]
            if off.low > 0 or off.high < 0:
                signed.append(f"{channel} {off.value:+.3f} [{off.low:+.3f}, {off.high:+.3f}]")
        told_all = (
            f"denser or paler than the same samples' real tiles in {', '.join(signed)}" if signed else "no channel differs"
        )
        return f"{summary}. Over all tissues, in mean optical density: {told_all}."

    def shown(self) -> pd.DataFrame:
        """Return the table as text, indexed by tissue and set."""
        table = self.table.assign(**{name: self.table[name].map(str) for name in MEASURES})
        table["tissue, set"] = table["tissue"] + ", " + table["set"]
        return table.set_index("tissue, set")[[*MEASURES, "n"]].rename(columns=MEASURES)


def compare_colours(made: Colours, real: Colours, others: Colours, *, n_boot: int = 200, seed: int = 0) -> ColourReport:
    """Compare generated with real tiles of the same samples, and real tiles of others with them, per tissue.

    Parameters
    ----------
    made, real : of the same samples in the same order; the bootstrap resamples both together, over split groups (or the
        samples of the only one).
    others : real tiles of other split groups. The floor is what as many of these groups as `real` has (at most half of
        them) differ by from `real`: the mean, and 95 % of `n_boot` draws without replacement, or the range where single
        groups are compared.
    seed : of the draws.

    Raises
    ------
    InputError : samples that differ, a split group on both sides of the floor, or fewer than three samples in every tissue.
    """
    if list(made.samples) != list(real.samples):
        raise InputError("generated tiles", expected="the samples of the real ones, in their order", found="others")
    if both := set(real.groups) & set(others.groups):
        raise InputError("real tiles of others", expected="other split groups", found=f"{min(both)} in both")
    rows: list[dict[str, Any]] = []
    vectors: list[dict[str, Any]] = []
    for tissue in [ALL, *sorted(set(real.tissues))]:
        mine, theirs = (
            np.flatnonzero(part.tissues == tissue) if tissue != ALL else np.arange(len(part)) for part in (real, others)
        )
        if min(len(mine), len(theirs)) < MIN_SAMPLES:
            continue
        here, there, left = made.rows(mine), real.rows(mine), others.rows(theirs)
        for name, intervals in ((MADE, _resampled(here, there, n_boot, seed)), (FLOOR, _floor(left, there, n_boot, seed))):
            rows.append({"tissue": tissue, "set": name, **intervals, "n": len(mine)})
        for name, part in (("real", there), (MADE, here)):
            for stain, vector in zip(("haematoxylin", "eosin"), stain_vectors(part.flat), strict=True):
                vectors.append({"tissue": tissue, "set": name, "stain": stain, **dict(zip(CHANNELS, vector, strict=True))})
    if not rows:
        raise InputError("samples", expected=f"{MIN_SAMPLES} or more on both sides", found=f"{len(real)} and {len(others)}")
    numbers, labels = {}, {}
    for row in rows[:2]:
        key = "generated" if row["set"] == MADE else "floor"
        for measure, words in MEASURES.items():
            numbers[f"{measure}_{key}"], labels[f"{measure}_{key}"] = row[measure], f"{words}, {row['set']}"
    return ColourReport(pd.DataFrame(rows), pd.DataFrame(vectors), numbers, labels)


def colour_drift(
    generator: Any,
    cohort: Cohort,
    *,
    tiles_per_profile: int = 4,
    split: str = "test",
    max_samples: int | None = None,
    restained: bool = False,
    real_per_sample: int = 8,
    n_boot: int = 200,
    seed: int = 0,
) -> ColourReport:
    """Make tiles of held-out profiles and compare their colours with the same samples' real tiles.

    Parameters
    ----------
    generator : a `TileGenerator`: `px`, `mpp_um`, `generate`.
    cohort : with tiles; samples of the other splits are the floor.
    tiles_per_profile : generated tiles of each profile.
    split : the held-out split.
    max_samples : so many samples of each split at most, evenly spaced in the cohort's order; None: all.
    restained : bring every sample's real tiles to one stain first, as they were in the generator's training; generated
        tiles are taken as they are, since their colour is what is asked for.
    real_per_sample : at most so many real tiles of a sample.
    n_boot, seed : see `compare_colours`; the seed is of the generator's noise as well.

    Raises
    ------
    InputError : no tiles, or too few samples. SplitError : asked for the training split.
    """
    if split == "train":
        raise SplitError(f"cohort {cohort.name}", expected="a held-out split", found="train", fix="use val or test")
    there = set(cohort.profiles.obs["split"].astype(str))
    parts = {name: with_tiles(cohort, name) for name in ("train", "val", "test") if name in there | {split}}
    store = cohort.tiles
    assert store is not None
    found: dict[str, Colours] = {}
    for name, (profiles, tile_ids) in parts.items():
        if max_samples is not None and profiles.n_obs > max_samples:
            profiles = profiles[evenly_spaced(profiles.n_obs, max_samples)].copy()
        read = (store.read_batch(tile_ids[str(each)][:real_per_sample], px=generator.px) for each in profiles.obs_names)
        found[name] = Colours.of((same_stain(tiles) if restained else tiles for tiles in read), profiles)
        if name == split:
            held_out = profiles
    made = (
        tiles
        for start in range(0, held_out.n_obs, CHUNK)
        for tiles in generator.generate(held_out[start : start + CHUNK].copy(), tiles_per_profile, seed=seed)
    )
    others = Colours.joined([part for name, part in found.items() if name != split])
    return compare_colours(Colours.of(made, held_out), found[split], others, n_boot=n_boot, seed=seed)


def _differences(one: Colours, other: Colours) -> NDArray[np.float64]:
    """The six of `MEASURES`, of the first set against the second."""
    off = one.density.mean(axis=0) - other.density.mean(axis=0)
    mine, theirs = stain_vectors(one.flat), stain_vectors(other.flat)
    return np.array([*off, np.linalg.norm(off), angle(mine[0], theirs[0]), angle(mine[1], theirs[1])])


def _resampled(made: Colours, real: Colours, n_boot: int, seed: int) -> dict[str, Interval]:
    units, unit = resampling_units(real.groups)
    members = [np.flatnonzero(units == name) for name in np.unique(units)]
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(n_boot if len(members) > 1 else 0):
        rows = np.concatenate([members[k] for k in generator.integers(len(members), size=len(members))])
        draws.append(_differences(made.rows(rows), real.rows(rows)))
    words = f"percentile bootstrap over {unit}, {n_boot} resamples, 95%"
    return _intervals(_differences(made, real), draws, len(members), words)


def _floor(others: Colours, real: Colours, n_draws: int, seed: int) -> dict[str, Interval]:
    names = np.unique(others.groups)
    count = max(1, min(len(np.unique(real.groups)), len(names) // 2))
    if count == 1:
        chosen = [names[k : k + 1] for k in range(len(names))]
    else:
        generator = np.random.default_rng(seed)
        chosen = [generator.choice(names, count, replace=False) for _ in range(n_draws)]
    draws = [_differences(others.rows(np.isin(others.groups, group)), real) for group in chosen]
    words = f"mean and {'range' if count == 1 else '95%'} of {len(draws)} draws of {count} other split groups"
    return _intervals(np.nanmean(draws, axis=0), draws, len(names), words, ends=(0, 1) if count == 1 else (0.025, 0.975))


def _intervals(
    values: NDArray[np.float64],
    draws: Sequence[NDArray[np.float64]],
    n: int,
    words: str,
    ends: tuple[float, float] = (0.025, 0.975),
) -> dict[str, Interval]:
    found = {}
    for place, measure in enumerate(MEASURES):
        known = [draw[place] for draw in draws if math.isfinite(draw[place])]
        low, high = np.quantile(known, ends) if len(known) > len(draws) / 2 else (math.nan, math.nan)
        found[measure] = Interval(float(values[place]), float(low), float(high), n, words)
    return found
