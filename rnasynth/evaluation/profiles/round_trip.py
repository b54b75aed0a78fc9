"""There and back: RNA -> tiles -> RNA', and tiles -> RNA -> tiles', by a generator of each direction.

The way back reads tiles alone: a clinical text would tell the profile past the tiles. Real tiles are read at the size and
um/px of the generated ones, so that a difference is not that of the resolution; the `ProfileModel` must be one that was
trained on features of such tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray

from rnasynth.data.patients import features_key
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.profiles.pairs import ProfileModel
from rnasynth.evaluation.profiles.survivors import CEILING, MADE, CellReader, SurvivalReport, cosine_agreement, survivors
from rnasynth.evaluation.stats import Interval
from rnasynth.features import FeatureNetwork, extract

Tiles = NDArray[np.uint8]
CHUNK = 32  # profiles whose tiles are made at a time


class TileModel(Protocol):
    """What makes tiles of profiles; `systems.generation.TileGenerator` is one."""

    px: int
    mpp_um: float

    def generate(self, profiles: Any, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
        """Return tiles, shape (N, n, px, px, 3), uint8 RGB."""
        ...


@dataclass(frozen=True, eq=False)
class RoundTrips:
    """What came back of held-out samples.

    Attributes
    ----------
    z : real z-scores, shape (N, genes).
    back : route -> z-scores that came back: through tiles made of the own RNA, and from the real tiles.
    features : real tiles' mean features, shape (N, dim).
    features_back : route -> mean features: tiles made of the RNA that was read off the real tiles ("from tiles' RNA"), and
        of the real RNA (ceiling).
    """

    z: NDArray[np.float32]
    back: dict[str, NDArray[np.float32]]
    features: NDArray[np.float64]
    features_back: dict[str, NDArray[np.float64]]


def tiles_of(tiles: TileModel, profiles: AnnData, n_tiles: int, *, seed: int = 0) -> Iterator[Tiles]:
    """Yield the tiles made of each profile, shape (n_tiles, px, px, 3); aligning genes is slow, so some at a time."""
    for start in range(0, profiles.n_obs, CHUNK):
        yield from tiles.generate(profiles[start : start + CHUNK].copy(), n_tiles, seed=seed)


def rna_to_rna(
    tiles: TileModel,
    way_back: ProfileModel,
    profiles: AnnData,
    inputs: Any,
    describe: Callable[[Tiles], NDArray[np.float32]],
    *,
    n_tiles: int = 16,
    n: int = 16,
    seed: int = 0,
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Make tiles of each profile, and read the profile off them.

    Parameters
    ----------
    profiles : raw, one row a sample in the order of `inputs`.
    inputs : a dataclass with sample_ids, bags and texts; its own bags and texts are not read.
    describe : tiles (n, px, px, 3) -> features (n, dim), as the way back was trained on.
    n_tiles : tiles a profile.
    n : draws that the mean profile is estimated from.

    Returns
    -------
    (what came back, shape (N, genes); the made tiles' features of each sample).

    Raises
    ------
    InputError : profiles of other samples.
    """
    names = [str(name) for name in profiles.obs_names]
    if names != list(inputs.sample_ids):
        raise InputError("round trip", expected="profiles in the order of the inputs", found="other samples")
    made = [describe(part) for part in tiles_of(tiles, profiles, n_tiles, seed=seed)]
    return way_back.mean(tiles_only(inputs, made), n, seed), made


def tiles_to_tiles(
    tiles: TileModel,
    z: NDArray[Any],
    transform: Transform,
    obs: pd.DataFrame,
    describe: Callable[[Tiles], NDArray[np.float32]],
    *,
    n_tiles: int = 16,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Make tiles of z-scores that were read off tiles; return their mean features, shape (N, dim)."""
    profiles = raw_profiles(z, transform, obs)
    made = tiles_of(tiles, profiles, n_tiles, seed=seed)
    return np.array([describe(part).mean(axis=0, dtype=np.float64) for part in made])


def round_trips(
    tiles: TileModel,
    way_back: ProfileModel,
    profiles: AnnData,
    inputs: Any,
    transform: Transform,
    network: FeatureNetwork,
    *,
    restain: Callable[[Tiles], Tiles] | None = None,
    n_tiles: int = 16,
    n: int = 16,
    seed: int = 0,
) -> RoundTrips:
    """Go both ways with held-out samples.

    Parameters
    ----------
    tiles, way_back : a trained generator of each direction.
    profiles : raw profiles of held-out samples, with `obs` as a cohort has it.
    inputs : of the same samples, with their real tiles' features: of `network`, at the generator's px and um/px.
    transform : of the way back's z-scores.
    restain : what was done to the real tiles before their features were taken (`features.same_stain`); done to made ones.
    n_tiles, n, seed : tiles a profile; draws a mean; of both.

    Raises
    ------
    InputError : a sample without real tiles, real tiles of another network or um/px, or other samples in the profiles.
    """
    if missing := [name for name, bag in zip(inputs.sample_ids, inputs.bags, strict=True) if bag is None or not len(bag)]:
        raise InputError(f"sample {missing[0]}", expected="real tiles", found="none", fix="leave it out")

    if (known := getattr(inputs, "features", "")) and known != features_key(network.name, tiles.mpp_um):
        fix = "take the inputs with the generator's px"
        raise InputError("real tiles", expected=features_key(network.name, tiles.mpp_um), found=known, fix=fix)

    def describe(part: Tiles) -> NDArray[np.float32]:
        return extract(part if restain is None else restain(part), network, mpp_um=tiles.mpp_um)

    back, made = rna_to_rna(tiles, way_back, profiles, inputs, describe, n_tiles=n_tiles, n=n, seed=seed)
    from_real = way_back.mean(tiles_only(inputs, list(inputs.bags)), n, seed)
    again = tiles_to_tiles(tiles, from_real, transform, profiles.obs, describe, n_tiles=n_tiles, seed=seed)
    return RoundTrips(
        z=np.asarray(transform.apply(profiles).X, dtype=np.float32),
        back={MADE: np.asarray(back), CEILING: np.asarray(from_real)},
        features=np.array([bag.mean(axis=0, dtype=np.float64) for bag in inputs.bags]),
        features_back={
            "made of the RNA read off them": again,
            "made of the real RNA (ceiling)": np.array([part.mean(axis=0, dtype=np.float64) for part in made]),
        },
    )


@dataclass(frozen=True, eq=False)
class RoundTripReport:
    """What survived both ways.

    Attributes
    ----------
    numbers, labels : of all parts below.
    genes, cells, latents, tiles : `SurvivalReport` of each; None where not asked for.
    """

    numbers: dict[str, Any]
    labels: dict[str, str]
    genes: SurvivalReport
    cells: SurvivalReport | None
    latents: SurvivalReport | None
    tiles: SurvivalReport


def round_trip_report(
    trips: RoundTrips,
    *,
    genes: Sequence[str],
    tissues: ArrayLike,
    groups: ArrayLike,
    reader: CellReader | None = None,
    fractions: pd.DataFrame | None = None,
    encode: Callable[[NDArray[np.float32]], NDArray[Any]] | None = None,
    latent_centre: NDArray[Any] | None = None,
    n_boot: int = 500,
    n_permutations: int = 499,
    seed: int = 0,
) -> RoundTripReport:
    """Say which genes, cell types and latent dimensions survive, and whether tiles made of the read RNA are like the own.

    Parameters
    ----------
    trips : of `round_trips`.
    genes, tissues, groups : names of the columns; tissue and split group of each sample.
    reader, fractions : reads cell types off a profile; the true (or published) fractions, samples x types, with the reader's
        columns. A sample with unknown fractions is left out.
    encode : z-scores -> shared latent (the beta-VAE's), shape (N, latent).
    latent_centre : mean latent of the training samples; with `encode` adds the cosine agreement.
    """
    common: dict[str, Any] = {"n_boot": n_boot, "n_permutations": n_permutations, "seed": seed}
    strata, owners = np.asarray(tissues).astype(str), np.asarray(groups).astype(str)
    by_gene = survivors(trips.z, trips.back, names=genes, tissues=strata, groups=owners, what="genes", **common)
    features = [f"feature {number}" for number in range(trips.features.shape[1])]
    by_tile = survivors(
        trips.features, trips.features_back, names=features, tissues=strata, groups=owners, what="tile features", **common
    )
    cells = latents = None
    extra: dict[str, Interval] = {}
    words: dict[str, str] = {}
    if reader is not None and fractions is not None:
        known = fractions.notna().all(axis=1).to_numpy()
        truth = fractions[list(reader.kinds)].to_numpy(float)[known]
        seen = {"own RNA (reader's ceiling)": reader(trips.z[known])}
        seen |= {route: reader(values[known]) for route, values in trips.back.items()}
        cells = survivors(
            truth, seen, names=reader.kinds, tissues=strata[known], groups=owners[known], what="cell types", **common
        )
    if encode is not None:
        original = np.asarray(encode(trips.z))
        seen = {route: np.asarray(encode(values)) for route, values in trips.back.items()}
        names = [f"latent {number}" for number in range(original.shape[1])]
        latents = survivors(original, seen, names=names, tissues=strata, groups=owners, what="latents", **common)
        for route, values in seen.items():
            if latent_centre is None:
                continue
            agreed = cosine_agreement(original, values, centre=latent_centre, tissues=strata, groups=owners, seed=seed)
            extra |= {f"{name}_{key_of(route)}": interval for name, interval in agreed.items()}
            words |= {f"{name}_{key_of(route)}": f"{COSINES[name]}, {route}" for name in agreed}
    parts = [part for part in (by_gene, cells, latents, by_tile) if part is not None]
    numbers = {key: value for part in parts for key, value in part.numbers.items()} | extra
    labels = {key: value for part in parts for key, value in part.labels.items()} | words
    return RoundTripReport(numbers, labels, by_gene, cells, latents, by_tile)


COSINES = {
    "cosine": "cosine of latents before and after, around the training centre",
    "cosine_shuffled": "the same for pairs shuffled within tissues",
    "cosine_gain": "cosine over that with other samples of the tissue",
}


def tiles_only(inputs: Any, bags: Sequence[NDArray[np.float32] | None]) -> Any:
    """Return the inputs with these bags and no text."""
    return replace(inputs, bags=tuple(bags), texts=("",) * len(inputs.sample_ids))


def raw_profiles(z: NDArray[Any], transform: Transform, obs: pd.DataFrame) -> AnnData:
    """Return z-scores as raw profiles, linear values in the transform's unit, that a tile generator takes.

    Raises
    ------
    InputError : another shape, or values that are not finite.
    """
    profiles = transform.wrap(np.asarray(z, dtype=np.float32), obs.copy())
    profiles.X = transform.inverse(np.asarray(profiles.X))
    del profiles.uns["transform"]
    return profiles
