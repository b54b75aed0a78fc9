"""A tissue that is never made is named, by recall and by the vote of the nearest training tiles."""

from __future__ import annotations

import numpy as np
import pytest

from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.sets import TileSet
from rnasynth.evaluation.fidelity.study import FLOOR
from rnasynth.evaluation.fidelity.tissues import recall_by_tissue, tissue_shares
from tests.evaluation.fidelity.planted import DIM, SCALE, TISSUES, tile_set


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
    assert found.numbers["recall_worst_good"].low > 0.5 and not found.nothing_reached
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


def test_shares_of_tissues_name_a_collapse_even_where_no_ball_is_reached() -> None:
    real, floor = real_and_floor()
    far = tile_set("far", between=1.0, seed=6, tissues=("brain",), patients=60)
    far.features["toy"] += 9.0 * np.eye(DIM, dtype=np.float32)[3]  # every tile off in one direction, as of a young generator
    recall = recall_by_tissue(real, floor, {"far": far}, SCALE)
    assert recall.numbers["recall_far"].value < 0.1 and recall.nothing_reached
    found = tissue_shares(floor, {"real": real, "far": far}, SCALE)
    assert found.even == pytest.approx(1 / 3)
    assert found.numbers["least_share_real"].low > 0.25 and found.numbers["tissues_made_real"].low > 2.9
    assert found.numbers["least_share_far"].high < found.even / 4 and found.numbers["tissues_made_far"].high < 1.2
    assert found.least["far"] in ("liver", "lung") and len(found.rows()) == 6


def test_shares_do_not_depend_on_how_many_tiles_a_tissue_has() -> None:
    _, floor = real_and_floor()
    parts = [tile_set("a", between=1.0, tissues=("brain",), patients=40), tile_set("b", between=1.0, tissues=TISSUES[1:])]
    joined = TileSet(
        "uneven",
        {"toy": np.concatenate([part.features["toy"] for part in parts])},
        np.zeros((1, 1), np.float32),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("tissues", "patients", "samples", "tile_ids")
        ),
    )
    found = tissue_shares(floor, {"uneven": joined}, SCALE).table["share"]
    assert [interval.value for interval in found] == pytest.approx([1 / 3] * 3, abs=0.01)


def test_one_tissue_has_no_shares() -> None:
    one = tile_set("one", between=1.0, tissues=("brain",))
    with pytest.raises(InputError):
        tissue_shares(one, {"one": one}, SCALE)
