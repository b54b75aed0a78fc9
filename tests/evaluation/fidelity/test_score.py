"""The Inception Score of sets of tiles: real beside generated, one kind of tile only, and answers that are none."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.score import HELD_OUT, ONE_TISSUE, OWN, Answers, judges_of, score_note, scores
from rnasynth.evaluation.fidelity.sets import TileSet
from tests.evaluation.fidelity.planted import TISSUES, tile_set


def answered(tiles: TileSet, sure: float, *, only: int | None = None) -> TileSet:
    """Give every tile the answer of a classifier that is `sure` of its tissue (or of one tissue for all)."""
    number = np.array([TISSUES.index(name) for name in tiles.tissues]) if only is None else np.full(len(tiles), only)
    p = np.full((len(tiles), 3), (1 - sure) / 2, np.float32)
    p[np.arange(len(tiles)), number] = sure
    return dataclasses.replace(tiles, features={"answers of judge": p, **tiles.features})


ANSWERS = Answers(SimpleNamespace(name="judge", classes=TISSUES))
REAL = answered(tile_set("real", between=0.5, prefix="q"), 0.9)
MADE = tile_set("made", between=0.5)


def test_collapse_is_seen_and_doubt_too() -> None:
    sets = {"good": [answered(MADE, 0.9)], "collapsed": [answered(MADE, 0.9, only=1)], "unsure": [answered(MADE, 0.5)]}
    table = scores(REAL, sets, judges_of([], ANSWERS), n_boot=40)
    score = table.set_index("group")
    bits = float(np.exp(np.log(3) + 0.9 * np.log(0.9) + 0.1 * np.log(0.05)))  # exp(log 3 - entropy of an answer)
    assert score.loc[HELD_OUT, "value"] == pytest.approx(bits, rel=1e-5)
    assert score.loc["good", "value"] == pytest.approx(bits, rel=1e-5)
    assert score.loc["collapsed", "value"] == pytest.approx(1) and score.loc[ONE_TISSUE, "value"] == pytest.approx(1)
    assert 1 < score.loc["unsure", "value"] < score.loc["good", "low"]
    note = score_note(table, 3)
    assert "collapsed scores 1.00 (below" in note and "good scores" in note and "no praise" not in note
    assert set(table["label"]) == {OWN}


def test_a_score_above_the_real_tiles_is_called_no_praise() -> None:
    table = scores(REAL, {"surer": [answered(MADE, 0.999)]}, judges_of([], ANSWERS), n_boot=20)
    assert "surer scores" in score_note(table, 3) and "no praise" in score_note(table, 3)


def test_sets_of_unequal_size_are_drawn_to_one() -> None:
    few = answered(tile_set("few", between=0.5, patients=4, tiles=2), 0.9)
    table = scores(REAL, {"few": [few]}, {OWN: lambda tiles: _noticed(tiles)}, n_boot=5)
    assert table.loc[table["group"] != ONE_TISSUE, "n"].max() <= len(few) == 24  # patients that are left, of 60


def _noticed(tiles: TileSet) -> Any:
    return tiles.features["answers of judge"]


def test_inception_judges_by_its_own_classes() -> None:
    network: Any = SimpleNamespace(name="toy", dim=4, probabilities=lambda features: np.full((len(features), 5), 0.2))
    judges = judges_of([network, SimpleNamespace(name="plain", dim=4)], ANSWERS)  # type: ignore[list-item]
    assert set(judges) == {OWN, "toy"}
    table = scores(REAL, {"made": [answered(MADE, 0.9)]}, judges, n_boot=5).set_index(["label", "group"])
    assert table.loc[("toy", "made"), "value"] == pytest.approx(1)


def test_answers_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(InputError, match="probabilities"):
        scores(REAL, {"made": [answered(MADE, 0.9)]}, {"features": lambda tiles: tiles.features["toy"]})
    tiles = np.zeros((2, 4, 4, 3), np.uint8)
    shown = Answers(SimpleNamespace(name="judge", classes=TISSUES, __call__=None))
    shown.classifier = lambda tiles, mpp_um: np.full((len(tiles), 3), 1 / 3)
    assert shown(tiles, 2.0).shape == (2, 3) and shown.dim == 3
