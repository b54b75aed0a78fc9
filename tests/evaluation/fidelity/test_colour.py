"""Colour drift: stain directions that were mixed in are found; a planted drift is seen, and none where there is none."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort, load_cohort
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.fidelity.colour import ALL, FLOOR, MADE, MEASURES, ColourReport, colour_drift, compare_colours
from rnasynth.evaluation.fidelity.stains import Colours, angle, optical_density, stain_vectors
from rnasynth.features import same_stain
from rnasynth.nets.stain import COMMON
from rnasynth.plots import intervals
from tests.evaluation.made_tiles import Store, real_tiles_of

PX, TILES, PATIENTS = 32, 3, 36
STAINS = np.array(COMMON) / np.linalg.norm(COMMON, axis=1, keepdims=True)


def stained(
    rng: np.random.Generator, n: int, *, stains: NDArray[Any] = STAINS, strength: float = 1.0, shift: float = 0.0
) -> NDArray[np.uint8]:
    """Tiles of pixels that hold some haematoxylin, some eosin, or both, by Beer and Lambert."""
    kind = rng.integers(3, size=(n, PX, PX))
    amounts = strength * rng.gamma(8, 0.12, size=(n, PX, PX, 2)) * np.stack([kind != 1, kind != 0], axis=-1)
    light = np.exp(-(amounts @ stains + shift))
    return np.clip(256 * light - 1 + rng.uniform(-0.5, 0.5, light.shape), 0, 255).astype(np.uint8)


def own_strength(name: str) -> float:
    """Patients are stained by one fifth stronger or weaker."""
    return 1.0 + 0.2 * np.sin(sum(map(ord, name)) * 1.7)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    rng = np.random.default_rng(0)
    names = [f"P{row:02d}" for row in range(PATIENTS)]
    obs = pd.DataFrame({"sample_id": names, "patient_id": names, "split_group": names}, index=pd.Index(names))
    obs["split"] = np.repeat(["train", "val", "test"], PATIENTS // 3)
    obs["tissue"] = np.where(np.arange(PATIENTS) % 2, "lung", "skin")
    profiles = anndata.AnnData(X=np.ones((PATIENTS, 3), np.float32), obs=obs, uns={"unit": "tpm"})
    tiles = np.stack([stained(rng, TILES, strength=own_strength(name)) for name in names])
    return Cohort("stained", profiles, Store(tiles, names), True, "", (), {}, Path("."))  # type: ignore[arg-type]


class Maker:
    """A generator with the patient's own staining; what is planted comes on top."""

    px, mpp_um = PX, 2.0

    def __init__(self, only: str = "", **planted: Any) -> None:
        self.only, self.planted = only, planted

    def generate(self, profiles: anndata.AnnData, n: int, seed: int = 0) -> NDArray[np.uint8]:
        out = []
        for name, tissue in zip(profiles.obs_names, profiles.obs["tissue"], strict=True):
            planted = self.planted if self.only in ("", tissue) else {}
            rng = np.random.default_rng([seed, *map(ord, str(name))])
            strength = own_strength(str(name)) * planted.get("strength", 1.0)
            out.append(stained(rng, n, **{**planted, "strength": strength}))
        return np.stack(out)


class RealTiles(Maker):
    """Real tiles handed over as if they were generated."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort

    def generate(self, profiles: anndata.AnnData, n: int, seed: int = 0) -> NDArray[np.uint8]:
        return real_tiles_of(self.cohort, profiles, n)


def found(cohort: Cohort, maker: Maker, **options: Any) -> ColourReport:
    return colour_drift(maker, cohort, tiles_per_profile=TILES, n_boot=100, **options)


def drifting(report: ColourReport) -> set[tuple[str, str]]:
    rows = report.drifts
    return {(row["tissue"], row["measure"]) for row in rows[rows["drifts"]].to_dict("records")}


def turned(stain: int, degrees: float) -> NDArray[np.float64]:
    """The two stains, one of them turned towards blue."""
    stains = STAINS.copy()
    blue = np.array([0.0, 0.0, 1.0]) - stains[stain, 2] * stains[stain]
    step = math.radians(degrees)
    stains[stain] = math.cos(step) * stains[stain] + math.sin(step) * blue / np.linalg.norm(blue)
    return stains


def test_stain_directions_that_were_mixed_are_found() -> None:
    rng = np.random.default_rng(1)
    amounts = rng.gamma(8, 0.12, size=(6000, 2)) * rng.permuted(np.tile([[1, 0], [0, 1], [1, 1]], (2000, 1)), axis=0)
    vectors = stain_vectors(amounts @ STAINS)
    assert angle(vectors[0], STAINS[0]) < 0.5 and angle(vectors[1], STAINS[1]) < 0.5
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    swapped = stain_vectors((amounts @ STAINS)[::-1])  # neither the order of pixels nor of stains matters
    np.testing.assert_allclose(swapped, vectors, atol=1e-9)
    assert np.isnan(stain_vectors(np.full((50, 3), math.nan))).all() and np.isnan(stain_vectors(np.ones((3, 3)))).all()


def test_optical_density_and_angles_by_hand() -> None:
    assert optical_density(np.array([255, 127, 0], np.uint8)) == pytest.approx([0, math.log(2), math.log(256)])
    assert angle(np.array([1.0, 0, 0]), np.array([0, 2.0, 0])) == pytest.approx(90)
    assert angle(STAINS[0], STAINS[0]) == 0 and math.isnan(angle(STAINS[0], np.full(3, math.nan)))


def test_the_same_tiles_do_not_differ_at_all(cohort: Cohort) -> None:
    report = found(cohort, RealTiles(cohort))
    made = report.table[report.table["set"] == MADE]
    for measure in MEASURES:
        assert all(each.value == each.low == each.high == 0 for each in made[measure])
    assert not drifting(report) and report.verdict().startswith("No drift") and "no channel differs" in report.verdict()
    floor = report.table[report.table["set"] == FLOOR]["density"]
    assert all(each.low > 0 for each in floor)  # other patients' stain differs


def test_tiles_of_the_right_colours_do_not_drift(cohort: Cohort) -> None:
    report = found(cohort, Maker())
    assert not drifting(report)
    assert set(report.table["tissue"]) == {ALL, "lung", "skin"} and len(report.vectors) == 3 * 2 * 2


@pytest.mark.parametrize(
    ("planted", "measure"),
    [
        ({"shift": 0.25}, "density"),
        ({"strength": 1.6}, "density"),
        ({"stains": turned(0, 12.0)}, "haematoxylin"),
        ({"stains": turned(1, 12.0)}, "eosin"),
    ],
)
def test_a_planted_drift_is_found_in_its_tissue_and_in_no_other(
    cohort: Cohort, planted: dict[str, Any], measure: str
) -> None:
    report = found(cohort, Maker("lung", **planted))
    assert ("lung", measure) in drifting(report)
    assert not {tissue for tissue, _ in drifting(report)} & {"skin"}
    assert "Colours drift" in report.verdict() and "lung" in report.verdict()
    if measure in ("haematoxylin", "eosin"):
        other = "eosin" if measure == "haematoxylin" else "haematoxylin"
        row = report.table[(report.table["tissue"] == "lung") & (report.table["set"] == MADE)].iloc[0]
        assert row[measure].value == pytest.approx(12, abs=2.5) and row[other].value < 2


def test_the_size_and_sign_of_a_shift_are_measured(cohort: Cohort) -> None:
    report = found(cohort, Maker(shift=0.25))
    for channel in ("red", "green", "blue"):
        off = report.numbers[f"density_{channel}_generated"]
        assert off.value == pytest.approx(0.25, abs=0.03) and off.low > 0
    assert report.numbers["density_generated"].value == pytest.approx(0.25 * math.sqrt(3), abs=0.05)
    assert "red +0.2" in report.verdict()


def test_a_floor_that_held_the_same_patients_would_hide_a_drift_and_is_refused(cohort: Cohort) -> None:
    profiles = cohort.profiles
    tiles = [cohort.tiles.read_batch(np.arange(3 * row, 3 * row + 3)) for row in range(PATIENTS)]  # type: ignore[union-attr]
    every = Colours.of(tiles, profiles)
    test = (profiles.obs["split"] == "test").to_numpy()
    with pytest.raises(InputError, match="split groups"):
        compare_colours(every.rows(test), every.rows(test), every)
    with pytest.raises(InputError, match="in their order"):
        compare_colours(every.rows(test), every.rows(np.flatnonzero(test)[::-1]), every.rows(~test))
    with pytest.raises(InputError, match="3 or more"):
        compare_colours(every.rows([0, 1]), every.rows([0, 1]), every.rows(test))  # type: ignore[arg-type]


def test_single_sections_give_the_floor_its_range(cohort: Cohort) -> None:
    profiles = cohort.profiles.copy()
    profiles.obs["split_group"] = "section " + profiles.obs["split"].astype(str)
    report = found(dataclasses.replace(cohort, profiles=profiles), Maker())
    floor = report.table[(report.table["tissue"] == ALL) & (report.table["set"] == FLOOR)]["density"].iloc[0]
    assert floor.n == 2 and "range of 2 draws of 1 other split groups" in floor.method
    made = report.table[(report.table["tissue"] == ALL) & (report.table["set"] == MADE)]["density"].iloc[0]
    assert "samples of one split group" in made.method


def test_numbers_have_labels_and_tables_are_what_plots_take(cohort: Cohort) -> None:
    report = found(cohort, Maker(), max_samples=8)
    assert set(report.numbers) == set(report.labels) and len(report.numbers) == 2 * len(MEASURES)
    assert (report.table.loc[report.table["tissue"] == ALL, "n"] == 8).all()
    intervals(report.rows("haematoxylin"), x_label="degrees")
    assert len(report.shown()) == len(report.table)


def test_training_samples_and_missing_tiles_are_refused(cohort: Cohort) -> None:
    with pytest.raises(SplitError):
        found(cohort, Maker(), split="train")
    with pytest.raises(InputError, match="tiles"):
        found(dataclasses.replace(cohort, tiles=None), Maker())


@pytest.mark.real
def test_on_real_tissue_a_restained_section_has_the_common_stains(mirror: Path) -> None:
    """`same_stain` brings tiles to known vectors: the estimate must find them, and on tiles as scanned it must not."""
    cohort = load_cohort("her2st", mirror=mirror)
    assert cohort.tiles is not None
    tiles = cohort.tiles.read_batch(np.arange(0, 60, 2), px=64)
    brought, scanned = (stain_vectors(optical_density(part).reshape(-1, 3)[::7]) for part in (same_stain(tiles), tiles))
    assert angle(brought[0], STAINS[0]) < 2
    assert angle(scanned[0], STAINS[0]) > 3
