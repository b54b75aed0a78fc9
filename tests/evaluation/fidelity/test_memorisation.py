"""Copies of training tiles are found, flipped ones too; honest and smooth tiles are not accused."""

from __future__ import annotations

import numpy as np
import pytest

from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.memorisation import REAL, NearestSearch, memorisation, pixels, turned

RNG = np.random.default_rng


def patients_tiles(seed: int, n_patients: int, each: int = 20, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = RNG(seed)
    points = rng.normal(size=(n_patients, 1, d)) + 0.7 * rng.normal(size=(n_patients, each, d))
    return points.reshape(-1, d), np.repeat([f"{seed}-{number}" for number in range(n_patients)], each)


def search_by_hand(queries: np.ndarray, training: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, ...]:
    distance = np.sqrt(((queries[:, None] - training[None]) ** 2).sum(-1))
    place = distance.argmin(1)
    other = np.where(groups[None] != groups[place][:, None], distance, np.inf).min(1)
    return distance.min(1), place, other


@pytest.mark.parametrize("block", [1, 7, 400])
def test_streamed_search_is_the_exact_one_whatever_the_blocks(block: int) -> None:
    training, groups = patients_tiles(0, 20)
    order = RNG(1).permutation(len(training))  # patients mixed over the blocks
    training, groups = training[order], groups[order]
    queries, _ = patients_tiles(2, 3)
    search = NearestSearch(queries)
    for start in range(0, len(training), block):
        search.add(training[start : start + block], groups[start : start + block])
    distance, place, other = search_by_hand(queries, training, groups)
    np.testing.assert_allclose(search.distance, distance, rtol=1e-9)
    np.testing.assert_array_equal(search.place, place)
    np.testing.assert_allclose(search.next_distance, other, rtol=1e-9)


def test_honest_tiles_are_no_copies_and_copied_ones_are() -> None:
    training, groups = patients_tiles(0, 30)
    real, real_groups = patients_tiles(1, 15)
    honest, honest_groups = patients_tiles(2, 15)
    copied = training[RNG(3).permutation(len(training))[:300]] + 0.01
    sets = {REAL: (real, real_groups), "honest": (honest, honest_groups), "copied": (copied, honest_groups)}
    report = memorisation([(training, groups.tolist())], sets, n_boot=50)
    assert report.numbers["copies_honest"].value < 0.03 and report.numbers["copies_real"].value <= 0.01
    assert report.numbers["copies_copied"].value > 0.95 and report.numbers["distance_copied"].value < 0.05
    assert report.numbers["distance_real"].value == pytest.approx(1)
    assert list(report.table.index) == list(sets) and set(report.numbers) == set(report.labels)


def test_one_copy_among_many_is_the_first_suspect_and_its_original_is_named() -> None:
    training, groups = patients_tiles(0, 30)
    real, real_groups = patients_tiles(1, 15)
    made, made_groups = patients_tiles(2, 15)
    made[123] = training[77] + 1e-3
    report = memorisation([(training, groups.tolist())], {REAL: (real, real_groups), "made": (made, made_groups)})
    assert report.suspects["made"][0] == 123 and report.nearest["made"][123] == 77
    assert report.ratios["made"][123] < report.ratio_threshold and report.distances["made"][123] < report.threshold


def test_smooth_tiles_lie_nearer_and_are_no_copies() -> None:
    training, groups = patients_tiles(0, 30)
    real, real_groups = patients_tiles(1, 15)
    smooth = 0.5 * real  # less far out than any real tile
    report = memorisation([(training, groups.tolist())], {REAL: (real, real_groups), "smooth": (smooth, real_groups)})
    assert report.numbers["distance_smooth"].value < 0.9
    assert (report.distances["smooth"] < report.threshold).mean() > 0.02  # distance alone would accuse them
    assert report.numbers["copies_smooth"].value < 0.02


def test_flipped_and_turned_copies_are_found_in_pixels() -> None:
    rng = RNG(0)
    tiles = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    flipped = np.ascontiguousarray(tiles[:10, ::-1].swapaxes(1, 2))
    training = pixels(tiles)
    groups = [str(number % 5) for number in range(40)]
    straight, any_way = NearestSearch(pixels(flipped)), NearestSearch(turned(pixels(flipped)))
    for search in (straight, any_way):
        search.add(training, groups)
    assert (any_way.distance < 1e-3).all() and (any_way.place == np.arange(10)).all()
    assert (straight.distance > 0.5).all()  # without the eight ways they would be missed
    assert len({way.tobytes() for way in turned(training)[0]}) == 8


def test_a_patient_on_both_sides_and_missing_sets_are_errors() -> None:
    training, groups = patients_tiles(0, 4)
    real, real_groups = patients_tiles(1, 4)
    with pytest.raises(InputError, match="not trained on"):
        memorisation([(training, groups.tolist())], {REAL: (real, groups)})
    with pytest.raises(InputError, match="called"):
        memorisation([(training, groups.tolist())], {"made": (real, real_groups)})
    with pytest.raises(InputError, match="two or more patients"):
        memorisation([(training, ["one"] * len(training))], {REAL: (real, real_groups)})
    with pytest.raises(InputError, match="finite"):
        NearestSearch(np.full((2, 2), np.nan))
    with pytest.raises(InputError, match="groups"):
        NearestSearch(real).add(training, ["one"])
