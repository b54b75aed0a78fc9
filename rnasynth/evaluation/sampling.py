"""What a sampler's evaluations buy: distance to real tiles, and what is heard of the profile, of many settings at once.

All settings make tiles of the same held-out profiles with the same seeds, so their noise is the same and they can be
compared in pairs. What is left to chance is the noise: intervals are jackknife intervals over the sampling seeds, and say
nothing of other profiles, other training or another machine. Real tiles of other patients, as many, are the floor; held-out
real tiles, handed over as if they were generated, show that the measurement could see a perfect sampler.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.data.splits import evenly_spaced
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.conditioning.area import haematoxylin_area
from rnasynth.evaluation.conditioning.experiment import with_tiles
from rnasynth.evaluation.conditioning.retrieval import rank_matrix
from rnasynth.evaluation.fidelity.distances import frechet_distance
from rnasynth.evaluation.fidelity.sets import TileSet, real_tiles
from rnasynth.evaluation.fidelity.study import scaler
from rnasynth.evaluation.sampling_map import BOUNDS, MEASURES, SamplingMap, jackknife
from rnasynth.evaluation.stats import Interval, mean_and_range, spearman
from rnasynth.features import FeatureNetwork, StainTexture, extract, same_stain

KEY = "unet"  # of a diffusion stage's network, whose evaluations are counted
CLIP_SD = 10.0  # of standardised features: of her2st one tile at 30 decides a cubic kernel's mean over two hundred
FLOOR_DRAWS = 8  # draws of training tiles, each as many as a setting's tiles
METHODS = {"heun": "Heun", "dpm2m": "DPM-Solver++(2M)", "euler": "Euler"}


@dataclass(frozen=True, eq=False)
class Entry:
    """One point of the map.

    Attributes
    ----------
    name : unique, for tables: "Heun, 32 steps".
    generator : makes the tiles: `px`, `mpp_um`, `generate`, and `evaluations` (of one tile) or a network that is counted.
    line : entries of one line are joined in charts; "": a point by itself.
    """

    name: str
    generator: Any
    line: str = ""


def entries(generator: Any, settings: Mapping[str, Any], *, lines: Mapping[str, str] | None = None) -> list[Entry]:
    """Return the entries of one generator drawn with several settings.

    Parameters
    ----------
    generator : with `with_sampling(setting)`.
    settings : name -> setting (`systems.cdm_config.Sampling`).
    lines : name -> line; by default the method's name ("stochastic Heun" with churn), with the guidance where it is not 1.
    """

    def line(name: str, setting: Any) -> str:
        if lines is not None:
            return lines.get(name, "")
        method = METHODS.get(setting.method, str(setting.method))
        method = f"stochastic {method}" if setting.churn > 0 else method
        return method if setting.guidance == 1 else f"{method}, guidance {setting.guidance:g}"

    return [Entry(name, generator.with_sampling(setting), line(name, setting)) for name, setting in settings.items()]


def measure(
    points: Sequence[Entry],
    cohort: Cohort,
    *,
    network: FeatureNetwork | None = None,
    split: str = "test",
    n_profiles: int = 16,
    tiles_per_profile: int = 1,
    seeds: Sequence[int] = (0, 1, 2, 3),
    restained: bool = False,
    real_per_sample: int = 8,
    batch: int = 64,
) -> SamplingMap:
    """Make tiles of held-out profiles with every setting and measure them all against the same real tiles.

    Parameters
    ----------
    points : the settings; all generators have one px and um/px. See `entries`.
    cohort : with tiles.
    network : of the features, which are standardised by the training tiles and cut to 10 standard deviations either side;
        the embedded `StainTexture` by default.
    split : the held-out split.
    n_profiles : so many of its samples, evenly spaced in the cohort's order.
    tiles_per_profile, seeds : tiles of a profile for each seed of the noise; by default 16 x 1 x 4 = 64 tiles a setting.
    restained : bring the tiles of every sample, real and generated, to one stain first.
    real_per_sample : at most so many real tiles of a sample.
    batch : tiles at a time.

    Returns
    -------
    See `SamplingMap`. Seconds are of this machine: the settings take turns within every seed, and the median over the
    seeds counts; time for features is not in them.

    Raises
    ------
    InputError : no settings, two of one name, generators of different px, fewer than eight tiles a setting, or too few
        held-out real tiles. SplitError : asked for the training split.
    """
    if split == "train":
        raise SplitError(f"cohort {cohort.name}", expected="a held-out split", found="train", fix="use val or test")
    px, mpp_um = _checked(points)
    network = StainTexture() if network is None else network
    profiles, tile_ids = with_tiles(cohort, split)
    rows = evenly_spaced(profiles.n_obs, n_profiles)
    profiles = profiles[rows].copy()
    n_tiles = profiles.n_obs * tiles_per_profile * len(seeds)
    if n_tiles < 8:
        raise InputError("tiles a setting", expected="8 or more", found=str(n_tiles), fix="raise n_profiles or the seeds")
    train, held_out = (
        real_tiles(cohort, part, [network], px=px, restained=restained, per_sample=real_per_sample)
        for part in ("train", split)
    )
    scale = scaler(train, network.name)

    def scaled(features: NDArray[Any]) -> NDArray[np.float64]:
        return np.clip(scale.scaled(features), -CLIP_SD, CLIP_SD)

    reference, as_if = _split(held_out, n_tiles)
    judge = _Judge(
        reference=scaled(held_out.features[network.name][reference]),
        real_means=np.stack(
            [
                scaled(held_out.features[network.name][held_out.samples == name]).mean(axis=0)
                for name in profiles.obs["sample_id"].astype(str)
            ]
        ),
        real_areas=_real_areas(cohort, profiles, tile_ids, px, real_per_sample),
        tissues=profiles.obs["tissue"].astype(str).to_numpy(),
    )

    def described(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N, n, px, px, 3) -> scaled features (N, n, dim)."""
        flat = np.concatenate([same_stain(part) if restained else part for part in tiles])
        return scaled(extract(flat, network, mpp_um=mpp_um)).reshape(*tiles.shape[:2], -1)

    features: dict[str, list[NDArray[np.float64]]] = {point.name: [] for point in points}
    areas: dict[str, list[NDArray[np.float64]]] = {point.name: [] for point in points}
    seconds: dict[str, list[float]] = {point.name: [] for point in points}
    counts: dict[str, float] = {}
    points[0].generator.generate(profiles[:1].copy(), 1, seed=int(seeds[0]))  # what is set up at the first call is not timed
    for turn, seed in enumerate(seeds):
        for point in [*points[turn % len(points) :], *points[: turn % len(points)]]:
            with _Counter(point.generator) as counter:
                began = time.perf_counter()
                tiles = np.asarray(point.generator.generate(profiles, tiles_per_profile, seed=int(seed), batch=batch))
                spent = time.perf_counter() - began
            made = tiles.shape[0] * tiles.shape[1]
            seconds[point.name].append(spent / made)
            counts[point.name] = counter.rows / made if counter.rows else _told(point)
            features[point.name].append(described(tiles))
            areas[point.name].append(
                np.stack([haematoxylin_area(part) for part in tiles]).reshape(profiles.n_obs, tiles_per_profile)
            )
    table, replicates = [], {}
    for point in points:
        found, replicates[point.name] = _over_seeds(judge, np.stack(features[point.name]), np.stack(areas[point.name]))
        spent_each = seconds[point.name]
        words = f"median and range of {len(spent_each)} turns"
        table.append(
            {
                "name": point.name,
                "line": point.line,
                "sampling": getattr(point.generator, "sampling", None),
                "evaluations": counts[point.name],
                "seconds": Interval(float(np.median(spent_each)), min(spent_each), max(spent_each), len(spent_each), words),
                **found,
            }
        )
    return SamplingMap(
        table=pd.DataFrame(table),
        replicates=replicates,
        floor=_floor(judge, scaled(train.features[network.name]), n_tiles),
        ceiling=_ceiling(judge, scaled(held_out.features[network.name]), as_if, held_out, profiles, len(seeds)),
        network=network.name,
        n_tiles=n_tiles,
        n_profiles=profiles.n_obs,
        n_seeds=len(seeds),
    )


@dataclass(frozen=True, eq=False)
class _Judge:
    """Real tiles, and the distances to them."""

    reference: NDArray[np.float64]
    real_means: NDArray[np.float64]
    real_areas: NDArray[np.float64]
    tissues: NDArray[Any]
    moments: tuple[NDArray[np.float64], NDArray[np.float64]] = field(init=False)
    within: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "moments", (self.reference.mean(axis=0), np.cov(self.reference, rowvar=False)))
        object.__setattr__(self, "within", _kernel_within(self.reference))

    def distances(self, made: NDArray[np.float64]) -> dict[str, float]:
        """Frechet and unbiased kernel distance (Binkowski et al. 2018, eq. 4) of features (n, dim) to the reference."""
        between = float(((made @ self.reference.T / made.shape[1] + 1.0) ** 3).mean())
        return {
            "frechet": frechet_distance(made.mean(axis=0), np.cov(made, rowvar=False), *self.moments),
            "kid": _kernel_within(made) + self.within - 2 * between,
        }

    def everything(self, features: NDArray[np.float64], areas: NDArray[np.float64]) -> dict[str, float]:
        """Every measure of tiles of some seeds: features (seeds, N, n, dim), areas (seeds, N, n)."""
        ranks = np.diag(rank_matrix(features.mean(axis=(0, 2)), self.real_means, self.tissues))
        known = np.isfinite(ranks)
        return {
            **self.distances(features.reshape(-1, features.shape[-1])),
            "retrieval": float(ranks[known].mean()) if known.any() else math.nan,
            "area": spearman(areas.mean(axis=(0, 2)), self.real_areas),
            "area_off": float(areas.mean() - self.real_areas.mean()),
        }


class _Counter:
    """Counts the rows that a generator's network is given, where it has one that can be watched."""

    def __init__(self, generator: Any) -> None:
        stages = [stage for name in ("base", "upper") if (stage := getattr(generator, name, None)) is not None]
        systems = [getattr(stage, "system", None) for stage in stages or [generator]]
        self.networks = [
            system.best(KEY) for system in systems if system is not None and KEY in getattr(system, "networks", {})
        ]
        self.handles: list[Any] = []
        self.rows = 0

    def __enter__(self) -> _Counter:
        self.handles = [network.register_forward_pre_hook(self._seen) for network in self.networks]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _seen(self, _module: Any, inputs: Any) -> None:
        self.rows += len(inputs[0])


def _told(point: Entry) -> float:
    told = getattr(point.generator, "evaluations", None)
    if told is None:
        raise InputError(f"setting {point.name}", expected="a generator that knows its evaluations", found="another")
    return float(np.sum(told))


def _checked(points: Sequence[Entry]) -> tuple[int, float]:
    names = [point.name for point in points]
    kinds = {(int(point.generator.px), round(float(point.generator.mpp_um), 6)) for point in points}
    if not points or len(set(names)) < len(names) or len(kinds) > 1:
        raise InputError(
            "settings",
            expected="one or more, each name once, of one px and um/px",
            found=f"{len(points)}, {len(set(names))} names, {sorted(kinds)}",
        )
    return kinds.pop()


def _split(held_out: TileSet, n_tiles: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the reference, and of the tiles that are handed over as if generated (as many as a setting's, or none)."""
    order = np.random.default_rng(0).permutation(len(held_out))
    as_if = n_tiles if len(held_out) >= 2 * n_tiles else 0
    if len(held_out) - as_if < 8:
        raise InputError("held-out real tiles", expected="8 or more", found=str(len(held_out)))
    return np.sort(order[as_if:]), np.sort(order[:as_if])


def _real_areas(
    cohort: Cohort, profiles: Any, tile_ids: Mapping[str, NDArray[Any]], px: int, limit: int
) -> NDArray[np.float64]:
    store = cohort.tiles
    assert store is not None
    return np.array([haematoxylin_area(store.read_batch(tile_ids[n][:limit], px=px)).mean() for n in profiles.obs_names])


def _over_seeds(
    judge: _Judge, features: NDArray[np.float64], areas: NDArray[np.float64]
) -> tuple[dict[str, Interval], dict[str, tuple[float, NDArray[np.float64]]]]:
    """Jackknife intervals over the seeds, and (value, value without each seed) of every measure for paired differences."""
    whole = judge.everything(features, areas)
    count = len(features)
    turns = range(count) if count > 1 else ()
    left = [judge.everything(np.delete(features, k, axis=0), np.delete(areas, k, axis=0)) for k in turns]
    without = {name: np.array([each[name] for each in left]) for name in MEASURES}
    found = {name: jackknife(whole[name], without[name], **_cut(name)) for name in MEASURES}
    return found, {name: (whole[name], without[name]) for name in MEASURES}


def _floor(judge: _Judge, train: NDArray[np.float64], n_tiles: int) -> dict[str, Interval]:
    """Distances of training tiles, as many as a setting's, to the reference: mean and range over draws."""
    generator = np.random.default_rng(1)
    size = min(n_tiles, len(train))
    drawn = [judge.distances(train[generator.choice(len(train), size, replace=False)]) for _ in range(FLOOR_DRAWS)]
    words = f"{FLOOR_DRAWS} draws of {size} tiles"
    return {name: mean_and_range([each[name] for each in drawn], words) for name in ("frechet", "kid")}


def _ceiling(
    judge: _Judge, features: NDArray[np.float64], as_if: NDArray[np.intp], held_out: TileSet, profiles: Any, parts: int
) -> dict[str, Interval]:
    """What real tiles of the held-out samples would get; retrieval by one half of a sample's tiles, where it has several."""
    found: dict[str, Interval] = {}
    if len(as_if):
        groups = np.array_split(np.random.default_rng(2).permutation(as_if), max(parts, 2))
        whole = judge.distances(features[as_if])
        left = [judge.distances(features[np.setdiff1d(as_if, group)]) for group in groups]
        for name in ("frechet", "kid"):
            found[name] = jackknife(whole[name], np.array([each[name] for each in left]), **_cut(name))
    mine = [np.flatnonzero(held_out.samples == name) for name in profiles.obs["sample_id"].astype(str)]
    if min(map(len, mine)) > 1:
        halves = [np.stack([features[rows[start::2]].mean(axis=0) for rows in mine]) for start in (0, 1)]
        ranks = np.diag(rank_matrix(halves[0], halves[1], judge.tissues))
        if np.isfinite(ranks).any():
            found["retrieval"] = Interval(float(np.nanmean(ranks)), math.nan, math.nan, len(ranks), "one half by the other")
    return found


def _kernel_within(values: NDArray[np.float64]) -> float:
    """Mean of the cubic kernel over pairs of different rows."""
    n = len(values)
    kernel = (values @ values.T / values.shape[1] + 1.0) ** 3
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))


def _cut(name: str) -> dict[str, Any]:
    return {"bounds": BOUNDS[name]} if name in BOUNDS else {}
