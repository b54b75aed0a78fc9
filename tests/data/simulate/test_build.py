"""A built cohort is whole, the same however it was built, and never overwritten by another."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import rnasynth.data.simulate as simulate
from rnasynth.data.simulate import CELL_TYPES, SimulationConfig, build_simulated, nuclei_mask, render_tile
from rnasynth.data.tiles import TileStore
from rnasynth.errors import InputError

SMALL = SimulationConfig(patients=5, tiles_per_patient=3, tile_px=64)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "cohort"
    build_simulated(folder, SMALL)
    return folder


def test_the_store_holds_the_rendered_tiles(built: Path) -> None:
    store = TileStore(built / "tiles")
    assert len(store) == 15 and store.tile_px == 64
    assert set(store.index["sample_id"]) == set(anndata.read_h5ad(built / "profiles.h5ad").obs_names)
    for row in store.index.iloc[::4].itertuples():
        tile = render_tile(SMALL, int(str(row.patient_id)[-4:]), int(row.tile))
        assert np.abs(store.read(row.tile_id).astype(int) - tile.image).mean() < 4  # JPEG quality 90
        assert row.tissue_fraction == pytest.approx(tile.tissue_fraction)


def test_the_truth_lies_beside_it(built: Path) -> None:
    nuclei = pd.read_parquet(built / "truth" / "nuclei.parquet")
    assert set(nuclei["kind"]) <= set(CELL_TYPES)
    assert nuclei.groupby(["patient_id", "tile"])["nucleus"].max().eq(nuclei.groupby(["patient_id", "tile"]).size()).all()
    part = nuclei[(nuclei["patient_id"] == "SIM-0002") & (nuclei["tile"] == 1) & nuclei["centre_inside"]]
    mask = nuclei_mask(SMALL, 2, 1)
    hit = [mask[int(y), int(x)] == n for x, y, n in zip(part["x_px"], part["y_px"], part["nucleus"], strict=True)]
    assert len(hit) and np.mean(hit) > 0.8
    for name in ("fractions", "tile_fractions", "programmes", "genes", "survival", "hazard"):
        assert len(pd.read_parquet(built / "truth" / f"{name}.parquet"))


def test_building_again_does_nothing_and_another_cohort_is_refused(built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.is_file()}
    build_simulated(built, SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="another folder"):
        build_simulated(built, SimulationConfig(patients=4))


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="something else"):
        build_simulated(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_interrupted_build_leaves_no_cohort_and_the_next_one_is_whole(
    tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        if arguments[1:] == (3, 1):
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type,return-value]

    original = simulate.render_tile
    monkeypatch.setattr(simulate, "render_tile", stop)
    with pytest.raises(KeyboardInterrupt):
        build_simulated(tmp_path / "cohort", SMALL)
    assert not (tmp_path / "cohort").exists()
    monkeypatch.undo()
    build_simulated(tmp_path / "cohort", SMALL)
    assert TileStore(tmp_path / "cohort" / "tiles").fingerprint() == TileStore(built / "tiles").fingerprint()


@pytest.mark.slow
def test_two_processes_build_what_one_builds(tmp_path: Path, built: Path) -> None:
    build_simulated(tmp_path / "cohort", SMALL, workers=2)
    assert TileStore(tmp_path / "cohort" / "tiles").fingerprint() == TileStore(built / "tiles").fingerprint()
    for name in ("nuclei", "fractions"):
        one, two = (pd.read_parquet(folder / "truth" / f"{name}.parquet") for folder in (built, tmp_path / "cohort"))
        pd.testing.assert_frame_equal(one, two)
