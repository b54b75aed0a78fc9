"""How the embedded nuclei network is made: drawn fields, depths, and a training that gives the same weights again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from scipy import ndimage

from rnasynth.config import config_hash
from rnasynth.errors import InputError
from rnasynth.evaluation.cells.crowds import SMALLEST_PX, crowd, edges
from rnasynth.evaluation.cells.models import WEIGHTS, DefaultNuclei, split
from rnasynth.evaluation.cells.training import (
    NucleiTraining,
    depth_map,
    drawn,
    photographed,
    rendered,
    save_weights,
    seen,
    train,
    warped,
)

TINY = NucleiTraining(steps=2, batch=2, fields=3, tiles=3)


def test_depth_is_one_in_the_middle_and_low_where_nuclei_touch() -> None:
    mask = np.zeros((21, 40), np.int32)
    mask[3:18, 3:18], mask[3:18, 18:33] = 1, 2
    depth = depth_map(mask)
    assert depth[10, 10] == 1 and depth[10, 17] < 0.15 and depth[10, 18] < 0.15 and depth[0, 0] == 0


def test_a_long_nucleus_has_one_peak_and_by_its_distance_alone_many() -> None:
    mask = np.zeros((31, 61), np.int32)
    mask[12:19, 5:56] = 1  # a bar: its middle line is equally far from the border nearly all along
    distance = ndimage.distance_transform_edt(mask).astype(np.float32)
    counts = [len(np.unique(split(mask > 0, relief, apart_px=3, lowest=None))) - 1 for relief in (depth_map(mask), distance)]
    assert counts[0] == 1 < counts[1]


def test_no_objects_have_no_depth() -> None:
    assert not depth_map(np.zeros((8, 8), np.int32)).any() and not edges(np.zeros((8, 8), np.int32)).any()


def test_drawn_fields_are_various_and_their_masks_are_where_the_haematoxylin_is() -> None:
    fields = [crowd(np.random.default_rng(number), 96) for number in range(16)]
    counts = [len(np.unique(mask)) - 1 for _, _, mask in fields]
    assert min(counts) >= 0 and max(counts) > 60 and np.std(counts) > 15
    areas = np.concatenate([np.bincount(mask.ravel())[1:] for _, _, mask in fields])
    assert np.percentile(areas[areas > 0], 95) > 150 > np.pi * SMALLEST_PX**2
    darker = [h[mask > 0].mean() > h[mask == 0].mean() for h, _, mask in fields if mask.any() and not mask.all()]
    assert np.mean(darker) > 0.9
    for h, e, mask in fields:
        assert h.shape == e.shape == mask.shape == (96, 96) and mask.dtype == np.int32
        assert min(h.min(), e.min()) >= 0 and np.isfinite(h).all() and np.isfinite(e).all()


def test_the_same_generator_draws_the_same_field() -> None:
    first, again, other = (crowd(np.random.default_rng(seed), 64) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[2], other[2])


def test_training_tiles_keep_their_nuclei_where_they_are() -> None:
    stains, masks, depths = rendered(3)
    generator = np.random.default_rng(0)
    for row in range(3):
        moved = warped(generator, stains[row], masks[row], depths[row])
        planes = photographed(generator, *moved)
        assert planes.shape == (3, 96, 96) and np.isfinite(planes).all() and planes.dtype == np.float32
        inside = moved[1] > 0
        assert planes[0][inside].mean() > planes[0][~inside].mean()
    h = np.zeros((32, 32), np.float32)
    h[8:16, 8:16] = 1.0
    planes = seen(generator, h, np.full_like(h, 0.3))
    assert planes[2][9:15, 9:15].mean() > 1.5 * planes[2][20:, 20:].mean()


def test_the_same_configuration_gives_the_same_weights_and_another_seed_does_not() -> None:
    torch.set_num_threads(1)
    first, again, other = (
        train(config, progress=False).state_dict()
        for config in (TINY, TINY, NucleiTraining(**{**TINY.to_dict(), "seed": 7}))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_weights_say_what_they_were_trained_with(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    network = train(TINY, progress=False)
    save_weights(network, path, config=TINY)
    with safe_open(path, framework="pt") as handle:
        facts = handle.metadata()
    assert facts["config_hash"] == config_hash(TINY) and NucleiTraining.from_dict(json.loads(facts["config"])) == TINY
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in load_file(path).items())
    assert DefaultNuclei(path).name.endswith(facts["digest"])


def test_the_weights_in_the_package_are_of_the_default_configuration_and_their_card_says_so() -> None:
    with safe_open(WEIGHTS, framework="pt") as handle:
        facts = handle.metadata()
    assert NucleiTraining.from_dict(json.loads(facts["config"])) == NucleiTraining()
    card = WEIGHTS.with_suffix(".md").read_text(encoding="utf-8")
    assert facts["config_hash"] == config_hash(NucleiTraining()) and facts["config_hash"] in card and facts["digest"] in card


def test_the_depth_of_drawn_nuclei_rises_to_their_middles_and_a_flat_one_does_not() -> None:
    fields = [crowd(np.random.default_rng([9, number]), 96) for number in range(6)]
    model, generator = DefaultNuclei(), np.random.default_rng(0)
    found = np.stack([model.maps(seen(generator, h, e))[1] for h, e, _ in fields])
    depth = np.stack([depth_map(mask) for *_, mask in fields])

    def rises(maps: np.ndarray) -> bool:
        return bool(maps[depth > 0.85].mean() > maps[(depth > 0.4) & (depth < 0.6)].mean() + 0.12)

    assert rises(found) and not rises(np.minimum(found, 0.45))  # as with channels that are all 0 in the middle


@pytest.mark.parametrize("change", [{"steps": 0}, {"drawn_share": 1.5}, {"learning_rate": 0.0}, {"fields": 0}])
def test_a_training_that_cannot_be_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        NucleiTraining(**change)  # type: ignore[arg-type]


def test_drawn_fields_do_not_depend_on_how_many_are_drawn() -> None:
    few, more = (drawn(n, seed=3) for n in (1, 2))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(few, more, strict=True))
