"""Does a model of several tissues make them all? Recall tissue by tissue, and which tissue its tiles are like.

A recall over all tissues hides a tissue that is never made: it is then only a fifth too low. RNA-GAN's authors saw one model
of two tissues collapse to one of them. So recall is taken tissue by tissue, beside that of real tiles of other patients; and
where no real tile is within reach yet, the nearest training tiles still say which tissue generated ones are most like.
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
from rnasynth.evaluation.fidelity.sets import TileSet
from rnasynth.evaluation.fidelity.study import FLOOR
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.stats import Interval, bootstrap, groups_if_enough
from rnasynth.features import FeatureStats

MISSING_SHARE = 0.25  # a tissue counts as missing where its recall lies below this share of the floor's


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

    @property
    def nothing_reached(self) -> bool:
        """Whether every tissue is as good as missing in every set: then a collapse to one tissue could not be seen."""
        whole = self.table["tissue"].nunique()
        return all(len(tissues) == whole for name, tissues in self.missing.items() if name != FLOOR)

    def rows(self) -> pd.DataFrame:
        """Return label (tissue), group (set), value, low, high for `plots.intervals`."""
        return _by_tissue(self.table, "recall")

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
                words += f"; as good as missing: {', '.join(others)}" if others else "; none is shown to be missing"
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
            groups = groups_if_enough(real.patients[mine])
            interval = bootstrap(np.mean, inside[mine], groups=groups, n_boot=n_boot, seed=seed)
            rows.append({"set": name, "tissue": tissue, "recall": interval, "n": int(mine.sum())})
        groups = groups_if_enough(real.patients)
        numbers[f"recall_{_key(name)}"] = bootstrap(np.mean, inside, groups=groups, n_boot=n_boot, seed=seed)
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


@dataclass(frozen=True, eq=False)
class TissueShares:
    """Which tissue's training tiles a set's tiles are most like.

    Attributes
    ----------
    table : one row a set and tissue: set, tissue, share (Interval).
    numbers, labels : "least_share_SET", of the tissue that the set's tiles are seldom like, and "tissues_made_SET", the
        effective number of tissues (exp of the entropy of the shares: 1 where all are like one, all where they are even).
    least : set -> that tissue.
    even : the share of each tissue if all were alike.
    """

    table: pd.DataFrame
    numbers: dict[str, Interval]
    labels: dict[str, str]
    least: dict[str, str]
    even: float

    def rows(self) -> pd.DataFrame:
        """Return label (tissue), group (set), value, low, high for `plots.intervals`."""
        return _by_tissue(self.table, "share")


def tissue_shares(
    train: TileSet, sets: Mapping[str, TileSet], scale: FeatureStats, *, k: int = 5, n_boot: int = 200, seed: int = 0
) -> TissueShares:
    """Let the `k` nearest training tiles vote on each tile's tissue: it can be asked of tiles that no ball holds, too.

    Every tissue has as many training tiles, and each set is weighed so that every tissue that it was made for counts the
    same; so even shares mean that all tissues are made alike.

    Parameters
    ----------
    train : real training tiles, of every tissue.
    sets : name -> tiles; held-out real ones among them show what the vote can tell.
    scale : how features are standardised.
    n_boot, seed : of the intervals over patients (tiles, of fewer than three patients), and of the draws.

    Raises
    ------
    InputError : fewer than two tissues, or fewer than `k` training tiles of one.
    """
    tissues = sorted(set(train.tissues.tolist()))
    least_tiles = min(int((train.tissues == tissue).sum()) for tissue in tissues)
    if len(tissues) < 2 or least_tiles < k:
        there = f"{len(tissues)} tissues, {least_tiles} tiles"
        raise InputError("training tiles", expected=f"two tissues and {k} tiles of each", found=there)
    rows = np.concatenate([train.rows(tissue, least_tiles, seed=seed) for tissue in tissues])
    points, kinds = scale.scaled(train.features[scale.network][rows]), train.tissues[rows]
    table: list[dict[str, Any]] = []
    numbers, labels, least = {}, {}, {}
    for name, each in sets.items():
        squared = squared_distances(scale.scaled(each.features[scale.network]), points)
        nearest = kinds[np.argpartition(squared, k - 1, axis=1)[:, :k]]
        votes = np.stack([(nearest == tissue).mean(axis=1) for tissue in tissues], axis=1)
        made_for = np.unique(each.tissues, return_inverse=True)[1]
        groups = groups_if_enough(each.patients)
        found = {
            tissue: bootstrap(_share, votes[:, place], made_for, groups=groups, n_boot=n_boot, seed=seed)
            for place, tissue in enumerate(tissues)
        }
        table += [{"set": name, "tissue": tissue, "share": interval} for tissue, interval in found.items()]
        least[name] = tissues[int(np.argmin([interval.value for interval in found.values()]))]
        key = _key(name)
        numbers[f"least_share_{key}"] = found[least[name]]
        labels[f"least_share_{key}"] = f"share of tiles most like the tissue that they are least like, {name}"
        numbers[f"tissues_made_{key}"] = bootstrap(_effective, votes, made_for, groups=groups, n_boot=n_boot, seed=seed)
        labels[f"tissues_made_{key}"] = f"effective number of tissues that tiles are like, {name}"
    return TissueShares(pd.DataFrame(table), numbers, labels, least, 1.0 / len(tissues))


def _shares(votes: NDArray[np.float64], made_for: NDArray[np.intp]) -> NDArray[np.float64]:
    """Mean votes, shape (...), of tiles (n, ...); every tissue that a resample holds counts the same."""
    return np.asarray(np.mean([votes[made_for == tissue].mean(axis=0) for tissue in np.unique(made_for)], axis=0))


def _share(votes: NDArray[np.float64], made_for: NDArray[np.intp]) -> float:
    return float(_shares(votes, made_for))


def _effective(votes: NDArray[np.float64], made_for: NDArray[np.intp]) -> float:
    shares = _shares(votes, made_for)
    return float(np.exp(-(shares * np.log(np.maximum(shares, 1e-12))).sum()))


def _by_tissue(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows of a chart: label (tissue), group (set), value, low, high."""
    rows = ({"label": row["tissue"], "group": row["set"], **row[column].to_dict()} for row in table.to_dict("records"))
    return pd.DataFrame(rows)


def _key(name: str) -> str:
    return "floor" if name == FLOOR else key_of(name)
