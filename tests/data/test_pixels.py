"""Tile pixels: codec, colour, size, optical density, range."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rnasynth.data.pixels import Quality, decode, encode, mean_optical_density, resize, to_float, to_uint8
from rnasynth.errors import InputError


def round_trip(tile: np.ndarray, quality: Quality) -> np.ndarray:
    out = np.empty_like(tile)
    decode(encode(tile, quality), out)
    return out


def noise(seed: int, px: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (px, px, 3), dtype=np.uint8)


@pytest.mark.parametrize("channel", range(3))
@pytest.mark.parametrize("quality", [90, "lossless"])
def test_red_stays_red(channel: int, quality: Quality) -> None:
    tile = np.zeros((64, 64, 3), np.uint8)
    tile[..., channel] = 255
    assert np.abs(round_trip(tile, quality).astype(int) - tile).max() <= (3 if quality == 90 else 0)
    swapped = round_trip(tile[..., ::-1].copy(), quality)
    assert channel == 1 or np.abs(swapped.astype(int) - tile).max() == pytest.approx(255, abs=3)  # a swap would be seen


def test_another_decoder_sees_the_same_colours() -> None:
    tile = np.full((64, 64, 3), (200, 40, 120), np.uint8)
    with Image.open(io.BytesIO(encode(tile))) as image:
        assert image.mode == "RGB" and np.abs(np.asarray(image).astype(int) - tile).max() <= 2


def test_sharp_colour_edges_survive_as_chroma_is_not_subsampled() -> None:
    tile = np.full((64, 64, 3), (220, 160, 190), np.uint8)
    tile[:, ::2] = (90, 60, 140)
    assert np.abs(round_trip(tile, 90).astype(int) - tile).mean() < 3  # 14 with 4:2:0


def test_lossless_is_exact() -> None:
    assert (round_trip(noise(0), "lossless") == noise(0)).all()


@pytest.mark.parametrize("quality", [90, "lossless"])
def test_damaged_bytes_and_other_shapes_raise(quality: Quality) -> None:
    content = encode(noise(0), quality)
    for bad in (content[: len(content) // 2], content[:2], b"", b"GIF89a" + bytes(50)):
        with pytest.raises(ValueError):
            decode(bad, np.empty((64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="64 x 64"):
        decode(content, np.empty((32, 32, 3), np.uint8))


@given(st.integers(1, 8), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_shrinking_by_a_whole_factor_is_the_exact_mean(px: int, factor: int, seed: int) -> None:
    tile = noise(seed, px * factor)
    mean = tile.reshape(px, factor, px, factor, 3).astype(float).mean((1, 3))
    assert (resize(tile, px) == np.floor(mean + 0.5)).all()


def test_largest_sums_do_not_overflow() -> None:
    for factor in (16, 17, 32):
        assert (resize(np.full((2 * factor, 2 * factor, 3), 255, np.uint8), 2) == 255).all()


def test_other_sizes_are_antialiased() -> None:
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize(stripes, 36)[:, 3:-3].astype(int) - 127.5).max() < 25  # picking pixels would give 0 and 255
    assert resize(stripes, 128).shape == (128, 128, 3)


@pytest.mark.parametrize("level, expected", [(255, 0.0), (1, math.log(255)), (0, math.log(255)), (94, math.log(255 / 94))])
def test_optical_density_of_an_even_tile(level: int, expected: float) -> None:
    assert mean_optical_density(np.full((8, 8, 3), level, np.uint8)) == pytest.approx(expected, abs=1e-6)


def test_optical_density_is_the_mean_over_pixels_and_channels() -> None:
    tile = noise(3)
    assert mean_optical_density(tile) == pytest.approx(-np.log(np.maximum(tile, 1) / 255).mean(), abs=1e-6)


def test_optical_density_of_a_large_tile_is_taken_from_rows_all_over_it() -> None:
    tile = np.repeat(np.linspace(40, 250, 256).astype(np.uint8), 256 * 3).reshape(256, 256, 3)
    assert mean_optical_density(tile) == pytest.approx(-np.log(tile / 255).mean(), rel=0.02)


def test_float_range_layout_and_inverse() -> None:
    batch = np.stack([noise(seed) for seed in range(3)])
    batch[0, 0, 0], batch[0, 0, 1] = 0, 255
    floats = to_float(batch)
    assert floats.dtype == torch.float32 and floats.shape == (3, 3, 64, 64) and floats.is_contiguous()
    assert floats.min() == -1 and floats.max() == 1
    torch.testing.assert_close(floats, torch.from_numpy(batch).permute(0, 3, 1, 2) / 127.5 - 1, rtol=0, atol=1e-6)
    assert (to_uint8(floats) == batch).all()
    assert (to_float(torch.from_numpy(batch)) == floats).all()
    assert (to_uint8(floats * 3)[0, 0, 0] == 0).all() and (to_uint8(floats * 3)[0, 0, 1] == 255).all()


def test_floats_are_refused_as_tiles() -> None:
    with pytest.raises(InputError, match="uint8"):
        to_float(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(InputError, match="uint8"):
        to_float(np.zeros((1, 3, 8, 8), np.uint8))
