"""Outlines of nuclei and other round things on the pixels: all objects of a tile at once, each in its own small box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Painted:
    """Objects on the pixels of a tile, each array (H, W).

    owner : int32, number of the object + 1 that covers the pixel's centre or edge most deeply, 0 for none.
    q : float32, relative radius there: 0 centre, 1 outline; large outside.
    cover : float32 in [0, 1], share of the pixel covered (anti-aliased edge).
    spots : float32 in [0, 1], nucleoli.
    """

    owner: np.ndarray
    q: np.ndarray
    cover: np.ndarray
    spots: np.ndarray


@dataclass(frozen=True)
class Shapes:
    """Objects to paint; n of them.

    x_um, y_um, long_um, short_um, angle : (n,) centre, half axes and direction of the long axis.
    waves : (n, 6) amplitudes of cos and sin of 2, 3 and 4 times the polar angle, relative to the radius ("a").
    power : (n,) exponent of a superellipse, 2 for an ellipse; `taper` (n,) narrows one end (both "b").
    bend : (n,) curvature of the long axis: sideways shift at its end, relative to the long half axis.
    spots : (n, 2, 3) nucleoli: relative place along and across, radius in um (0: none).
    """

    x_um: np.ndarray
    y_um: np.ndarray
    long_um: np.ndarray
    short_um: np.ndarray
    angle: np.ndarray
    waves: np.ndarray | None = None
    power: np.ndarray | None = None
    taper: np.ndarray | None = None
    bend: np.ndarray | None = None
    spots: np.ndarray | None = None


def paint(shapes: Shapes, tile_px: int, mpp_um: float, reach: float = 1.0) -> Painted:
    """Paint all objects; where two overlap, the pixel belongs to the one whose centre is relatively nearer.

    `reach`: how far beyond the outline (in relative radius) `q` and `owner` shall be known; 1 stops at the outline.
    """
    owner = np.zeros(tile_px * tile_px, np.int32)
    q_map = np.full(tile_px * tile_px, 9.0, np.float32)
    cover_map = np.zeros(tile_px * tile_px, np.float32)
    spot_map = np.zeros(tile_px * tile_px, np.float32)
    side = (tile_px, tile_px)
    ca, sa = np.cos(shapes.angle), np.sin(shapes.angle)
    slack = 1.22 * reach
    bent = 0.0 if shapes.bend is None else 0.8 * np.abs(shapes.bend) * shapes.long_um
    half_x = slack * np.hypot(shapes.long_um * ca, shapes.short_um * sa) + bent + mpp_um
    half_y = slack * np.hypot(shapes.long_um * sa, shapes.short_um * ca) + bent + mpp_um
    left, right = _pixels(shapes.x_um, half_x, mpp_um, tile_px)
    top, low = _pixels(shapes.y_um, half_y, mpp_um, tile_px)
    width, size = right - left, (right - left) * (low - top)
    if not size.sum():
        return Painted(owner.reshape(side), q_map.reshape(side), cover_map.reshape(side), spot_map.reshape(side))
    number = np.repeat(np.arange(len(size), dtype=np.int32), size)
    local = np.arange(size.sum(), dtype=np.int32) - np.repeat(np.cumsum(size) - size, size).astype(np.int32)
    width_at = width[number]
    row = local // width_at
    column = local - row * width_at
    row += top[number]
    column += left[number]
    # (u, v) is an affine function of the pixel: slopes and offset of each object first, so that few maps are made.
    long_um, short_um, angle_cos, angle_sin = (a.astype(np.float32) for a in (shapes.long_um, shapes.short_um, ca, sa))
    x0, y0 = (0.5 * np.float32(mpp_um) - a.astype(np.float32) for a in (shapes.x_um, shapes.y_um))
    affine = np.stack(
        [
            angle_cos * mpp_um / long_um, angle_sin * mpp_um / long_um, (angle_cos * x0 + angle_sin * y0) / long_um,
            -angle_sin * mpp_um / short_um, angle_cos * mpp_um / short_um, (angle_cos * y0 - angle_sin * x0) / short_um,
        ]
    ).astype(np.float32)  # fmt: skip
    at = affine[:, number]
    column_f, row_f = column.astype(np.float32), row.astype(np.float32)
    u = at[0] * column_f + at[1] * row_f + at[2]
    v = at[3] * column_f + at[4] * row_f + at[5]
    q = _relative_radius(shapes, number, u, v)
    near = np.flatnonzero(q < max(1.25, 1.25 * reach))
    number, q, u, v = number[near], q[near], u[near], v[near]
    pixel = row[near] * tile_px + column[near]
    # Distance to the outline, um: (1 - q) over the slope of q, which is exact to first order for an ellipse.
    slope = u * u / (long_um * long_um)[number] + v * v / (short_um * short_um)[number]
    distance = np.where(q < 0.5, np.float32(9.0), (1 - q) * q / np.sqrt(np.maximum(slope, np.float32(1e-6))))
    cover = np.clip(0.5 + distance / np.float32(mpp_um), 0, 1)
    np.minimum.at(q_map, pixel, q)
    np.maximum.at(cover_map, pixel, cover)
    first = np.flatnonzero(q == q_map[pixel])
    owner[pixel[first]] = number[first] + 1
    if shapes.spots is not None:
        for each in range(shapes.spots.shape[1]):
            spot = shapes.spots[:, each].astype(np.float32)
            here = first[(spot[:, 2] > 0)[number[first]]]
            n = number[here]
            square = ((u[here] - spot[n, 0]) * long_um[n]) ** 2 + ((v[here] - spot[n, 1]) * short_um[n]) ** 2
            spot_map[pixel[here]] = np.maximum(spot_map[pixel[here]], np.exp(-square / spot[n, 2] ** 2))
    return Painted(owner.reshape(side), q_map.reshape(side), cover_map.reshape(side), spot_map.reshape(side))


def _pixels(centre_um: np.ndarray, half_um: np.ndarray, mpp_um: float, tile_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first pixel and the one after the last that an object may touch along one axis, int32."""
    first = np.clip(np.floor((centre_um - half_um) / mpp_um), 0, tile_px).astype(np.int32)
    return first, np.clip(np.ceil((centre_um + half_um) / mpp_um), 0, tile_px).astype(np.int32)


def _relative_radius(shapes: Shapes, number: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the relative radius of points (u, v) given in half axes: 1 on the outline."""
    if shapes.bend is not None:
        ratio = (shapes.bend * shapes.long_um / shapes.short_um).astype(np.float32)
        v = v + ratio[number] * (u * u - np.float32(0.33))
    if shapes.taper is not None:
        v = v * (1 + shapes.taper.astype(np.float32)[number] * u)
    if shapes.power is not None:
        power = shapes.power.astype(np.float32)[number]
        return np.asarray((np.abs(u) ** power + np.abs(v) ** power) ** (1 / power))
    radius = np.sqrt(u * u + v * v)
    if shapes.waves is None:
        return radius
    inverse = 1 / np.maximum(radius, 1e-4)
    c, s = u * inverse, v * inverse
    waves = shapes.waves.astype(np.float32)[number]
    c2, s2 = c * c - s * s, 2 * c * s
    c3, s3 = c * c2 - s * s2, c * s2 + s * c2
    c4, s4 = c2 * c2 - s2 * s2, 2 * c2 * s2
    wobble = waves[:, 0] * c2 + waves[:, 1] * s2 + waves[:, 2] * c3
    wobble += waves[:, 3] * s3 + waves[:, 4] * c4 + waves[:, 5] * s4
    return np.asarray(radius / (1 + np.clip(wobble, -0.4, 0.25)))
