"""Each check says yes to a system whose arithmetic is exact, and no to one that is broken in the way it looks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

from rnasynth import files
from rnasynth.data.simulate import SimulationConfig, simulate_profiles
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.latent import arithmetic as latent
from rnasynth.evaluation.latent import checks as latent_checks
from rnasynth.evaluation.latent import truth as latent_truth
from tests.evaluation.linear_system import TISSUES, LinearSystem, trained


def every_set(system: Any, train: AnnData, test: AnnData) -> tuple[latent.Centroids, dict[str, AnnData]]:
    centres = latent.centroids(system, train)
    return centres, {
        "real": test,
        "reconstructed": latent.reconstructed(system, test),
        "generated": latent.generate(system, centres, n=20, seed=0),
        "shifted": latent.shift_to_others(system, test, centres),
    }


def with_tissues(profiles: AnnData, seed: int) -> AnnData:
    out = profiles.copy()
    out.obs["tissue"] = np.random.default_rng(seed).permutation(out.obs["tissue"].to_numpy())
    return out


def test_classifier_names_the_wanted_tissue_and_intervals_count_patients() -> None:
    system, train, test = trained()
    _, sets = every_set(system, train, test)
    report = latent_checks.tissue_accuracy(system, train, sets)
    assert report.holds and report.chance == pytest.approx(1 / 3)
    assert set(report.numbers) == {f"tissue_named_{name}" for name in sets} == set(report.labels)
    assert all(interval.value > 0.95 for interval in report.numbers.values())
    assert report.numbers["tissue_named_shifted"].n == test.n_obs  # patients, though each was moved twice
    assert report.numbers["tissue_named_real"].low < 1  # all right on thirty patients is no certainty
    assert len(report.by_tissue) == 4 * 3 and {"label", "group", "value", "low", "high"} <= set(report.by_tissue)
    np.testing.assert_allclose(report.confusion.sum(axis=1), 1)


def test_a_classifier_of_permuted_labels_is_at_chance_and_nothing_holds() -> None:
    system, train, test = trained(120)
    _, sets = every_set(system, train, test)
    report = latent_checks.tissue_accuracy(system, with_tissues(train, 0), sets)
    assert not report.holds
    assert abs(report.numbers["tissue_named_real"].value - 1 / 3) < 0.2


def test_profiles_that_were_not_moved_are_not_named_as_the_target() -> None:
    system, train, test = trained()
    _, sets = every_set(system, train, test)
    still = sets["shifted"].copy()
    still.X = np.asarray(sets["reconstructed"][still.obs["source_sample"].to_list()].X)
    report = latent_checks.tissue_accuracy(system, train, {**sets, "shifted": still})
    assert not report.holds and report.numbers["tissue_named_shifted"].value < 0.05


def test_one_tissue_or_test_samples_make_no_classifier() -> None:
    system, train, test = trained()
    one = train[(train.obs["tissue"] == "lung").to_numpy()].copy()
    with pytest.raises(InputError, match="two or more tissues"):
        latent_checks.tissue_accuracy(system, one, {"real": test})
    for check in (
        lambda: latent_checks.tissue_accuracy(system, test, {"real": test}),
        lambda: latent_checks.nearest_training(system, test, {"real": test}),
        lambda: latent_checks.interpolation(system, test, test),
    ):
        with pytest.raises(SplitError):
            check()


def test_a_share_of_all_or_none_has_an_interval_that_ends_at_it() -> None:
    units = np.repeat(np.arange(20), 3)
    none, every = (latent_checks.share_interval(np.full(60, hit), units) for hit in (0.0, 1.0))
    assert none.low == none.value == 0 and none.n == 20 and 0.1 < none.high < 0.2
    assert every.high == every.value == 1 and every.low == pytest.approx(1 - none.high)
    some = latent_checks.share_interval((units < 10).astype(float), units)
    assert some.value == 0.5 and some.high - some.low > 0.3  # of 20 patients, not of 60 rows
    table = latent_checks.number_table({"a": some}, {"a": "half"})
    assert list(table.iloc[0]) == ["half", some.value, some.low, some.high, 20]


def test_overview_counts_profiles_of_each_set_and_tissue() -> None:
    system, train, test = trained()
    _, sets = every_set(system, train, test)
    table = latent_checks.overview(sets, train=train)
    assert list(table.columns) == list(TISSUES) and list(table.loc["training"]) == [20, 20, 20]
    assert list(table.loc["generated"]) == [20, 20, 20] and table.loc["shifted"].sum() == 2 * test.n_obs


def test_a_way_passes_from_one_tissue_to_the_other() -> None:
    system, train, test = trained()
    way = latent_checks.interpolation(system, train, test, steps=9)
    assert (way.start, way.end) == TISSUES[:2] and way.numbers["ways_pass"].value > 0.6
    (percent, first), (_, second) = way.lines.values()
    assert percent[0] == 0 and percent[-1] == 100 and first[0] > 0.9 and second[-1] > 0.9
    with pytest.raises(InputError, match="two tissues"):
        latent_checks.interpolation(system, train, test[(test.obs["tissue"] == "lung").to_numpy()].copy())
    with pytest.raises(InputError, match="2 steps"):
        latent_checks.interpolation(system, train, test, steps=1)


def test_copies_of_training_patients_are_found_and_real_patients_are_none() -> None:
    system, train, test = trained(240)
    _, sets = every_set(system, train, test)
    honest = latent_checks.nearest_training(system, train, sets)
    assert honest.numbers["copies_generated"].value < 0.05 and honest.numbers["copies_real"].value < 0.05
    assert honest.numbers["distance_real"].value == pytest.approx(1)
    assert list(honest.table.index) == ["real (test)", "reconstructed", "generated", "shifted"]
    copied = system.transform.wrap(latent.scores(system, train)[:60] + 1e-3, sets["generated"].obs)
    broken = latent_checks.nearest_training(system, train, {**sets, "generated": copied})
    assert broken.numbers["copies_generated"].value > 0.95 and broken.numbers["distance_generated"].value < 0.05


def test_smooth_profiles_lie_nearer_and_are_no_copies() -> None:
    system, train, test = trained(240)
    centres, sets = every_set(system, train, test)
    smooth = system.transform.wrap(np.repeat(system.decode(centres.mean), 20, axis=0), sets["generated"].obs)
    report = latent_checks.nearest_training(system, train, {"real": test, "generated": smooth})
    assert report.numbers["distance_generated"].value < 1 and report.numbers["copies_generated"].value == 0


def test_neighbours_of_ones_own_patient_do_not_count() -> None:
    system, train, test = trained(60)
    twice = train.copy()
    twice.obs["split_group"] = [f"P{row // 3}" for row in range(train.n_obs)]
    report = latent_checks.nearest_training(system, twice, {"real": test})
    single = latent_checks.nearest_training(system, train, {"real": test})
    assert (report.distances["training, to others"] >= single.distances["training, to others"] - 1e-9).all()
    with pytest.raises(InputError, match='called "real"'):
        latent_checks.nearest_training(system, train, {"generated": test})
    twice.obs["split_group"] = "P0"
    with pytest.raises(InputError, match="three or more patients"):
        latent_checks.nearest_training(system, twice, {"real": test})


def test_markers_move_by_the_real_difference_and_at_random_they_do_not() -> None:
    system, train, test = trained(120)
    centres, sets = every_set(system, train, test)
    report = latent_truth.marker_change(system, centres, train, test, sets["shifted"], n_markers=4, n_boot=100)
    assert report.holds and report.numbers["markers_cosine"].low > 0.95
    assert 0.9 < report.numbers["markers_slope"].value < 1.1 and report.numbers["markers_right_sign"].value == 1
    for interval in report.numbers.values():
        assert interval.low <= interval.value <= interval.high
    assert abs(report.numbers["markers_cosine_random"].value) < 0.5
    row = report.points[(report.points["source"] == "brain") & (report.points["group"] == "lung")]
    assert len(report.points) == 6 * 4 and set(row["gene"]) <= {f"G{gene}" for gene in range(8)}


def relabelled(shifted: AnnData, source: list[str], target: list[str]) -> AnnData:
    out = shifted.copy()
    out.obs["source"], out.obs["tissue"] = source, target
    return out


def test_markers_that_moved_elsewhere_backwards_or_not_at_all_fail() -> None:
    system, train, test = trained(120)
    centres, sets = every_set(system, train, test)
    moved = sets["shifted"]
    pairs = list(zip(moved.obs["source"], moved.obs["tissue"], strict=True))
    common: dict[str, Any] = {"n_markers": 8, "n_boot": 50}
    right = latent_truth.marker_change(system, centres, train, test, moved, **common)
    third = relabelled(moved, [a for a, _ in pairs], [next(t for t in TISSUES if t not in pair) for pair in pairs])
    elsewhere = latent_truth.marker_change(system, centres, train, test, third, **common)
    assert elsewhere.numbers["markers_cosine"].high < right.numbers["markers_cosine"].low
    assert elsewhere.numbers["markers_slope"].value == pytest.approx(0.5, abs=0.1)  # one half fell, the other did not rise
    back = relabelled(moved, [b for _, b in pairs], [a for a, _ in pairs])
    backwards = latent_truth.marker_change(system, centres, train, test, back, **common)
    assert not backwards.holds and backwards.numbers["markers_right_sign"].value == 0
    still = sets["shifted"].copy()
    still.X = np.asarray(sets["reconstructed"][still.obs["source_sample"].to_list()].X)
    still.X += 1e-3 * np.random.default_rng(0).normal(size=still.shape)
    report = latent_truth.marker_change(system, centres, train, test, still, n_markers=4, n_boot=50)
    assert not report.holds and abs(report.numbers["markers_slope"].value) < 0.01


def test_markers_want_the_same_test_samples() -> None:
    system, train, test = trained()
    centres, sets = every_set(system, train, test)
    with pytest.raises(InputError, match="of the test samples given"):
        latent_truth.marker_change(system, centres, train, test[:5].copy(), sets["shifted"])
    with pytest.raises(SplitError):
        latent_truth.marker_change(system, centres, test, test, sets["shifted"])


class Simulated:
    """A small simulated cohort in a folder, as far as the check needs it."""

    def __init__(self, folder: Any, config: SimulationConfig) -> None:
        self.profiles, _ = simulate_profiles(config)
        self.profiles.obs["split"] = np.where(np.arange(config.patients) < 0.75 * config.patients, "train", "test")
        self.folder, self.simulated, self.name = folder, True, "simulated"
        files.write_json(folder / "simulated.json", {"config": config.to_dict(), "version": 1})

    def only(self, split: str) -> Any:
        return SimpleNamespace(profiles=self.profiles[(self.profiles.obs["split"] == split).to_numpy()].copy())


def test_an_exact_linear_shift_equals_the_difference_of_means_and_keeps_the_patient(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cohort = Simulated(tmp_path, SimulationConfig(patients=80, genes=150, tiles_per_patient=1))
    train = cohort.only("train").profiles
    system = LinearSystem(Transform.fit(train))
    report = latent_truth.shift_against_truth(system, cohort, latent.centroids(system, train), n_boot=100)
    numbers = report.numbers
    for name in ("truth_rmse", "truth_change", "truth_own"):
        assert numbers[name].value == pytest.approx(numbers[f"{name}_difference"].value, abs=1e-3)
    assert numbers["truth_own"].low > 0 and numbers["truth_change"].low > 0.5
    assert numbers["truth_rmse"].value < numbers["truth_rmse_unshifted"].value
    assert numbers["truth_rmse"].n == 20 and len(report.table) == 4 and "nearer" in report.summary
    assert set(numbers) == set(report.labels)


def test_a_system_that_mixes_up_its_patients_keeps_nothing_of_them(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cohort = Simulated(tmp_path, SimulationConfig(patients=80, genes=150, tiles_per_patient=1))
    train = cohort.only("train").profiles
    system = LinearSystem(Transform.fit(train))
    centres = latent.centroids(system, train)

    class Mixed(LinearSystem):
        def encode(self, profiles: Any) -> Any:
            latents = super().encode(profiles)
            tissues = profiles.obs["tissue"].to_numpy() if isinstance(profiles, AnnData) else None
            for tissue in set([] if tissues is None else tissues):
                rows = np.flatnonzero(tissues == tissue)
                latents[rows] = latents[np.roll(rows, 1)]
            return latents

    report = latent_truth.shift_against_truth(Mixed(system.transform), cohort, centres, n_boot=100)
    assert report.numbers["truth_own"].low < 0 and report.numbers["truth_own"].value < 0.2
    assert report.numbers["truth_gain_difference"].high < 0 and "farther" in report.summary


def test_real_cohorts_have_no_truth() -> None:
    system, train, _ = trained()
    with pytest.raises(InputError, match="a simulated one"):
        real = SimpleNamespace(simulated=False, name="her2st")
        latent_truth.shift_against_truth(system, real, latent.centroids(system, train))
