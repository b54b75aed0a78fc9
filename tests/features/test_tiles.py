"""Features of tiles: what the embedded descriptor answers to, streaming, reference statistics."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from rnasynth.data.simulate import SimulationConfig
from rnasynth.data.simulate.render import render_tile
from rnasynth.errors import InputError
from rnasynth.features import FeatureNetwork, FeatureStats, StainTexture, TorchFeatures, extract, same_stain
from rnasynth.nets.stain import COMMON, EOSIN, HAEMATOXYLIN

NETWORK = StainTexture()


def stained(h: NDArray[np.float64], e: NDArray[np.float64], colours: Any = (HAEMATOXYLIN, EOSIN)) -> NDArray[np.uint8]:
    """Beer-Lambert with fixed vectors: concentrations (H, W) each -> uint8 tile."""
    vectors = np.array([np.array(v) / np.linalg.norm(v) for v in colours])
    light = 256 * np.exp(-np.tensordot(np.stack([h, e], axis=-1), vectors, axes=1)) - 1
    return np.clip(np.round(light), 0, 255).astype(np.uint8)


def disc_tile(radius_px: float, count: int, px: int = 64) -> NDArray[np.uint8]:
    """Dark haematoxylin discs on a grid, on eosin."""
    y, x = np.mgrid[:px, :px]
    h = np.zeros((px, px))
    places = [(i + 0.5) * px / 4 for i in range(4)]
    for cy, cx in list(itertools.product(places, places))[:count]:
        h[(y - cy) ** 2 + (x - cx) ** 2 <= radius_px**2] = 1.2
    return stained(h, np.full((px, px), 0.4))


def noisy(px: int, number: int = 6, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (number, px, px, 3), dtype=np.uint8)


@pytest.mark.parametrize("px", [32, 64, 128, 100])
def test_sixty_finite_numbers_a_tile(px: int) -> None:
    for tiles in (noisy(px), np.zeros((2, px, px, 3), np.uint8), np.full((2, px, px, 3), 255, np.uint8)):
        features = NETWORK(tiles, 64 / px)
        assert features.shape == (len(tiles), 60) == (len(tiles), NETWORK.dim) and features.dtype == np.float32
        assert np.isfinite(features).all()
    assert isinstance(NETWORK, FeatureNetwork)


def test_a_tiles_features_depend_on_that_tile_only() -> None:
    tiles = noisy(64)
    np.testing.assert_allclose(NETWORK(tiles[[3, 1]], 1.0), NETWORK(tiles, 1.0)[[3, 1]], rtol=1e-3, atol=1e-4)


def test_concentrations_are_recovered_from_fixed_vectors() -> None:
    features = NETWORK(stained(np.full((32, 32), 0.8), np.full((32, 32), 0.5))[None], 1.0)[0]
    assert features[0] == pytest.approx(0.8, abs=0.02) and features[7] == pytest.approx(0.5, abs=0.02)


def test_more_nuclei_mean_more_dark_area_and_their_size_sets_the_scale() -> None:
    few, many = (NETWORK(disc_tile(4, count)[None], 0.5)[0] for count in (3, 12))
    assert many[24:28].sum() > 3 * few[24:28].sum()
    small, large = (NETWORK(disc_tile(radius, 12)[None], 0.5)[0] for radius in (2, 7))
    bands = slice(28, 44, 4)  # root mean square of haematoxylin at 1, 2, 4 and 8 um
    assert large[bands].argmax() > small[bands].argmax()


def test_stripes_are_coherent_and_noise_is_not() -> None:
    wave = 0.5 + 0.4 * np.sin(np.arange(64) / 2.0)
    stripes = stained(np.zeros((64, 64)), np.tile(wave, (64, 1)))[None]
    diagonal = stained(np.zeros((64, 64)), 0.5 + 0.4 * np.sin(np.add.outer(np.arange(64), np.arange(64)) / 2.8))[None]
    assert NETWORK(stripes, 0.5)[0, 48] > 0.9
    assert NETWORK(diagonal, 0.5)[0, 48] > 0.9
    assert NETWORK(noisy(64), 0.5)[:, 50].max() < 0.3


def test_lumen_share_and_size() -> None:
    h, e = np.zeros((64, 64)), np.full((64, 64), 0.6)
    one, many = e.copy(), e.copy()
    one[16:48, 16:48] = 0
    many[::2, :] = 0
    whole, stripes = (NETWORK(stained(h, part)[None], 0.5)[0] for part in (one, many))
    assert whole[52] == pytest.approx(0.25, abs=0.01) and stripes[52] == pytest.approx(0.5, abs=0.01)
    assert whole[53] > 0.1 and stripes[53] == 0  # windows of 4 um that are wholly white


def test_flips_leave_the_descriptor_unchanged() -> None:
    tiles = np.stack([disc_tile(4, 7), disc_tile(3, 10)])
    for axis in (1, 2):
        np.testing.assert_allclose(NETWORK(np.flip(tiles, axis).copy(), 0.5), NETWORK(tiles, 0.5), atol=2e-3)


def test_simulated_tissues_are_told_apart() -> None:
    config = SimulationConfig(tile_px=64, mpp_um=1.0)
    tiles = np.stack([render_tile(config, patient, tile).image for patient in range(20) for tile in range(2)])
    features = NETWORK(tiles, 1.0).reshape(20, 2, -1)
    scaled = (
        FeatureStats.of(features.reshape(40, -1), NETWORK.name)
        .scaled(features.reshape(40, -1))
        .reshape(20, 2, -1)
        .mean(axis=1)
    )
    distance = np.linalg.norm(scaled[:, None] - scaled[None], axis=2) + 1e9 * np.eye(20)
    assert np.mean(distance.argmin(axis=1) % 5 == np.arange(20) % 5) >= 0.7


@pytest.mark.parametrize(
    ("tiles", "mpp_um"),
    [
        (noisy(64).astype(np.float32), 1.0),
        (noisy(64)[0], 1.0),
        (noisy(16), 1.0),
        (noisy(64), float("nan")),
        (noisy(64), 0.0),
    ],
)
def test_wrong_tiles_or_scale_are_errors(tiles: NDArray[np.uint8], mpp_um: float) -> None:
    with pytest.raises(InputError):
        NETWORK(tiles, mpp_um)


def test_arrays_stores_and_streams_give_the_same_features_in_batches() -> None:
    tiles = noisy(32, 11)
    seen: list[int] = []

    class Store:
        def __len__(self) -> int:
            return len(tiles)

        def read_batch(self, tile_ids: list[int], px: int | None = None) -> NDArray[np.uint8]:
            seen.append(len(tile_ids))
            return tiles[tile_ids]

    whole = extract(tiles, NETWORK, mpp_um=2.0)
    for source in (tiles, Store(), iter(tiles)):
        np.testing.assert_allclose(extract(source, NETWORK, mpp_um=2.0, batch=4), whole, rtol=1e-3, atol=1e-4)
    assert seen == [4, 4, 3]
    np.testing.assert_allclose(extract(Store(), NETWORK, mpp_um=2.0, tile_ids=[7, 2]), whole[[7, 2]], rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="at least one"):
        extract(tiles[:0], NETWORK, mpp_um=2.0)


def test_any_torch_module_is_a_feature_network() -> None:
    module = nn.Conv2d(3, 5, 3)
    network = TorchFeatures(
        module, lambda tiles, mpp: torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255.0, name="conv", dim=5
    )
    assert isinstance(network, FeatureNetwork)
    assert extract(noisy(32, 3), network, mpp_um=1.0).shape == (3, 5)
    with pytest.raises(InputError, match="4 a tile"):
        TorchFeatures(module, network.preprocess, name="conv", dim=4)(noisy(32, 3), 1.0)


def test_features_that_are_not_finite_are_an_error() -> None:
    class Broken:
        name, dim = "broken", 1

        def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> NDArray[np.float32]:
            return np.full((len(tiles), 1), np.nan, dtype=np.float32)

    with pytest.raises(InputError, match="tile 0"):
        extract(noisy(32, 2), Broken(), mpp_um=1.0)


def test_reference_statistics_are_those_of_numpy_and_carry_a_hash() -> None:
    values = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    stats = FeatureStats.of(values, "x")
    np.testing.assert_allclose(stats.mean, values.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(stats.cov, np.cov(values.T), rtol=1e-5)
    assert stats.n == 50 and stats.digest == FeatureStats.of(values, "x").digest
    assert stats.digest != FeatureStats.of(values, "y").digest != FeatureStats.of(values + 1, "x").digest
    constant = np.column_stack([values, np.full(50, 3.0)])
    assert (FeatureStats.of(constant, "x").scaled(constant)[:, 4] == 0).all()
    with pytest.raises(InputError):
        FeatureStats.of(values[:1], "x")


def test_same_stain_removes_strength_and_hue_and_keeps_structure() -> None:
    rng = np.random.default_rng(0)
    h, e = rng.gamma(2.0, 0.2, (4, 48, 48)), rng.gamma(3.0, 0.15, (4, 48, 48))
    weak, strong = (
        np.stack([stained(a * s, b * t, COMMON) for a, b in zip(h, e, strict=True)]) for s, t in ((0.8, 1.1), (1.3, 0.7))
    )
    assert np.abs(weak.astype(int) - strong).mean() > 10
    assert np.abs(same_stain(weak).astype(int) - same_stain(strong)).mean() < 2
    np.testing.assert_allclose(same_stain(same_stain(weak)).astype(int), same_stain(weak), atol=3)
    white = np.full((1, 32, 32, 3), 255, np.uint8)
    assert (same_stain(white) == 255).all()
