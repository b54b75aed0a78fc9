"""Does the RNA reach the tile? Held-out patients, their own profile against others of the same tissue, and retrieval.

A generator of which only the tissue is heard makes tiles of the right tissue, and looks right. So everything here is
measured within a tissue, beside a generator that is given only the label, and a claim is made only where its interval
excludes no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.data.splits import evenly_spaced
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.conditioning.proof import ConditioningProof
from rnasynth.evaluation.conditioning.retrieval import (
    between_distance,
    energy_distance,
    rank_matrix,
    tissue_right,
    within_distance,
)
from rnasynth.evaluation.stats import Interval, bootstrap, permutation_p, resampling_units
from rnasynth.features import FeatureNetwork, FeatureStats, StainTexture, extract, same_stain

Generate = Callable[..., NDArray[np.uint8]]
"""Called as generate(profiles: AnnData, n_per_profile: int, seed=int) -> uint8 (N, n_per_profile, px, px, 3)."""
REFERENCE_TILES = 2000  # real training tiles by which features are standardised


def prove(
    generator: Generate | Any,
    label_generator: Generate | Any | None,
    cohort: Cohort,
    *,
    network: FeatureNetwork | None = None,
    px: int | None = None,
    split: str = "test",
    with_mean_profile: bool = True,
    tiles_per_profile: int = 16,
    restained: bool = True,
    groups: str = "split_group",
    reference: FeatureStats | None = None,
    seed: int = 0,
    n_boot: int = 1000,
    n_permutations: int = 999,
) -> ConditioningProof:
    """Measure on the held-out patients of a cohort whether a generator listens to the profile.

    Parameters
    ----------
    generator : a `TileGenerator`, or any callable: (raw profiles, tiles a profile, seed=) -> uint8 (N, n, px, px, 3).
    label_generator : the same, of the generator that is given only `obs["tissue"]`; None: that comparison is left out.
    cohort : with tiles; only samples that have real tiles count.
    network : the feature network; the embedded `StainTexture` by default.
    px : side of the generated tiles (a `TileGenerator` knows its own); real tiles are averaged to it, so that both have
        the same um/px.
    split : the held-out split.
    with_mean_profile : also generate from `tissue_mean_profiles` of the training patients.
    tiles_per_profile : generated tiles a profile; as many real ones are used as there are.
    restained : bring the real tiles of every sample, and every generated set, to one stain first (`features.same_stain`).
    groups : column of `obs` that intervals count.
    reference : statistics by which features are standardised; by default of real tiles of the training samples.
    seed, n_boot, n_permutations : of the tiles, the bootstrap and the permutations.

    Raises
    ------
    InputError : no tiles, or fewer than two held-out samples in every tissue.
    SplitError : asked for the training split.
    """
    if split == "train":
        raise SplitError(f"cohort {cohort.name}", expected="a held-out split", found="train", fix="use val or test")
    store = cohort.tile_store()
    network = StainTexture() if network is None else network
    px = int(getattr(generator, "px", store.tile_px) if px is None else px)
    mpp_um = cohort.tile_mpp(px)
    held_out, tile_ids = with_tiles(cohort, split)
    names = [str(name) for name in held_out.obs_names]

    def described(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        return extract(same_stain(tiles) if restained else tiles, network, mpp_um=mpp_um)

    real = [described(store.read_batch(tile_ids[name], px=px)) for name in names]
    if reference is None:
        training, training_ids = with_tiles(cohort, "train")
        each = max(2, REFERENCE_TILES // len(training))
        parts = [described(store.read_batch(training_ids[str(name)][:each], px=px)) for name in training.obs_names]
        reference = FeatureStats.of(np.concatenate(parts), network.name)

    def features_of(source: Generate | Any, wanted: anndata.AnnData) -> list[NDArray[np.float32]]:
        call = getattr(source, "generate", source)
        parts = (call(wanted[[row]].copy(), tiles_per_profile, seed=seed)[0] for row in range(wanted.n_obs))
        return [described(part) for part in parts]

    tissues = held_out.obs["tissue"].astype(str).to_numpy()
    by_mean = None
    if with_mean_profile:
        means = tissue_mean_profiles(cohort.profiles[(cohort.profiles.obs["split"] == "train").to_numpy()])
        if missing := sorted(set(tissues) - set(means.obs_names)):
            raise InputError(f"tissue {missing[0]!r}", expected="training patients of it", found="none")
        known = dict(zip(means.obs_names, features_of(generator, means), strict=True))
        by_mean = [known[tissue] for tissue in tissues]
    return prove_from_features(
        own=features_of(generator, held_out),
        real=real,
        tissues=tissues,
        names=names,
        groups=held_out.obs[groups].astype(str).to_numpy(),
        reference=reference,
        by_mean=by_mean,
        by_label=None if label_generator is None else features_of(label_generator, held_out),
        seed=seed,
        n_boot=n_boot,
        n_permutations=n_permutations,
    )


def prove_from_features(
    *,
    own: Sequence[NDArray[Any]],
    real: Sequence[NDArray[Any]],
    tissues: NDArray[Any],
    names: Sequence[str],
    groups: NDArray[Any],
    reference: FeatureStats,
    by_mean: Sequence[NDArray[Any]] | None = None,
    by_label: Sequence[NDArray[Any]] | None = None,
    seed: int = 0,
    n_boot: int = 1000,
    n_permutations: int = 999,
) -> ConditioningProof:
    """Do the same from features that are already there: one array (tiles, dim) a held-out sample in each list.

    A generator sees one profile at a time, so the tiles "from a shuffled profile" are the tiles of the other patients:
    the distance is averaged over all of them instead of over one shuffle.

    Raises
    ------
    InputError : no tissue has two held-out samples.
    """
    tissues = np.asarray(tissues).astype(str)
    peers = (tissues[:, None] == tissues[None]) & ~np.eye(len(tissues), dtype=bool)
    counted = peers.any(axis=1)
    if not counted.any():
        raise InputError("held-out samples", expected="two or more in one tissue", found=f"{len(tissues)} in all")
    own_z, real_z = ([reference.scaled(part) for part in parts] for parts in (own, real))
    spread_own, spread_real = [within_distance(part) for part in own_z], [within_distance(part) for part in real_z]
    distance = np.full((len(own_z), len(real_z)), np.nan)  # [i, j]: tiles made from profile j to real tiles of i
    for i, j in zip(*np.nonzero(peers | np.eye(len(tissues), dtype=bool)), strict=True):
        distance[i, j] = 2 * between_distance(real_z[i], own_z[j]) - spread_real[i] - spread_own[j]
    shuffled = np.array([distance[i, peers[i]].mean() if counted[i] else np.nan for i in range(len(tissues))])

    def against(parts: Sequence[NDArray[Any]] | None) -> NDArray[np.float64] | None:
        if parts is None:
            return None
        return np.array([energy_distance(mine, reference.scaled(part)) for mine, part in zip(real_z, parts, strict=True)])

    units, unit = resampling_units(groups)
    table = pd.DataFrame({"sample_id": list(names), "tissue": tissues, "group": units, "own": np.diag(distance)})
    table["shuffled"] = shuffled
    for name, column in (("mean_profile", against(by_mean)), ("label", against(by_label))):
        if column is not None:
            table[name] = column
    own_means, real_means = (np.stack([part.mean(axis=0) for part in parts]) for parts in (own_z, real_z))
    ranks = rank_matrix(own_means, real_means, tissues)
    table["rank"] = np.diag(ranks)
    table["top1"] = np.where(counted, (np.diag(ranks) == 1.0).astype(float), np.nan)
    table["tissue_right"] = tissue_right(own_means, real_means, tissues)
    kept = table[counted]

    def interval(values: pd.Series, rows: pd.DataFrame) -> Interval:
        return bootstrap(np.mean, values.to_numpy(), groups=rows["group"].to_numpy(), n_boot=n_boot, seed=seed)

    def optional(name: str, minus_own: bool) -> Interval | None:
        if name not in table:
            return None
        return interval(table[name] - table["own"] if minus_own else table[name], table)

    label_rank = None
    if by_label is not None:
        label_means = np.stack([reference.scaled(part).mean(axis=0) for part in by_label])
        table["label_rank"] = np.diag(rank_matrix(label_means, real_means, tissues))
        label_rank = interval(table["label_rank"][counted], kept)
    rows = np.flatnonzero(counted)
    p = permutation_p(
        lambda query, candidate: float(ranks[query, candidate].mean()),
        rows,
        rows,
        within=tissues[counted],
        n_permutations=n_permutations,
        seed=seed,
    )
    return ConditioningProof(
        network=reference.network,
        n_samples=len(table),
        n_patients=int(pd.Series(groups).nunique()),
        unit=unit,
        tiles_per_profile=int(np.median([len(part) for part in own])),
        own=interval(table["own"], table),
        shuffled=interval(kept["shuffled"], kept),
        mean_profile=optional("mean_profile", False),
        label=optional("label", False),
        gain_over_shuffled=interval(kept["shuffled"] - kept["own"], kept),
        gain_over_mean=optional("mean_profile", True),
        gain_over_label=optional("label", True),
        retrieval_rank=interval(kept["rank"], kept),
        retrieval_top1=interval(kept["top1"], kept),
        top1_chance=float((1.0 / (1 + peers[counted].sum(axis=1))).mean()),
        retrieval_p=p,
        label_retrieval_rank=label_rank,
        tissue_accuracy=interval(table["tissue_right"], table),
        per_sample=table,
    )


def tissue_mean_profiles(training: anndata.AnnData) -> anndata.AnnData:
    """Return one raw profile a tissue, named by it: the geometric mean (of value + 1) of the training patients.

    The mean of logarithms, because that is the scale on which profiles are standardised.
    """
    tissues = training.obs["tissue"].astype(str).to_numpy()
    known = sorted(set(tissues))
    logs = np.log1p(np.asarray(training.X, dtype=np.float64))
    mean = np.expm1(np.stack([logs[tissues == tissue].mean(axis=0) for tissue in known])).astype(np.float32)
    obs = pd.DataFrame({"sample_id": known, "tissue": known}, index=pd.Index(known))
    return anndata.AnnData(X=mean, obs=obs, var=training.var.copy(), uns={"unit": training.uns.get("unit", "tpm")})


def side_by_side(
    generator: Any, label_generator: Any, cohort: Cohort, *, split: str = "test", count: int = 8, seed: int = 0
) -> tuple[dict[str, NDArray[np.uint8]], float]:
    """Return rows of tiles to look at, and their um/px: the first tile of the first `count` held-out samples.

    Samples are taken in turn from the tissues, in the order of the cohort; nothing is chosen by its looks.
    """
    held_out, tile_ids = with_tiles(cohort, split)
    chosen = first_in_turn(held_out, count)
    real = cohort.tile_store().read_batch([int(tile_ids[str(name)][0]) for name in chosen.obs_names], px=generator.px)
    rows = {"real": real, "from its RNA": generator.generate(chosen, 1, seed=seed)[:, 0]}
    if label_generator is not None:
        rows["from its label"] = label_generator.generate(chosen, 1, seed=seed)[:, 0]
    return rows, float(generator.mpp_um)


def first_in_turn(held_out: anndata.AnnData, count: int) -> anndata.AnnData:
    """Return the first `count` samples, taken in turn from the tissues, in the order of the cohort."""
    turn = held_out.obs.groupby(held_out.obs["tissue"].astype(str)).cumcount().to_numpy()
    return held_out[np.sort(np.argsort(turn, kind="stable")[:count])].copy()


def critic_curves(metrics: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, tuple[NDArray[Any], NDArray[Any]]]]:
    """Turn the metrics of runs into panels for `plots.curves`: critic distance and gradient penalty by step."""
    panels: dict[str, dict[str, tuple[NDArray[Any], NDArray[Any]]]] = {}
    for title, metric in (("critic distance", "wasserstein"), ("gradient penalty", "penalty")):
        panels[title] = {}
        for name, table in metrics.items():
            column = f"critic_{metric}"  # the engine writes PHASE_METRIC
            if column in table:
                rows = table.dropna(subset=[column])
                panels[title][name] = (rows["step"].to_numpy(), rows[column].to_numpy())
    return panels


def loss_curves(metrics: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, tuple[NDArray[Any], NDArray[Any]]]]:
    """Turn the metrics of runs with one phase into a panel for `plots.curves`: the mean of every fiftieth of the steps."""
    lines = {}
    for name, table in metrics.items():
        rows = table.dropna(subset=["train_loss"])[["step", "train_loss"]].to_numpy(float)
        parts = np.array_split(rows, min(50, max(1, len(rows))))
        lines[name] = (np.array([part[-1, 0] for part in parts]), np.array([part[:, 1].mean() for part in parts]))
    return {"loss": lines}


def evenly(cohort: Cohort, split: str, count: int) -> anndata.AnnData:
    """Return at most `count` profiles of a split that have tiles, evenly spaced in the order of the cohort."""
    profiles = with_tiles(cohort, split)[0]
    return profiles[evenly_spaced(profiles.n_obs, count)].copy()


def with_tiles(cohort: Cohort, split: str) -> tuple[anndata.AnnData, dict[str, NDArray[Any]]]:
    """Return the split's profiles that have tiles, and the tile ids of each sample.

    Raises
    ------
    InputError : the cohort has no tiles, or no sample of the split has any.
    """
    tile_ids = cohort.tile_ids()
    mine = (cohort.profiles.obs["split"] == split).to_numpy() & np.array(
        [str(n) in tile_ids for n in cohort.profiles.obs_names]
    )
    if not mine.any():
        raise InputError(f"cohort {cohort.name}, split {split}", expected="samples with tiles", found="none")
    return cohort.profiles[mine].copy(), tile_ids
