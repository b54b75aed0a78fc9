"""Distances of generated tiles to real ones, per tissue and in total, always beside real against real of other patients.

A Frechet distance alone is not readable: it grows as the tiles get fewer, and real tiles of other patients are not at
nought either. So all sets of a comparison are drawn to one size, held-out real tiles against training tiles stand in every
table as the floor, and a curve shows what the size does. Distances to training and to held-out tiles are apart: a generator
that repeats what it was trained on is near to the first only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.data.papers import read_papers
from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.distances import frechet_distance, kid
from rnasynth.evaluation.fidelity.manifold import NEIGHBOURS, manifold
from rnasynth.evaluation.fidelity.memorisation import REAL, MemorisationReport, memorisation, turned
from rnasynth.evaluation.fidelity.sets import TileSet
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.stats import Interval, groups_if_enough, mean_and_range
from rnasynth.features import FeatureStats

FLOOR = "real, other patients"
ALL = "all tissues"
BLOCK = 256  # training tiles that queries are compared with at a time
MIN_TILES = 20  # of a tissue in every set; below it no distance is given
Drawn = Mapping[str, Sequence[TileSet]]
"""Name of a generator -> its tiles from each seed of sampling (or of training)."""


@dataclass(frozen=True, eq=False)
class FidelityReport:
    """Distances of one feature network.

    Attributes
    ----------
    network : its name.
    table : rows tissue, set, frechet_train, frechet_test, kid_test, n (Interval objects in the distances).
    numbers : "frechet_test_SET", "frechet_train_SET" and "kid_test_SET" over all tissues; SET is "floor" or the generator.
    labels : the same keys -> words.
    unit : what the intervals are over, in words.
    """

    network: str
    table: pd.DataFrame
    numbers: dict[str, Interval]
    labels: dict[str, str]
    unit: str

    def rows(self, column: str) -> pd.DataFrame:
        """Return label (tissue), group (set), value, low, high of a column, for `plots.intervals`."""
        return pd.DataFrame(
            [
                {"label": row["tissue"], "group": row["set"], **row[column].to_dict()}
                for row in self.table.to_dict("records")
                if math.isfinite(row[column].value)
            ]
        )

    def shown(self) -> pd.DataFrame:
        """Return the table as text, indexed by tissue and set."""
        table = self.table.assign(**{name: self.table[name].map(str) for name in _COLUMNS})
        table["tissue, set"] = table["tissue"] + ", " + table["set"]
        return table.set_index("tissue, set")[[*_COLUMNS, "n"]].rename(columns=_COLUMNS)

    def summary(self) -> str:
        """Say of each generator how its distance to held-out tiles stands to the floor, and which tiles it is nearer to."""
        rows = {str(row["set"]): row for row in self.table[self.table["tissue"] == ALL].to_dict("records")}
        floor = rows.pop(FLOOR)["frechet_test"]
        words = [f"By {self.network}, real tiles of other patients lie at {floor.value:.3g}."]
        for name, row in rows.items():
            to_test, to_train = row["frechet_test"], row["frechet_train"]
            place = "above" if to_test.low > floor.high else "below" if to_test.high < floor.low else "within"
            words.append(
                f"{name} lies at {to_test.value:.3g}, {to_test.value / max(floor.value, 1e-12):.1f} times the floor"
                f" ({place} its range), and at {to_train.value:.3g} from training tiles"
                f" ({'nearer to these' if to_train.high < to_test.low else 'not clearly nearer to these'})."
            )
            if place == "below":
                words.append(
                    "Below the floor is no praise: the real sets differ from each other (by patient, section or what the"
                    " network was trained on) by more than that, and this distance cannot rank what lies under it."
                )
        return " ".join(words)


_COLUMNS = {
    "frechet_train": "Frechet distance to training tiles",
    "frechet_test": "Frechet distance to held-out tiles",
    "kid_test": "kernel distance to held-out tiles",
}


def scaler(train: TileSet, network: str, *, standardise: bool | None = None) -> FeatureStats:
    """Return the statistics by which features are standardised: of the training tiles; the identity if not `standardise`.

    None: Inception's features are compared as they are, as published; others have no common unit and are standardised.
    """
    standardise = not network.startswith("inception") if standardise is None else standardise
    stats = FeatureStats.of(train.features[network], network)
    if standardise:
        return stats
    return FeatureStats(network, np.zeros_like(stats.mean), np.eye(len(stats.mean)), stats.n, stats.digest)


def compare(
    train: TileSet,
    test: TileSet,
    generated: Drawn,
    network: str,
    *,
    standardise: bool | None = None,
    draws: int = 3,
    n_subsets: int = 40,
    seed: int = 0,
) -> FidelityReport:
    """Measure Frechet and kernel distances per tissue and over all tissues.

    Parameters
    ----------
    train, test : real tiles of disjoint patients.
    generated : for each generator one set a seed; three or more.
    network : name in `TileSet.features`.
    standardise : see `scaler`.
    draws : draws of equal size for the floor; the generators have one draw a seed.
    n_subsets, seed : of the kernel distance's interval, over patients, and of the draws.

    Raises
    ------
    InputError : a patient in both real sets.
    """
    if both := set(train.patients) & set(test.patients):
        raise InputError("real tiles", expected="disjoint patients", found=f"{min(both)} in both")
    scale = scaler(train, network, standardise=standardise)
    rows: list[dict[str, object]] = []
    for tissue in ["", *sorted(set(test.tissues))]:
        sets: dict[str, Sequence[TileSet]] = {FLOOR: [train] * draws, **generated}
        n = _size(tissue, train, test, *(each for several in generated.values() for each in several))
        if n < MIN_TILES:
            continue
        for name, several in sets.items():
            to_train, to_test, kernel = [], [], []
            for number, each in enumerate(several):
                draw = seed + 1000 * number
                mine = _part(each, network, scale, tissue, n, draw)
                held_out = _part(test, network, scale, tissue, n, draw)
                to_test.append(_frechet(mine[0], held_out[0]))
                to_train.append(
                    to_test[-1] if name == FLOOR else _frechet(mine[0], _part(train, network, scale, tissue, n, draw)[0])
                )
                if number == 0:
                    kernel.append(_kernel(held_out, mine, n_subsets, seed))
            what = f"{draws} draws" if name == FLOOR else f"{len(several)} seeds"
            rows.append(
                {
                    "tissue": tissue or ALL,
                    "set": name,
                    "frechet_train": mean_and_range(to_train, what),
                    "frechet_test": mean_and_range(to_test, what),
                    "kid_test": kernel[0],
                    "n": n,
                }
            )
    if not rows:
        raise InputError("tiles", expected=f"{MIN_TILES} or more in every set", found="fewer")
    table = pd.DataFrame(rows)
    numbers, labels = {}, {}
    for row in table[table["tissue"] == ALL].to_dict("records"):
        key = "floor" if row["set"] == FLOOR else key_of(str(row["set"]))
        for column, words in _COLUMNS.items():
            numbers[f"{column}_{key}"] = row[column]
            labels[f"{column}_{key}"] = f"{words}, {row['set']}"
    return FidelityReport(network, table, numbers, labels, "smallest and largest over draws or seeds")


@dataclass(frozen=True, eq=False)
class SizeCurve:
    """Frechet distance to held-out tiles over the number of tiles, and what it would be at infinitely many.

    Attributes
    ----------
    lines : set -> (numbers of tiles, distance), each of shape (points,), means over the draws.
    limits : set -> the intercept of a straight line in 1 / n through the larger half of the points; may be negative.
    """

    lines: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    limits: dict[str, float]


def size_curve(
    train: TileSet,
    test: TileSet,
    generated: Drawn,
    network: str,
    *,
    standardise: bool | None = None,
    points: int = 6,
    draws: int = 3,
    repeats: int = 4,
    seed: int = 0,
) -> SizeCurve:
    """Measure the distance at several sizes; every seed's (or draw's) tiles are drawn `repeats` times.

    Raises
    ------
    InputError : fewer than 50 tiles in a set.

    Source of the limit: Chong and Forsyth 2020 (the bias is linear in 1 / n to first order).
    """
    scale = scaler(train, network, standardise=standardise)
    largest = _size("", train, test, *(each for several in generated.values() for each in several))
    if largest < 50:
        raise InputError("tiles", expected="50 or more in every set", found=str(largest))
    sizes = np.unique(np.geomspace(max(25, largest // 10), largest, points).astype(int))
    lines, limits = {}, {}
    for name, several in {FLOOR: [train] * draws, **generated}.items():
        means = []
        for size in sizes:
            found = [
                _frechet(
                    _part(each, network, scale, "", int(size), seed + 1000 * number)[0],
                    _part(test, network, scale, "", int(size), seed + 1000 * number)[0],
                )
                for number, each in enumerate(list(several) * repeats)
            ]
            means.append(float(np.mean(found)))
        lines[name] = (sizes.astype(float), np.array(means))
        half = len(sizes) // 2
        limits[name] = float(np.polyfit(1 / sizes[half:], means[half:], 1)[1])
    return SizeCurve(lines, limits)


def limits(curves: Mapping[str, SizeCurve]) -> Iterator[tuple[str, str, float]]:
    """Yield for each network's curve and each set a name fit for a number, what it is in words, and the limit."""
    for number, (network, curve) in enumerate(curves.items(), start=1):
        for name, limit in curve.limits.items():
            words = f"limit of the Frechet distance at infinitely many tiles, {name} ({network})"
            yield f"limit_{key_of(name)}_{number}", words, limit


def cover(
    train: TileSet,
    test: TileSet,
    generated: Drawn,
    network: str,
    *,
    k: int = NEIGHBOURS,
    standardise: bool | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure precision, recall, density and coverage against held-out tiles, sets of equal size; the floor first.

    Returns
    -------
    One row a measure and set: label, group, value, low, high, n, method; of the first seed, intervals over patients.
    """
    scale = scaler(train, network, standardise=standardise)
    n = _size("", train, test, *(several[0] for several in generated.values()))
    held_out = _part(test, network, scale, "", n, seed)
    rows = []
    for name, each in {FLOOR: train, **{name: several[0] for name, several in generated.items()}}.items():
        mine = _part(each, network, scale, "", n, seed)
        owners = groups_if_enough(held_out[1]), groups_if_enough(mine[1])
        report = manifold(held_out[0], mine[0], k=k, seed=seed, groups_real=owners[0], groups_fake=owners[1])
        rows += [{"label": label, "group": name, **value.to_dict()} for label, value in report.numbers().items()]
    return pd.DataFrame(rows).sort_values("label", key=lambda c: c.map(list(report.numbers()).index), kind="stable")


def keyed(covered: pd.DataFrame) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield for each row of `cover` a name fit for a number, what it is in words, and its value, low, high and n."""
    for row in covered.to_dict("records"):
        name, words = f"{row['label']}_{key_of(str(row['group']))}", f"{row['label']}, {row['group']}"
        yield name, words, {key: row[key] for key in ("value", "low", "high", "n")}


def copies(
    train: TileSet, test: TileSet, generated: Drawn, network: str = "", *, n_boot: int = 500, seed: int = 0
) -> MemorisationReport:
    """Look for copies of training tiles among the first seed's tiles, see `memorisation`.

    Parameters
    ----------
    network : compare its standardised features; "": the pixels, in all eight ways to flip and turn a tile.
    """
    first = {name: several[0] for name, several in generated.items()}
    sets = {REAL: test, **first}
    if not network:
        queries = {name: (turned(each.small), each.patients) for name, each in sets.items()}
        return memorisation(_blocks(train.small, train.patients), queries, n_boot=n_boot, seed=seed)
    scale = scaler(train, network)
    points = {name: (scale.scaled(each.features[network]), each.patients) for name, each in sets.items()}
    blocks = _blocks(scale.scaled(train.features[network]), train.patients)
    return memorisation(blocks, points, n_boot=n_boot, seed=seed)


def not_attempted() -> dict[str, str]:
    """Return why the published distances are not measured here, by id."""
    why = "it is of generators trained on other cohorts, and the weights of ImageNet's Inception are not part of the book"
    rows = read_papers("11_fidelity")
    other = "it is another method's number, printed for comparison"
    return {key: why if isinstance(cohort, str) else other for key, cohort in zip(rows["id"], rows["cohort"], strict=True)}


def _blocks(points: NDArray[Any], patients: NDArray[np.str_]) -> Iterator[tuple[NDArray[Any], list[str]]]:
    for start in range(0, len(points), BLOCK):
        yield points[start : start + BLOCK], patients[start : start + BLOCK].tolist()


def _size(tissue: str, *sets: TileSet) -> int:
    return min(len(each.rows(tissue)) for each in sets)


def _part(
    tiles: TileSet, network: str, scale: FeatureStats, tissue: str, n: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    rows = tiles.rows(tissue, n, seed=seed)
    return scale.scaled(tiles.features[network][rows]), tiles.patients[rows]


def _frechet(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    return frechet_distance(left.mean(axis=0), np.cov(left, rowvar=False), right.mean(axis=0), np.cov(right, rowvar=False))


def _kernel(
    real: tuple[NDArray[np.float64], NDArray[np.str_]],
    fake: tuple[NDArray[np.float64], NDArray[np.str_]],
    n_subsets: int,
    seed: int,
) -> Interval:
    """Kernel distance: over patients where both sets have three or more, else over random halves of the tiles."""
    if min(len(set(part[1].tolist())) for part in (real, fake)) >= 3:
        return kid(real[0], fake[0], n_subsets=n_subsets, groups_real=real[1], groups_fake=fake[1], seed=seed)
    return kid(real[0], fake[0], n_subsets=n_subsets, subset_size=len(real[0]) // 2, seed=seed)
