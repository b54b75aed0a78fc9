"""Sets of profiles: real ones pass, and each way of being unlike them is caught by the measure that looks for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.profiles import structure
from rnasynth.evaluation.profiles.baselines import mean_profile
from rnasynth.evaluation.profiles.genes import within
from rnasynth.evaluation.profiles.pairs import Pairs
from rnasynth.evaluation.profiles.structure import CONTROL
from tests.evaluation.profiles.made import world


def report_of(train: Pairs, test: Pairs, sets: dict[str, np.ndarray], n_boot: int = 40) -> structure.StructureReport:
    """The report on sets of profiles of the test samples."""
    return structure.structure_report(
        train.z,
        test.z,
        sets,
        groups_train=train.groups,
        groups=test.groups,
        tissues_train=train.tissues,
        tissues=test.tissues,
        n_boot=n_boot,
    )


def genes_shuffled(z: np.ndarray, seed: int = 0) -> np.ndarray:
    """Each gene keeps its values and loses its companions."""
    return np.random.default_rng(seed).permuted(z, axis=0)


def test_agreement_is_one_for_one_structure_and_nought_without() -> None:
    one, _ = world(2000, "train")
    other, _ = world(2000, "test")
    assert structure.correlation_agreement(one.z, other.z) > 0.99
    assert abs(structure.correlation_agreement(one.z, genes_shuffled(other.z))) < 0.1
    assert structure.correlation_agreement(one.z, other.z * 3 + 5) == pytest.approx(
        structure.correlation_agreement(one.z, other.z), abs=1e-6
    )
    assert np.isnan(structure.correlation_agreement(one.z, np.ones_like(one.z)))


def test_the_area_under_the_curve_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    truth, said = generator.integers(0, 2, 80), generator.integers(0, 10, 80) / 10  # with ties
    assert structure.area_under_curve(truth, said) == pytest.approx(roc_auc_score(truth, said))
    assert np.isnan(structure.area_under_curve(np.ones(5), np.arange(5)))


def test_jackknife_of_a_mean_has_its_closed_form_and_drops_whole_groups() -> None:
    values = np.random.default_rng(0).normal(size=50)
    found = structure.jackknife(lambda part: float(part.mean()), values, groups=[f"{row:02d}" for row in range(50)])
    error = values.reshape(2, 25).mean(axis=0).std(ddof=1) / 5  # 25 blocks of two
    assert (found.low, found.high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error))
    names = np.repeat([f"{row:02d}" for row in range(50)], 2)
    doubled = structure.jackknife(lambda part: float(part.mean()), np.repeat(values, 2), groups=names)
    assert (doubled.low, doubled.high) == pytest.approx((found.low, found.high)) and doubled.n == 50


def test_classifiers_cannot_tell_real_from_real_but_a_shift_always() -> None:
    one, _ = world(100, "train")
    other, _ = world(100, "test")
    same = structure.detectability(one.z, other.z, groups_real=one.groups, groups_made=other.groups, n_boot=100)
    assert all(found.low < 0.5 < found.high for found in same.values())
    moved = structure.detectability(one.z, other.z + 2, groups_real=one.groups, groups_made=other.groups, n_boot=100)
    assert all(found.low > 0.99 for found in moved.values())


def test_less_noise_is_seen_by_the_forest_and_a_copy_of_the_sample_by_none() -> None:
    one, _ = world(100, "train")
    smooth = structure.detectability(one.z, 0.4 * one.z, groups_real=one.groups, groups_made=one.groups, n_boot=100)
    assert smooth["forest"].low > 0.8
    copied = structure.detectability(one.z, one.z, groups_real=one.groups, groups_made=one.groups, n_boot=100)
    assert all(abs(found.value - 0.5) < 0.05 for found in copied.values())
    assert structure.jackknife(lambda part: float(part.mean()), np.arange(9.0), groups=np.arange(9), limit=3).n == 9
    with pytest.raises(InputError, match="5 patients"):
        structure.detectability(one.z[:4], one.z[:4], groups_real=one.groups[:4], groups_made=one.groups[:4])


def test_the_report_catches_copies_collapse_and_lost_structure_and_passes_real_profiles() -> None:
    train, _ = world(150, "train")
    test, _ = world(60, "test")
    fresh, _ = world(60, "val")
    sets = {
        "right": fresh.z,
        "copies": mean_profile(train).sample(test.inputs, 1)[:, 0],
        "collapsed": np.repeat(fresh.z[:3], 20, axis=0) + 0.01 * genes_shuffled(fresh.z),
        "no structure": genes_shuffled(fresh.z),
        "tissue alone": fresh.z - within(fresh.z, fresh.tissues) + genes_shuffled(within(fresh.z, fresh.tissues)),
    }
    found = report_of(train, test, sets, n_boot=50)
    numbers = found.numbers
    assert numbers["copies_copies"].low > 0.9 and numbers["copies_right"].high < 0.1
    assert numbers["distance_copies"].value < 0.01 and abs(numbers["distance_right"].value - 1) < 0.2
    assert numbers["duplicates_collapsed"].value == 1 and numbers["duplicates_right"].value < 0.3
    assert numbers["coverage_collapsed"].high < 0.5 < numbers["coverage_right"].low
    assert numbers["recall_collapsed"].value < numbers["recall_right"].low
    assert abs(numbers["structure_no_structure"].value) < 0.2 < 0.6 < numbers["structure_right"].low
    assert numbers["structure_tissue_alone"].low > 0.4 and abs(numbers["structure_within_tissue_alone"].value) < 0.2
    assert numbers["structure_within_right"].low > 0.4
    assert numbers["detected_forest_right"].low < 0.55
    for kind in ("structure", "precision", "coverage", "detected_forest"):
        control, right = numbers[f"{kind}_real"], numbers[f"{kind}_right"]
        assert control.low < right.high and right.low < control.high
    assert set(numbers) == set(found.labels) and list(found.table.index) == [CONTROL, *sets]
    assert set(found.structure_rows["label"]) == {CONTROL, *sets} and len(found.manifold_rows) == 4 * 6


def copier_report(noise: float, share: float = 1.0, *, moved: float = 0.0) -> structure.StructureReport:
    """A copier that returns training profiles plus noise for a share of the samples, and an honest model beside it."""
    train, test, fresh = (world(n, split)[0] for n, split in ((150, "train"), (60, "test"), (60, "val")))
    generator = np.random.default_rng(7)
    stolen = train.z[generator.choice(len(train), len(test), replace=False)]
    stolen = stolen + noise * generator.normal(size=stolen.shape)
    copied = np.arange(len(test)) < round(share * len(test))
    sets = {
        "honest": fresh.z,
        "copier": np.where(copied[:, None], stolen, fresh.z),
        "drawn training": mean_profile(train).sample(test.inputs, 1)[:, 0],
    }
    return report_of(train, replace(test, z=test.z + np.float32(moved)), sets)


@pytest.mark.parametrize(("noise", "share"), [(0.05, 1.0), (0.2, 1.0), (0.05, 0.2)])
def test_a_copier_is_flagged_through_its_noise_and_an_honest_model_is_not(noise: float, share: float) -> None:
    found = copier_report(noise, share)
    copies = found.numbers["copies_copier"]
    assert copies.low > 0.05 and copies.value == pytest.approx(share, abs=0.05)
    assert found.numbers["copies_honest"].high < 0.1
    honest, copier, control = found.copying(("honest", "copier"), control="drawn training").split("; ")
    assert honest.startswith("honest is not found to copy") and copier.startswith("copier copies training profiles")
    assert control.startswith("drawn training copies training profiles") and "as it must" in control


def test_what_is_only_like_training_is_no_copy_and_a_silent_control_is_said() -> None:
    found = copier_report(1.5)  # as far from its source as patients are from each other
    assert found.numbers["copies_copier"].low <= 0.01
    said = found.copying(("copier",), control="honest")  # a control that is none: the measurement is not believed
    assert said.startswith("copier is not found to copy") and "the measurement does not work here" in said
    assert "the dashed line can be reached" in found.apart()


def test_held_out_profiles_that_differ_from_the_training_ones_are_said_to() -> None:
    assert "not with the dashed line" in copier_report(0.2, moved=1.0).apart()


def test_a_held_out_patient_in_training_is_an_error() -> None:
    train, _ = world(30, "train")
    with pytest.raises(SplitError, match="split group"):
        report_of(train, train, {"model": train.z})
    test, _ = world(10, "test")
    with pytest.raises(InputError, match="profiles of model"):
        report_of(train, test, {"model": test.z[:5]})
