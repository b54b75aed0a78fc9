"""Tiles for eyes that must not know: the same samples, size and stain, real and made; nothing names a patient."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.blinding import blind_tiles
from rnasynth.evaluation.conditioning.experiment import first_in_turn, with_tiles
from rnasynth.features import same_stain
from rnasynth.pages.quiz_sheets import write_sheet
from tests.systems.gan_cohort import small_cohort

PX = 32


class Maker:
    """Writes into each tile which sample and which tile number it is."""

    px = PX

    def __init__(self, cohort: Cohort, *, same_stain: bool = True, mpp_um: float = 2.0) -> None:
        self.rows = {str(name): row for row, name in enumerate(cohort.profiles.obs_names)}
        self.mpp_um = mpp_um
        self.system = SimpleNamespace(settings=SimpleNamespace(same_stain=same_stain))

    def generate(self, profiles: AnnData, n_per_profile: int, *, seed: int = 0) -> NDArray[np.uint8]:
        tiles = np.zeros((profiles.n_obs, n_per_profile, PX, PX, 3), dtype=np.uint8)
        for number, name in enumerate(profiles.obs_names):
            tiles[number, ..., 0] = self.rows[str(name)]
            tiles[number, ..., 1] = np.arange(n_per_profile)[:, None, None]
        return tiles


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return small_cohort(tmp_path_factory.mktemp("blind"))


def blind(cohort: Cohort, count: int = 40, **options: Any) -> Any:
    return blind_tiles({"a": Maker(cohort, **options), "b": Maker(cohort, **options)}, cohort, count=count)  # type: ignore[dict-item]


def test_tiles_are_of_held_out_samples_first_tiles_first(cohort: Cohort) -> None:
    found = blind(cohort, count=9)
    test = first_in_turn(with_tiles(cohort, "test")[0], 9)
    assert test.n_obs < 9, "the second tiles are asked for as well"
    names = [list(cohort.profiles.obs_names)[row] for row in found.made["a"][:, 0, 0, 0]]
    assert names == [*test.obs_names, *test.obs_names][:9]
    assert found.made["a"][:, 0, 0, 1].tolist() == [0] * test.n_obs + [1] * (9 - test.n_obs)
    assert set(cohort.profiles.obs.loc[names, "split"]) == {"test"}
    np.testing.assert_array_equal(found.made["a"], found.made["b"])


def test_real_tiles_went_the_way_of_training_tiles(cohort: Cohort) -> None:
    found, raw = blind(cohort), blind(cohort, same_stain=False)
    assert found.real.dtype == np.uint8 and found.real.shape == found.made["a"].shape == raw.real.shape
    held_out, ids = with_tiles(cohort, "test")
    assert cohort.tiles is not None
    tiles = cohort.tiles.read_batch([int(tile) for tile in ids[str(held_out.obs_names[0])]], px=PX)
    np.testing.assert_array_equal(raw.real[0], tiles[0])
    np.testing.assert_array_equal(found.real[0], same_stain(tiles)[0])
    assert "common stain" in found.handling and "as scanned" in raw.handling and "32 px of 2 µm" in raw.handling


def test_no_more_tiles_than_there_are_real_ones(cohort: Cohort) -> None:
    held_out, ids = with_tiles(cohort, "test")
    assert len(blind(cohort, count=500).real) == sum(len(ids[str(name)]) for name in held_out.obs_names)


def test_what_is_left_for_the_quiz_names_no_patient(cohort: Cohort, tmp_path: Path) -> None:
    found = blind(cohort)
    path = write_sheet(tmp_path, "a", real=found.real, made=found.made["a"], mpp_um=2.0, handling=found.handling)
    ids = {str(name) for column in ("sample_id", "patient_id") for name in cohort.profiles.obs[column]}
    left = b"".join(file.read_bytes() + file.name.encode() for file in path.parent.iterdir())
    assert [name for name in ids if name.encode() in left] == []
    path.write_text(json.dumps({"sample": sorted(ids)[0]}), encoding="utf-8")  # a sheet that names one is seen
    assert any(name.encode() in path.read_bytes() for name in ids)


def test_training_samples_unequal_generators_and_cohorts_without_tiles_are_refused(cohort: Cohort) -> None:
    one, other = Maker(cohort), Maker(cohort, mpp_um=1.0)
    with pytest.raises(SplitError):
        blind_tiles({"a": one}, cohort, split="train")  # type: ignore[dict-item]
    for generators, count in (({"a": one, "b": other}, 4), ({}, 4), ({"a": one}, 0)):
        with pytest.raises(InputError, match="one size"):
            blind_tiles(generators, cohort, count=count)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="tiles"):
        blind_tiles({"a": one}, dataclasses.replace(cohort, tiles=None))  # type: ignore[dict-item]
