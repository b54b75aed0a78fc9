"""The nuclei interface, the embedded models where the truth is known, and the study of real against generated tiles."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from skimage.draw import ellipse

from rnasynth.data.cohort import load_cohort
from rnasynth.errors import InputError
from rnasynth.evaluation.cells import report as nuclei_report
from rnasynth.evaluation.cells import study as cells
from rnasynth.evaluation.cells import tables as cell_tables
from rnasynth.evaluation.cells import truth as nuclei_truth
from rnasynth.evaluation.cells.classes import CLASSES, NucleusClasses
from rnasynth.evaluation.cells.matching import detection
from rnasynth.evaluation.cells.models import DefaultNuclei, WatershedNuclei, default_nuclei, split
from rnasynth.evaluation.cells.nuclei import Nuclei, NucleiModel, find_nuclei, measure, resampled
from rnasynth.evaluation.cells.stain import stain_planes
from rnasynth.evaluation.cells.training import depth_map
from rnasynth.nets.nuclei import NucleiNet, fold_norms
from rnasynth.plots.cells import nuclei_on_tiles, outlines


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("cells")
    return load_cohort("simulated", folder=folder, patients=80, tiles_per_patient=2, genes=100)


@lru_cache(maxsize=1)
def drawn() -> np.ndarray:
    """Dark round blobs on pink at 0.25 um/px, far from each other."""
    tile = np.full((256, 256, 3), (230, 170, 200), np.uint8)
    for y in range(32, 256, 64):
        for x in range(32, 256, 64):
            tile[ellipse(y, x, 14, 14, shape=tile.shape[:2])] = (90, 60, 140)
    return tile


@pytest.mark.parametrize("model", [default_nuclei(), WatershedNuclei()], ids=["network", "watershed"])
def test_the_same_nuclei_are_found_at_every_magnification(model: NucleiModel) -> None:
    assert isinstance(model, NucleiModel)
    truth = [(x * 0.25, y * 0.25) for y in range(32, 256, 64) for x in range(32, 256, 64)]
    for mpp_um in (0.25, 0.5, 0.375, 1.0):
        px = round(256 * 0.25 / mpp_um)
        found = find_nuclei(resampled(drawn(), (px, px)), model, mpp_um=mpp_um)
        shift = (mpp_um - 0.25) / 2  # middle of the first pixel
        assert found.labels.shape == (px, px) and found.mpp_um == mpp_um and found.labels.dtype == np.int32
        assert detection(truth, found.centroids_um + shift, 2.0).f1 == 1.0
        assert found.table["area_um2"].median() == pytest.approx(np.pi * 3.5**2, rel=0.35)


def test_a_wrong_magnification_is_seen_in_the_areas() -> None:
    right, wrong = (find_nuclei(drawn(), WatershedNuclei(), mpp_um=mpp_um) for mpp_um in (0.25, 0.5))
    assert wrong.table["area_um2"].median() > 3 * right.table["area_um2"].median()


def test_empty_and_tiny_tiles_have_no_nuclei() -> None:
    for model in (default_nuclei(), WatershedNuclei()):
        for shape in ((64, 64, 3), (5, 9, 3)):
            found = find_nuclei(np.full(shape, 245, np.uint8), model, mpp_um=0.5)
            assert len(found) == 0 and not found.labels.any() and sum(found.counts(CLASSES).values()) == 0


def test_no_tile_and_no_magnification_are_refused() -> None:
    with pytest.raises(InputError, match="uint8"):
        find_nuclei(np.zeros((8, 8, 3), np.float32), default_nuclei(), mpp_um=0.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="um/px"):
        find_nuclei(np.zeros((8, 8, 3), np.uint8), default_nuclei(), mpp_um=0.0)


def test_an_ellipse_is_measured() -> None:
    labels = np.zeros((80, 80), np.int32)
    labels[ellipse(40, 30, 8, 20, shape=labels.shape)] = 5
    row = measure(labels, np.ones((3, 80, 80), np.float32), mpp_um=0.5).iloc[0]
    assert (row["label"], row["x_px"], row["y_px"]) == (5, pytest.approx(30), pytest.approx(40))
    assert row["long_um"] == pytest.approx(10, rel=0.04) and row["short_um"] == pytest.approx(4, rel=0.06)
    assert abs(row["angle"]) < 0.01 and row["haematoxylin"] == 1 and row["haematoxylin_sd"] == 0


def test_touching_objects_are_split_at_the_valley() -> None:
    mask = np.zeros((40, 60), np.int32)
    mask[ellipse(20, 22, 10, 10, shape=mask.shape)] = 1
    mask[ellipse(20, 40, 10, 10, shape=mask.shape)] = 2
    assert len(np.unique(split(mask > 0, depth_map(mask), apart_px=3, lowest=0.5))) == 3
    assert not split(mask > 0, depth_map(mask), apart_px=3, lowest=1.5).any()


def test_folding_changes_nothing() -> None:
    torch.manual_seed(0)
    network = NucleiNet().train()
    network(torch.randn(4, 3, 32, 32))
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = network.eval()(x)
        assert torch.allclose(before, fold_norms(network)(x), atol=1e-5)


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        DefaultNuclei(tmp_path / "none.safetensors")


def test_classes_are_learnt_and_survive_json() -> None:
    generator = np.random.default_rng(0)
    sizes = {"epithelial": (60, 5, 4), "lymphocyte": (20, 2.6, 2.5), "connective": (24, 6, 1.3)}
    rows = [(*size, name) for name, size in sizes.items() for _ in range(40)]
    table = pd.DataFrame(rows, columns=["area_um2", "long_um", "short_um", "name"])
    table[["area_um2", "long_um", "short_um"]] *= generator.uniform(0.9, 1.1, (120, 3))
    table["haematoxylin"], table["haematoxylin_sd"], table["eosin"] = 0.6, 0.1, 0.3
    kinds = NucleusClasses.from_dict(NucleusClasses.fit(table, table["name"]).to_dict())
    named, probability = kinds.name(table)
    assert (named == table["name"]).mean() > 0.95 and probability.min() > 1 / 3
    with pytest.raises(InputError, match="classes of nuclei"):
        NucleusClasses.fit(table[:40], table["name"][:40])


def test_nuclei_of_simulated_patients_are_found_and_a_shifted_mask_fails(cohort: Any) -> None:
    report = nuclei_report.on_simulated(default_nuclei(), cohort, n_tiles=30, n_boot=50)
    numbers = report.numbers
    assert numbers["sim_f1"].value > 0.8 and numbers["sim_aji"].value > 0.5
    assert numbers["sim_f1_shifted"].high < 0.5 < numbers["sim_f1"].low
    assert numbers["sim_epithelial_r"].value > 0.8 and numbers["sim_connective_r"].value > 0.7
    assert set(numbers) == set(report.labels)


class Copying:
    """A generator that returns the samples' own tiles, or those of another sample, at any pixel size."""

    def __init__(self, cohort: Any, px: int, *, shift: int = 0) -> None:
        self.px, self.mpp_um = px, 64.0 / px
        self.cohort, self.shift = cohort, shift

    def generate(self, profiles: Any, n_per_profile: int, seed: int = 0) -> np.ndarray:
        index = self.cohort.tiles.index["sample_id"].astype(str).to_numpy()
        names = np.roll(profiles.obs["sample_id"].astype(str).to_numpy(), self.shift)
        tiles = [self.cohort.tiles.read_batch(np.flatnonzero(index == name)[:n_per_profile]) for name in names]
        return np.stack([[resampled(tile, (self.px, self.px)) for tile in each] for each in tiles])


def test_a_generator_of_real_tiles_is_equivalent_and_one_of_other_patients_is_not(cohort: Any) -> None:
    same, other = (
        cells.study(cohort, Copying(cohort, 128, shift=shift), WatershedNuclei(default_nuclei().kinds), tiles_per_profile=2)
        for shift in (0, 1)
    )
    assert same.visible and same.nuclei_ratio["generated"].value == 1
    assert same.comparisons["generated"].within.value == pytest.approx(1) and same.comparisons["generated"].equivalent == 1
    assert other.comparisons["generated"].equivalent < 0.7 and other.comparisons["generated"].within.value < 0.7
    both = {"copier": same, "other-patients": other}
    table = cell_tables.empty_table(both, "left out")
    made = [f"generated by {name}" for name in both]
    assert table["tiles"].tolist() == [cells.SETS["real"], cells.SETS["coarse"], *made]
    rows = cell_tables.composition_rows(both)
    assert len(rows) == 4 * len(same.comparisons["coarse"].table) and set(rows["group"]) == {
        *cell_tables.IN_CHARTS.values(),
        *both,
    }
    numbers = {key: value for key, _, value in cell_tables.numbers_of(other, "other-patients")}
    assert numbers["r_within_generated_other_patients"] == other.comparisons["generated"].within
    assert "generated tiles of copier" in same.verdict("copier").lower()


def test_real_tiles_are_searched_once_for_several_generators(cohort: Any) -> None:
    class Counting(WatershedNuclei):
        calls = 0

        def __call__(self, tile: np.ndarray) -> Nuclei:
            Counting.calls += 1
            return super().__call__(tile)

    model, known = Counting(default_nuclei().kinds), dict[float, list[Nuclei]]()
    studies = [
        cells.study(cohort, Copying(cohort, 128, shift=shift), model, tiles_per_profile=1, max_profiles=6, known=known)
        for shift in (0, 1)
    ]
    assert Counting.calls == 18 and studies[0].counts["real"].equals(studies[1].counts["real"])
    assert not studies[0].counts["generated"].equals(studies[1].counts["generated"])


def test_pixels_too_coarse_for_nuclei_are_seen_by_the_control(cohort: Any) -> None:
    found = cells.study(cohort, Copying(cohort, 8), default_nuclei(), tiles_per_profile=2)
    assert not found.visible and "nothing for or against" in found.verdict()


def test_a_cohort_without_tiles_is_refused() -> None:
    with pytest.raises(InputError, match="tiles"):
        cells.study(SimpleNamespace(name="bulk", tiles=None), None, default_nuclei())  # type: ignore[arg-type]


def test_outlines_are_drawn_in_the_colour_of_the_class() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[2:8, 2:8], labels[10:18, 3:9] = 1, 2
    table = pd.DataFrame({"label": [1, 2], "class": ["lymphocyte", "epithelial"]})
    tile = np.full((20, 20, 3), 200, np.uint8)
    assert set(outlines(labels)) == {1, 2} and outlines(labels)[1][0].min() == 1.5
    figure = nuclei_on_tiles({"real": [(tile, Nuclei(labels, table, 0.5))]}, mpp_um={"real": 0.5}, classes=CLASSES)
    assert len(figure.axes) == 2 and len(figure.axes[1].collections) == 4 and not figure.axes[0].collections


@pytest.mark.real
def test_nuclei_of_held_out_monuseg_patients_are_found(mirror: Path) -> None:
    folder = mirror / "tcga_tiles"
    names = ["TCGA-AR-A1AS", "TCGA-B0-5711", "TCGA-A7-A13F", "TCGA-21-5784"]
    fields = nuclei_truth.monuseg(folder, "held out", patients=names)
    assert {field.patient for field in fields} == set(names)
    assert not {field.patient for field in nuclei_truth.monuseg(folder, "tuning", patients=names)}
    found = nuclei_truth.detection_table(default_nuclei(), fields)
    shifted = nuclei_truth.detection_table(default_nuclei(), fields, shift_um=5.0)
    assert found["f1"].mean() > 0.7 and shifted["f1"].mean() < 0.5 and shifted["aji"].mean() < found["aji"].mean() / 2


@pytest.mark.real
def test_monusac_is_read_in_its_true_colours(mirror: Path) -> None:
    field = nuclei_truth.monusac(mirror / "tcga_tiles", "held out")[0]
    red, blue = (stain_planes(each)[0].std() for each in (field.tile, np.ascontiguousarray(field.tile[..., ::-1])))
    assert field.tile[..., 0].mean() > field.tile[..., 1].mean() and red != blue
