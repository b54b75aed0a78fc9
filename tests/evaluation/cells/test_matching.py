"""Matching, F1 and aggregated Jaccard index on cases whose answer is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from rnasynth.errors import InputError
from rnasynth.evaluation.cells.matching import Detection, aggregated_jaccard, detection, match_centroids, mean_over_patients


def boxes(*corners: tuple[int, int], side: int = 4, size: int = 20) -> np.ndarray:
    labels = np.zeros((size, size), np.int32)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return labels


def test_each_nucleus_is_used_once() -> None:
    assert detection([[0, 0]], [[0, 1], [1, 0], [0, 0]], 2.0) == Detection(1, 3, 1)
    assert detection([[0, 0], [0, 1]], [[0, 0.5]], 2.0).f1 == pytest.approx(2 / 3)


def test_as_many_pairs_as_can_be_come_before_short_ones() -> None:
    # Greedy by distance would take (1, 0) at 0.9 and leave the other two without partners.
    pairs = match_centroids([[0, 0], [0, 1.9]], [[0, 1.0], [0, 2.9 + 0.9]], radius=2.0)
    assert pairs.tolist() == [[0, 0], [1, 1]]


def test_the_radius_is_inclusive_and_beyond_it_nothing_matches() -> None:
    assert len(match_centroids([[0, 0]], [[0, 2.0]], 2.0)) == 1
    assert len(match_centroids([[0, 0]], [[0, 2.001]], 2.0)) == 0


def test_matching_agrees_with_trying_every_assignment() -> None:
    generator = np.random.default_rng(0)
    for _ in range(30):
        a, b = generator.uniform(0, 5, (4, 2)), generator.uniform(0, 5, (5, 2))
        distance = np.linalg.norm(a[:, None] - b[None], axis=2)
        best = max(
            (len(used), -sum(used))
            for order in itertools.permutations(range(5), 4)
            for used in [[distance[i, j] for i, j in enumerate(order) if distance[i, j] <= 2]]
        )
        pairs = match_centroids(a, b, 2.0)
        assert (len(pairs), -distance[pairs[:, 0], pairs[:, 1]].sum()) == pytest.approx(best)


def test_empty_fields() -> None:
    assert math.isnan(detection([], [], 2.0).f1)
    assert detection([], [[1, 1]], 2.0).f1 == 0 and detection([[1, 1]], [], 2.0).recall == 0
    assert math.isnan(aggregated_jaccard(boxes(), boxes())) and aggregated_jaccard(boxes((0, 0)), boxes()) == 0


def test_bad_points_are_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        match_centroids([[0, np.nan]], [[0, 0]], 2.0)
    with pytest.raises(InputError, match="radius"):
        match_centroids([[0, 0]], [[0, 0]], 0.0)


def test_aggregated_jaccard_of_equal_maps_is_one_whatever_the_numbers() -> None:
    truth = boxes((0, 0), (10, 10))
    assert aggregated_jaccard(truth, truth) == 1.0
    assert aggregated_jaccard(truth, np.where(truth == 1, 70, np.where(truth == 2, 3, 0))) == 1.0


def test_aggregated_jaccard_of_closed_cases() -> None:
    truth = boxes((0, 0), (10, 10))  # 16 px each
    assert aggregated_jaccard(truth, boxes((0, 2), (10, 10))) == pytest.approx((8 + 16) / (24 + 16))
    assert aggregated_jaccard(truth, boxes((0, 0))) == pytest.approx(16 / (16 + 16))  # one missed
    assert aggregated_jaccard(boxes((0, 0)), truth) == pytest.approx(16 / (16 + 16))  # one too many
    assert aggregated_jaccard(truth, boxes((5, 5), side=1)) == 0
    merged = np.where(truth > 0, 1, 0).astype(np.int32)  # one object for two: taken twice, as in the paper's algorithm
    assert aggregated_jaccard(truth, merged) == pytest.approx((16 + 16) / (32 + 32))


def test_aggregated_jaccard_refuses_other_maps() -> None:
    with pytest.raises(InputError, match="one shape"):
        aggregated_jaccard(boxes(), boxes(size=21))
    with pytest.raises(InputError, match="integers"):
        aggregated_jaccard(boxes(), boxes().astype(float))  # type: ignore[arg-type]


def test_the_mean_is_over_patients_not_fields() -> None:
    found = mean_over_patients([1.0, 1.0, 1.0, 0.0, math.nan], ["a", "a", "a", "b", "b"], n_boot=50)
    assert found.value == 0.5 and found.n == 2
    with pytest.raises(InputError):
        mean_over_patients([math.nan], ["a"])
