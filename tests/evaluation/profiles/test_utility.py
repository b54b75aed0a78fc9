"""Training on made profiles: right ones are as good as real ones, wrong labels are chance, and leaks are shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.profiles import utility
from rnasynth.evaluation.profiles.baselines import label_mean, mean_profile
from rnasynth.evaluation.profiles.pairs import Pairs
from tests.evaluation.profiles.made import with_inputs, world


def parts() -> tuple[Pairs, Pairs]:
    return world(120, "train", by_tissue=0.6, noise=0.8)[0], world(90, "test", by_tissue=0.6, noise=0.8)[0]


def test_right_profiles_teach_as_real_ones_do_and_the_ignorant_ones_nothing() -> None:
    train, test = parts()
    made = {
        "label": label_mean(train).sample(train.inputs, 2),
        "ignorant": mean_profile(train).sample(train.inputs, 2),
        "drawn": train.z,
    }
    found = utility.utility_report(train, test, made, controls=("drawn",), n_boot=200)
    numbers = found.numbers
    assert numbers["accuracy_real"].low > 0.7
    assert numbers["accuracy_label"].value > numbers["accuracy_real"].value - 0.15
    assert numbers["accuracy_ignorant"].low < found.chance + 0.1
    assert numbers["gain_label"].low > 0.2 > 0 > numbers["gain_ignorant"].high
    assert found.rival == {"label": "ignorant", "ignorant": "label"}
    assert numbers["below_real_drawn"].value == 0
    assert found.chance == pytest.approx(1 / 3) and set(numbers) == set(found.labels)
    assert list(found.table.index) == [utility.REAL, *made, utility.TEXT, utility.FEATURES]


def test_labels_that_were_shuffled_teach_nothing() -> None:
    train, test = parts()
    order = np.random.default_rng(1).permutation(len(train))
    found = utility.utility_report(train, test, {"shuffled": train.z[order]}, n_boot=100)
    assert found.numbers["accuracy_shuffled"].value < 0.5 < found.numbers["accuracy_real"].low
    assert "gain_shuffled" not in found.numbers


def test_a_text_that_holds_the_label_is_shown() -> None:
    train, test = parts()
    clean = utility.utility_report(train, test, {"model": train.z}, n_boot=100).numbers["accuracy_text"]
    leaking = [
        with_inputs(
            part, texts=tuple(f"{text} of {tissue}" for text, tissue in zip(part.inputs.texts, part.tissues, strict=True))
        )
        for part in (train, test)
    ]
    found = utility.utility_report(*leaking, {"model": train.z}, n_boot=100).numbers["accuracy_text"]
    assert clean.value < 0.5 and found.value == 1
    without = [with_inputs(part, texts=("",) * len(part)) for part in (train, test)]
    assert "accuracy_text" not in utility.utility_report(*without, {"model": train.z}, n_boot=100).numbers


def test_testing_on_patients_that_were_trained_on_is_an_error() -> None:
    train, test = parts()
    with pytest.raises(SplitError):
        utility.utility_report(train, train, {"model": train.z})
    with pytest.raises(SplitError, match="split group"):
        utility.utility_report(train, replace(test, groups=train.groups[:90]), {"model": train.z})
    with pytest.raises(InputError, match="profiles of model"):
        utility.utility_report(train, test, {"model": test.z})
    with pytest.raises(InputError, match="liver"):
        utility.utility_report(train, with_inputs(test, tissues=("liver",) * 90), {"model": train.z})
