"""Scores of named tiles: closed forms, scikit-learn as a second opinion, and what breaks when tiles are exchanged."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from rnasynth.errors import InputError
from rnasynth.evaluation.utility.scores import LABELS, exchanged, macro_auc, pairwise, score

CLASSES = ("a", "b", "c")


def named(share: float = 0.7, samples: int = 30, tiles: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, probabilities and sample of tiles, of which `share` are named rightly."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(samples) % 3, tiles)
    p = rng.dirichlet(np.ones(3), len(numbers))
    wanted = np.where(rng.random(len(numbers)) < share, numbers, rng.integers(0, 3, len(numbers)))
    order = np.sort(p, axis=1)[:, ::-1]
    for row, best in enumerate(wanted):
        p[row] = np.roll(order[row], best)
    return np.array(CLASSES)[numbers], p, np.repeat(np.arange(samples), tiles).astype(str)


def test_scores_are_those_of_scikit_learn() -> None:
    truth, p, samples = named()
    found = score(truth, p, CLASSES, groups=samples, n_boot=20)
    guess = np.array(CLASSES)[p.argmax(axis=1)]
    assert found.numbers["accuracy"].value == pytest.approx(accuracy_score(truth, guess))
    assert found.numbers["f1"].value == pytest.approx(f1_score(truth, guess, average="macro"))
    assert found.numbers["auc"].value == pytest.approx(roc_auc_score(truth, p, multi_class="ovr", average="macro"))
    assert set(found.numbers) == set(LABELS) and found.n_tiles == 150 and found.n_patients == 30
    assert found.confusion.to_numpy().sum() == 150 and list(found.confusion.loc["a"].index) == list(CLASSES)
    assert np.diag(found.confusion).sum() / 150 == pytest.approx(found.numbers["accuracy"].value)


def test_ties_count_one_half_and_pairs_of_two_classes_are_accuracy() -> None:
    numbers = np.array([0, 1, 0, 1])
    assert macro_auc(numbers, np.full((4, 2), 0.5)) == 0.5 and pairwise(numbers, np.full((4, 2), 0.5)) == 0.5
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    assert pairwise(numbers, p) == 0.5 and pairwise(np.array([0, 0, 1, 1]), p) == 1.0
    assert np.isnan(macro_auc(np.zeros(3, dtype=np.int64), np.full((3, 2), 0.5)))


def test_intervals_resample_patients_and_not_tiles() -> None:
    truth, p, samples = named(samples=12, tiles=1)
    many = [np.repeat(each, 40, axis=0) for each in (truth, p, samples)]
    few, wide = (
        score(t, q, CLASSES, groups=s, n_boot=300).numbers["accuracy"] for t, q, s in ((truth, p, samples), tuple(many))
    )
    assert wide.n == 12 and (wide.high - wide.low) == pytest.approx(few.high - few.low, rel=0.3)
    broken = score(many[0], many[1], CLASSES, groups=np.arange(len(many[0])), n_boot=300).numbers["accuracy"]
    assert broken.high - broken.low < 0.4 * (wide.high - wide.low)  # counting tiles would promise far too much


def test_one_group_resamples_its_samples_and_says_so() -> None:
    truth, p, samples = named()
    found = score(truth, p, CLASSES, groups=np.full(len(truth), "C1"), samples=samples, n_boot=50)
    assert found.numbers["accuracy"].n == 30 and "one split group" in found.unit


def test_exchanged_samples_are_at_chance_and_a_generator_that_hears_its_profile_is_not() -> None:
    truth, p, samples = named(0.7)
    mixed = exchanged(truth, p, CLASSES, samples=samples, n_shuffles=200)
    assert mixed.p == pytest.approx(1 / 201) and abs(mixed.numbers["accuracy"].value - 1 / 3) < 0.03
    assert abs(mixed.numbers["auc"].value - 0.5) < 0.03 and abs(mixed.numbers["pairwise"].value - 0.5) < 0.03
    deaf = exchanged(*_deaf(), CLASSES, samples=samples, n_shuffles=200)  # the broken variant: the same tiles for all
    assert deaf.p > 0.1


def _deaf() -> tuple[np.ndarray, np.ndarray]:
    truth, p, _ = named(0.7)
    return truth, p[np.random.default_rng(3).permutation(len(p))]


def test_wrong_inputs_are_named() -> None:
    truth, p, samples = named()
    for bad, match in (
        ((np.array(["d"] * 150), p), "true classes"),
        ((truth, p[:, :2]), "shape"),
        ((truth, p * 2), "add up"),
    ):
        with pytest.raises(InputError, match=match):
            score(*bad, CLASSES, groups=samples)
    with pytest.raises(InputError, match="one class a sample"):
        exchanged(np.roll(truth, 1), p, CLASSES, samples=samples)
    with pytest.raises(InputError, match="true classes"):
        score([], np.empty((0, 3)), CLASSES, groups=[])
