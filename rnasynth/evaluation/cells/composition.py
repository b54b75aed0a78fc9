"""Percentages of cell types in tiles, real against generated: shares, intervals over patients, equivalence tests.

"No significant difference" is what a small study always finds. Equivalence is a claim of its own: both one-sided tests
must reject a difference as large as a margin that was stated before (TOST).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.cells.nuclei import Nuclei
from rnasynth.evaluation.stats import Interval, bootstrap

MARGIN = 10.0  # percentage points: differences of real and synthetic means in the published table have a median near 5
Empty = Literal["count as zero share", "left out"]


@dataclass(frozen=True, eq=False)
class Composition:
    """What tiles are made of.

    Attributes
    ----------
    tiles : a row a tile: patient, tissue, n (nuclei), and the percentage of each class (NaN in empty tiles left out).
    patients : a row a patient: patient, tissue, tiles, empty (tiles without a nucleus), n (nuclei a tile), and the mean
        percentage of each class over the patient's tiles (NaN where all are left out).
    classes : the classes.
    empty : how tiles without nuclei count: "count as zero share" (0 % of everything, so that rows add up to less than
        100 %), or "left out".
    """

    tiles: pd.DataFrame
    patients: pd.DataFrame
    classes: tuple[str, ...]
    empty: Empty

    @property
    def empty_share(self) -> float:
        """Share of tiles in which no nucleus was found."""
        return float((self.tiles["n"] == 0).mean())


def composition(
    counts: pd.DataFrame, *, classes: Sequence[str], patients: ArrayLike, tissues: ArrayLike, empty: Empty
) -> Composition:
    """Turn counts of nuclei into percentages of each tile, and their means over each patient's tiles.

    Parameters
    ----------
    counts : a row a tile, a column a class (see `count_table`), whole numbers of 0 or more.
    classes : columns to use; percentages are of their sum.
    patients, tissues : one a tile. A patient whose tiles are of two tissues is an error.
    empty : how tiles without nuclei count, see `Composition`; there is no default, as it changes the result.

    Raises
    ------
    InputError : a class without a column, negative counts, other lengths, an unknown `empty`, a patient of two tissues.
    """
    if empty not in ("count as zero share", "left out"):
        raise InputError("composition, empty", expected="'count as zero share' or 'left out'", found=repr(empty))
    names = tuple(classes)
    if missing := [name for name in names if name not in counts]:
        raise InputError("counts", expected=f"columns {', '.join(names)}", found=f"no {', '.join(missing)}")
    values = counts[list(names)].to_numpy(np.float64)
    who, where = np.asarray(patients, dtype=str), np.asarray(tissues, dtype=str)
    if not len(values) == len(who) == len(where) or not len(values):
        raise InputError(
            "counts", expected="one patient and tissue a tile", found=f"{len(values)}, {len(who)}, {len(where)}"
        )
    if not np.isfinite(values).all() or (values < 0).any():
        raise InputError("counts", expected="whole numbers of 0 or more", found="others")
    total = values.sum(axis=1)
    fill = 0.0 if empty == "count as zero share" else math.nan
    shares = np.where(total[:, None] > 0, 100.0 * values / np.maximum(total[:, None], 1.0), fill)
    tiles = pd.DataFrame({"patient": who, "tissue": where, "n": total.astype(int)})
    tiles[list(names)] = shares
    groups = tiles.groupby("patient", sort=True)
    if (twice := groups["tissue"].nunique()).max() > 1:
        raise InputError(f"patient {twice.idxmax()}", expected="one tissue", found="several")
    per_patient = groups[list(names)].mean()  # NaN of tiles left out are skipped
    per_patient.insert(0, "n", groups["n"].mean())
    per_patient.insert(0, "empty", groups["n"].agg(lambda n: int((n == 0).sum())))
    per_patient.insert(0, "tiles", groups.size())
    per_patient.insert(0, "tissue", groups["tissue"].first())
    return Composition(tiles, per_patient.reset_index(), names, empty)


def count_table(nuclei: Sequence[Nuclei], classes: Sequence[str]) -> pd.DataFrame:
    """Count the nuclei of each class, a row a tile; tiles without nuclei have a row of zeros."""
    return pd.DataFrame([each.counts(tuple(classes)) for each in nuclei], columns=list(classes)).fillna(0).astype(int)


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided t tests of paired differences.

    Attributes
    ----------
    difference : mean difference with its 90 % t interval: equivalence at 5 % is this interval inside the margin.
    p : the larger of the two one-sided p values; NaN with fewer than three pairs.
    margin : largest difference that would not matter, same unit.
    equivalent : p below 0.05.
    differs : whether the usual two-sided test rejects "no difference" at 5 %; both may be true, or neither.
    p_difference : p value of that usual test.
    """

    difference: Interval
    p: float
    margin: float
    equivalent: bool
    differs: bool
    p_difference: float

    @property
    def verdict(self) -> str:
        """The result in words."""
        if math.isnan(self.p):
            return "too few patients to say"
        if self.equivalent:
            return "equivalent" + (", though not equal" if self.differs else "")
        return "different" if self.differs else "undecided"


def equivalence(first: ArrayLike, second: ArrayLike, *, margin: float) -> Equivalence:
    """Test whether two paired sets of numbers have the same mean to within a margin (TOST).

    Parameters
    ----------
    first, second : shape (n,): one number a patient each, in the same order; pairs with NaN are left out.
    margin : in the unit of the numbers, above 0, stated before looking.

    Returns
    -------
    Equivalence of `second - first`.

    Raises
    ------
    InputError : other lengths or a margin that is not positive.

    Source: Schuirmann, J Pharmacokinet Biopharm 15, 657 (1987).
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if a.shape != b.shape or a.ndim != 1:
        raise InputError("equivalence", expected="two vectors of one length", found=f"{a.shape} and {b.shape}")
    if not (math.isfinite(margin) and margin > 0):
        raise InputError("equivalence, margin", expected="above 0", found=repr(margin))
    gaps = (b - a)[np.isfinite(a) & np.isfinite(b)]
    n, mean = len(gaps), float(gaps.mean()) if len(gaps) else math.nan
    words = "paired t, 90 %"
    if n < 3:
        return Equivalence(Interval(mean, math.nan, math.nan, n, words), math.nan, margin, False, False, math.nan)
    error, freedom = float(gaps.std(ddof=1) / math.sqrt(n)), n - 1
    if error == 0:
        inside, zero = abs(mean) < margin, mean == 0
        p, p_difference = (0.0 if inside else 1.0), (1.0 if zero else 0.0)
        return Equivalence(Interval(mean, mean, mean, n, words), p, margin, inside, not zero, p_difference)
    p_above = float(scipy.stats.t.sf((mean + margin) / error, freedom))  # rejects "at most -margin"
    p_below = float(scipy.stats.t.cdf((mean - margin) / error, freedom))  # rejects "at least +margin"
    p, p_difference = max(p_above, p_below), 2 * float(scipy.stats.t.sf(abs(mean) / error, freedom))
    half = float(scipy.stats.t.ppf(0.95, freedom)) * error
    interval = Interval(mean, mean - half, mean + half, n, words)
    return Equivalence(interval, p, margin, p < 0.05, p_difference < 0.05, p_difference)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Real against generated tiles.

    Attributes
    ----------
    table : a row a tissue and class: tissue, class, real, real_low, real_high, other, other_low, other_high (mean
        percentages over patients, 95 % intervals), difference, low, high (90 %), p, p_difference, verdict, n (patients).
    correlation : Pearson's r of the mean percentages over tissues and classes, resampling patients within tissues.
    means : number of (tissue, class) means behind it.
    within : Pearson's r over patients of the percentages less their tissue's mean, over all classes: whether patients of
        one tissue are told apart. Without two patients in a tissue its ends are NaN.
    equivalent : share of rows whose verdict is "equivalent", of those with three or more patients; NaN where none has.
    """

    table: pd.DataFrame
    correlation: Interval
    means: int
    within: Interval
    equivalent: float


def compare(
    real: Composition, other: Composition, *, margin: float = MARGIN, n_boot: int = 500, seed: int = 0
) -> Comparison:
    """Compare the percentages of two sets of tiles of the same patients.

    Parameters
    ----------
    real, other : compositions of the same classes, with empty tiles counted the same way; patients in both are compared.
    margin : percentage points, see `equivalence`. The p values are not corrected for the number of rows.
    n_boot, seed : resamples of patients, and the seed.

    Raises
    ------
    InputError : other classes, another way with empty tiles, or no patient in both.
    """
    if real.classes != other.classes or real.empty != other.empty:
        raise InputError(
            "compositions",
            expected=f"classes {', '.join(real.classes)}; empty tiles {real.empty}",
            found=f"{', '.join(other.classes)}; {other.empty}",
        )
    both = real.patients.merge(other.patients, on=["patient", "tissue"], suffixes=("_real", "_other"))
    if not len(both):
        raise InputError("compositions", expected="patients in both", found="none")
    rows = []
    for tissue, part in both.groupby("tissue", sort=True):
        for name in real.classes:
            a, b = (part[f"{name}_{side}"].to_numpy(np.float64) for side in ("real", "other"))
            test = equivalence(a, b, margin=margin)
            left, right = (_mean(values, n_boot, seed) for values in (a, b))
            gap = test.difference
            rows.append(
                {
                    "tissue": tissue,
                    "class": name,
                    **{"real": left.value, "real_low": left.low, "real_high": left.high},
                    **{"other": right.value, "other_low": right.low, "other_high": right.high},
                    **{"difference": gap.value, "low": gap.low, "high": gap.high},
                    **{"p": test.p, "p_difference": test.p_difference, "verdict": test.verdict, "n": gap.n},
                }
            )
    table = pd.DataFrame(rows)
    shares = {side: both[[f"{name}_{side}" for name in real.classes]].to_numpy(np.float64) for side in ("real", "other")}
    tissues = both["tissue"].to_numpy(dtype=str)
    correlation = _within_tissues(_correlation_of_means, shares["real"], shares["other"], tissues, n_boot, seed)
    within = _within_tissues(_correlation_within, shares["real"], shares["other"], tissues, n_boot, seed)
    tested = table["p"].notna()
    share = float(table["verdict"][tested].str.startswith("equivalent").mean()) if tested.any() else math.nan
    return Comparison(table, correlation, len(table), within, share)


def _mean(values: NDArray[np.float64], n_boot: int, seed: int) -> Interval:
    known = values[np.isfinite(values)]
    if not len(known):
        return Interval(math.nan, math.nan, math.nan, 0, "no patient")
    return bootstrap(np.mean, known, n_boot=n_boot, seed=seed)


def _pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3 or np.ptp(a[known]) == 0 or np.ptp(b[known]) == 0:
        return math.nan
    return float(np.corrcoef(a[known], b[known])[0, 1])


def _tissue_means(values: NDArray[np.float64], tissues: NDArray[np.str_]) -> NDArray[np.float64]:
    """Mean of each tissue and class, shape (tissues, classes), over known values."""
    parts = [values[tissues == tissue] for tissue in np.unique(tissues)]
    known = [np.isfinite(part) for part in parts]
    sums = [(np.where(have, part, 0.0).sum(0), have.sum(0)) for part, have in zip(parts, known, strict=True)]
    return np.stack([np.where(count > 0, total / np.maximum(count, 1), np.nan) for total, count in sums])


def _correlation_of_means(a: NDArray[np.float64], b: NDArray[np.float64], tissues: NDArray[np.str_]) -> float:
    return _pearson(_tissue_means(a, tissues).ravel(), _tissue_means(b, tissues).ravel())


def _correlation_within(a: NDArray[np.float64], b: NDArray[np.float64], tissues: NDArray[np.str_]) -> float:
    _, number = np.unique(tissues, return_inverse=True)
    return _pearson(*((values - _tissue_means(values, tissues)[number]).ravel() for values in (a, b)))


def _within_tissues(
    statistic: object, a: NDArray[np.float64], b: NDArray[np.float64], tissues: NDArray[np.str_], n_boot: int, seed: int
) -> Interval:
    """Resample patients inside each tissue, so that every resample has every tissue."""
    assert callable(statistic)
    value = float(statistic(a, b, tissues))
    method = f"percentile bootstrap over patients within tissues, {n_boot} resamples, 95%"
    groups = [np.flatnonzero(tissues == tissue) for tissue in np.unique(tissues)]
    if max(len(rows) for rows in groups) < 2:
        return Interval(value, math.nan, math.nan, len(tissues), method + " (one patient a tissue: no interval)")
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(n_boot):
        rows = np.concatenate([generator.choice(part, len(part)) for part in groups])
        draws.append(float(statistic(a[rows], b[rows], tissues[rows])))
    known = np.array(draws)[np.isfinite(draws)]
    if len(known) < n_boot / 2:
        return Interval(value, math.nan, math.nan, len(tissues), method + " (not defined in most resamples)")
    low, high = np.quantile(known, [0.025, 0.975])
    return Interval(value, float(low), float(high), len(tissues), method)
