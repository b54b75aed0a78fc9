"""A small cohort, and a race of a few steps on it, trained once."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnasynth.data.cohort import Cohort
from rnasynth.data.held_tiles import hold_tiles
from rnasynth.evaluation.race.arms import ARMS, GAN, train_arms
from rnasynth.evaluation.race.judge import Judge
from rnasynth.runs import Run
from tests.systems.gan_cohort import small_cohort

STEPS, SNAPSHOTS = 6, 3
TINY = ("width_generator=8", "width_critic=8", "noise_dim=8")


@pytest.fixture(scope="session")
def race_cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Sixty patients of five tissues, five tiles each, held in memory."""
    return hold_tiles(small_cohort(tmp_path_factory.mktemp("race-cohort"), patients=60, tiles=5), 32)


@pytest.fixture(scope="session")
def race_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("race-runs")


@pytest.fixture(scope="session")
def race_runs(race_cohort: Cohort, race_folder: Path) -> dict[str, list[Run]]:
    """The three arms with two seeds."""
    return train_arms(
        race_cohort,
        "demo",
        arms=ARMS,
        seeds=(0, 1),
        steps=STEPS,
        snapshots=SNAPSHOTS,
        changes=TINY,
        folder=race_folder,
        progress=False,
    )


@pytest.fixture(scope="session")
def race_judge(race_cohort: Cohort, race_runs: dict[str, list[Run]]) -> Judge:
    return Judge.of(race_cohort, px=32, restained=race_runs[GAN][0].config.same_stain, tiles=55)
