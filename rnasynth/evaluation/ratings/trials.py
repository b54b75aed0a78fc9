"""Which test gives a printed p, and which answers give a printed percentage: the arithmetic behind published ratings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import ArrayLike

from rnasynth.evaluation.ratings import scores as ratings

DECIMALS_P = 3  # of the published p values
VALUES: tuple[Literal["exact"], Literal["printed"]] = ("exact", "printed")


def battery(a: ArrayLike, b: ArrayLike) -> pd.DataFrame:
    """Return p of every common two-group test of six or so scores each, two-sided and for a > b.

    Parameters
    ----------
    a, b : scores of the same raters in the same order, shape (n,), points; at most 12 raters.

    Returns
    -------
    Columns test, alternative ("two-sided", "greater"), p.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    difference = np.round(x - y, 9)
    moved = difference[difference != 0]
    rows: list[tuple[str, str, float]] = []
    for alternative in ("two-sided", "greater"):
        found: dict[str, float] = {
            "paired t": scipy.stats.ttest_rel(x, y, alternative=alternative).pvalue,
            "unpaired t (Student)": scipy.stats.ttest_ind(x, y, alternative=alternative).pvalue,
            "unpaired t (Welch)": scipy.stats.ttest_ind(x, y, equal_var=False, alternative=alternative).pvalue,
            "sign-flip permutation": ratings.sign_flips(difference)[alternative],
            "Wilcoxon, exact": ratings.sign_flips(scipy.stats.rankdata(np.abs(moved)) * np.sign(moved))[alternative],
            "sign test": scipy.stats.binomtest(int((moved > 0).sum()), len(moved), alternative=alternative).pvalue,
            "Mann-Whitney, exact": scipy.stats.mannwhitneyu(x, y, alternative=alternative, method="exact").pvalue,
        }
        for zeros, correction in itertools.product(("wilcox", "pratt", "zsplit"), (False, True)):
            name = f"Wilcoxon, normal, zeros {zeros}" + (", corrected" if correction else "")
            found[name] = scipy.stats.wilcoxon(
                difference, zero_method=zeros, correction=correction, alternative=alternative, method="asymptotic"
            ).pvalue
        for correction in (False, True):
            found["Mann-Whitney, normal" + (", corrected" if correction else "")] = scipy.stats.mannwhitneyu(
                x, y, alternative=alternative, method="asymptotic", use_continuity=correction
            ).pvalue
        if min(x.min(), y.min()) > 0:
            found["paired t of logarithms"] = scipy.stats.ttest_rel(np.log(x), np.log(y), alternative=alternative).pvalue
        rows += [(test, alternative, float(p)) for test, p in found.items()]
    return pd.DataFrame(rows, columns=["test", "alternative", "p"])


def printed_as(p: float, published: float, decimals: int = DECIMALS_P) -> str:
    """Return how `p` is printed as `published`: "rounded", "cut" (digits dropped, as the paper's means are), or "".

    Examples
    --------
    >>> printed_as(0.0252, 0.025), printed_as(0.05288, 0.052), printed_as(0.0239, 0.052)
    ('rounded', 'cut', '')
    """
    unit = 10.0**-decimals
    if abs(p - published) <= unit / 2 + 1e-12:
        return "rounded"
    return "cut" if -1e-12 <= p - published < unit else ""


def published_tests(table: pd.DataFrame) -> pd.DataFrame:
    """Return every test tried on every published comparison: on exact and printed scores, on all raters and without each.

    Parameters
    ----------
    table : as `scores.read_ratings` returns it.

    Returns
    -------
    Columns tissue, group, against, published (p as printed), raters ("all", or "without 6"), values ("exact", "printed"),
    test, alternative, p, printed_as ("rounded", "cut", or "" where the p is not the published one).
    """
    frames = []
    for values in VALUES:
        scores = ratings.scores_of(table, values)
        for row in table[table["question"] == "test"].to_dict("records"):
            by_rater = ratings.wide(scores, row["tissue"])
            for left_out in (None, *by_rater.index):
                kept = by_rater if left_out is None else by_rater.drop(index=left_out)
                tried = battery(kept[row["group"]], kept[row["against"]])
                where = {"tissue": row["tissue"], "group": row["group"], "against": row["against"]}
                raters = "all" if left_out is None else f"without {left_out}"
                frames.append(tried.assign(**where, published=row["printed"], raters=raters, values=values))
    trials = pd.concat(frames, ignore_index=True)
    trials["printed_as"] = [printed_as(p, q) for p, q in zip(trials["p"], trials["published"], strict=True)]
    order = ["tissue", "group", "against", "published", "raters", "values", "test", "alternative", "p", "printed_as"]
    return trials[order]


def explain(trials: pd.DataFrame) -> pd.DataFrame:
    """Say for each published p which of the tests tried gives it, the same test for as many of them as there is one.

    Parameters
    ----------
    trials : as `published_tests` returns it.

    Returns
    -------
    Columns tissue, group, against, published, one_sided and two_sided (paired t on all raters, exact scores), tried,
    giving_it (tests that give the printed p on all raters), way (the test, alternative and raters that give it; of several
    the one that gives the most published p values, all raters before a part of them; empty where none does), way_p.
    """
    key = ["tissue", "group", "against", "published"]
    kinds = ["test", "alternative", "raters", "values"]
    hits = trials[trials["printed_as"] != ""].copy()
    hits["shared"] = hits.groupby(kinds)["p"].transform("count")
    hits["part"] = (hits["raters"] != "all").astype(int)
    hits = hits.sort_values(["part", "shared", "values"], ascending=[True, False, True], kind="stable")
    of = dict(list(hits.groupby(key)))
    plain = trials[(trials["raters"] == "all") & (trials["values"] == "exact") & (trials["test"] == "paired t")]
    p_of = plain.set_index([*key, "alternative"])["p"].to_dict()
    rows = []
    for where, tried in trials.groupby(key, sort=False):
        mine = of.get(where, hits.iloc[:0])
        best = None if mine.empty else mine.iloc[0]
        rows.append(
            {
                **dict(zip(key, where, strict=True)),
                "one_sided": p_of[*where, "greater"],
                "two_sided": p_of[*where, "two-sided"],
                "tried": len(tried),
                "giving_it": int((mine["raters"] == "all").sum()),
                "way": "" if best is None else _way(best),
                "way_p": math.nan if best is None else float(best["p"]),
            }
        )
    return pd.DataFrame(rows)


def _way(trial: pd.Series) -> str:
    side = "one-sided" if trial["alternative"] == "greater" else "two-sided"
    raters = "all raters" if trial["raters"] == "all" else f"{trial['raters'].replace('without', 'without rater')}"
    return f"{side} {trial['test']}, {raters}, {trial['values']} scores, {trial['printed_as']}"


def fitting_counts(printed: float, answers: Sequence[int], decimals: int = 0) -> pd.DataFrame:
    """Which numbers of answers can give a printed percentage (the granularity test, GRIM).

    Parameters
    ----------
    printed : percentage as printed.
    answers : numbers of answers to try (raters times tiles).
    decimals : of the printed percentage.

    Returns
    -------
    Columns answers, yes (the nearest count), percent, fits ("rounded", "cut" or "").

    Source: Brown and Heathers, Soc Psychol Personal Sci 2017.
    """
    rows = []
    for n in answers:
        counts = range(n + 1)
        fits = {count: printed_as(100 * count / n, printed, decimals) for count in counts}
        best = min(counts, key=lambda count: (not fits[count], abs(100 * count / n - printed)))
        rows.append((n, best, 100 * best / n, fits[best]))
    return pd.DataFrame(rows, columns=["answers", "yes", "percent", "fits"])


def fitting_accuracies(mean: float, sd: float, *, raters: int, tiles: int, decimals: int = 2) -> list[tuple[int, ...]]:
    """Return every set of counts of right answers, one a rater, whose mean and SD are printed as `mean` and `sd`.

    Each rater's percentage may have been used in full, or cut or rounded to one decimal first.

    Parameters
    ----------
    mean, sd : percentage over raters and its SD (n - 1), as printed.
    raters, tiles : how many raters, and how many tiles each of them answered.

    Source: the search of SPRITE, Heathers et al., PeerJ Preprints 2018.
    """
    found = []
    for counts in itertools.combinations_with_replacement(range(tiles + 1), raters):
        share = 100 * np.array(counts) / tiles
        for used in (share, np.floor(share * 10 + 1e-9) / 10, np.round(share, 1)):
            values = (float(used.mean()), mean), (float(used.std(ddof=1)), sd)
            if all(printed_as(value, wanted, decimals) for value, wanted in values):
                found.append(counts)
                break
    return found
