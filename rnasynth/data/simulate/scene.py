"""What lies in a tile: compartments, vessels, fibres and every nucleus, laid out from the tile's cell fractions.

A scene holds no colour. Both renderers draw the same scene, so that a picture of one can be compared with the other's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rnasynth.data.simulate.design import (
    COVER,
    ENDOTHELIAL,
    EPITHELIAL,
    FIBROBLAST,
    GLIA,
    LYMPHOCYTE,
    MACROPHAGE,
    MALIGNANT_TYPE,
    N_TYPES,
    NEURON,
    TERRITORY_UM2,
)
from rnasynth.data.simulate.fields import (
    MARGIN_UM,
    coarse_axes,
    coarse_grid,
    nearest_two,
    smooth_noise,
    smoothstep,
    threshold_for_share,
)

#: One nucleus: centre in um from the tile's top left corner (may lie outside), type, half axes in um, angle of the long
#: axis in radians (x to the right, y down), malignant or not.
NUCLEUS = np.dtype(
    [
        ("x_um", "f4"),
        ("y_um", "f4"),
        ("kind", "i1"),
        ("long_um", "f4"),
        ("short_um", "f4"),
        ("angle", "f4"),
        ("malignant", "?"),
    ]
)

#: Half axes (um) of a nucleus and their log-normal spread, by type; malignant ones below. Nuclear areas of MoNuSeg images
#: at 40x: median 16 to 52 um2 for carcinomas, 8 to 18 um2 where lymphocytes dominate, 95th percentile near 90 um2.
HALF_AXES_UM = np.array(
    [(3.9, 3.0), (5.6, 1.35), (3.9, 1.15), (2.55, 2.35), (3.5, 2.5), (4.9, 4.4), (3.0, 2.6)], dtype=np.float32
)
SPREAD = np.array([0.10, 0.18, 0.16, 0.07, 0.12, 0.14, 0.12], dtype=np.float32)
MALIGNANT_HALF_AXES_UM = {
    "adenocarcinoma-like": ((4.9, 3.0), 0.15),
    "squamous-like": ((5.4, 4.0), 0.22),
    "glioma-like": ((4.2, 2.7), 0.30),
}


@dataclass
class Scene:
    """Layout of one tile on the coarse grid (about 1 um) reaching `MARGIN_UM` beyond the tile.

    epithelium, lumen : (G, G) float32 in [0, 1], soft shares; stroma is what is left.
    along, across : (G, G) float32, um: coordinates along the fibres and across them.
    depth : (G, G) float32, 0 inside to 1 outside of a gland or nest; airspace distance in lung; else zero.
    vessels : (V, 5) float32: x, y, half axes of the lumen (um), angle.
    fibrosis : density of the matrix, 0 loose to 1 dense; follows the fibroblasts.
    nuclei : structured array of `NUCLEUS`.
    """

    tissue: str
    field_um: float
    epithelium: np.ndarray
    lumen: np.ndarray
    along: np.ndarray
    across: np.ndarray
    depth: np.ndarray
    vessels: np.ndarray
    fibrosis: float
    nuclei: np.ndarray = field(default_factory=lambda: np.zeros(0, NUCLEUS))


def lay_out(rng: np.random.Generator, tissue: str, fractions: np.ndarray, field_um: float) -> Scene:
    """Lay out one tile.

    Parameters
    ----------
    rng : the tile's own generator.
    tissue : one of TISSUES.
    fractions : (7,) cell fractions of this tile, sum 1: the nuclei are drawn from them, type by type.
    field_um : side of the tile.
    """
    points, spacing = coarse_grid(field_um)
    territory = np.array(TERRITORY_UM2[tissue])
    area = (field_um + 2 * MARGIN_UM) ** 2
    cover = COVER[tissue] * float(np.clip(rng.normal(1.0, 0.08), 0.8, 1.15))
    expected = cover * area / float(fractions @ territory)
    counts = rng.multinomial(max(int(rng.poisson(expected)), 1), fractions / fractions.sum())
    x, y = np.meshgrid(coarse_axes(field_um), coarse_axes(field_um))
    warp = smooth_noise(rng, points, spacing, 22.0), smooth_noise(rng, points, spacing, 22.0)
    wx, wy = x + 4.0 * warp[0], y + 4.0 * warp[1]
    turn = rng.uniform(0, 2 * np.pi)
    wave = 3.0 * smooth_noise(rng, points, spacing, 16.0)
    along = np.cos(turn) * x + np.sin(turn) * y
    across = np.cos(turn) * wy - np.sin(turn) * wx + wave
    share = counts * territory / area
    zeros = np.zeros((points, points), np.float32)
    epithelium, lumen, depth = zeros, zeros, zeros
    if tissue == "lung-like":
        lumen, depth = _alveoli(rng, wx, wy, field_um, float(share.sum()))
    elif tissue == "adenocarcinoma-like":
        epithelium, lumen, depth, across = _glands(rng, wx, wy, field_um, float(share[EPITHELIAL]), across)
    elif tissue == "squamous-like":
        epithelium, depth = _nests(rng, points, spacing, float(share[EPITHELIAL]))
    vessels = _vessels(rng, tissue, int(counts[ENDOTHELIAL]), epithelium, lumen, field_um)
    fibrosis = float(np.clip(fractions[FIBROBLAST] / 0.45, 0, 1))
    scene = Scene(tissue, field_um, epithelium, lumen, along, across, depth, vessels, fibrosis)
    scene.nuclei = _place(rng, scene, counts, spacing)
    return scene


def _alveoli(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, field_um: float, tissue_share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return airspace and the distance (um) from the middle of the septa: borders of Voronoi cells about 45 um wide."""
    seeds = _jittered(rng, field_um, 46.0)
    points, spacing = coarse_grid(field_um)
    first, second, _ = nearest_two(x, y, seeds)
    middle = 0.5 * (second - first) + 0.9 * smooth_noise(rng, points, spacing, 5.0)
    half_width = max(threshold_for_share(middle, float(np.clip(tissue_share, 0.2, 0.85))), 1.8)
    return smoothstep(middle, half_width - 0.7, half_width + 0.7), middle / half_width


def _glands(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, field_um: float, share: float, across: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return epithelium, lumen, depth (0 lumen to 1 rim) and fibres that bend around the glands."""
    if share < 0.01:
        zeros = np.zeros_like(x)
        return zeros, zeros, zeros, across
    seeds = _jittered(rng, field_um, 54.0)
    stretch = rng.uniform(0.75, 1.3)
    first, second, _ = nearest_two(x * stretch, y / stretch, seeds * np.array([stretch, 1 / stretch], np.float32))
    form = first / (second + 6.0)  # 0 in a gland's centre, nearly 1 midway between two glands
    inner = share * rng.uniform(0.10, 0.38)
    rim = threshold_for_share(form, min(share + inner, 0.93))
    core = threshold_for_share(form, inner)
    gland = smoothstep(form, rim + 0.02, rim - 0.02)
    lumen = smoothstep(form, core + 0.025, core - 0.025)
    depth = np.clip((form - core) / max(rim - core, 1e-3), 0.0, 1.5)
    return gland * (1 - lumen), lumen, depth, across + 16.0 * form


def _nests(rng: np.random.Generator, points: int, spacing: float, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return epithelium and depth (0 deep inside to 1 at the rim) of irregular sheets."""
    form = smooth_noise(rng, points, spacing, 27.0) + 0.18 * smooth_noise(rng, points, spacing, 8.0)
    rim = threshold_for_share(form, min(share, 0.97)) if share > 0.01 else -99.0
    return smoothstep(form, rim + 0.10, rim - 0.06), smoothstep(form, rim - 1.2, rim).astype(np.float32)


def _jittered(rng: np.random.Generator, field_um: float, pitch: float) -> np.ndarray:
    """Return seeds (n, 2) on a jittered grid that covers the field and one pitch around it."""
    axis = np.arange(-1.0, field_um / pitch + 1.0) * pitch + rng.uniform(0, pitch)
    grid = np.stack(np.meshgrid(axis, axis + rng.uniform(0, pitch) - pitch / 2), axis=-1).reshape(-1, 2)
    return (grid + rng.uniform(-0.36, 0.36, grid.shape) * pitch).astype(np.float32)


def _vessels(
    rng: np.random.Generator, tissue: str, endothelial: int, epithelium: np.ndarray, lumen: np.ndarray, field_um: float
) -> np.ndarray:
    """Return vessels outside epithelium and lumen: one for each two (lung) or three endothelial nuclei."""
    wanted = int(rng.binomial(endothelial, 0.5 if tissue == "lung-like" else 0.3))
    if not wanted:
        return np.zeros((0, 5), np.float32)
    largest = {"lung-like": 2.4, "cortex-like": 3.0}.get(tissue, 4.2)
    free = np.clip((1 - epithelium) * (1 - lumen), 0, 1) ** 2 + 1e-6
    place = _draw_points(rng, free, 8 * wanted, field_um)
    half = rng.uniform(min(2.2, 0.7 * largest), largest, (len(place), 1)) * np.array([1.0, 0.0])
    half[:, 1] = half[:, 0] * rng.uniform(0.45, 1.0, len(place))
    vessels = np.concatenate([place, half, rng.uniform(0, np.pi, (len(place), 1))], axis=1).astype(np.float32)
    kept = _separated(vessels[:, :2], vessels[:, 2] + 4.0, np.zeros(len(vessels), int), np.array([wanted]))
    return vessels[kept]


def _weights(scene: Scene, rng: np.random.Generator, spacing: float) -> list[np.ndarray]:
    """Return for each type a map (G, G) of where its nuclei like to lie."""
    epithelium, lumen, depth = scene.epithelium, scene.lumen, scene.depth
    flat = np.ones_like(epithelium)
    if scene.tissue == "cortex-like" or scene.tissue == "glioma-like":
        around = _around_vessels(scene, 14.0)
        return [flat, flat, flat, 0.15 + 3 * around, flat, flat, flat]
    points = epithelium.shape[0]
    clusters = np.exp(1.4 * smooth_noise(rng, points, spacing, 15.0))
    if scene.tissue == "lung-like":
        septum = smoothstep(depth, 1.0, 0.7) + 1e-4
        edge = smoothstep(depth, 0.4, 0.8) * smoothstep(depth, 1.05, 0.9) + 1e-4
        beside = smoothstep(depth, 0.7, 1.3) * smoothstep(depth, 5.0, 1.6) + 1e-4
        return [edge, septum, septum, septum * clusters, 0.35 * septum + beside, flat, flat]
    stroma = np.clip((1 - epithelium) * (1 - lumen), 0, 1) ** 3 + 2e-4
    if scene.tissue == "adenocarcinoma-like":
        nests = np.exp(-0.5 * ((depth - 0.66) / 0.15) ** 2) * epithelium + 1e-4
    else:
        nests = epithelium**3 * (0.35 + 0.65 * smoothstep(depth, 0.05, 0.5)) + 1e-4
    infiltrating = stroma * clusters + 0.06 * epithelium
    return [nests, stroma, stroma, infiltrating, stroma + 0.05 * epithelium, flat, flat]


def _around_vessels(scene: Scene, reach_um: float) -> np.ndarray:
    axis = coarse_axes(scene.field_um)
    total = np.zeros_like(scene.lumen)
    for x, y, long_um, _, _ in scene.vessels:
        square = (axis[None] - x) ** 2 + (axis[:, None] - y) ** 2
        total += np.exp(-square / (2 * (reach_um / 2 + long_um) ** 2))
    return np.clip(total, 0, 1)


def _draw_points(rng: np.random.Generator, weight: np.ndarray, number: int, field_um: float) -> np.ndarray:
    """Draw points (number, 2) in um with density proportional to a coarse map."""
    points, spacing = coarse_grid(field_um)
    cumulated = np.cumsum(weight.ravel(), dtype=np.float64)
    cell = np.searchsorted(cumulated, rng.random(number) * cumulated[-1])
    cell = np.minimum(cell, weight.size - 1)
    corner = np.stack([cell % points, cell // points], axis=1)
    return (corner + rng.random((number, 2))) * spacing - MARGIN_UM


def _separated(centres: np.ndarray, radius: np.ndarray, group: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the numbers of candidates kept: in order, no two nearer than the sum of radii, `wanted[g]` of each group."""
    x, y, reach = (np.ascontiguousarray(column, dtype=np.float32) for column in (centres[:, 0], centres[:, 1], radius))
    free = np.ones(len(centres), dtype=bool)
    left, groups = wanted.tolist(), group.tolist()
    kept = []
    for number in range(len(centres)):
        if left[groups[number]] and free[number]:
            left[groups[number]] -= 1
            free &= (x - x[number]) ** 2 + (y - y[number]) ** 2 > (reach + reach[number]) ** 2
            kept.append(number)
    return np.array(kept, dtype=int)


def _place(rng: np.random.Generator, scene: Scene, counts: np.ndarray, spacing: float) -> np.ndarray:
    """Draw every nucleus: size, place (no overlap beyond a touch), and the direction its type takes."""
    order = [k for k in (NEURON, ENDOTHELIAL, EPITHELIAL, MACROPHAGE, GLIA, FIBROBLAST, LYMPHOCYTE) if counts[k]]
    tries = 6
    weights = _weights(scene, rng, spacing)
    kinds = np.repeat(order, [tries * counts[k] + 6 for k in order])
    axes = HALF_AXES_UM[kinds].copy()
    spread = SPREAD[kinds]
    malignant = np.zeros(len(kinds), dtype=bool)
    if scene.tissue in MALIGNANT_TYPE:
        malignant = kinds == MALIGNANT_TYPE[scene.tissue]
        axes[malignant], spread[malignant] = MALIGNANT_HALF_AXES_UM[scene.tissue]
    size = np.exp(spread * rng.standard_normal(len(kinds)))
    slim = np.exp(0.6 * spread * rng.standard_normal(len(kinds)))
    long_um, short_um = axes[:, 0] * size * slim, axes[:, 1] * size / slim
    long_um, short_um = np.maximum(long_um, short_um), np.minimum(long_um, short_um)
    if len(order):
        centres = np.concatenate([_draw_points(rng, weights[k], tries * counts[k] + 6, scene.field_um) for k in order])
    else:
        centres = np.zeros((0, 2))
    angle = rng.uniform(0, np.pi, len(kinds))
    _ring_around_vessels(rng, scene, kinds, centres, angle)
    radius = np.sqrt(long_um * short_um)
    radius = np.where(kinds == NEURON, 1.9 * radius, 0.92 * radius + 0.1)
    kept = _separated(centres, radius, kinds, counts)
    missing = counts - np.bincount(kinds[kept], minlength=N_TYPES)
    if missing.any():  # crowded: let the rest overlap a little
        rest = np.setdiff1d(np.arange(len(kinds)), kept)
        again = np.concatenate([kept, rest])
        quota = counts.copy()
        tight = np.concatenate([0.78 * radius[kept], 0.62 * radius[rest]])
        kept = again[_separated(centres[again], tight, kinds[again], quota)]
    kept = kept[np.argsort(kinds[kept], kind="stable")]
    nuclei = np.zeros(len(kept), NUCLEUS)
    nuclei["x_um"], nuclei["y_um"] = centres[kept, 0], centres[kept, 1]
    nuclei["kind"], nuclei["malignant"] = kinds[kept], malignant[kept]
    nuclei["long_um"], nuclei["short_um"] = long_um[kept], short_um[kept]
    nuclei["angle"] = _turned(rng, scene, kinds[kept], centres[kept], angle[kept], spacing)
    return nuclei


def _ring_around_vessels(
    rng: np.random.Generator, scene: Scene, kinds: np.ndarray, centres: np.ndarray, angle: np.ndarray
) -> None:
    """Move most endothelial candidates on the walls of the vessels, turned along them (in place)."""
    here = np.flatnonzero(kinds == ENDOTHELIAL)
    if not len(scene.vessels) or not len(here):
        return
    here = here[rng.random(len(here)) < 0.8]
    vessel = scene.vessels[rng.integers(len(scene.vessels), size=len(here))]
    around = rng.uniform(0, 2 * np.pi, len(here))
    u, v = (vessel[:, 2] + 1.4) * np.cos(around), (vessel[:, 3] + 1.4) * np.sin(around)
    cosine, sine = np.cos(vessel[:, 4]), np.sin(vessel[:, 4])
    centres[here, 0] = vessel[:, 0] + cosine * u - sine * v
    centres[here, 1] = vessel[:, 1] + sine * u + cosine * v
    angle[here] = vessel[:, 4] + np.arctan2((vessel[:, 3] + 1.4) * np.cos(around), -(vessel[:, 2] + 1.4) * np.sin(around))


def _turned(
    rng: np.random.Generator, scene: Scene, kinds: np.ndarray, centres: np.ndarray, angle: np.ndarray, spacing: float
) -> np.ndarray:
    """Turn fibroblasts along the fibres, gland cells across their rim, septal cells along the septum."""
    points = scene.across.shape[0]
    cell = np.clip(((centres + MARGIN_UM) / spacing).astype(int), 0, points - 1)
    gy, gx = np.gradient(scene.across)
    along = np.arctan2(gx, -gy)[cell[:, 1], cell[:, 0]] + 0.18 * rng.standard_normal(len(kinds))
    turned = np.where(kinds == FIBROBLAST, along, angle)
    if scene.tissue == "adenocarcinoma-like":
        gy, gx = np.gradient(scene.depth)
        radial = np.arctan2(gy, gx)[cell[:, 1], cell[:, 0]] + 0.22 * rng.standard_normal(len(kinds))
        turned = np.where(kinds == EPITHELIAL, radial, turned)
    elif scene.tissue == "lung-like":
        gy, gx = np.gradient(scene.depth)
        septal = np.arctan2(gx, -gy)[cell[:, 1], cell[:, 0]]
        along_septum = np.isin(kinds, (FIBROBLAST, EPITHELIAL, ENDOTHELIAL))
        turned = np.where(along_septum, septal + 0.2 * rng.standard_normal(len(kinds)), turned)
    elif scene.tissue == "glioma-like":
        turned = np.where(kinds == GLIA, along + 0.5 * rng.standard_normal(len(kinds)), turned)
    elif scene.tissue == "squamous-like":
        turned = np.where((kinds == EPITHELIAL) & (rng.random(len(kinds)) < 0.5), along, turned)
    return np.mod(turned, np.pi)
