"""Replacement: perfect tiles are equivalent, tiles of other classes are not, and nothing leaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.utility.bench import prepare
from rnasynth.evaluation.utility.folds import Fold, check_unseen, seen_groups
from rnasynth.evaluation.utility.folds import test_folds as folds_of
from rnasynth.evaluation.utility.learning import learn, named_by
from rnasynth.evaluation.utility.piles import made_pile, task_of, within_tissue
from rnasynth.evaluation.utility.replacement import LEFT_OUT, replacement_study
from rnasynth.plots import share_curves
from tests.evaluation.utility.planted import CLEAR, PX, Painter, learned_well, planted, protocol, run_of


def test_perfect_tiles_are_equivalent_and_tiles_of_other_classes_are_not(patients: Cohort) -> None:
    perfect = replacement_study(planted(patients, spread=CLEAR, scratch=learned_well()), n_boot=50)
    assert perfect.numbers["replaced_0_accuracy"].value > 0.9 > 0.3 > perfect.chance
    assert abs(perfect.difference(100).value) < 0.1 and abs(perfect.difference(50).value) < 0.1
    assert all(perfect.tests[key].equivalent for key in ("replaced_50", "replaced_100", "left_out_50")) and perfect.sees()
    assert perfect.widest() == "replaced_50" and abs(perfect.difference(50, LEFT_OUT).value) < 0.15
    unsure = replace(perfect.tests["left_out_50"], p=0.5, equivalent=False, differs=False)
    undecided = replace(perfect, tests={**perfect.tests, "left_out_50": unsure})
    assert "stays undecided" in undecided.note() and "do as well alone" not in undecided.note()
    broken = replacement_study(
        planted(patients, "swapped", spread=CLEAR, scratch=learned_well(), shares=(0.0, 1.0)), n_boot=50
    )
    assert broken.tests["replaced_100"].verdict == "different" and broken.difference(100).high < -0.3
    assert "different" in broken.note() and set(broken.numbers) == set(broken.labels)


def test_noise_does_not_replace_anything_and_the_report_draws_what_it_counted(patients: Cohort) -> None:
    found = replacement_study(planted(patients, "noise", shares=(0.0, 1.0), left_out=()), n_boot=50)
    assert found.numbers["replaced_100_accuracy"].value < 0.45 and found.difference(100).high < -0.15
    assert list(found.confusions) == ["all real", "100 % replaced by synthetic"]
    assert all(counts.to_numpy().sum() == 12 * 2 for counts in found.confusions.values())  # every test tile once
    assert found.n_units == 12 and found.unit == "patients"
    axis = share_curves(found.curve, x_label="share (%)", reference=found.chance, reference_label="chance").axes[0]
    drawn = axis.containers[0].lines[0]
    mine = found.curve[found.curve["group"] == found.curve["group"].iloc[0]]
    np.testing.assert_allclose(np.asarray(drawn.get_ydata(), float), 100 * mine["value"].to_numpy(float))
    assert axis.get_ylabel().endswith("(%)")


def test_a_training_is_the_same_again_and_goes_on_where_it_was_stopped(patients: Cohort, tmp_path: Path) -> None:
    bench = planted(patients)
    pile, config = bench.real.rows(bench.learned(bench.folds[0], 40)), bench.protocol.scratch
    first, again = (named_by(learn(pile, config, bench.task, seed=3), bench.real) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, named_by(learn(pile, config, bench.task, seed=4), bench.real))
    kept = named_by(learn(pile, config, bench.task, seed=3, folder=tmp_path), bench.real)
    resumed = named_by(learn(pile, config, bench.task, seed=3, folder=tmp_path), bench.real)
    np.testing.assert_array_equal(kept, first)
    np.testing.assert_array_equal(resumed, first)
    with pytest.raises(InputError, match="classes"):
        learn(pile.rows(np.flatnonzero(pile.numbers == 0)), config, bench.task, seed=0)


def test_early_stopping_looks_at_whole_patients(patients: Cohort) -> None:
    bench = planted(patients)
    config = bench.protocol.scratch
    config = replace(config, train=replace(config.train, validate_every=5, patience=2))
    system = learn(bench.real.rows(bench.pretrained(80)), config, bench.task, seed=0)
    assert torch.isfinite(system.head.weight).all()


def test_folds_test_the_held_out_patients_once_each_and_train_on_all_others(patients: Cohort) -> None:
    obs = patients.profiles.obs
    held_out = set(obs["split_group"][obs["split"] == "test"])
    folds = folds_of(patients, 3, seed=1)
    assert sorted(name for fold in folds for name in fold.test) == sorted(held_out)
    assert all(set(fold.test) | set(fold.train) == set(obs["split_group"]) for fold in folds)
    assert [len(fold.test) for fold in folds] == [4, 4, 4] and folds == folds_of(patients, 3, seed=1)
    assert folds != folds_of(patients, 3, seed=2) and len(folds_of(patients, 99)) == len(held_out)
    tissue = obs.set_index("split_group")["tissue"]
    assert all(len({tissue[name] for name in fold.test}) >= 3 for fold in folds)
    with pytest.raises(InputError, match="folds"):
        folds_of(patients, 0)


def test_a_generator_that_saw_a_tested_patient_is_refused(patients: Cohort) -> None:
    folds, seen = folds_of(patients, 3), seen_groups(run_of(patients), patients)
    check_unseen(folds, seen)
    leaked = patients.folds(5, seed=9)[0]  # the broken variant: folds over everybody, as the papers' cross-validations
    with pytest.raises(SplitError, match="generator saw it"):
        check_unseen(folds_of(leaked, 3), seen)
    with pytest.raises(SplitError, match="trains on it"):
        check_unseen([Fold(0, ("a",), ("a", "b"))], [])
    with pytest.raises(SplitError, match="not known"):
        prepare(run_of(patients), leaked, protocol(), maker=Painter([]))
    with pytest.raises(SplitError, match="painter"):  # an encoder below it was trained on another split
        seen_groups(run_of(patients, upstream=(run_of(patients, fingerprint="another"),)), patients)


def test_made_tiles_are_of_the_same_samples_and_of_training_patients_alone(patients: Cohort) -> None:
    bench = planted(patients)
    assert isinstance(bench.maker, Painter)
    rows = bench.pretrained(50)
    made = bench.made(rows)
    np.testing.assert_array_equal(made.samples, bench.real.samples[rows])
    train = patients.profiles.obs_names[(patients.profiles.obs["split"] == "train").to_numpy()]
    assert set(bench.maker.told) <= set(train)
    assert len({tile.tobytes() for tile in made.tiles}) == len(made)  # none is shown twice
    bright = made.tiles.reshape(len(made), -1).mean(axis=1)
    assert np.corrcoef(bright, made.numbers)[0, 1] > 0.9
    mixed = bench.real.rows(rows).with_made(made, np.array([3, 5]))
    changed = (mixed.tiles != bench.real.tiles[rows]).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(np.flatnonzero(changed), [3, 5])
    with pytest.raises(InputError, match="same sample"):
        bench.real.rows(rows[::-1]).with_made(made, np.array([0]))
    bench.maker.px = 2 * PX
    with pytest.raises(InputError, match="px"):
        made_pile(bench.maker, patients, bench.real)


def test_fewer_tiles_are_a_part_of_more_and_have_the_classes_evenly(patients: Cohort) -> None:
    bench = planted(patients)
    few, many = bench.learned(bench.folds[0], 10), bench.learned(bench.folds[0], 40)
    assert set(few) < set(many) and not set(many) & set(bench.tested(bench.folds[0]))
    assert np.bincount(bench.real.numbers[few], minlength=5).min() >= 1
    groups = set(bench.real.groups[bench.pretrained(1000)])
    assert not groups & {name for fold in bench.folds for name in fold.test}


def test_what_is_named_is_any_column_chosen_classes_or_a_number_within_the_tissue(patients: Cohort) -> None:
    two = sorted(set(patients.profiles.obs["tissue"]))[:2]
    bench = prepare(run_of(patients), patients, protocol(), classes=two, maker=Painter(two))
    assert bench.classes == tuple(two) and set(patients.profiles.obs["tissue"].iloc[bench.real.samples]) == set(two)
    profiles = patients.profiles.copy()
    profiles.obs["msi"] = np.where(np.arange(profiles.n_obs) % 2 == 0, "MSI", "MSS")
    assert task_of(replace(patients, profiles=profiles), "msi")["classes"] == ["MSI", "MSS"]
    deeper, column = within_tissue(patients, "fraction_lymphocyte")
    obs = deeper.profiles.obs
    train = obs[obs["split"] == "train"]
    np.testing.assert_allclose(train.groupby("tissue", observed=True)[column].median(), 0, atol=1e-9)
    assert deeper.fingerprint() == patients.fingerprint() and column not in patients.profiles.obs
    for label, chosen in (("tissue", ["moon", "sun"]), ("tissue", two[:1])):
        with pytest.raises(InputError):
            task_of(patients, label, classes=chosen)
    with pytest.raises(InputError, match="numbers"):
        within_tissue(patients, "tissue")
