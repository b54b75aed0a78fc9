"""Precision, recall, density, coverage and Inception score on cases that can be counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity import manifold as module
from rnasynth.evaluation.fidelity.manifold import inception_score, manifold


def four(real: Any, fake: Any, k: int) -> list[float]:
    report = manifold(np.array(real, float), np.array(fake, float), k=k, n_boot=20)
    return [report.numbers()[name].value for name in ("precision", "recall", "density", "coverage")]


def test_a_line_counted_by_hand() -> None:
    # Real at 0, 1, 3: balls of the first neighbour have radii 1, 1, 2. Generated at 0.5, 4, 9: radii 3.5, 3.5, 5.
    # 0.5 lies in the balls of 0 and 1; 4 in that of 3; 9 in none. All real tiles lie in a generated ball.
    assert four([[0], [1], [3]], [[0.5], [4], [9]], k=1) == pytest.approx([2 / 3, 1, 3 / 3, 1])
    # Generated at 0.5, 0.6, 9: radii 0.1, 0.1, 8.4: of the real ones 1 and 3 (distance 8 and 6 to 9) are recalled.
    assert four([[0], [1], [3]], [[0.5], [0.6], [9]], k=1) == pytest.approx([2 / 3, 2 / 3, 4 / 3, 2 / 3])


def test_equal_sets_and_sets_apart() -> None:
    points = np.random.default_rng(0).normal(size=(60, 4))
    precision, recall, _, coverage = four(points, points, k=3)
    assert precision == recall == coverage == 1
    assert four(points, points + 100, k=3) == [0, 0, 0, 0]


def test_one_kind_of_two_keeps_precision_and_loses_half_the_coverage() -> None:
    rng = np.random.default_rng(1)
    real = np.concatenate([rng.normal(size=(200, 2)), rng.normal(20, 1, size=(200, 2))])
    precision, recall, density, coverage = four(real, rng.normal(size=(400, 2)), k=5)
    assert precision > 0.9 and density > 0.9 and 0.4 < coverage <= 0.55 and recall < 0.6
    both = np.concatenate([rng.normal(size=(200, 2)), rng.normal(20, 1, size=(200, 2))])
    assert four(real, both, k=5)[3] > 0.9  # both kinds: coverage returns


def test_an_outlier_raises_precision_but_hardly_density() -> None:
    # Naeem et al. 2020, section 3.1: one real outlier's huge ball takes in generated tiles that are like none.
    rng = np.random.default_rng(2)
    real = np.concatenate([rng.normal(size=(200, 2)), [[30.0, 0.0]]])
    fake = rng.normal([20.0, 0.0], 1, size=(200, 2))
    precision, _, density, _ = four(real, fake, k=5)
    assert precision > 0.9 and density < 0.3


def test_same_distribution_has_the_expected_coverage() -> None:
    # For N = M from one distribution: E coverage = 1 - (N-1)...(N-k) / ((2N-1)...(2N-k)), near 1 - 2^-k (eq. 9).
    rng = np.random.default_rng(3)
    found = np.mean([four(rng.normal(size=(150, 3)), rng.normal(size=(150, 3)), k=3)[3] for _ in range(20)])
    n, k = 150, 3
    expected = 1 - np.prod([n - j for j in range(1, k + 1)]) / np.prod([2 * n - j for j in range(1, k + 1)])
    assert found == pytest.approx(expected, abs=0.02)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    real, fake = rng.normal(size=(70, 5)) + 1e3, rng.normal(size=(50, 5)) + 1e3
    whole = four(real, fake, k=4)
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    assert four(real, fake, k=4) == whole
    brute = ((real[:, None] - fake[None]) ** 2).sum(-1)
    radius = np.sort(((real[:, None] - real[None]) ** 2).sum(-1), axis=1)[:, 4]
    assert whole[3] == pytest.approx((brute <= radius[:, None]).any(1).mean())


def test_patients_are_resampled_and_not_tiles() -> None:
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(10), 20)
    real = np.repeat(rng.normal(size=(10, 3)) * 3, 20, axis=0) + 0.2 * rng.normal(size=(200, 3))
    fake = np.repeat(rng.normal(size=(10, 3)) * 3, 20, axis=0) + 0.2 * rng.normal(size=(200, 3))
    fake[:100] = real[:100] + 0.01
    tiles = manifold(real, fake).coverage
    by_patient = manifold(real, fake, groups_real=patients, groups_fake=patients).coverage
    assert by_patient.high - by_patient.low > 2 * (tiles.high - tiles.low) and by_patient.n == 10


def test_what_cannot_be_measured_is_an_error() -> None:
    points = np.zeros((6, 2))
    for real, fake, k in ((points, points, 6), (points, points, 0), (points, np.zeros((6, 3)), 2)):
        with pytest.raises(InputError):
            manifold(real, fake, k=k)
    with pytest.raises(InputError, match="finite"):
        manifold(points, np.full((6, 2), np.nan), k=2)


def test_inception_score_of_sure_even_and_equal_answers() -> None:
    assert inception_score(np.tile(np.eye(4), (5, 1)), n_boot=10).value == pytest.approx(4)
    assert inception_score(np.full((20, 4), 0.25), n_boot=10).value == pytest.approx(1)
    assert inception_score(np.tile(np.eye(4)[:1], (9, 1)), n_boot=10).value == pytest.approx(1)  # sure, but one kind only
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    m = p.mean(0)
    assert inception_score(p, n_boot=10).value == pytest.approx(np.exp((p * np.log(p / m)).sum(1).mean()))
    for bad in (np.array([[0.5, 0.6]]), np.array([[1.5, -0.5]]), np.zeros(3)):
        with pytest.raises(InputError):
            inception_score(bad)
