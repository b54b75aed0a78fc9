"""One judge for all arms and steps: the same held-out real tiles, network, noise and number of tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.fidelity.distances import frechet_distance, kid
from rnasynth.evaluation.fidelity.sets import TileSet, generated_tiles, real_tiles
from rnasynth.evaluation.fidelity.study import scaler
from rnasynth.evaluation.stats import Interval, mean_and_range
from rnasynth.features import FeatureNetwork, FeatureStats, StainTexture, same_stain
from rnasynth.runs import Run

MIN_TILES = 50


@dataclass(frozen=True, eq=False)
class Judge:
    """Held-out tiles and how features are compared.

    Attributes
    ----------
    network : the feature network.
    scale : standardises features, by the training tiles.
    train, test : real tiles at the generators' size and stain; of disjoint split groups.
    profiles : of the held-out samples with tiles; every generator makes its tiles for them, told or not.
    each : generated tiles a profile.
    n : tiles of every set in a comparison.
    px, restained : how tiles are handled.
    """

    network: FeatureNetwork
    scale: FeatureStats
    train: TileSet
    test: TileSet
    profiles: AnnData
    each: int
    n: int
    px: int
    restained: bool

    @classmethod
    def of(
        cls,
        cohort: Cohort,
        *,
        px: int,
        restained: bool,
        network: FeatureNetwork | None = None,
        split: str = "test",
        tiles: int = 480,
    ) -> Judge:
        """Read the real tiles of a cohort.

        Parameters
        ----------
        px, restained : the generators' pixel size, and whether they were trained on tiles of one stain.
        network : `StainTexture` by default.
        split : the held-out split.
        tiles : about so many are compared; no more than there are real ones.

        Raises
        ------
        InputError : no tiles, or fewer than 50 of a split. SplitError : asked for the training split.
        """
        if split == "train":
            raise SplitError(f"cohort {cohort.name}", expected="a held-out split", found="train", fix="use val or test")
        judge = StainTexture() if network is None else network
        profiles = cohort.only(split).profiles
        per_sample = max(1, -(-tiles // profiles.n_obs))
        train, test = (
            real_tiles(cohort, name, [judge], px=px, restained=restained, per_sample=number)
            for name, number in (("train", per_sample), (split, 0))
        )
        n = min(tiles, len(train), len(test))
        if n < MIN_TILES:
            raise InputError(f"cohort {cohort.name}", expected=f"{MIN_TILES} tiles of each split", found=str(n))
        there = np.isin(profiles.obs["sample_id"].astype(str).to_numpy(), np.unique(test.samples))
        profiles = profiles[there].copy()
        each = max(2, -(-n // profiles.n_obs))
        return cls(judge, scaler(train, judge.name), train, test, profiles, each, n, px, restained)

    def features(self, model: Any, *, seed: int, name: str = "generated") -> TileSet:
        """Make a model's tiles for the held-out profiles, with the noise of `seed`, and keep their features."""
        return generated_tiles(
            model,
            self.profiles,
            [self.network],
            tiles_per_profile=self.each,
            restained=self.restained,
            seed=seed,
            name=name,
        )

    def pictures(self, model: Any, *, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
        """Make a model's tiles, shape (n, px, px, 3), as `features` sees them, and the split group of each."""
        made = model.generate(self.profiles, self.each, seed=seed)
        tiles = np.concatenate([same_stain(each) if self.restained else each for each in made])
        return tiles, np.repeat(self.profiles.obs["split_group"].astype(str).to_numpy(dtype=str), self.each)

    def real_pictures(self, cohort: Cohort) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
        """Return as many real held-out tiles a sample as `pictures` makes (or all there are), handled alike, and groups."""
        parts, groups = [], []
        for sample in dict.fromkeys(self.test.samples.tolist()):
            mine = np.flatnonzero(self.test.samples == sample)
            tiles = cohort.tile_store().read_batch(self.test.tile_ids[mine], px=self.px)
            parts.append((same_stain(tiles) if self.restained else tiles)[: self.each])
            groups += [self.test.patients[mine[0]]] * len(parts[-1])
        return np.concatenate(parts), np.array(groups)

    def distances(self, tiles: TileSet, *, seed: int = 0) -> tuple[float, float]:
        """Return Frechet and kernel distance to the held-out tiles, from `n` tiles of both."""
        made, real = (self.scale.scaled(each.features[self.network.name][each.rows(n=self.n, seed=seed)])
                      for each in (tiles, self.test))  # fmt: skip
        frechet = frechet_distance(made.mean(0), np.cov(made, rowvar=False), real.mean(0), np.cov(real, rowvar=False))
        return frechet, kid(real, made, n_subsets=1, subset_size=self.n, seed=seed).value

    def floor(self, *, draws: int = 3) -> tuple[Interval, Interval]:
        """Return both distances of real training tiles, which are of other split groups: mean and range of draws."""
        found = np.array([self.distances(self.train, seed=draw) for draw in range(draws)])
        frechet, kernel = (mean_and_range(column, f"{draws} draws") for column in found.T)
        return frechet, kernel


def judge_runs(runs: Mapping[str, Sequence[Run]], judge: Judge) -> pd.DataFrame:
    """Judge every snapshot of every run.

    Returns
    -------
    One row a snapshot: arm, seed, step, frechet, kernel. Steps that only some runs have are left out.

    Raises
    ------
    InputError : the runs have no step in common. RunError : a run has no snapshots.
    """
    common: set[int] | None = None
    for several in runs.values():
        for run in several:
            common = set(run.snapshots()) if common is None else common & set(run.snapshots())
    if not common:
        raise InputError("race", expected="runs with snapshots at the same steps", found="none in common")
    rows = []
    for name, several in runs.items():
        for run in several:
            seed = int(run.config.train.seed)
            for step in sorted(common):
                frechet, kernel = judge.distances(judge.features(run.load(step=step), seed=seed))
                rows.append({"arm": name, "seed": seed, "step": step, "frechet": frechet, "kernel": kernel})
    return pd.DataFrame(rows)
