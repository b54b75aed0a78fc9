"""Do the genes that survive a round trip belong to what tiles show? Asked of the simulator, which knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.profiles.genes import gene_correlation, interval_of, resample_counts, weighted_correlation, within
from rnasynth.evaluation.stats import Interval, resampling_units


@dataclass(frozen=True, eq=False)
class TruthReport:
    """Whether the genes that survive are those of what tiles show.

    Attributes
    ----------
    numbers : "told_ROUTE": Spearman's rank correlation over genes, of how well a gene survives and how well the true
        fractions tell it; "survive_told_ROUTE" and "survive_untold_ROUTE": mean correlation of the genes that the fractions
        tell best and worst (a third of them each).
    labels : the same keys -> words.
    table : owner of a gene's programme -> number of genes, how well fractions tell them, mean correlation by each route.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    table: pd.DataFrame

    def summary(self, route: str) -> str:
        """Say in a sentence whether what the fractions tell survives better."""
        best, worst, rank = (self.numbers[f"{name}_{key_of(route)}"] for name in ("survive_told", "survive_untold", "told"))
        word = "survive better" if rank.low > 0 else "survive worse" if rank.high < 0 else "are not shown to survive better"
        return (
            f"Genes that the true fractions tell best {word} {route}: mean correlation {best.value:.3f} against "
            f"{worst.value:.3f} of those that they tell worst; rank correlation over genes {rank}."
        )


def gene_owners(cohort: Cohort, genes: Sequence[str]) -> list[str]:
    """Return what each gene is a marker of in the simulator: a cell type, a tissue, a group of genes; "" for nothing."""
    table = cohort.truth["genes"].set_index("gene")["owner"]
    return [str(table.get(gene, "")) for gene in genes]


def expected_by_fractions(cohort: Cohort, names: Sequence[str], genes: Sequence[str]) -> NDArray[np.float64]:
    """Return what a simulated sample's profile would be by its true fractions alone: log2 of their mix of programmes.

    Shape (samples, genes). No noise, no batch, no patient of its own: what tiles that show every cell could tell at best.

    Raises
    ------
    InputError : the cohort has no such truth.
    """
    if not {"programmes", "fractions"} <= set(cohort.truth):
        raise InputError(f"cohort {cohort.name}", expected="the simulator's truth", found="none")
    table, rows = cohort.truth["programmes"], cohort.truth["fractions"].set_index("patient_id").loc[list(names)]
    out = np.empty((len(names), len(genes)))
    for tissue, part in table.groupby("tissue", observed=True):
        mix = part.pivot(index="cell_type", columns="gene", values="share")[list(genes)]
        mine = (rows["tissue"].astype(str) == str(tissue)).to_numpy()
        out[mine] = rows.loc[mine, list(mix.index)].to_numpy(float) @ mix.to_numpy(float)
    return np.log2(1e6 * out + 1)


def survivors_against_truth(
    z: NDArray[Any],
    back: Mapping[str, NDArray[Any]],
    expected: NDArray[Any],
    *,
    owners: Sequence[str],
    tissues: ArrayLike,
    groups: ArrayLike,
    n_boot: int = 300,
    seed: int = 0,
) -> TruthReport:
    """Compare how well each gene comes back with how well the true cell fractions tell it, within tissues.

    Parameters
    ----------
    z, back : real z-scores, and route -> those that came back, shape (N, genes).
    expected : of `expected_by_fractions`, the same shape.
    owners : of each gene's programme; "" for none.
    """
    strata, (units, unit) = np.asarray(tissues).astype(str), resampling_units(groups)
    inside = within(z, strata)
    told = np.nan_to_num(gene_correlation(inside, within(expected, strata)))
    weights, n_groups = resample_counts(units, n_boot, seed)
    third = max(1, len(told) // 3)
    ranked = np.argsort(-told, kind="stable")
    numbers: dict[str, Interval] = {}
    labels: dict[str, str] = {}
    names = np.array([owner or "none" for owner in owners])
    table = pd.DataFrame({"programme of": names, "genes": 1, "told by the true fractions": told})
    method = f"percentile bootstrap over {unit}, {n_boot} resamples, 95%"
    for route, values in back.items():
        other = within(values, strata)
        r = np.nan_to_num(weighted_correlation(inside, other, np.ones((1, len(inside))))[0])
        drawn = np.nan_to_num(weighted_correlation(inside, other, weights))
        parts = {
            "told": (_spearman(told, r), np.array([_spearman(told, row) for row in drawn])),
            "survive_told": (float(r[ranked[:third]].mean()), drawn[:, ranked[:third]].mean(axis=1)),
            "survive_untold": (float(r[ranked[-third:]].mean()), drawn[:, ranked[-third:]].mean(axis=1)),
        }
        words = {
            "told": "rank correlation over genes: how well one survives, and how well the true fractions tell it",
            "survive_told": "mean correlation within tissues of the third of genes that the true fractions tell best",
            "survive_untold": "the same of the third that they tell worst",
        }
        numbers |= {f"{name}_{key_of(route)}": interval_of(*pair_, n_groups, method) for name, pair_ in parts.items()}
        labels |= {f"{name}_{key_of(route)}": f"{words[name]}, {route}" for name in parts}
        table[route] = r
    by_owner = table.groupby("programme of", sort=True).agg({**dict.fromkeys(table.columns[2:], "mean"), "genes": "sum"})
    return TruthReport(numbers, labels, by_owner.sort_values("told by the true fractions", ascending=False))


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])
