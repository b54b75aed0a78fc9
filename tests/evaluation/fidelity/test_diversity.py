"""Spread within and between patients: what is planted is found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.diversity import spread
from rnasynth.evaluation.fidelity.manifold import manifold, recalled
from rnasynth.evaluation.fidelity.sets import TileSet
from tests.evaluation.fidelity.planted import DIM, SCALE, tile_set


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


def test_a_patient_of_several_tissues_is_one_patient() -> None:
    tiles = tile_set("real", between=2.0, patients=8)
    shared = np.array([name.split("-")[-1] for name in tiles.patients])  # the same eight patients in each tissue
    one = TileSet(tiles.name, tiles.features, tiles.small, tiles.tissues, shared, tiles.samples, tiles.tile_ids)
    own, together = (spread({"real": each}, SCALE).table.iloc[0] for each in (tiles, one))
    assert together["between"].value == pytest.approx(own["between"].value)
    assert (own["n"], together["n"], together["between"].n) == (24, 8, 8)


def test_recalled_is_the_recall_of_the_manifold_tile_by_tile() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((150, 3)), 0.7 * rng.standard_normal((140, 3)) + 0.4
    assert recalled(real, fake, k=4).mean() == manifold(real, fake, k=4, n_boot=2).recall.value
    with pytest.raises(InputError):
        recalled(real, fake[:3], k=4)
