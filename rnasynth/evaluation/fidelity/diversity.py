"""How varied are tiles, within a patient and between patients of a tissue?

A generator that is told the profile and ignores its noise makes one tile a patient; one that is told nothing makes all
patients alike. Real tiles stand beside both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.manifold import squared_distances
from rnasynth.evaluation.fidelity.sets import TileSet
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.stats import Interval, bootstrap, mean_of_known
from rnasynth.features import FeatureStats


@dataclass(frozen=True, eq=False)
class Spread:
    """Mean distance of two tiles, of one patient and of two patients of the same tissue.

    Attributes
    ----------
    table : one row a set: set, within, between, ratio (Interval; between over within, 1 where patients cannot be told
        apart), n (patients or samples).
    numbers, labels : "spread_within_SET", "spread_between_SET" and "spread_ratio_SET", and in words; finite ones only.
    unit : "patients", or "samples" where a tissue has fewer than two patients.
    """

    table: pd.DataFrame
    numbers: dict[str, Interval]
    labels: dict[str, str]
    unit: str

    def rows(self) -> pd.DataFrame:
        """Return label (within or between), group (set), value, low, high, for `plots.intervals`."""
        names = {"within": f"two tiles of one of the {self.unit}", "between": f"two {self.unit} of the same tissue"}
        return pd.DataFrame(
            [
                {"label": names[column], "group": row["set"], **row[column].to_dict()}
                for row in self.table.to_dict("records")  # a set keeps its colour where it lacks a row
                for column in names
                if np.isfinite(row[column].value)
            ]
        )


def spread(sets: Mapping[str, TileSet], scale: FeatureStats, *, n_boot: int = 300, seed: int = 0) -> Spread:
    """Measure mean pairwise distances of standardised features.

    Parameters
    ----------
    sets : name -> tiles; the network is `scale.network`.
    scale : how features are standardised, the same for all sets.
    n_boot, seed : of the intervals, which resample patients (or samples).

    Raises
    ------
    InputError : no set, or nowhere two patients (or samples) of one tissue.
    """
    if not sets:
        raise InputError("sets of tiles", expected="at least one", found="none")
    unit = "patients" if all(_owners_enough(each.tissues, each.patients) for each in sets.values()) else "samples"
    rows: list[dict[str, Any]] = []
    for name, each in sets.items():
        means, tissues, owners = _between_means(each, each.patients if unit == "patients" else each.samples, scale)
        same = tissues[:, None] == tissues[None]

        def within(chosen: NDArray[np.intp], means: NDArray[np.float64] = means) -> float:
            return mean_of_known(means[chosen, chosen])

        def between(chosen: NDArray[np.intp], means: NDArray[np.float64] = means, same: NDArray[np.bool_] = same) -> float:
            pairs = same[np.ix_(chosen, chosen)] & (chosen[:, None] != chosen[None])
            return mean_of_known(means[np.ix_(chosen, chosen)][pairs])

        def ratio(chosen: NDArray[np.intp], within: Any = within, between: Any = between) -> float:
            inside = within(chosen)
            return between(chosen) / inside if inside > 0 else float("nan")

        found = {
            key: bootstrap(call, np.arange(len(tissues)), groups=owners, n_boot=n_boot, seed=seed)
            for key, call in (("within", within), ("between", between), ("ratio", ratio))
        }
        if not np.isfinite(found["between"].value):
            raise InputError(f"tiles, {name}", expected="two samples of one tissue", found="fewer")
        rows.append({"set": name, **found, "n": len(np.unique(owners))})
    words = {
        "within": f"mean distance of two tiles within one of the {unit}",
        "between": f"mean distance of two tiles of two {unit} of the same tissue",
        "ratio": f"distance between {unit} over that within",
    }
    finite = [(row, key) for row in rows for key in words if all(map(np.isfinite, _ends(row[key])))]
    return Spread(
        table=pd.DataFrame(rows),
        numbers={f"spread_{key}_{key_of(row['set'])}": row[key] for row, key in finite},
        labels={f"spread_{key}_{key_of(row['set'])}": f"{words[key]}, {row['set']}" for row, key in finite},
        unit=unit,
    )


def _between_means(
    tiles: TileSet, owners: NDArray[np.str_], scale: FeatureStats
) -> tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.str_]]:
    """Return mean distances of tiles by pair of (owner, tissue), NaN across tissues and without a pair; tissues; owners."""
    points = scale.scaled(tiles.features[scale.network])
    keys = np.array([f"{tissue}\t{owner}" for tissue, owner in zip(tiles.tissues, owners, strict=True)])
    names, first, number = np.unique(keys, return_index=True, return_inverse=True)
    tissues = tiles.tissues[first]
    means = np.full((len(names), len(names)), np.nan)
    for tissue in np.unique(tissues):
        rows = np.flatnonzero(tiles.tissues == tissue)
        distances = np.sqrt(squared_distances(points[rows], points[rows]))
        np.fill_diagonal(distances, 0.0)
        mine = np.flatnonzero(tissues == tissue)
        member = (number[rows][None] == mine[:, None]).astype(float)  # (owners, tiles)
        sums, counts = member @ distances @ member.T, np.outer(member.sum(axis=1), member.sum(axis=1))
        counts[np.diag_indices_from(counts)] -= member.sum(axis=1)  # a tile with itself is no pair
        means[np.ix_(mine, mine)] = np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)
    return means, tissues, owners[first]


def _owners_enough(tissues: NDArray[np.str_], owners: NDArray[np.str_]) -> bool:
    return all(len(np.unique(owners[tissues == tissue])) >= 2 for tissue in np.unique(tissues))


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high
