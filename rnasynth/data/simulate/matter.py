"""What lies between the nuclei: collagen, neuropil, alveolar walls, epithelial cytoplasm, as stain concentrations."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rnasynth.data.simulate.design import EPITHELIAL, SimulationConfig
from rnasynth.data.simulate.fields import coarse_axes, nearest_two, smoothstep, upsample
from rnasynth.data.simulate.scene import Scene


@lru_cache(maxsize=1)
def _fibre_table() -> np.ndarray:
    """Return a smooth periodic noise (512, 512) of unit variance and correlation length 5 entries, always the same."""
    rng = np.random.Generator(np.random.PCG64(20))
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)[None])
    spectrum = np.fft.rfft2(rng.standard_normal((512, 512))) * np.exp(-((frequency * 5.0) ** 2) * 2.5)
    table = np.fft.irfft2(spectrum, s=(512, 512))
    table /= table.std()
    return table.astype(np.float32)


def _fibres(rng: np.random.Generator, scene: Scene, config: SimulationConfig, width_um: float) -> np.ndarray:
    """Return fibres (H, W) of about unit variance that run along the scene's fibre coordinates."""
    along, across = (upsample(c, config.field_um, config.tile_px) for c in (scene.along, scene.across))
    if config.renderer == "b":
        phase = rng.uniform(0, 6.28, 3)
        shift = 1.5 * np.sin(along / 9.0 + phase[0]) + 0.8 * np.sin(along / 3.7 + phase[1])
        turn = (across + shift) * (2.2 / width_um)
        return np.asarray(np.sin(turn) + 0.6 * np.sin(2.3 * turn + along / 5 + phase[2]), dtype=np.float32)
    offset = rng.integers(0, 512, 2)
    row = (across * (5.0 / width_um) + offset[0]).astype(np.int32) & 511
    column = (along * 0.55 + offset[1]).astype(np.int32) & 511
    return _fibre_table()[row, column]


def stroma(
    rng: np.random.Generator, scene: Scene, config: SimulationConfig, fine: np.ndarray, mid: np.ndarray, large: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Collagen: bundles with pale clefts between them, denser where there are more fibroblasts."""
    coarse_fibre = _fibres(rng, scene, config, 2.3)
    thin_fibre = _fibres(rng, scene, config, 0.9)
    dense = scene.fibrosis
    height = 0.8 * coarse_fibre + 0.7 * thin_fibre + 0.6 * large
    bundle = smoothstep(height, -1.5 + 0.7 * (1 - dense), -0.5 + 1.3 * (1 - dense))
    body = 0.50 + 0.24 * dense + 0.09 * coarse_fibre + 0.11 * thin_fibre + 0.06 * fine
    web = 0.20 + 0.10 * fine + 0.10 * mid  # loose matrix and clefts
    eosin = web * (1 - bundle) * (1 - 0.5 * dense) + bundle * body
    haematoxylin = 0.05 + 0.05 * bundle + 0.02 * mid
    return haematoxylin, eosin


def neuropil(
    rng: np.random.Generator, scene: Scene, config: SimulationConfig, fine: np.ndarray, mid: np.ndarray, large: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Felt of processes with small vacuoles; coarser, streaky and bluer in glioma-like tissue."""
    tumour = scene.tissue == "glioma-like"
    streak = _fibres(rng, scene, config, 1.3)
    felt = 0.085 * fine + 0.06 * mid + (0.10 if tumour else 0.06) * streak
    vacuoles = smoothstep(mid + 0.35 * fine, 1.7 if tumour else 1.9, 2.6)
    eosin = (0.52 if tumour else 0.56) + felt + 0.05 * large
    pale = 0.75 * vacuoles
    haematoxylin = (0.15 if tumour else 0.09) + 0.03 * mid + 0.02 * large
    return haematoxylin * (1 - pale), eosin * (1 - pale)


def septa(
    scene: Scene, config: SimulationConfig, haematoxylin: np.ndarray, eosin: np.ndarray, fine: np.ndarray, mid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Alveolar walls: a pink film with a brighter rim, fibrous where fibroblasts are many."""
    depth = upsample(scene.depth, config.field_um, config.tile_px)
    rim = np.exp(-(((depth - 0.93) / 0.12) ** 2))
    wall = 0.52 + 0.12 * mid + 0.09 * fine
    share = 0.25 + 0.6 * scene.fibrosis
    return haematoxylin + 0.06 + 0.05 * rim, share * eosin + (1 - share) * wall + 0.16 * rim


def epithelium(
    rng: np.random.Generator,
    scene: Scene,
    config: SimulationConfig,
    haematoxylin: np.ndarray,
    eosin: np.ndarray,
    noises: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Lay epithelial cytoplasm, with its cell borders, over the stroma."""
    fine, mid, _ = noises
    field, px = config.field_um, config.tile_px
    cover = upsample(scene.epithelium, field, px)
    depth = upsample(scene.depth, field, px)
    cells = scene.nuclei[scene.nuclei["kind"] == EPITHELIAL]
    border = np.zeros((px, px), np.float32)
    tint = border
    if len(cells) > 1:
        x, y = np.meshgrid(coarse_axes(field), coarse_axes(field))
        seeds = np.stack([cells["x_um"], cells["y_um"]], axis=1)
        first, second, nearest = nearest_two(x, y, seeds)
        far = smoothstep(first, 15.0, 10.0)
        border = upsample(smoothstep(second - first, 3.4, 0.5) * far, field, px)
        tint = upsample(rng.standard_normal(len(cells), dtype=np.float32)[nearest], field, px)
    if scene.tissue == "squamous-like":
        keratin = smoothstep(depth, 0.42, 0.02) * float(rng.random() < 0.6)
        lamella = np.sin(26.0 * depth + 1.2 * mid)
        body_e = 0.66 + 0.06 * tint + 0.06 * mid + 0.08 * fine + keratin * (0.34 + 0.13 * lamella)
        body_h = 0.17 - 0.12 * keratin + 0.015 * tint
        body_e = body_e + border * (0.26 if rng.random() < 0.6 else -0.42)
        body_h = body_h * (1 - 0.5 * border)
    else:
        mucin = smoothstep(depth, 0.55, 0.15) * float(rng.beta(0.7, 1.4))
        body_e = 0.50 + 0.05 * tint + 0.08 * mid + 0.09 * fine + 0.14 * border
        body_e += 0.20 * np.exp(-((depth / 0.09) ** 2))  # apical border
        body_e = body_e * (1 - 0.72 * mucin)
        body_h = (0.27 + 0.03 * tint + 0.03 * mid) * (1 - 0.55 * mucin)
    retraction = float(rng.random() ** 2) * np.exp(-(((cover - 0.22) / 0.14) ** 2))
    eosin = (cover * body_e + (1 - cover) * eosin) * (1 - 0.8 * retraction)
    haematoxylin = cover * body_h + (1 - cover) * haematoxylin
    return haematoxylin, eosin
