"""Spread within and between patients, and recall by tissue: what is planted is found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.diversity import recall_by_tissue, spread
from rnasynth.evaluation.fidelity.manifold import manifold, recalled
from rnasynth.evaluation.fidelity.sets import TileSet
from rnasynth.evaluation.fidelity.study import FLOOR
from rnasynth.features import FeatureStats

DIM = 4
SCALE = FeatureStats("toy", np.zeros(DIM), np.eye(DIM), 100, "0" * 12)
TISSUES = ("brain", "liver", "lung")


def tile_set(
    name: str,
    *,
    between: float,
    within: float = 1.0,
    tissues: tuple[str, ...] = TISSUES,
    patients: int = 20,
    tiles: int = 15,
    seed: int = 0,
    prefix: str = "p",
) -> TileSet:
    """Normal features: tissues 12 apart, patients with spread `between` around them, tiles with `within` around these."""
    rng = np.random.default_rng(seed)
    points, owners, kinds = [], [], []
    for tissue in tissues:
        centre = np.zeros(DIM)
        centre[TISSUES.index(tissue)] = 12.0
        for patient in range(patients):
            mine = centre + between * rng.standard_normal(DIM)
            points.append(mine + within * rng.standard_normal((tiles, DIM)))
            owners += [f"{prefix}-{tissue}-{patient}"] * tiles
            kinds += [tissue] * tiles
    features = np.concatenate(points).astype(np.float32)
    owned = np.array(owners)
    small = np.zeros((len(features), 1), np.float32)
    return TileSet(name, {"toy": features}, small, np.array(kinds), owned, owned, np.arange(len(features)))


def mean_distance(variance: float) -> float:
    """Mean Euclidean distance of two draws of N(0, variance I): sqrt(2 variance) times the mean of chi with DIM."""
    chi = math.sqrt(2) * math.gamma((DIM + 1) / 2) / math.gamma(DIM / 2)
    return math.sqrt(2 * variance) * chi


def test_spread_matches_the_closed_form() -> None:
    found = spread({"a": tile_set("a", between=2.0, patients=60)}, SCALE)
    row = found.table.iloc[0]
    assert found.unit == "patients"
    assert row["within"].value == pytest.approx(mean_distance(1.0), rel=0.02)
    assert row["between"].value == pytest.approx(mean_distance(5.0), rel=0.06)
    assert row["between"].low < mean_distance(5.0) < row["between"].high


def test_a_generator_without_patients_has_the_ratio_one() -> None:
    found = spread({"told": tile_set("told", between=2.0), "not told": tile_set("not told", between=0.0, seed=1)}, SCALE)
    told, not_told = found.numbers["spread_ratio_told"], found.numbers["spread_ratio_not_told"]
    assert told.low > 1.3
    assert not_told.low < 1.0 + 1e-2 and not_told.high < 1.05


def test_a_generator_that_repeats_one_tile_a_patient_has_no_spread_within() -> None:
    found = spread({"copies": tile_set("copies", between=2.0, within=0.0)}, SCALE)
    assert found.table.iloc[0]["within"].value == pytest.approx(0.0, abs=1e-3)


def test_tissues_are_never_mixed_in_a_distance() -> None:
    far = spread({"a": tile_set("a", between=0.5)}, SCALE).table.iloc[0]["between"].value
    assert far < 5.0  # tissues lie 17 apart


def test_one_patient_a_tissue_counts_samples_and_one_tile_a_sample_has_no_within() -> None:
    tiles = tile_set("real", between=0.0, patients=30, tiles=1)
    one = TileSet(
        tiles.name, tiles.features, tiles.small, tiles.tissues, np.full(len(tiles), "s"), tiles.samples, tiles.tile_ids
    )
    found = spread({"real": one}, SCALE)
    assert found.unit == "samples" and list(found.numbers) == ["spread_between_real"]
    assert np.isnan(found.table.iloc[0]["within"].value) and len(found.rows()) == 1


def test_recalled_is_the_recall_of_the_manifold_tile_by_tile() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((150, 3)), 0.7 * rng.standard_normal((140, 3)) + 0.4
    assert recalled(real, fake, k=4).mean() == manifold(real, fake, k=4, n_boot=2).recall.value
    with pytest.raises(InputError):
        recalled(real, fake[:3], k=4)


def real_and_floor() -> tuple[TileSet, TileSet]:
    return tile_set("test", between=1.0, seed=3), tile_set("train", between=1.0, seed=4, prefix="q")


def test_a_collapse_to_one_tissue_is_named() -> None:
    real, floor = real_and_floor()
    sets = {
        "good": tile_set("good", between=1.0, seed=5),
        "collapsed": tile_set("collapsed", between=1.0, seed=6, tissues=("brain",), patients=60),
        "no lung": tile_set("no lung", between=1.0, seed=7, tissues=("brain", "liver"), patients=30),
    }
    found = recall_by_tissue(real, floor, sets, SCALE)
    assert found.missing == {FLOOR: [], "good": [], "collapsed": ["liver", "lung"], "no lung": ["lung"]}
    assert found.worst["no lung"] == "lung" and found.numbers["recall_worst_no_lung"].value == 0.0
    assert found.numbers["recall_worst_good"].low > 0.5
    assert "as good as missing: lung" in found.summary() and "good: worst is" in found.summary()


def test_recall_over_all_tissues_would_not_see_it() -> None:
    # the broken variant: one recall for all; a model without a third of the tissues keeps two thirds of the floor's
    real, floor = real_and_floor()
    found = recall_by_tissue(real, floor, {"no lung": tile_set("no lung", between=1.0, tissues=("brain", "liver"))}, SCALE)
    whole, all_of_floor = found.numbers["recall_no_lung"], found.numbers["recall_floor"]
    assert whole.low > found.threshold * all_of_floor.value


def test_sets_are_drawn_to_one_size() -> None:
    real, floor = real_and_floor()
    few = tile_set("few", between=1.0, seed=5, patients=4, tiles=10)
    many = tile_set("many", between=1.0, seed=5, patients=40, tiles=40)
    alone = recall_by_tissue(real, floor, {"many": many}, SCALE).numbers["recall_many"].value
    beside = recall_by_tissue(real, floor, {"many": many, "few": few}, SCALE).numbers["recall_many"].value
    assert beside < alone


def test_a_patient_in_both_real_sets_is_an_error() -> None:
    real, _ = real_and_floor()
    with pytest.raises(InputError):
        recall_by_tissue(real, real, {"real": real}, SCALE)
