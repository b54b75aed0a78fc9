"""Tile pixels: encoding, decoding, size, optical density, and the networks' range.

Tiles are uint8 RGB, shape (H, W, 3), everywhere but in networks, which take float32, shape (B, 3, H, W), in [-1, 1].
"""

from __future__ import annotations

import base64
import io
import math
from typing import Literal

import numpy as np
import simplejpeg
import torch
from PIL import Image

from rnasynth.errors import InputError

Quality = int | Literal["lossless"]
OD_ROWS = 64  # rows of a tile that its optical density is taken from
_LOG = np.log(np.maximum(np.arange(256), 1))


def encode(tile: np.ndarray, quality: Quality = 90) -> bytes:
    """Encode a tile.

    Parameters
    ----------
    tile : uint8 RGB, shape (H, W, 3).
    quality : JPEG quality 1 to 100, or "lossless" for PNG. JPEG is written without chroma subsampling (4:4:4): on her2st at
        its own resolution 4:2:0 doubles the mean colour error (1.8 / 1.0 / 2.1 against 1.0 / 0.6 / 1.1 levels in R / G / B)
        to save a fifth of the bytes, and nuclei are told apart by their colour.
    """
    if quality == "lossless":
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
    return simplejpeg.encode_jpeg(np.ascontiguousarray(tile), quality=int(quality), colorsubsampling="444")


def decode(content: bytes, out: np.ndarray) -> None:
    """Decode JPEG or PNG bytes into `out`, uint8 RGB of shape (H, W, 3), C-contiguous.

    Raises
    ------
    ValueError : the bytes are damaged, or the image has another shape.
    """
    if content[:2] == b"\xff\xd8":
        height, width = simplejpeg.decode_jpeg_header(content)[:2]
        if (height, width) != out.shape[:2]:
            raise ValueError(f"the image has {height} x {width} px")
        simplejpeg.decode_jpeg(content, "RGB", buffer=out)
        return
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if (image.height, image.width, image.mode) != (*out.shape[:2], "RGB"):
                raise ValueError(f"the image has {image.height} x {image.width} px, mode {image.mode}")
            out[...] = np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise ValueError(str(error)) from None


def data_uri(tile: np.ndarray) -> str:
    """Return a tile as an image inside a page: PNG without any metadata, base64, as a `data:` address.

    Parameters
    ----------
    tile : uint8 RGB, shape (H, W, 3).
    """
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "PNG", compress_level=9)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def mean_optical_density(tile: np.ndarray) -> float:
    """Mean over pixels and channels of the optical density -ln(max(I, 1) / 255), natural logarithm, rounded to 6 decimals.

    `tile` is uint8 RGB, shape (H, W, 3); of a tile of 128 px or more, `OD_ROWS` evenly spaced rows are looked at: at 256 px
    within 0.2 % of the mean over all rows (median; 2 % at most of 1,200 tiles) for a quarter of the time.
    0 for white, ln 255 = 5.54 for black. Beer-Lambert with incident light I0 = 255 and
    darkness clipped at 1, so that it is finite (Ruifrok & Johnston, Anal Quant Cytol Histol 2001, who use log10).
    """
    step = max(1, tile.shape[0] // OD_ROWS)
    rows = np.ascontiguousarray(tile[step // 2 :: step])
    # Pillow counts in this thread. torch.bincount asks all OpenMP threads for the range, which on a machine that is busy
    # with other things costs milliseconds a tile.
    counts = np.array(Image.fromarray(rows.reshape(rows.shape[0], -1)).histogram())
    return round(math.log(255.0) - float(counts @ _LOG) / rows.size, 6)


def resize(tile: np.ndarray, px: int) -> np.ndarray:
    """Bring a square tile to `px` x `px`.

    By an integer factor: the exact mean of each area, rounded half up. Else: Pillow's bicubic, which is antialiased.

    Parameters
    ----------
    tile : uint8 RGB, shape (H, H, 3).
    """
    size = tile.shape[0]
    if size == px:
        return tile
    if size % px:
        return np.asarray(Image.fromarray(tile).resize((px, px), Image.Resampling.BICUBIC))
    factor = size // px
    wide = np.uint16 if factor <= 16 else np.uint32  # factor^2 * 255 + factor^2 / 2 must fit
    rows = np.zeros((px, size, 3), wide)
    for offset in range(factor):
        rows += tile[offset::factor]
    area = np.full((px, px, 3), factor * factor // 2, wide)
    for offset in range(factor):
        area += rows[:, offset::factor]
    return (area // wide(factor * factor)).astype(np.uint8)


def to_float(batch: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Turn uint8 tiles, shape (B, H, W, 3), into the networks' float32, shape (B, 3, H, W), in [-1, 1], contiguous."""
    batch_BHWC = np.asarray(batch)
    if batch_BHWC.ndim != 4 or batch_BHWC.shape[-1] != 3 or batch_BHWC.dtype != np.uint8:
        raise InputError("tiles", expected="uint8 (B, H, W, 3)", found=f"{batch_BHWC.dtype} {batch_BHWC.shape}")
    n, height, width, _ = batch_BHWC.shape
    out_BCHW = np.empty((n, 3, height, width), np.float32)
    for tile, out in zip(batch_BHWC, out_BCHW, strict=True):
        widen(tile, out)
    return torch.from_numpy(out_BCHW)


def to_uint8(batch: torch.Tensor) -> np.ndarray:
    """Turn float tiles, shape (B, 3, H, W), in [-1, 1] (clipped), into uint8 (B, H, W, 3): the inverse of `to_float`."""
    levels_BCHW = batch.detach().float().add(1).mul(127.5).round().clamp(0, 255)
    return levels_BCHW.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def widen(tile: np.ndarray, out: np.ndarray) -> None:
    """Write one uint8 tile, shape (H, W, 3), into float32 `out`, shape (3, H, W), in [-1, 1]."""
    out[...] = np.ascontiguousarray(tile.transpose(2, 0, 1))  # bytes are moved, then widened: twice as fast as at once
    out /= np.float32(127.5)
    out -= np.float32(1)
