"""How varied are tiles, within a patient and between patients, and does a model of several tissues make them all?

A recall over all tissues hides a tissue that is never made: it is then only a fifth too low. RNA-GAN's authors saw one model
of two tissues collapse to one of them. So recall is taken tissue by tissue, beside that of real tiles of other patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.manifold import NEIGHBOURS, recalled, squared_distances
from rnasynth.evaluation.fidelity.memorisation import key_of
from rnasynth.evaluation.fidelity.sets import TileSet
from rnasynth.evaluation.fidelity.study import FLOOR
from rnasynth.evaluation.stats import Interval, bootstrap
from rnasynth.features import FeatureStats

MISSING_SHARE = 0.25  # a tissue counts as missing where its recall lies below this share of the floor's


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
                for column in names
                for row in self.table.to_dict("records")
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
        means, tissues = _between_means(each, each.patients if unit == "patients" else each.samples, scale)
        same = tissues[:, None] == tissues[None]

        def within(chosen: NDArray[np.intp], means: NDArray[np.float64] = means) -> float:
            return _mean(means[chosen, chosen])

        def between(chosen: NDArray[np.intp], means: NDArray[np.float64] = means, same: NDArray[np.bool_] = same) -> float:
            pairs = same[np.ix_(chosen, chosen)] & (chosen[:, None] != chosen[None])
            return _mean(means[np.ix_(chosen, chosen)][pairs])

        def ratio(chosen: NDArray[np.intp], within: Any = within, between: Any = between) -> float:
            inside = within(chosen)
            return between(chosen) / inside if inside > 0 else float("nan")

        owners = np.arange(len(tissues))
        found = {
            key: bootstrap(call, owners, n_boot=n_boot, seed=seed)
            for key, call in (("within", within), ("between", between), ("ratio", ratio))
        }
        if not np.isfinite(found["between"].value):
            raise InputError(f"tiles, {name}", expected="two samples of one tissue", found="fewer")
        rows.append({"set": name, **found, "n": len(owners)})
    words = {
        "within": f"mean distance of two tiles within one of the {unit}",
        "between": f"mean distance of two tiles of two {unit} of the same tissue",
        "ratio": f"distance between {unit} over that within",
    }
    finite = [(row, key) for row in rows for key in words if all(map(np.isfinite, _ends(row[key])))]
    return Spread(
        table=pd.DataFrame(rows),
        numbers={f"spread_{key}_{_key(row['set'])}": row[key] for row, key in finite},
        labels={f"spread_{key}_{_key(row['set'])}": f"{words[key]}, {row['set']}" for row, key in finite},
        unit=unit,
    )


@dataclass(frozen=True, eq=False)
class TissueRecall:
    """Recall of every tissue's held-out real tiles.

    Attributes
    ----------
    table : rows set, tissue, recall (Interval), n (real tiles).
    numbers, labels : "recall_SET" over all tissues and "recall_worst_SET".
    worst : set -> the tissue of the smallest recall, relative to the floor where that is given.
    missing : set -> tissues whose recall's whole interval lies below `MISSING_SHARE` of the floor's.
    """

    table: pd.DataFrame
    numbers: dict[str, Interval]
    labels: dict[str, str]
    worst: dict[str, str]
    missing: dict[str, list[str]]
    threshold: ClassVar[float] = MISSING_SHARE

    def rows(self) -> pd.DataFrame:
        """Return label (tissue), group (set), value, low, high for `plots.intervals`."""
        return pd.DataFrame(
            [
                {"label": row["tissue"], "group": row["set"], **row["recall"].to_dict()}
                for row in self.table.to_dict("records")
            ]
        )

    def summary(self) -> str:
        """Name the worst tissue of every set, and the tissues that are as good as missing."""
        found = {(row["set"], row["tissue"]): row["recall"] for row in self.table.to_dict("records")}
        said = []
        for name, tissue in self.worst.items():
            if name == FLOOR:
                continue
            words = f"{name}: worst is {tissue} (recall {found[name, tissue]}, real tiles {found[FLOOR, tissue]})"
            others = self.missing[name]
            whole = len({row["tissue"] for row in self.table.to_dict("records")})
            if len(others) == whole:
                words += "; every tissue is as good as missing"
            else:
                words += f"; as good as missing: {', '.join(others)}" if others else "; none is missing"
            said.append(words)
        return ". ".join(said) + "."


def recall_by_tissue(
    real: TileSet,
    floor: TileSet,
    sets: Mapping[str, TileSet],
    scale: FeatureStats,
    *,
    k: int = NEIGHBOURS,
    n_boot: int = 200,
    seed: int = 0,
) -> TissueRecall:
    """Measure which real tiles lie inside the ball of a generated one, tissue by tissue.

    A generated tile may recall a real one of any tissue: a generator that was told nothing can be judged as well. All sets
    are drawn to the size of the smallest, for recall grows with the number of generated tiles.

    Parameters
    ----------
    real : held-out real tiles.
    floor : real tiles of other patients.
    sets : name -> generated tiles.
    scale : how features are standardised.
    k : neighbours that a ball reaches to.
    n_boot, seed : of the intervals over patients (tiles, in a tissue of fewer than three patients), and of the draws.

    Raises
    ------
    InputError : a patient in both real sets, or too few tiles for k.
    """
    if both := set(real.patients) & set(floor.patients):
        raise InputError("real tiles", expected="disjoint patients", found=f"{min(both)} in both")
    every = {FLOOR: floor, **sets}
    n = min(len(each) for each in every.values())
    points = scale.scaled(real.features[scale.network])
    tissues = sorted(set(real.tissues.tolist()))
    rows: list[dict[str, Any]] = []
    numbers, labels = {}, {}
    for name, each in every.items():
        made = scale.scaled(each.features[scale.network][each.rows(n=n, seed=seed)])
        inside = recalled(points, made, k=k).astype(float)
        for tissue in tissues:
            mine = real.tissues == tissue
            interval = _over_patients(inside[mine], real.patients[mine], n_boot, seed)
            rows.append({"set": name, "tissue": tissue, "recall": interval, "n": int(mine.sum())})
        numbers[f"recall_{_key(name)}"] = _over_patients(inside, real.patients, n_boot, seed)
        labels[f"recall_{_key(name)}"] = f"recall of held-out tiles, all tissues, {name}"
    found = {(row["set"], row["tissue"]): row["recall"] for row in rows}
    worst, missing = {}, {}
    for name in every:
        relative = [found[name, tissue].value / max(found[FLOOR, tissue].value, 1e-12) for tissue in tissues]
        own = [found[name, tissue].value for tissue in tissues]
        worst[name] = tissues[int(np.argmin(own if name == FLOOR else relative))]
        missing[name] = [t for t in tissues if found[name, t].high < MISSING_SHARE * found[FLOOR, t].value]
        numbers[f"recall_worst_{_key(name)}"] = found[name, worst[name]]
        labels[f"recall_worst_{_key(name)}"] = f"recall of the worst tissue, {name}"
    return TissueRecall(pd.DataFrame(rows), numbers, labels, worst, missing)


def _between_means(
    tiles: TileSet, owners: NDArray[np.str_], scale: FeatureStats
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Return mean distances of tiles by pair of (owner, tissue), NaN across tissues and without a pair; and the tissues."""
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
    return means, tissues


def _owners_enough(tissues: NDArray[np.str_], owners: NDArray[np.str_]) -> bool:
    return all(len(np.unique(owners[tissues == tissue])) >= 2 for tissue in np.unique(tissues))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _over_patients(inside: NDArray[np.float64], patients: NDArray[np.str_], n_boot: int, seed: int) -> Interval:
    groups = patients if len(np.unique(patients)) >= 3 else None
    return bootstrap(np.mean, inside, groups=groups, n_boot=n_boot, seed=seed)


def _key(name: str) -> str:
    return "floor" if name == FLOOR else key_of(name)
