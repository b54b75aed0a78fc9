"""Pathologists' scores of tiles: reading the published ones, standard tests with the multiplicity corrected, effect sizes.

A score here is one rater's mean over the tiles of a group, so the rater is the unit: raters are paired across groups, and
tiles of a group are not independent of each other. The published scores are `data_manifests/papers/expert_ratings.csv`.

Source: RNA-GAN (Cell Reports Methods 2023), section "Expert evaluation of synthetic tiles".
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr
from statsmodels.stats.multitest import multipletests

from rnasynth.config import manifests_folder
from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval, bootstrap

COLUMNS = (
    "question", "tissue", "group", "against", "rater", "printed", "spread", "exact", "tiles", "unit", "place", "sentence",
)  # fmt: skip
QUESTIONS = ("quality", "mean quality", "test", "tissue named", "artefacts seen", "difference", "scale", "tiles")
CHI_QUANTILES = 4000
EXACT_RATERS = 12  # up to here all 2^n signs are enumerated


def read_ratings(source: str | Path = "expert_ratings") -> pd.DataFrame:
    """Return the published scores and what the paper says of them, one row each, every row quoting its sentence.

    Parameters
    ----------
    source : name of a table in data_manifests/papers, or the path of a csv of the same columns.

    Returns
    -------
    Columns question (one of `QUESTIONS`), tissue, group, against, rater (text, "1" to "6"; empty for a mean over raters),
    printed (float, as printed), spread (float, the SD printed after it), exact (float: the fraction of whole points behind
    the printed score, 7/3 for 2.3), tiles (float: tiles behind the mean, as the fraction tells), unit, place, sentence.

    Raises
    ------
    InputError : no such file, other columns, an unknown question, an empty quote, a rater twice for the same group, or a
        fraction that does not round to the printed score.
    """
    path = manifests_folder() / "papers" / f"{source}.csv"
    path = path if path.is_file() else Path(source)
    if not path.is_file():
        raise InputError(
            str(source), expected="a table of data_manifests/papers, or the path of a csv", found="no such file"
        )
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(table.columns) != COLUMNS:
        raise InputError(str(path), expected=", ".join(COLUMNS), found=", ".join(map(str, table.columns)))
    subject = f"{path.name}, row"
    for number, row in enumerate(table.to_dict("records"), start=2):
        if row["question"] not in QUESTIONS or not row["sentence"].strip():
            raise InputError(f"{subject} {number}", expected="a known question and a quoted sentence", found=row["question"])
    for column in ("printed", "spread", "tiles"):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    table["exact"] = [_fraction(path, text) if text else math.nan for text in table["exact"]]
    table["exact"] = table["exact"].fillna(table["printed"])
    wrong = table.index[(table["exact"] - table["printed"]).abs() > 0.05 + 1e-9]
    if len(wrong):
        row = table.loc[wrong[0]]
        raise InputError(
            f"{subject} {wrong[0] + 2}",
            expected=f"a fraction that rounds to the printed {row['printed']:g}",
            found=f"{row['exact']:.4g}",
            fix="change both, or leave the fraction empty",
        )
    scores = table[table["question"] == "quality"]
    if scores["printed"].isna().any() or scores.duplicated(["tissue", "group", "rater"]).any() or scores.empty:
        raise InputError(str(path), expected="one score a tissue, group and rater", found="none, an empty one, or two")
    return table


def _fraction(path: Path, text: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise InputError(str(path), expected="a fraction such as 7/3", found=repr(text)) from None


def scores_of(ratings: pd.DataFrame, values: Literal["exact", "printed"] = "exact") -> pd.DataFrame:
    """Return the per-rater scores, columns tissue, group, rater (text) and score (points), from `read_ratings`' table."""
    rows = ratings[ratings["question"] == "quality"]
    return pd.DataFrame(
        {
            "tissue": rows["tissue"].to_numpy(),
            "group": rows["group"].to_numpy(),
            "rater": rows["rater"].astype(str).to_numpy(),
            "score": rows[values].to_numpy(float),
        }
    )


def wide(scores: pd.DataFrame, tissue: str) -> pd.DataFrame:
    """Return the scores of one tissue as raters x groups.

    Raises
    ------
    InputError : a rater has not scored every group of the tissue.
    """
    table = scores[scores["tissue"] == tissue].pivot(index="rater", columns="group", values="score")
    if table.empty or table.isna().any(axis=None):
        missing = ", ".join(table.index[table.isna().any(axis=1)]) or "none at all"
        raise InputError(f"scores of {tissue or 'the tiles'}", expected="each rater's score of each group", found=missing)
    return table


def describe(scores: pd.DataFrame) -> pd.DataFrame:
    """Return n, mean and SD (n - 1) over raters for each tissue and group, and how many scores lie below 1."""
    grouped = scores.groupby(["tissue", "group"], sort=False)["score"]
    table = grouped.agg(n="count", mean="mean", sd="std", lowest="min").reset_index()
    table["below_1"] = grouped.agg(lambda values: int((values < 1).sum())).to_numpy()
    return table


def comparisons(scores: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return (tissue, group, other group) for every pair of groups within a tissue, in the table's order."""
    pairs = []
    for tissue, rows in scores.groupby("tissue", sort=False):
        pairs += [(str(tissue), a, b) for a, b in itertools.combinations(dict.fromkeys(rows["group"]), 2)]
    return pairs


def paired_t(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p of Student's paired t test; 1 where all differences are 0, NaN where they are equal and not 0."""
    difference = np.asarray(a, float) - np.asarray(b, float)
    if len(difference) < 2 or np.ptp(difference) < 1e-12:
        return 1.0 if len(difference) and np.all(np.abs(difference) < 1e-12) else math.nan
    return float(scipy.stats.ttest_1samp(difference, 0.0).pvalue)


def wilcoxon(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test: zeros left out, ties averaged, all signs enumerated up to 12 raters."""
    difference = np.round(np.asarray(a, float) - np.asarray(b, float), 9)
    difference = difference[difference != 0]
    if not len(difference):
        return 1.0
    ranks = scipy.stats.rankdata(np.abs(difference)) * np.sign(difference)
    if len(ranks) <= EXACT_RATERS:
        return sign_flips(ranks)["two-sided"]
    return float(scipy.stats.wilcoxon(difference, method="asymptotic", correction=True).pvalue)


def sign_flips(signed: NDArray[np.float64]) -> dict[str, float]:
    """Return p of the sum of `signed`, shape (n,), among all 2^n choices of signs: keys "greater" and "two-sided"."""
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(signed))))
    sums = signs @ np.abs(signed)
    above = float(np.mean(sums >= signed.sum() - 1e-9))
    return {"greater": above, "two-sided": float(np.mean(np.abs(sums) >= abs(signed.sum()) - 1e-9))}


def corrected_tests(scores: pd.DataFrame) -> pd.DataFrame:
    """Two-sided paired t and Wilcoxon tests of every pair of groups in every tissue, with Holm's correction over all.

    Parameters
    ----------
    scores : columns tissue, group, rater, score.

    Returns
    -------
    Columns tissue, group, against, n, difference (points), t_p, t_p_holm, wilcoxon_p, wilcoxon_p_holm. A p that does not
    exist (equal differences that are not 0) is NaN and takes no part in the correction.

    Source: Holm, Scand J Stat 1979, through statsmodels.
    """
    rows = []
    for tissue, group, against in comparisons(scores):
        table = wide(scores, tissue)
        a, b = table[group].to_numpy(float), table[against].to_numpy(float)
        where = {"tissue": tissue, "group": group, "against": against, "n": len(a), "difference": float(np.mean(a - b))}
        rows.append({**where, "t_p": paired_t(a, b), "wilcoxon_p": wilcoxon(a, b)})
    table = pd.DataFrame(rows)
    for column in ("t_p", "wilcoxon_p"):
        known = table[column].notna()
        table[f"{column}_holm"] = math.nan
        if known.any():
            table.loc[known, f"{column}_holm"] = multipletests(table.loc[known, column], method="holm")[1]
    return table[["tissue", "group", "against", "n", "difference", "t_p", "t_p_holm", "wilcoxon_p", "wilcoxon_p_holm"]]


def difference_interval(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean of the paired differences a - b (points) with Student's t interval over raters."""
    difference = np.asarray(a, float) - np.asarray(b, float)
    n = len(difference)
    half = scipy.stats.t.ppf((1 + level) / 2, n - 1) * difference.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
    mean = float(difference.mean())
    return Interval(mean, mean - half, mean + half, n, f"Student's t over raters, {level:.0%}")


def hedges_g(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Interval:
    """Standardised paired difference: Cohen's d_z times Hedges' correction, with the noncentral-t interval.

    Returns
    -------
    Interval without unit (mean difference over the SD of the differences); NaN ends where the differences are all equal.

    Source: Cohen 1988; Hedges, J Educ Stat 1981 (exact correction); interval: Steiger and Fouladi 1997.
    """
    difference = np.asarray(a, float) - np.asarray(b, float)
    n = len(difference)
    method = f"noncentral t, {level:.0%}"
    if n < 2 or np.ptp(difference) < 1e-12:
        return Interval(math.nan, math.nan, math.nan, n, method)
    d_z = float(difference.mean() / difference.std(ddof=1))
    t, df = d_z * math.sqrt(n), n - 1
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else math.nan
    tails = ((1 + level) / 2, (1 - level) / 2)
    # P(T <= t | c) = E[Phi(t sqrt(V / df) - c)], V chi-square: the mean over V's quantiles is monotone in c and finite for
    # every t, which scipy's nct.cdf is not (it gives NaN a few units from t)
    places = (np.arange(CHI_QUANTILES) + 0.5) / CHI_QUANTILES
    centres = t * np.sqrt(scipy.stats.chi2.ppf(places, df) / df)
    reach = float(centres.min()) - 9, float(centres.max()) + 9
    low, high = (brentq(lambda c, tail=tail: float(ndtr(centres - c).mean()) - tail, *reach) for tail in tails)
    scale = correction / math.sqrt(n)
    return Interval(d_z * correction, low * scale, high * scale, n, method)


def cliffs_delta(a: ArrayLike, b: ArrayLike) -> float:
    """Share of pairs with a > b minus share with a < b, in [-1, 1] (Cliff, Psychol Bull 1993).

    Examples
    --------
    >>> cliffs_delta([2, 3], [1, 2])
    0.75
    """
    difference = np.subtract.outer(np.asarray(a, float), np.asarray(b, float))
    difference[np.abs(difference) < 1e-9] = 0
    return float(np.sign(difference).mean())


def effect_sizes(scores: pd.DataFrame, *, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Mean difference, Hedges' g of the paired differences and Cliff's delta for every comparison, with intervals.

    Returns
    -------
    Columns tissue, group, against, difference, g, delta (each an `Interval`; delta's resamples raters).
    """
    rows = []
    for tissue, group, against in comparisons(scores):
        table = wide(scores, tissue)
        a, b = table[group].to_numpy(float), table[against].to_numpy(float)
        where = {"tissue": tissue, "group": group, "against": against}
        delta = bootstrap(cliffs_delta, a, b, n_boot=n_boot, seed=seed)
        rows.append({**where, "difference": difference_interval(a, b), "g": hedges_g(a, b), "delta": delta})
    return pd.DataFrame(rows)


def interval_rows(effects: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return one column of `effect_sizes` as `plots.intervals` wants it: label, group (the tissue), value, low, high.

    Rows are sorted by tissue, so that a tissue has the colour that `plots.colour_of` gives it.
    """
    ordered = effects.sort_values("tissue", kind="stable")
    table = pd.DataFrame({"label": ordered["group"] + " - " + ordered["against"], "group": ordered["tissue"]}).reset_index(
        drop=True
    )
    for end in ("value", "low", "high"):
        table[end] = [getattr(interval, end) for interval in ordered[column]]
    return table
