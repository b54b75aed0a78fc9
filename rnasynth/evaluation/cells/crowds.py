"""Drawn fields of nuclei for training: more various, more crowded and harder to see than the simulated cohort's.

Real tissue differs from the simulated tiles most in what makes nuclei hard to count: kinds of very different sizes side by
side, palisades, overlaps, pale nuclei on bluish cytoplasm, clumped chromatin. Here each is drawn at random, far beyond what
is seen in any one tissue (domain randomisation), with the exact outline of every nucleus. Amounts of stain are in units
where 1 is an ordinary nucleus; lengths are pixels of 0.5 um. No image takes part.

Source of the idea: Tobin et al., IROS 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SMALLEST_PX, LARGEST_PX = 2.4, 11.0  # mean radius of a kind of nucleus
TRIES = 420  # places tried a field, fewer where nuclei are large
MARGIN_PX = 6  # nuclei beyond the border, of which a part is seen


@dataclass(frozen=True)
class Kind:
    """One kind of nucleus in a field: radius, px; ratio of half axes; how the rest is drawn (see `_kind`)."""

    radius: float
    spread: float
    ratio: float
    aligned: float
    overlap: float
    darkness: float
    pale: float
    clumps: float
    rim: float
    spots: float
    bluish: float


def noise(
    generator: np.random.Generator, side: int, sigma: float | tuple[float, float], *, mode: str = "wrap"
) -> NDArray[np.float32]:
    """Smooth noise of mean about 0 and spread 1, shape (side, side); `sigma` in px, `mode` beyond the borders as scipy's."""
    field = ndimage.gaussian_filter(generator.standard_normal((side, side)).astype(np.float32), sigma, mode=mode)
    return np.asarray(field / (float(field.std()) + 1e-6), np.float32)


def crowd(generator: np.random.Generator, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Draw one field.

    Parameters
    ----------
    generator : what everything is drawn from.
    side : px.

    Returns
    -------
    haematoxylin, eosin : shape (side, side), float32, 0 or more.
    mask : shape (side, side), int32: number of the nucleus, 0 for none.
    """
    whole = side + 2 * MARGIN_PX
    kinds = [_kind(generator) for _ in range(generator.integers(1, 4))]
    region = _regions(generator, whole, len(kinds))
    h, e = _ground(generator, whole, kinds, region)
    mask, nuclei = _placed(generator, whole, kinds, region)
    h, e = _filled(generator, h, e, mask, nuclei, kinds)
    inner = slice(MARGIN_PX, MARGIN_PX + side)
    return h[inner, inner], e[inner, inner], mask[inner, inner]


def _kind(generator: np.random.Generator) -> Kind:
    rng = generator
    vesicular = rng.random() < 0.5
    return Kind(
        radius=float(np.exp(rng.uniform(np.log(SMALLEST_PX), np.log(LARGEST_PX)))),
        spread=float(rng.uniform(0.05, 0.3)),
        ratio=float(np.exp(abs(rng.normal(0, 0.45)))),
        aligned=float(rng.uniform(0.05, 0.4) if rng.random() < 0.6 else 3.0),
        overlap=float(rng.uniform(0, 0.3) if rng.random() < 0.6 else 0.0),
        darkness=float(np.exp(rng.normal(-0.1, 0.35))),
        pale=float(rng.uniform(0.1, 0.75) if vesicular else rng.uniform(0, 0.15)),
        clumps=float(rng.uniform(0.1, 0.6) if vesicular else rng.uniform(0, 0.3)),
        rim=float(rng.uniform(0, 0.8) if vesicular else rng.uniform(0, 0.2)),
        spots=float(rng.uniform(0, 1.5) if vesicular else 0.0),
        bluish=float(rng.uniform(0, 0.75) ** 1.3 if rng.random() < 0.6 else 0.0),
    )


def _regions(generator: np.random.Generator, side: int, n: int) -> NDArray[np.int32]:
    """Return which kind lives where: 0 for the open ground, else the number of the kind + 1."""
    sigma = generator.uniform(6, 22)
    levels = [noise(generator, side, sigma) + generator.uniform(-1.6, 0.6)]
    levels += [noise(generator, side, sigma) for _ in range(n)]
    return np.argmax(np.stack(levels), axis=0).astype(np.int32)


def _placed(
    generator: np.random.Generator, side: int, kinds: list[Kind], region: NDArray[np.int32]
) -> tuple[NDArray[np.int32], list[tuple[int, float]]]:
    """Place nuclei one after another where there is room; returns the mask and, of each nucleus, kind and radius."""
    rng, mask, nuclei = generator, np.zeros((side, side), np.int32), list[tuple[int, float]]()
    heading = ndimage.gaussian_filter(rng.standard_normal((2, side, side)).astype(np.float32), (0, 14, 14))
    direction = np.arctan2(heading[1], heading[0])
    full = [float(rng.uniform(0.15, 1.0)) for _ in kinds]
    middle = float(np.mean([kind.radius for kind in kinds]))
    tries = int(min(TRIES, 1.6 * side * side / middle**2))
    for _ in range(tries):
        y, x = rng.uniform(0, side, 2)
        at = int(region[int(y), int(x)]) - 1
        if at < 0:
            if rng.random() > 0.08:
                continue
            at = int(rng.integers(len(kinds)))
        kind = kinds[at]
        if rng.random() > full[at]:
            continue
        if rng.random() < 0.04:
            kind = kinds[int(rng.integers(len(kinds)))]
        radius = kind.radius * float(np.exp(rng.normal(0, kind.spread)))
        rows, columns, inside = _outline(rng, side, y, x, radius, kind, float(direction[int(y), int(x)]))
        if inside.sum() < 6:
            continue
        there = mask[rows, columns]
        covered = inside & (there > 0)
        if covered.sum() > kind.overlap * inside.sum():
            continue
        if not kind.overlap or rng.random() < 0.5:
            inside &= there == 0
        nuclei.append((kinds.index(kind), radius))
        there[inside] = len(nuclei)
    return mask, nuclei


def _outline(
    generator: np.random.Generator, side: int, y: float, x: float, radius: float, kind: Kind, heading: float
) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Return the box of a bent, wavy ellipse and which of its pixels lie inside."""
    ratio = max(1.0, kind.ratio * float(np.exp(generator.normal(0, 0.15))))
    long, short = radius * np.sqrt(ratio), radius / np.sqrt(ratio)
    angle = heading + generator.normal(0, kind.aligned)
    reach = int(np.ceil(1.3 * long)) + 1
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    rows, columns = slice(top, min(side, int(y) + reach + 1)), slice(left, min(side, int(x) + reach + 1))
    dy = np.arange(rows.start, rows.stop)[:, None] + 0.5 - y
    dx = np.arange(columns.start, columns.stop)[None] + 0.5 - x
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / long
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / short
    v = v + generator.normal(0, 0.12) * (ratio - 1) * (u * u - 0.33)
    polar = np.arctan2(v, u)
    wave = np.zeros_like(polar)
    for times in (2, 3, 4, 6):
        wave += generator.normal(0, 0.14 / times) * np.cos(times * polar + generator.uniform(0, 2 * np.pi))
    return rows, columns, np.hypot(u, v) < 1 + np.clip(wave, -0.35, 0.25)


def _ground(
    generator: np.random.Generator, side: int, kinds: list[Kind], region: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw what lies between nuclei: cytoplasm, fibres, holes, red cells, and dark things that are no nuclei."""
    rng = generator
    bluish = np.array([rng.uniform(0, 0.3) if rng.random() < 0.5 else 0.0, *(kind.bluish for kind in kinds)], np.float32)
    pink = rng.uniform(0.15, 1.1, len(kinds) + 1).astype(np.float32)
    soft = rng.uniform(0.6, 2.5)
    h, e = (ndimage.gaussian_filter(levels[region], soft) for levels in (bluish, pink))
    fibres = noise(rng, side, (rng.uniform(0.5, 1.2), rng.uniform(3, 9)))
    fibres = ndimage.rotate(np.pad(fibres, side // 4, mode="wrap"), rng.uniform(0, 180), reshape=False, order=1)
    fibres = fibres[side // 4 : side // 4 + side, side // 4 : side // 4 + side]
    share = np.clip(ndimage.gaussian_filter((region == 0).astype(np.float32), 1.0), 0.15, 1)
    e = e * np.clip(
        1 + rng.uniform(0, 0.6) * share * fibres + rng.uniform(0, 0.4) * noise(rng, side, rng.uniform(1, 6)), 0.05, 3
    )
    h = h * np.clip(1 + rng.uniform(0, 0.7) * noise(rng, side, rng.uniform(0.7, 4)), 0, 3)
    if rng.random() < 0.5:  # patches and granules of haematoxylin that are no nuclei
        h = h + rng.uniform(0, 0.5) * np.clip(noise(rng, side, rng.uniform(1.0, 6)) - rng.uniform(0, 1.2), 0, 2)
    if rng.random() < 0.5:  # holes, foam and clefts
        deep = np.clip(4 * (noise(rng, side, rng.uniform(1.5, 10)) - rng.uniform(0.2, 1.8)), 0, 1)
        h, e = h * (1 - deep), e * (1 - deep)
    if rng.random() < 0.25:  # red cells
        yy, xx = np.mgrid[:side, :side]
        for _ in range(rng.integers(1, 14)):
            y, x, r = *rng.uniform(0, side, 2), rng.uniform(4, 8)
            e = np.maximum(e, rng.uniform(0.7, 1.8) * np.clip(r - np.hypot(yy - y, xx - x) + 0.5, 0, 1))
    return np.clip(h, 0, None).astype(np.float32), np.clip(e, 0, None).astype(np.float32)


def _filled(
    generator: np.random.Generator,
    h: NDArray[np.float32],
    e: NDArray[np.float32],
    mask: NDArray[np.int32],
    nuclei: list[tuple[int, float]],
    kinds: list[Kind],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Stain the nuclei: dark or pale within, with rims, clumps and nucleoli; some with a clear ring around."""
    rng, side, n = generator, mask.shape[0], len(nuclei)
    if not n:
        return h, e
    which = np.array([0, *(kind for kind, _ in nuclei)])
    radius = np.array([1.0, *(r for _, r in nuclei)], np.float32)
    border = ndimage.distance_transform_edt(~edges(mask))
    inward = np.where(mask > 0, border + 0.5, 0).astype(np.float32)

    def of(name: str) -> NDArray[np.float32]:
        return np.array([getattr(kind, name) for kind in kinds], np.float32)[which]

    dark = of("darkness") * np.exp(rng.normal(0, rng.uniform(0.05, 0.3), n + 1)).astype(np.float32)
    pale = np.clip(of("pale") * rng.uniform(0.5, 1.3, n + 1), 0, 0.85).astype(np.float32)
    clumps = noise(rng, side, rng.uniform(0.6, 1.0)) + noise(rng, side, rng.uniform(1.0, 2.2))
    body = dark[mask] * (1 - pale[mask] * np.clip(inward / np.maximum(0.45 * radius[mask], 1.2) - 0.3, 0, 1))
    body *= 1 + of("rim")[mask] * np.exp(-np.square((inward - 1.0) / 0.8)) * pale[mask]
    body *= np.clip(1 + of("clumps")[mask] * clumps * 0.6, 0.15, 2.2)
    spots = np.clip(noise(rng, side, rng.uniform(0.8, 1.5)) - 1.7, 0, 1.5) * (inward > 1.5)
    body += of("spots")[mask] * spots * dark[mask]
    cover = ndimage.gaussian_filter((mask > 0).astype(np.float32), 0.45)
    if rng.random() < 0.3:  # a clear ring
        ring = np.clip(ndimage.gaussian_filter((mask > 0).astype(np.float32), rng.uniform(1, 2.5)) * 1.5, 0, 1)
        clear = 1 - rng.uniform(0.2, 0.9) * ring * (mask == 0)
        h, e = h * clear, e * clear
    keep = rng.uniform(0, 1.0)
    body = np.where(mask > 0, np.clip(body, 0.05, None) + rng.uniform(0, 1) * h, 0)
    h = h * (1 - cover) + ndimage.gaussian_filter(body, 0.35)
    return h.astype(np.float32), (e * (1 - cover * (1 - keep))).astype(np.float32)


def edges(mask: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the outermost pixels of each object, also where two touch."""
    padded = np.pad(mask, 1)
    border = np.zeros(padded.shape, dtype=bool)
    for shift in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        border |= np.roll(padded, shift, (0, 1)) != padded
    return np.asarray(border[1:-1, 1:-1] & (mask > 0))
