"""Held tiles are the store's, bit by bit, and are decoded once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from rnasynth.data.cohort import Cohort
from rnasynth.data.held_tiles import HeldTiles, hold_tiles
from rnasynth.data.tiles import TileStore
from rnasynth.errors import InputError
from tests.systems.gan_cohort import small_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return small_cohort(tmp_path_factory.mktemp("held"), patients=15, tiles=2)


def test_the_same_tiles_in_any_order_and_size(cohort: Cohort) -> None:
    store, held = cohort.tiles, hold_tiles(cohort, 32).tiles
    assert store is not None and isinstance(held, HeldTiles)
    for ids in ([3, 1, 3], np.arange(len(store))[::-1], torch.tensor([0, 5])):
        for px in (32, 64, None):
            assert np.array_equal(held.read_batch(ids, px), store.read_batch(ids, px))
            assert torch.equal(held.read_float(ids, px), store.read_float(ids, px).clone())


def test_a_tile_is_decoded_once(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    held = hold_tiles(cohort, 32).tiles
    assert held is not None
    decoded: list[int] = []
    whole = TileStore.read_batch

    def counted(self: TileStore, tile_ids: np.ndarray, px: int | None = None) -> np.ndarray:
        decoded.extend(int(tile) for tile in tile_ids)
        return whole(self, tile_ids, px)

    monkeypatch.setattr(TileStore, "read_batch", counted)
    for ids in ([2, 0, 2], [0, 1, 2], [1]):
        held.read_batch(ids, 32)
    assert sorted(decoded) == [0, 1, 2]


def test_what_is_handed_out_can_be_changed_without_harm(cohort: Cohort) -> None:
    held = hold_tiles(cohort, 32).tiles
    assert held is not None
    held.read_batch([0], 32)[:] = 0
    assert held.read_batch([0], 32).any()


def test_the_fingerprint_and_the_errors_are_the_stores(cohort: Cohort) -> None:
    held = hold_tiles(cohort, 32)
    assert held.fingerprint() == cohort.fingerprint() and held.tiles is not None
    for bad in ([-1], [10**6]):
        with pytest.raises(InputError):
            held.tiles.read_batch(bad, 32)


def test_too_many_tiles_are_left_in_the_store_and_none_is_an_error(cohort: Cohort) -> None:
    assert hold_tiles(cohort, 32, limit_bytes=1000) is cohort
    with pytest.raises(InputError, match="tiles"):
        hold_tiles(dataclasses.replace(cohort, tiles=None), 32)
