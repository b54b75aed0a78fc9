"""Tiles that follow the fractions are seen to follow them; tiles that hear the tissue alone, or nothing, are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.data.cohort import Cohort
from rnasynth.data.simulate import SimulationConfig, simulate_profiles
from rnasynth.data.tiles import TileWriter, finish_store
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.deconvolution import checks, follow
from rnasynth.evaluation.deconvolution.cohort import rna_fractions
from rnasynth.evaluation.deconvolution.readers import FractionReader, dark_area, seen_in
from rnasynth.features import StainTexture

PAIRS = [("a", "a"), ("b", "b")]


def planted(n: int = 90, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Fractions whose mean differs by tissue, and the tissues."""
    rng = np.random.default_rng(seed)
    tissues = np.repeat(["x", "y", "z"], n // 3)
    level = np.repeat([0.1, 0.4, 0.7], n // 3)
    table = pd.DataFrame({"a": level + rng.normal(0, 0.1, n), "b": 0.5 - level / 2 + rng.normal(0, 0.1, n)})
    return table.set_axis([f"s{number}" for number in range(n)]), tissues


def measured(seen: dict[str, pd.DataFrame], fractions: pd.DataFrame, tissues: np.ndarray, **options: Any) -> Any:
    given = {"n_boot": 100, "n_permutations": 199} | options
    return follow.correlate(fractions, seen, PAIRS, tissues=tissues, groups=list(fractions.index), **given)


def test_what_follows_holds_and_what_hears_the_tissue_alone_does_not() -> None:
    fractions, tissues = planted()
    rng = np.random.default_rng(1)
    noisy = fractions + rng.normal(0, 0.05, fractions.shape)
    by_tissue = fractions.groupby(tissues).transform("mean") + rng.normal(0, 0.05, fractions.shape)
    report = measured({"own": noisy, "tissue": by_tissue}, fractions, tissues)
    own, label = report.of("own"), report.of("tissue")
    assert report.holds("own") and (own["value"] > 0.8).all() and (own["within"] > 0.7).all() and (own["p"] <= 0.005).all()
    assert not report.holds("tissue") and (label["value"] > 0.7).all()  # high over all, and yet nothing of the patient
    assert (label["within"].abs() < 0.3).all() and (label["p"] > 0.02).all()
    assert (own["shuffled"] < own["value"]).all() and (own["shuffled_high"] < own["value"]).all()
    assert (own["p_holm"] >= own["p"]).all() and (own["n"] == 90).all()


def test_shuffled_pairing_is_broken_and_seen_to_be() -> None:
    fractions, tissues = planted()
    order = np.random.default_rng(2).permutation(len(fractions))
    shuffled = fractions.iloc[order].set_axis(fractions.index)
    report = measured({"own": shuffled}, fractions, tissues)
    assert not report.holds("own") and (report.table["within"].abs() < 0.4).all()


def test_holm_counts_the_pairs_of_a_source() -> None:
    fractions, tissues = planted()
    rng = np.random.default_rng(3)
    seen = pd.DataFrame(rng.normal(size=fractions.shape), fractions.index, fractions.columns)
    rows = measured({"noise": seen}, fractions, tissues).table
    ordered = rows.sort_values("p")
    assert ordered["p_holm"].iloc[0] == pytest.approx(min(1, 2 * ordered["p"].iloc[0]))


def test_a_source_that_shows_always_the_same_follows_nothing() -> None:
    fractions, tissues = planted()
    report = measured({"flat": fractions * 0 + 1}, fractions, tissues)
    assert (report.table["p"] == 1).all() and not report.holds("flat") and report.within().empty
    assert len(report.shown()) == 2


def test_intervals_count_groups_and_one_section_says_so() -> None:
    fractions, tissues = planted()
    many = measured({"own": fractions}, fractions, tissues)
    assert many.unit == "split groups" and (many.table["n_groups"] == 90).all()
    one = follow.correlate(
        fractions, {"own": fractions}, PAIRS, tissues=tissues, groups=["C5"] * 90, n_boot=50, n_permutations=99
    )
    assert one.unit == "samples of one split group"


def test_tables_that_do_not_fit_are_refused() -> None:
    fractions, tissues = planted()
    with pytest.raises(InputError, match="samples of the fractions"):
        measured({"own": fractions.iloc[::-1]}, fractions, tissues)
    with pytest.raises(InputError, match="pair a, a"):
        measured({"own": fractions[["b"]]}, fractions, tissues)
    with pytest.raises(InputError, match="sample s4, b"):
        measured({"own": fractions.assign(b=fractions["b"].where(fractions.index != "s4"))}, fractions, tissues)
    with pytest.raises(InputError, match="one that varies"):
        measured({"own": fractions}, fractions * 0, tissues)


def test_within_correlation_takes_the_tissues_off() -> None:
    tissues = np.array(["x", "x", "y", "y"])
    assert follow.within_correlation(np.array([0.0, 1, 10, 11]), np.array([0.0, 1, -20, -19]), tissues) == pytest.approx(1)
    assert np.isnan(follow.within_correlation(np.array([1.0, 1, 2, 2]), np.arange(4.0), tissues))


def test_a_reader_learns_what_features_hold_and_nothing_from_noise() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 6))
    fractions = pd.DataFrame({"a": 0.5 + 0.1 * features[:, 2], "b": rng.normal(0.5, 0.1, 80)})
    reader = FractionReader(features, fractions, StainTexture())
    held_out = rng.normal(size=(50, 6))
    z = (held_out - reader._mean) / reader._spread
    assert np.corrcoef(reader._models[0].predict(z), held_out[:, 2])[0, 1] > 0.99
    assert reader._models[1].predict(z).std() < 0.05
    with pytest.raises(InputError, match="each with fractions"):
        FractionReader(features[:10], fractions, StainTexture())


def test_dark_area_grows_with_nuclei_and_tiles_without_cells_are_passed_over() -> None:
    pale = np.full((2, 32, 32, 3), (225, 160, 200), np.uint8)
    dotted = pale.copy()
    dotted[:, 8:16, 8:16] = (70, 40, 120)
    assert dark_area(dotted, 1.0)["dark area"].iloc[0] == pytest.approx(64 / 1024, abs=0.02)

    def counting(tiles: np.ndarray, mpp_um: float) -> pd.DataFrame:
        return pd.DataFrame({"tumour": [np.nan] + [0.5] * (len(tiles) - 1)})

    seen = seen_in([pale, dotted], ["p", "q"], counting, mpp_um=1.0)
    assert list(seen["tumour"]) == [0.5, 0.5] and list(seen.index) == ["p", "q"]


class Painter:
    """A stand-in for a generator: darkens an area as large as the haematopoietic fraction of the profile it is given."""

    px, mpp_um = 32, 2.0

    def __init__(self, listens: bool) -> None:
        self.listens = listens

    def generate(self, profiles: AnnData, n_per_profile: int, seed: int = 0) -> np.ndarray:
        out = np.full((profiles.n_obs, n_per_profile, 32, 32, 3), (225, 160, 200), np.uint8)
        share = profiles.obs["fraction_lymphocyte"] + profiles.obs["fraction_macrophage"]
        for row, value in enumerate(share):
            rows = round(32 * float(value)) if self.listens else 8
            out[row, :, : max(1, rows)] = (70, 40, 120)
        return out


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Simulated profiles, and painted tiles: the dark part follows the haematopoietic fraction, the hue the neural one."""
    folder = tmp_path_factory.mktemp("painted")
    profiles, truth = simulate_profiles(SimulationConfig(patients=100, tiles_per_patient=1, genes=100))
    profiles.obs["split"] = np.where(np.arange(100) < 60, "train", np.where(np.arange(100) < 70, "val", "test"))
    painted = Painter(True).generate(profiles, 3)
    rng = np.random.default_rng(0)
    for number, name in enumerate(profiles.obs_names):
        neural = float(profiles.obs["fraction_neuron"].iloc[number] + profiles.obs["fraction_glia"].iloc[number])
        with TileWriter(folder / "tiles", str(name), patient_id=str(name), quality="lossless") as writer:
            for tile in painted[number].astype(float):
                tile[16:, :, 1] += 60 * neural
                noisy = np.clip(tile + rng.normal(0, 4, tile.shape), 0, 255).astype(np.uint8)
                writer.add(noisy, {"x_px": 0, "y_px": 0, "mpp_um": 2.0, "sample_id": str(name)})
            writer.finish()
    store = finish_store(folder / "tiles")
    return Cohort("simulated", profiles, store, True, "", (), truth, folder)


def test_a_generator_that_listens_is_told_from_a_deaf_one(cohort: Cohort) -> None:
    fractions = checks.join_types(checks.fractions_of(cohort.profiles), follow.CLASSES)
    pairs = [("haematopoietic", "dark area")]
    report = follow.follow(
        cohort,
        fractions,
        {"listens": Painter(True), "deaf": Painter(False)},
        dark_area,
        pairs,
        tiles_per_profile=2,
        n_boot=50,
        n_permutations=199,
    )
    assert set(report.table["group"]) == {"real tiles (ceiling)", "listens", "deaf"}
    assert report.holds("listens") and report.of("listens")["within"].iloc[0] > 0.9
    assert not report.holds("deaf")


def test_reader_of_a_cohort_reads_held_out_real_tiles(cohort: Cohort) -> None:
    fractions = checks.join_types(checks.fractions_of(cohort.profiles), follow.CLASSES)
    reader = FractionReader.fit(cohort, fractions, px=32)
    pairs = [(kind, kind) for kind in fractions]
    report = follow.follow(cohort, fractions, {"deaf": Painter(False)}, reader, pairs, n_boot=20, n_permutations=99)
    real = report.of("real tiles (ceiling)").set_index("fraction")
    assert real.loc["haematopoietic", "within"] > 0.8 and real.loc["neural", "value"] > 0.8
    assert set(report.intervals("real tiles (ceiling)")) == set(fractions) and report.largest_p("deaf") == 1
    told = report.verdict("deaf", ceiling="real tiles (ceiling)", label="deaf")
    assert "deaf: 0 of 5" in told and "haematopoietic" in told and "the weak part is the generator" in told
    only = fractions.loc[[name for name in fractions.index if cohort.split_of(name) != "train"]]
    with pytest.raises(InputError, match="three or more with fractions"):
        FractionReader.fit(cohort, only, px=32)


def test_training_samples_and_mixed_sizes_are_refused(cohort: Cohort) -> None:
    fractions = checks.join_types(checks.fractions_of(cohort.profiles), follow.CLASSES)
    arguments = (cohort, fractions)
    with pytest.raises(SplitError, match="held-out"):
        follow.follow(*arguments, {"a": Painter(True)}, dark_area, [], split="train")
    other = Painter(True)
    other.px = 64  # type: ignore[misc]
    with pytest.raises(InputError, match="one pixel size"):
        follow.follow(*arguments, {"a": Painter(True), "b": other}, dark_area, [])
    with pytest.raises(InputError, match="profiles only"):
        follow.with_tiles(replace(cohort, tiles=None), "test")


def test_fractions_of_a_simulated_cohort_come_from_its_rna(cohort: Cohort) -> None:
    found = rna_fractions(cohort, n_boot=20)
    assert list(found.fractions) == list(found.training) == list(follow.CLASSES)
    assert found.fractions.shape == (30, 5) and len(found.training) == 60
    planted_ones = checks.join_types(checks.fractions_of(cohort.only("test").profiles), follow.CLASSES)
    assert 0 < checks.rmse(found.fractions, planted_ones) < 0.06  # near the planted ones, and not copied from them
    assert set(found.agreement["group"]) == {"as cells", "as RNA"}
    real = rna_fractions(replace(cohort, simulated=False), n_boot=20)
    np.testing.assert_allclose(real.fractions, planted_ones)
    assert real.agreement["value"].median() > 0.9 and "published" in real.source


@pytest.mark.real
def test_nuclei_of_real_slides_follow_markers_of_the_same_patients(mirror: Path) -> None:
    from rnasynth.evaluation.deconvolution.nucls import nuclei_against_rna

    report = nuclei_against_rna(mirror / "signatures", mirror / "expression" / "porpoise", n_boot=50, n_permutations=199)
    rows = report.table.set_index("fraction")
    assert rows.loc["Fibroblasts", "p_holm"] <= 0.05 and rows.loc["Fibroblasts", "value"] > 0.2
    assert (rows["n"] > 100).all()
