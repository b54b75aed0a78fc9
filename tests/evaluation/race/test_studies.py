"""Tiles a patient, the width of noise, and checkerboards of trained generators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError
from rnasynth.evaluation.race.arms import GAN
from rnasynth.evaluation.race.judge import Judge
from rnasynth.evaluation.race.milestones import over_seeds
from rnasynth.evaluation.race.studies import SETS, TilesStudy, checkerboards, narrowing_effect, quality_by_tiles
from rnasynth.runs import Run
from tests.evaluation.race.conftest import SNAPSHOTS, STEPS, TINY


def test_a_normalisation_divides_the_width_of_noise_out_and_without_one_it_matters() -> None:
    effects = {norm: narrowing_effect(norm, networks=2) for norm in ("pixel", "batch", "none")}  # type: ignore[arg-type]
    assert effects["pixel"] < 1e-3 and effects["batch"] < 1e-2
    assert effects["none"] > 0.5


def test_counts_that_no_sample_has_are_left_out(
    race_cohort: Cohort, race_runs: dict[str, list[Run]], race_judge: Judge, race_folder: Path
) -> None:
    found = quality_by_tiles(
        race_cohort,
        "demo",
        race_judge,
        (2, 5, 24),
        seeds=(0, 1),
        steps=STEPS,
        snapshots=SNAPSHOTS,
        changes=TINY,
        folder=race_folder,
        progress=False,
    )
    assert list(found.table["tiles"]) == [2.0, 5.0] and len(found.runs) == 4
    assert [len(each) for each in found.table["each"]] == [2, 2] and found.gain.n == 2
    assert list(found.shown().columns) == ["Frechet distance", "kernel distance"]


def test_nothing_is_trained_where_samples_have_too_few_tiles(race_cohort: Cohort, race_judge: Judge, tmp_path: Path) -> None:
    found = quality_by_tiles(race_cohort, "demo", race_judge, (5, 8), seeds=(0,), folder=tmp_path)
    assert not found.runs and not list(tmp_path.iterdir()) and "cannot say" in found.summary()


def study(*levels: float) -> TilesStudy:
    rows = [
        {"asked": 2 * k, "tiles": 2.0 * k, "frechet": over_seeds([level - 1, level + 1]), "each": [level - 1, level + 1]}
        for k, level in enumerate(levels, start=1)
    ]
    return TilesStudy(pd.DataFrame(rows), [])


def test_the_summary_says_which_way_it_went() -> None:
    assert "is better" in study(50.0, 30.0).summary() and "is worse" in study(30.0, 50.0).summary()
    assert "cannot say" in study(30.0).summary()
    mixed = TilesStudy(pd.DataFrame({"tiles": [2.0, 8.0], "each": [[1.0, 5.0], [3.0, 3.0]]}), [])
    assert "neither better nor worse" in mixed.summary()


@pytest.mark.parametrize("counts", [(), (8, 2), (0, 4)])
def test_counts_have_to_rise(race_cohort: Cohort, race_judge: Judge, counts: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="rising"):
        quality_by_tiles(race_cohort, "demo", race_judge, counts, seeds=(0,))


def test_transposed_convolution_leaves_more_of_a_grid_than_resizing_and_real_tiles(
    race_cohort: Cohort, race_runs: dict[str, list[Run]], race_judge: Judge, race_folder: Path
) -> None:
    found = checkerboards(
        race_cohort,
        "demo",
        race_judge,
        race_runs[GAN][0],
        seed=0,
        steps=STEPS,
        snapshots=SNAPSHOTS,
        changes=TINY,
        folder=race_folder,
        progress=False,
    )
    assert tuple(found.maps) == SETS and found.run.config.upsample == "transposed"
    assert found.excess(SETS[2]).low > 3 * found.excess(SETS[1]).high
    assert all(np.isfinite(values).all() and values.shape == (32, 32) for values in found.maps.values())
    assert "more than real ones" in found.summary() and len(found.rows()) == 2 * len(SETS)
    with pytest.raises(InputError, match="resize"):
        checkerboards(race_cohort, "demo", race_judge, found.run, seed=0)
