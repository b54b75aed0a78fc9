"""Are generated tiles copies of training tiles? The nearest training tile of each, beside what real tiles have.

Two spaces: features (what a tile shows) and pixels (that very picture, in any of the eight ways to flip and turn it, as
training shows it). Both are compared with held-out real tiles of other patients, which are copies of nothing: what is
nearer to training than they are needs an explanation. The same for profiles is `latent.checks.nearest_training`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.manifold import squared_distances
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.latent.checks import share_interval
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units
from rnasynth.nets.contrastive import resize

COPY_PERCENTILE = 1.0  # of the held-out real tiles, for distance and for ratio
REAL = "real (test)"
PIXEL_SIDE = 16  # tiles are averaged to it: a copy stays one, noise and JPEG do not count


@dataclass(eq=False)
class NearestSearch:
    """Exact nearest neighbours in a stream of training tiles: memory holds the queries and one block.

    Parameters
    ----------
    queries : shape (n, d), or (n, ways, d): a tile in several ways, of which the nearest counts.

    Attributes
    ----------
    distance, place : of the nearest training tile, shape (n,): Euclidean, and its number in the stream.
    next_distance : of the nearest training tile of another group (patient), shape (n,); infinite if there is none.
    """

    queries: NDArray[Any]
    distance: NDArray[np.float64] = field(init=False)
    place: NDArray[np.int64] = field(init=False)
    next_distance: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        points = np.asarray(self.queries, dtype=np.float64)
        if points.ndim == 2:
            points = points[:, None]
        if points.ndim != 3 or not len(points) or not np.isfinite(points).all():
            raise InputError("tiles to compare", expected="finite, (n, d) or (n, ways, d)", found=f"shape {points.shape}")
        self._points, self._seen = points, 0
        self.distance = np.full(len(points), np.inf)
        self.next_distance = np.full(len(points), np.inf)
        self.place = np.full(len(points), -1, dtype=np.int64)
        self._group = np.full(len(points), "", dtype=object)

    def add(self, block: NDArray[Any], groups: ArrayLike) -> None:
        """Take in a block of training tiles, shape (b, d), each with its group.

        Raises
        ------
        InputError : another width, or not one group a tile.
        """
        tiles, names = np.asarray(block, dtype=np.float64), np.asarray(groups, dtype=object)
        n, ways, width = self._points.shape
        if tiles.ndim != 2 or tiles.shape[1] != width or len(names) != len(tiles):
            found = f"{tiles.shape}, {len(names)} groups"
            raise InputError("training tiles", expected=f"(b, {width}) and b groups", found=found)
        if not len(tiles):
            return
        squared = squared_distances(self._points.reshape(-1, width), tiles).reshape(n, ways, -1).min(axis=1)
        rows = np.arange(n)
        nearest = squared.argmin(axis=1)
        first, own = np.sqrt(squared[rows, nearest]), names[nearest]
        squared[names[None] == own[:, None]] = np.inf
        second = np.sqrt(squared.min(axis=1))
        # The nearest of another group than the winner's: the loser itself if it is of another group, else its second.
        same = self._group == own
        wins = first < self.distance
        if_wins = np.minimum(second, np.where(same, self.next_distance, self.distance))
        if_loses = np.minimum(self.next_distance, np.where(same, second, first))
        self.next_distance = np.where(wins, if_wins, if_loses)
        self.place = np.where(wins, self._seen + nearest, self.place)
        self._group = np.where(wins, own, self._group)
        self.distance = np.minimum(first, self.distance)
        self._seen += len(tiles)

    @property
    def ratio(self) -> NDArray[np.float64]:
        """Nearest distance over that of the next group's nearest; 1 where both are 0."""
        both = (self.next_distance > 0) & np.isfinite(self.next_distance)
        return np.where(both, self.distance / np.where(both, self.next_distance, 1.0), 1.0)


@dataclass(frozen=True, eq=False)
class MemorisationReport:
    """How near each set's tiles lie to training tiles, in one space.

    Attributes
    ----------
    numbers : "copies_SET" -> share of tiles that are copies; "distance_SET" -> median distance over the real one's median.
    labels : the same keys -> words.
    distances : set -> distance to the nearest training tile, shape (n,).
    nearest : set -> number of that training tile in the stream, shape (n,).
    ratios : set -> that distance over the distance to the nearest tile of another patient, shape (n,).
    suspects : set -> its tiles, the most copy-like first (smallest ratio of nearest to next).
    threshold, ratio_threshold : a copy lies below both: the first percentiles of the held-out real tiles.
    table : a row a set.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    distances: dict[str, NDArray[np.float64]]
    nearest: dict[str, NDArray[np.int64]]
    ratios: dict[str, NDArray[np.float64]]
    suspects: dict[str, NDArray[np.intp]]
    threshold: float
    ratio_threshold: float
    table: pd.DataFrame


def memorisation(
    training: Iterable[tuple[NDArray[Any], Sequence[str]]],
    sets: Mapping[str, tuple[NDArray[Any], ArrayLike]],
    *,
    real: str = REAL,
    n_boot: int = 500,
    seed: int = 0,
) -> MemorisationReport:
    """Look for copies.

    A tile is called a copy if it lies nearer to one training tile than 99 % of the held-out real tiles do, and if that
    training tile is nearer, against the nearest one of any other patient, than for 99 % of them. The first alone would
    accuse what is smooth: a blurred tile lies near to many.

    Parameters
    ----------
    training : blocks of training tiles as (points (b, d), group of each); read once.
    sets : name -> (points (n, d) or (n, ways, d), patient of each tile). `real` among them: held-out real tiles, none of a
        training patient. By construction about 1 % of them, or fewer, are called copies.
    n_boot, seed : of the intervals, over patients.

    Raises
    ------
    InputError : no set of real tiles, or training tiles of fewer than two groups, or a patient in both.
    """
    if real not in sets:
        raise InputError("sets of tiles", expected=f"one called {real!r}", found=", ".join(sets) or "none")
    searches = {name: NearestSearch(points) for name, (points, _) in sets.items()}
    groups: set[str] = set()
    for block, names in training:
        groups |= set(map(str, names))
        for search in searches.values():
            search.add(block, np.asarray(names, dtype=str))
    if len(groups) < 2:
        raise InputError("training tiles", expected="of two or more patients", found=str(len(groups)))
    if both := groups & set(np.asarray(sets[real][1]).astype(str)):
        raise InputError("held-out real tiles", expected="patients not trained on", found=sorted(both)[0])
    held_out = searches[real]
    threshold = float(np.percentile(held_out.distance, COPY_PERCENTILE))
    ratio_threshold = float(np.percentile(held_out.ratio, COPY_PERCENTILE))
    typical = max(float(np.median(held_out.distance)), 1e-12)
    numbers, labels, rows = {}, {}, {}
    for name, search in searches.items():
        units, _ = resampling_units(sets[name][1])
        copies = ((search.distance < threshold) & (search.ratio < ratio_threshold)).astype(float)
        key = "real" if name == real else key_of(name)
        numbers[f"copies_{key}"] = share_interval(copies, units, n_boot=n_boot, seed=seed)
        numbers[f"distance_{key}"] = bootstrap(
            lambda part: float(np.median(part)) / typical, search.distance, groups=units, n_boot=n_boot, seed=seed
        )
        labels[f"copies_{key}"] = f"share that are copies of a training tile: {name}"
        labels[f"distance_{key}"] = f"median distance to the nearest training tile, over the real one's: {name}"
        rows[name] = {
            "copies": str(numbers[f"copies_{key}"]),
            "nearer than 99 % of real": float(np.mean(search.distance < threshold)),
            "median distance over the real one's": str(numbers[f"distance_{key}"]),
            "median ratio to the next patient's": float(np.median(search.ratio)),
            "tiles": len(copies),
        }
    return MemorisationReport(
        numbers=numbers,
        labels=labels,
        distances={name: search.distance for name, search in searches.items()},
        nearest={name: search.place for name, search in searches.items()},
        ratios={name: search.ratio for name, search in searches.items()},
        suspects={name: np.argsort(search.ratio, kind="stable") for name, search in searches.items()},
        threshold=threshold,
        ratio_threshold=ratio_threshold,
        table=pd.DataFrame.from_dict(rows, orient="index").rename_axis("tiles of"),
    )


def pixels(tiles: NDArray[np.uint8], *, side: int = PIXEL_SIDE) -> NDArray[np.float32]:
    """Return tiles (n, H, W, 3) as points (n, side * side * 3) in [0, 1]; distances over sqrt(d) are root mean squares."""
    small = resize(torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 3, 1, 2).float() / 255.0, side)
    return np.asarray(small.permute(0, 2, 3, 1).flatten(1).numpy(), dtype=np.float32)


def turned(points: NDArray[Any], *, side: int = PIXEL_SIDE) -> NDArray[np.float32]:
    """Return points of `pixels` in the eight ways to flip and turn a square, shape (n, 8, side * side * 3)."""
    tiles = np.asarray(points, dtype=np.float32).reshape(len(points), side, side, 3)
    ways = []
    for first in (tiles, tiles.swapaxes(1, 2)):
        for second in (first, first[:, ::-1]):
            ways += [second, second[:, :, ::-1]]
    return np.stack([way.reshape(len(points), -1) for way in ways], axis=1)
