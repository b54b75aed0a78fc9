"""Sets of real and generated tiles as features, by sample, tissue and patient, read once and in small parts.

Every set is made in the same way: tiles at the generator's px and um/px, by sample brought to one stain where the generator
was trained so, then through every feature network; only features, and small pictures for the search for copies, stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.data.pixels import resize
from rnasynth.engine import mixed_seed
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.fidelity.memorisation import MemorisationReport, pixels
from rnasynth.features import FeatureNetwork, extract, same_stain


@dataclass(frozen=True, eq=False)
class TileSet:
    """Features of many tiles, with whose they are.

    Attributes
    ----------
    name : for tables.
    features : name of the network -> shape (n, dim), float32.
    small : tiles of 16 px as points, shape (n, 768), in [0, 1].
    tissues, patients, samples : of each tile, shape (n,); patients are split groups.
    tile_ids : rows of the store (real tiles) or numbers within the sample (generated ones), shape (n,).
    """

    name: str
    features: dict[str, NDArray[np.float32]]
    small: NDArray[np.float32]
    tissues: NDArray[np.str_]
    patients: NDArray[np.str_]
    samples: NDArray[np.str_]
    tile_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tile_ids)

    def rows(self, tissue: str = "", n: int = 0, *, seed: int = 0) -> NDArray[np.intp]:
        """Return row numbers: of a tissue ("" for all), and where `n` is above 0 so many of them, drawn with `seed`."""
        mine = np.flatnonzero(self.tissues == tissue) if tissue else np.arange(len(self))
        if not 0 < n < len(mine):
            return mine
        return np.sort(np.random.default_rng(mixed_seed("rows", seed, self.name, tissue)).choice(mine, n, replace=False))


def real_tiles(
    cohort: Cohort,
    split: str,
    networks: Sequence[FeatureNetwork],
    *,
    px: int,
    restained: bool,
    per_sample: int = 0,
    name: str = "",
) -> TileSet:
    """Read the real tiles of a split.

    Parameters
    ----------
    px : side to which the store's tiles are averaged.
    restained : bring every sample's tiles to one stain.
    per_sample : tiles of a sample, the first ones; 0: all.

    Raises
    ------
    InputError : no tiles. SplitError : an unknown split, or splits that were changed.
    """
    store, of_sample = cohort.tile_store(), cohort.tile_ids()
    cohort.check_splits()
    obs = cohort.profiles.obs
    if split not in set(obs["split"]):
        raise SplitError(f"cohort {cohort.name}, split {split!r}", expected=str(sorted(set(obs["split"]))), found="none")
    mpp_um = cohort.tile_mpp(px)
    mine = obs[(obs["split"] == split).to_numpy()]

    def parts() -> Iterator[tuple[NDArray[np.uint8], str, NDArray[np.int64]]]:
        for sample in mine["sample_id"].astype(str):
            ids = of_sample.get(sample, np.array([], dtype=np.int64))
            ids = ids[:per_sample] if per_sample else ids
            if len(ids):
                yield store.read_batch(ids, px=px), sample, ids

    return _collect(name or f"real ({split})", parts(), mine, networks, mpp_um, restained)


def generated_tiles(
    generator: Any,
    profiles: AnnData,
    networks: Sequence[FeatureNetwork],
    *,
    tiles_per_profile: int,
    restained: bool,
    px: int = 0,
    seed: int = 0,
    name: str = "generated",
) -> TileSet:
    """Make tiles of profiles and keep their features.

    Parameters
    ----------
    generator : a `TileGenerator` (`px`, `mpp_um`, `generate`).
    profiles : raw, with tissue and split_group.
    px : side to which the tiles are averaged, so that all sets are of one size; 0: the generator's own.
    seed : of the generator's noise.

    Raises
    ------
    InputError : the generator's tiles have fewer pixels.
    """
    side = px or int(generator.px)

    def parts() -> Iterator[tuple[NDArray[np.uint8], str, NDArray[np.int64]]]:
        for start in range(0, profiles.n_obs, 32):
            some = profiles[start : start + 32].copy()
            made = generator.generate(some, tiles_per_profile, seed=seed)
            for sample, tiles in zip(some.obs["sample_id"].astype(str), made, strict=True):
                yield _of_side(tiles, side), sample, np.arange(tiles_per_profile)

    return _collect(name, parts(), profiles.obs, networks, float(generator.mpp_um) * generator.px / side, restained)


def generated_sets(
    generators: Mapping[str, Any],
    cohort: Cohort,
    test: TileSet,
    networks: Sequence[FeatureNetwork],
    *,
    most: int,
    seeds: int,
    restained: bool,
    px: int,
    seed: int = 0,
) -> tuple[AnnData, dict[str, list[TileSet]]]:
    """Make tiles of all held-out samples that have real ones, by each generator several times from other noise.

    Parameters
    ----------
    generators : name -> generator; the rest as in `generated_tiles`.
    test : the real held-out tiles; a profile gets as many as a sample has of these on average, `most` at most (0: any).
    seeds : sets of each generator, from `seed` on.

    Returns
    -------
    The profiles, and generator -> its sets.
    """
    profiles = cohort.only("test").profiles
    profiles = profiles[profiles.obs["sample_id"].astype(str).isin(test.samples).to_numpy()].copy()
    usual = max(1, round(len(test) / profiles.n_obs))
    how: dict[str, Any] = {"tiles_per_profile": min(usual, most or usual), "restained": restained, "px": px}
    return profiles, {
        name: [generated_tiles(made_by, profiles, networks, **how, seed=seed + k, name=name) for k in range(seeds)]
        for name, made_by in generators.items()
    }


def real_pictures(
    cohort: Cohort, tiles: TileSet, rows: Sequence[int] | NDArray[np.integer[Any]], *, px: int, restained: bool
) -> NDArray[np.uint8]:
    """Return chosen tiles of a set of real ones as pictures (n, px, px, 3), as the networks saw them."""
    assert cohort.tiles is not None
    store = cohort.tiles
    return _pictures(tiles, rows, lambda mine: store.read_batch(tiles.tile_ids[mine], px=px), restained)


def generated_pictures(
    generator: Any,
    profiles: AnnData,
    tiles: TileSet,
    rows: Sequence[int] | NDArray[np.integer[Any]],
    *,
    restained: bool,
    seed: int,
    px: int = 0,
) -> NDArray[np.uint8]:
    """Return chosen tiles of a generated set as pictures (n, px, px, 3), made again from the same noise."""
    places = {name: place for place, name in enumerate(profiles.obs["sample_id"].astype(str))}

    def again(mine: NDArray[np.intp]) -> NDArray[np.uint8]:
        profile = profiles[[places[str(tiles.samples[mine[0]])]]].copy()
        return _of_side(generator.generate(profile, len(mine), seed=seed)[0], px or int(generator.px))

    return _pictures(tiles, rows, again, restained)


def closest_pairs(
    cohort: Cohort,
    profiles: AnnData,
    train: TileSet,
    test: TileSet,
    generators: Mapping[str, Any],
    generated: Mapping[str, Sequence[TileSet]],
    found: MemorisationReport,
    *,
    count: int,
    px: int,
    restained: bool,
    seed: int,
) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8], list[str]]]:
    """Return for `plots.fidelity.tile_pairs` the tiles most like a copy, their nearest training tiles, and the ratios.

    Parameters
    ----------
    found : of `study.copies` on the same sets; its set of real tiles is `test`.
    count : pairs a set, the smallest ratios first.
    """
    shown = {}
    for name, order in found.suspects.items():
        rows = order[:count]
        if name in generators:
            first = generated[name][0]
            tiles = generated_pictures(generators[name], profiles, first, rows, restained=restained, seed=seed, px=px)
        else:
            tiles = real_pictures(cohort, test, rows, px=px, restained=restained)
        nearest = real_pictures(cohort, train, found.nearest[name][rows], px=px, restained=restained)
        shown[name] = (tiles, nearest, [f"{ratio:.2f}" for ratio in found.ratios[name][rows]])
    return shown


def _of_side(tiles: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """Tiles (n, H, W, 3) by means of areas at (n, px, px, 3)."""
    return np.asarray(tiles) if tiles.shape[1] == px else np.stack([resize(tile, px) for tile in tiles])


def _pictures(
    tiles: TileSet,
    rows: Sequence[int] | NDArray[np.integer[Any]],
    read: Callable[[NDArray[np.intp]], NDArray[np.uint8]],
    restained: bool,
) -> NDArray[np.uint8]:
    """Pictures of rows; the stain is a sample's, so all of its tiles are read."""
    found = []
    for row in rows:
        mine = np.flatnonzero(tiles.samples == tiles.samples[row])
        whole = read(mine)
        found.append((same_stain(whole) if restained else whole)[int(np.flatnonzero(mine == row)[0])])
    return np.stack(found)


def _collect(
    name: str,
    parts: Iterable[tuple[NDArray[np.uint8], str, NDArray[np.int64]]],
    obs: Any,
    networks: Sequence[FeatureNetwork],
    mpp_um: float,
    restained: bool,
    batch: int = 256,
) -> TileSet:
    """Gather parts into batches, for networks are slow on single tiles."""
    features: dict[str, list[NDArray[np.float32]]] = {network.name: [] for network in networks}
    small: list[NDArray[np.float32]] = []
    samples: list[str] = []
    ids: list[NDArray[np.int64]] = []
    waiting: list[NDArray[np.uint8]] = []

    def flush() -> None:
        tiles = np.concatenate(waiting)
        waiting.clear()
        for network in networks:
            features[network.name].append(extract(tiles, network, mpp_um=mpp_um))
        small.append(pixels(tiles))

    for tiles, sample, numbers in parts:
        waiting.append(same_stain(tiles) if restained else tiles)
        samples += [sample] * len(tiles)
        ids.append(numbers)
        if sum(map(len, waiting)) >= batch:
            flush()
    if waiting:
        flush()
    if not samples:
        raise InputError(f"tiles, {name}", expected="at least one", found="none")
    of_sample = obs.set_index(obs["sample_id"].astype(str).to_numpy())[["tissue", "split_group"]].astype(str)
    rows = of_sample.loc[samples]
    return TileSet(
        name=name,
        features={key: np.concatenate(values) for key, values in features.items()},
        small=np.concatenate(small),
        tissues=rows["tissue"].to_numpy(dtype=str),
        patients=rows["split_group"].to_numpy(dtype=str),
        samples=np.array(samples),
        tile_ids=np.concatenate(ids).astype(np.int64),
    )
