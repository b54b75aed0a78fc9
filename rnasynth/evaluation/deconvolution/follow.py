"""Do the cells that are seen in tiles follow the fractions of the RNA that the tiles were made from?

The fractions come from the RNA, the quantities from the tiles (see `readers`), and the two meet in a correlation over
patients: within a tissue, because a generator that hears the tissue alone may follow the fractions across tissues.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.deconvolution.checks import flat_correlation
from rnasynth.evaluation.deconvolution.readers import TileReader, real_tiles, seen_in, with_tiles
from rnasynth.evaluation.stats import Interval, bootstrap, permutation_p, resampling_units

N_SHUFFLES = 200  # shuffles within tissue whose correlations make the control's mean and range
ALPHA = 0.05  # p values below, after Holm's correction, are called significant: the threshold of RNA-CDM
#: Types of the simulator and of her2st in the classes of RNA-CDM's deconvolution (Results; Supplementary Fig. 3).
CLASSES: dict[str, tuple[str, ...]] = {
    "epithelial": ("epithelial",),
    "fibroblast": ("fibroblast", "cafs", "pvl"),
    "endothelial": ("endothelial",),
    "haematopoietic": ("lymphocyte", "macrophage", "b_cells", "t_cells", "plasma_cells", "myeloid"),
    "neural": ("neuron", "glia"),
}
#: RNA-CDM's pairs of a fraction of the RNA and a class of HoVer-Net's nuclei.
PAPER_PAIRS = (
    ("epithelial", "tumour"),
    ("fibroblast", "connective"),
    ("endothelial", "connective"),
    ("haematopoietic", "lymphocyte"),
)


@dataclass(frozen=True, eq=False)
class FollowReport:
    """How closely quantities seen in tiles follow the RNA's fractions.

    Attributes
    ----------
    table : a row a source and pair: group (source), label (pair), fraction, quantity, value, low, high (Pearson's r over
        samples with its interval), within, within_low, within_high (the same after each tissue's mean is taken off),
        shuffled, shuffled_low, shuffled_high (r where tiles are exchanged among the samples of a tissue: mean, and 2.5 to
        97.5 % over shuffles), p (one-sided permutation within tissue), p_holm (over the source's pairs), n, n_groups.
    unit : what the intervals resample.
    n_shuffles, n_permutations : of the control and of the p values.
    """

    table: pd.DataFrame
    unit: str
    n_shuffles: int
    n_permutations: int

    def of(self, source: str) -> pd.DataFrame:
        """Return the rows of one source."""
        return self.table[self.table["group"] == source]

    def holds(self, source: str) -> bool:
        """Whether all pairs of a source are significant after Holm's correction."""
        rows = self.of(source)
        return bool(len(rows) and (rows["p_holm"] <= ALPHA).all())

    def within(self) -> pd.DataFrame:
        """Rows for a chart of the correlation within tissues: label, group, value, low, high."""
        chosen = self.table[["label", "group", "within", "within_low", "within_high"]]
        return chosen.set_axis(["label", "group", "value", "low", "high"], axis=1).dropna()

    def intervals(self, source: str, *, within: bool = False) -> dict[str, Interval]:
        """Return the correlations of a source by the pair's name (a-z, 0-9, _), those that are numbers."""
        ends = ("within", "within_low", "within_high") if within else ("value", "low", "high")
        method = f"percentile bootstrap over {self.unit}"
        return {
            re.sub(r"[^a-z0-9]+", "_", row["label"].lower()): Interval(
                row[ends[0]], row[ends[1]], row[ends[2]], row["n_groups"], method
            )
            for row in self.of(source).to_dict("records")
            if all(math.isfinite(row[end]) for end in ends)
        }

    def largest_p(self, source: str) -> float:
        """Return the largest p value of a source after Holm's correction: below 0.05 all its pairs are significant."""
        return float(self.of(source)["p_holm"].max())

    def verdict(self, source: str, *, ceiling: str, label: str) -> str:
        """Say in one paragraph which pairs of a source are significant, and which its ceiling and the label reach."""
        names = {
            what: [row["label"] for row in self.of(what).to_dict("records") if row["p_holm"] <= ALPHA]
            for what in (source, ceiling, label)
        }
        total = len(self.of(source))
        told = [
            f"{what}: {len(kinds)} of {total} classes follow the fractions within tissues"
            + (f" ({', '.join(kinds)})" if kinds else "")
            for what, kinds in names.items()
        ]
        lost = [kind for kind in names[ceiling] if kind not in names[source]]
        if lost:
            told.append(
                f"for {', '.join(lost)} the reading works on {ceiling}: the weak part is the generator, or reading its tiles"
            )
        unseen = [kind for kind in self.of(source)["label"] if kind not in names[ceiling]]
        if unseen:
            told.append(f"for {', '.join(unseen)} the reading itself sees too little: nothing can be said of the generator")
        return "; ".join(told) + f" (Holm, p of at most {ALPHA:g})."

    def with_shuffled(self, source: str, name: str = "profiles shuffled in the tissue") -> pd.DataFrame:
        """Rows for a chart over all samples: every source, and the control of shuffled profiles of one of them."""
        rows = self.of(source)[["label", "shuffled", "shuffled_low", "shuffled_high"]]
        rows = rows.set_axis(["label", "value", "low", "high"], axis=1).assign(group=name)
        return pd.concat([self.table[["label", "group", "value", "low", "high"]], rows], ignore_index=True).dropna()

    def shown(self) -> pd.DataFrame:
        """Return the table as text for a page."""
        rows = []
        for row in self.table.to_dict("records"):
            rows.append(
                {
                    "tiles": row["group"],
                    "pair": row["label"],
                    "r, all": f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]",
                    "r, shuffled in the tissue": f"{row['shuffled']:.2f} [{row['shuffled_low']:.2f}, "
                    f"{row['shuffled_high']:.2f}]",
                    "r, within tissues": f"{row['within']:.2f} [{row['within_low']:.2f}, {row['within_high']:.2f}]",
                    "p": f"{row['p']:.3f}",
                    "p, Holm": f"{row['p_holm']:.3f}",
                }
            )
        return pd.DataFrame(rows)


def correlate(
    fractions: pd.DataFrame,
    seen: Mapping[str, pd.DataFrame],
    pairs: Sequence[tuple[str, str]],
    *,
    tissues: Sequence[str] | NDArray[Any],
    groups: Sequence[str] | NDArray[Any],
    n_boot: int = 1000,
    n_permutations: int = 999,
    seed: int = 0,
) -> FollowReport:
    """Correlate fractions with quantities over samples, for every source of quantities and every pair.

    Parameters
    ----------
    fractions : samples x types.
    seen : source ("own RNA", "real tiles") -> samples x quantities, the same samples in the same order.
    pairs : (column of `fractions`, column of `seen`); a pair whose fraction does not vary is left out.
    tissues : tissue of each sample; samples are exchanged only inside one, so that tissue alone never counts as a success.
    groups : split group of each sample, for the intervals.

    Notes
    -----
    A generator sees one profile at a time, so tiles "made from a shuffled profile" are the tiles of another sample. The p
    value is one-sided, for a positive correlation. Holm's correction is over the pairs of one source.

    Raises
    ------
    InputError : a source of other samples, an unknown column, quantities without a value, or no pair that varies.
    """
    names = np.asarray(tissues).astype(str)
    units, unit = resampling_units(np.asarray(groups))
    parts = []
    for source, quantities in seen.items():
        if list(quantities.index) != list(fractions.index):
            raise InputError(f"quantities of {source}", expected="the samples of the fractions", found="others")
        rows = []
        for kind, quantity in pairs:
            if kind not in fractions or quantity not in quantities:
                raise InputError(f"pair {kind}, {quantity}", expected="columns of the two tables", found="no such column")
            x, y = fractions[kind].to_numpy(dtype=np.float64), quantities[quantity].to_numpy(dtype=np.float64)
            if not (np.isfinite(x).all() and np.isfinite(y).all()):
                row = int(np.flatnonzero(~np.isfinite(x + y))[0])
                raise InputError(f"sample {fractions.index[row]}, {quantity}", expected="a number", found="none")
            if x.std() == 0:
                continue
            label = kind if kind == quantity else f"{kind} - {quantity}"
            rows.append({"group": source, "label": label, "fraction": kind, "quantity": quantity})
            rows[-1] |= _measured(x, y, names, units, n_boot=n_boot, n_permutations=n_permutations, seed=seed)
        if not rows:
            raise InputError("fractions", expected="one that varies", found="none of the pairs'")
        part = pd.DataFrame(rows)
        part["p_holm"] = multipletests(part["p"].to_numpy(), method="holm")[1]
        parts.append(part)
    return FollowReport(pd.concat(parts, ignore_index=True), unit, N_SHUFFLES, n_permutations)


def within_correlation(x: NDArray[Any], y: NDArray[Any], tissues: NDArray[Any]) -> float:
    """Pearson's r after each tissue's mean was taken off both; NaN where nothing varies inside the tissues."""
    _, codes = np.unique(tissues, return_inverse=True)
    counts = np.bincount(codes)
    centred = [values - (np.bincount(codes, values) / counts)[codes] for values in (x, y)]
    if min(float(np.abs(values).max()) for values in centred) < 1e-12:
        return math.nan
    return flat_correlation(*centred)


def _measured(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    tissues: NDArray[np.str_],
    units: NDArray[np.str_],
    *,
    n_boot: int,
    n_permutations: int,
    seed: int,
) -> dict[str, Any]:
    if y.std() == 0:  # a source that shows the same in every sample follows nothing
        empty = dict.fromkeys(("value", "low", "high", "within", "within_low", "within_high"), math.nan)
        same = dict.fromkeys(("shuffled", "shuffled_low", "shuffled_high"), math.nan)
        return {**empty, **same, "p": 1.0, "n": len(x), "n_groups": len(set(units))}
    r = bootstrap(flat_correlation, x, y, groups=units, n_boot=n_boot, seed=seed)
    inside = bootstrap(within_correlation, x, y, tissues, groups=units, n_boot=n_boot, seed=seed)
    generator = np.random.default_rng(seed)
    strata = [np.flatnonzero(tissues == tissue) for tissue in np.unique(tissues)]
    shuffled = np.empty(N_SHUFFLES)
    for number in range(N_SHUFFLES):
        order = np.arange(len(y))
        for rows in strata:
            order[rows] = generator.permutation(rows)
        shuffled[number] = flat_correlation(x, y[order])
    low, high = np.quantile(shuffled, [0.025, 0.975])
    p = permutation_p(flat_correlation, x, y, within=tissues, n_permutations=n_permutations, seed=seed)
    return {
        "value": r.value,
        "low": r.low,
        "high": r.high,
        "within": inside.value,
        "within_low": inside.low,
        "within_high": inside.high,
        "shuffled": float(shuffled.mean()),
        "shuffled_low": float(low),
        "shuffled_high": float(high),
        "p": p,
        "n": len(x),
        "n_groups": r.n,
    }


def follow(
    cohort: Cohort,
    fractions: pd.DataFrame,
    generators: Mapping[str, Any],
    reader: TileReader,
    pairs: Sequence[tuple[str, str]],
    *,
    split: str = "test",
    tiles_per_profile: int = 16,
    real: str = "real tiles (ceiling)",
    n_boot: int = 1000,
    n_permutations: int = 999,
    seed: int = 0,
) -> FollowReport:
    """Generate tiles of held-out profiles, read them and the real tiles, and correlate with the RNA's fractions.

    Parameters
    ----------
    cohort : with tiles.
    fractions : held-out samples x types; samples without fractions or tiles are left out.
    generators : source in words -> `TileGenerator`, or anything with `generate`, `px` and `mpp_um`; all of one pixel size.
    reader : what reads quantities from tiles.
    pairs : see `correlate`.
    split : the held-out split.
    tiles_per_profile : generated tiles a profile, and real ones at most.
    real : name of the source of real tiles of the same samples, averaged to the generators' pixel size.

    Raises
    ------
    SplitError : asked for the training split. InputError : no tiles, generators of two pixel sizes, no held-out
        sample with fractions.
    """
    if split == "train":
        raise SplitError(f"cohort {cohort.name}", expected="a held-out split", found="train", fix="use val or test")
    sizes = {int(generator.px) for generator in generators.values()}
    if len(sizes) != 1:
        raise InputError("generators", expected="one or more, of one pixel size", found=str(sorted(sizes)))
    px = sizes.pop()
    held_out = with_tiles(cohort, split)
    there = set(map(str, fractions.index))
    held_out = held_out[[str(name) in there for name in held_out.obs_names]].copy()
    names = [str(name) for name in held_out.obs_names]
    if not names:
        raise InputError("fractions", expected=f"of samples of the split {split!r} that have tiles", found="of others")
    known = fractions.loc[names]
    mpp_um = cohort.tile_mpp(px)
    seen = {real: seen_in(real_tiles(cohort, held_out, px=px, limit=tiles_per_profile), names, reader, mpp_um=mpp_um)}
    for source, generator in generators.items():
        made = (generator.generate(held_out[[row]].copy(), tiles_per_profile, seed=seed)[0] for row in range(len(names)))
        seen[source] = seen_in(made, names, reader, mpp_um=mpp_um)
    return correlate(
        known,
        seen,
        pairs,
        tissues=held_out.obs["tissue"].astype(str).to_numpy(),
        groups=held_out.obs["split_group"].astype(str).to_numpy(),
        n_boot=n_boot,
        n_permutations=n_permutations,
        seed=seed,
    )
