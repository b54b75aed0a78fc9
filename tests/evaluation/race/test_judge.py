"""One judge for all: real tiles are at the floor, a snapshot is judged as it was, samples are never of training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError, RunError, SplitError
from rnasynth.evaluation.race.arms import GAN, RNA
from rnasynth.evaluation.race.judge import Judge, judge_runs
from rnasynth.evaluation.race.milestones import report
from rnasynth.runs import Run
from tests.evaluation.race.conftest import STEPS


class Giver:
    """Hands out a sample's real tiles, or those of one sample for all, as if it had made them."""

    px = 32

    def __init__(self, cohort: Cohort, *, one: bool = False) -> None:
        assert cohort.tiles is not None
        self.store, self.one = cohort.tiles, one
        self.mpp_um = 2.0
        self.of = self.store.index.groupby("sample_id")["tile_id"].apply(list).to_dict()

    def generate(self, profiles: AnnData, n: int, seed: int = 0) -> NDArray[np.uint8]:
        names = list(profiles.obs_names)
        wanted = [next(iter(self.of))] * len(names) if self.one else names
        return np.stack([self.store.read_batch(self.of[name][:n], px=32) for name in wanted])


def test_held_out_tiles_lie_at_the_floor_and_one_samples_tiles_far_above(race_cohort: Cohort, race_judge: Judge) -> None:
    floor = race_judge.floor()
    real = race_judge.distances(race_judge.features(Giver(race_cohort), seed=0))
    one = race_judge.distances(race_judge.features(Giver(race_cohort, one=True), seed=0))
    assert real[0] <= floor[0].high and one[0] > 3 * floor[0].high
    assert real[1] <= floor[1].high + 0.05 and one[1] > floor[1].high


def test_tiles_are_of_held_out_samples_and_sets_of_one_size(race_cohort: Cohort, race_judge: Judge) -> None:
    splits = race_cohort.profiles.obs["split"].astype(str)
    assert set(splits[race_judge.profiles.obs_names]) == {"test"}
    assert not set(race_judge.train.patients) & set(race_judge.test.patients)
    made = race_judge.features(Giver(race_cohort), seed=0)
    assert len(made) >= race_judge.n == 55


def test_pictures_are_what_is_judged(race_cohort: Cohort, race_judge: Judge) -> None:
    made, groups = race_judge.pictures(Giver(race_cohort), seed=0)
    real, others = race_judge.real_pictures(race_cohort)
    assert made.shape == real.shape == (len(groups), 32, 32, 3) and list(groups) == list(others)
    assert np.abs(made.astype(int) - real.astype(int)).mean() < 1.0  # the same tiles, brought to one stain in one way
    again = race_judge.network(made, 2.0)
    assert np.allclose(again, race_judge.features(Giver(race_cohort), seed=0).features[race_judge.network.name], atol=1e-4)


def test_every_snapshot_is_judged_as_it_was(race_runs: dict[str, list[Run]], race_judge: Judge) -> None:
    curves = judge_runs(race_runs, race_judge)
    assert len(curves) == 3 * 2 * 3 and set(curves["step"]) == {2, 4, STEPS}
    last = curves[(curves["arm"] == GAN) & (curves["seed"] == 1) & (curves["step"] == STEPS)].iloc[0]
    ended = race_judge.distances(race_judge.features(race_runs[GAN][1].load(), seed=1))
    assert (last["frechet"], last["kernel"]) == pytest.approx(ended, rel=1e-6)
    assert curves[curves["arm"] == GAN]["frechet"].nunique() == 6
    found = report(curves, race_judge.floor())
    assert set(found.numbers) >= {"frechet_gan", "kernel_rna_gan", "steps_ratio", "gap_narrow_noise_gan"}
    assert set(found.numbers) == set(found.labels) and len(found.lines("kernel")) == 9


def test_runs_without_common_snapshots_are_an_error(race_runs: dict[str, list[Run]], race_judge: Judge) -> None:
    def refuse() -> list[int]:
        raise RunError("run x", expected="snapshots", found="none")

    other = SimpleNamespace(snapshots=lambda: [3, 5])
    with pytest.raises(InputError, match="snapshots"):
        judge_runs({GAN: race_runs[GAN], RNA: [other]}, race_judge)  # type: ignore[list-item]
    bare: Any = SimpleNamespace(snapshots=refuse)
    with pytest.raises(RunError):
        judge_runs({GAN: [bare]}, race_judge)


def test_training_tiles_and_too_few_tiles_are_refused(race_cohort: Cohort) -> None:
    with pytest.raises(SplitError):
        Judge.of(race_cohort, px=32, restained=True, split="train")
    with pytest.raises(InputError, match="tiles"):
        Judge.of(race_cohort, px=32, restained=True, tiles=20)
