"""Smooth random fields and grids: the numpy core under the simulated scenes and pictures."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

MARGIN_UM = 6.0  # scenes reach this far beyond the tile, so that nuclei are cut by its border as in a real tile


def coarse_grid(field_um: float) -> tuple[int, float]:
    """Return the number of points a side and the spacing (about 1 um) of the grid on which a scene is laid out."""
    width = field_um + 2 * MARGIN_UM
    points = round(width)
    return points, width / points


@lru_cache(maxsize=64)
def spline_matrix(points: int, spacing: float, period: float) -> np.ndarray:
    """Return the matrix from control values to `points` values of a cubic B-spline, float32.

    Shape (points, k): control points lie every `period` (same unit as `spacing`). Rows are scaled to unit length, so that
    independent standard normal controls give values of unit variance at every point.
    """
    position = (np.arange(points) + 0.5) * spacing / period
    first = np.floor(position).astype(int)
    t = position - first
    basis = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    matrix = np.zeros((points, int(first.max()) + 4))
    for offset in range(4):
        matrix[np.arange(points), first + offset] = basis[offset]
    matrix /= np.sqrt((matrix**2).sum(axis=1, keepdims=True))
    matrix.setflags(write=False)
    return matrix.astype(np.float32)


def smooth_noise(rng: np.random.Generator, points: int, spacing: float, period: float) -> np.ndarray:
    """Draw a Gaussian field of unit variance and correlation length about `period`; (points, points) float32."""
    matrix = spline_matrix(points, spacing, period)
    control = rng.standard_normal((matrix.shape[1], matrix.shape[1]), dtype=np.float32)
    return matrix @ control @ matrix.T


@lru_cache(maxsize=16)
def upsampling(field_um: float, tile_px: int) -> np.ndarray:
    """Return the matrix (tile_px, coarse points) that interpolates a coarse map linearly at the pixel centres."""
    points, spacing = coarse_grid(field_um)
    position = ((np.arange(tile_px) + 0.5) * field_um / tile_px + MARGIN_UM) / spacing - 0.5
    first = np.clip(np.floor(position).astype(int), 0, points - 2)
    matrix = np.zeros((tile_px, points), dtype=np.float32)
    share = position - first
    matrix[np.arange(tile_px), first] = 1 - share
    matrix[np.arange(tile_px), first + 1] = share
    return matrix


def upsample(coarse: np.ndarray, field_um: float, tile_px: int) -> np.ndarray:
    """Interpolate a coarse map (points, points) on the tile's pixels (tile_px, tile_px), float32."""
    matrix = upsampling(field_um, tile_px)
    return matrix @ coarse.astype(np.float32, copy=False) @ matrix.T


@lru_cache(maxsize=16)
def coarse_axes(field_um: float) -> np.ndarray:
    """Return the coordinates, um from the tile's edge, of the coarse grid's points along one side; float32."""
    points, spacing = coarse_grid(field_um)
    return ((np.arange(points) + 0.5) * spacing - MARGIN_UM).astype(np.float32)


def smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Rise from 0 at `low` to 1 at `high` (3 t^2 - 2 t^3); falls where low > high."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def threshold_for_share(values: np.ndarray, share: float) -> float:
    """Return the threshold below which `share` of the values lie."""
    flat = values.ravel()
    rank = int(np.clip(share, 0.0, 1.0) * (flat.size - 1))
    return float(np.partition(flat, rank)[rank])


def nearest_two(x: np.ndarray, y: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distance to the nearest seed, to the second nearest, and the nearest seed's number, at each point.

    `x` and `y` are coordinate maps of one shape; `seeds` (n >= 2, 2) float32; distances in the unit of the coordinates.
    """
    square = (x.ravel()[None] - seeds[:, :1]) ** 2 + (y.ravel()[None] - seeds[:, 1:]) ** 2
    nearest = square.argmin(axis=0)
    columns = np.arange(nearest.size)
    first = square[nearest, columns]
    square[nearest, columns] = np.inf
    second = square.min(axis=0)
    return np.sqrt(first).reshape(x.shape), np.sqrt(second).reshape(x.shape), nearest.reshape(x.shape)
