"""A scene's picture: concentrations of haematoxylin and eosin, then light, blur and noise.

Renderer "a" draws wavy-edged nuclei, chromatin as smooth noise and fibres from a noise table; renderer "b" draws
superelliptic, tapered nuclei, granular chromatin, sine-wave fibres, and stains as frozen sections look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnasynth.data.simulate.design import (
    ENDOTHELIAL,
    EPITHELIAL,
    FIBROBLAST,
    GLIA,
    LYMPHOCYTE,
    MACROPHAGE,
    NEURON,
    TISSUES,
    SimulationConfig,
    stream,
)
from rnasynth.data.simulate.fields import coarse_axes, smooth_noise, smoothstep, upsample
from rnasynth.data.simulate.matter import epithelium, neuropil, septa, stroma
from rnasynth.data.simulate.nuclei import Painted, Shapes, paint
from rnasynth.data.simulate.profiles import make_patient, tile_fractions
from rnasynth.data.simulate.scene import Scene, lay_out
from rnasynth.data.simulate.stain import Stain, draw_stain, transmit

#: Haematoxylin of a nucleus by type: inside, its rim, chromatin contrast, paleness of the middle. Last row: malignant.
NUCLEAR_LOOK = np.array(
    [
        (0.95, 0.35, 0.30, 0.25),  # epithelial
        (1.25, 0.15, 0.20, 0.05),  # fibroblast
        (1.30, 0.15, 0.20, 0.05),  # endothelial
        (1.75, 0.20, 0.38, 0.00),  # lymphocyte
        (0.95, 0.25, 0.28, 0.20),  # macrophage
        (0.62, 0.35, 0.20, 0.35),  # neuron
        (1.15, 0.30, 0.32, 0.10),  # glia
        (0.98, 0.45, 0.45, 0.35),  # malignant
    ],
    dtype=np.float32,
)
MALIGNANT_ROW = len(NUCLEAR_LOOK) - 1


@dataclass(frozen=True)
class Tile:
    """One rendered tile with its truth.

    image : (H, W, 3) uint8 RGB.
    concentrations : (2, H, W) float32, haematoxylin and eosin before blur and noise.
    stain : the patient's stain.
    mask : (H, W) uint16, number of the nucleus in `nuclei` + 1, 0 for none.
    nuclei : structured array (`scene.NUCLEUS`), also of those that only reach in from beyond the border.
    tissue_fraction : share of the tile that is neither lumen nor airspace.
    """

    image: np.ndarray
    concentrations: np.ndarray
    stain: Stain
    mask: np.ndarray
    nuclei: np.ndarray
    tissue_fraction: float


def render_tile(
    config: SimulationConfig,
    patient: int,
    tile: int,
    *,
    tissue: str | None = None,
    fractions: np.ndarray | None = None,
    stain: Stain | None = None,
) -> Tile:
    """Render one tile; a pure function of its arguments, whatever was rendered before.

    `tissue`, `fractions` (7,) and `stain` replace the patient's own: with all else equal, for questions of cause.
    """
    if tissue is None or fractions is None:
        person = make_patient(config, patient)
        tissue = tissue or person.tissue
        fractions = tile_fractions(config, person, tile) if fractions is None else fractions
    scene = lay_out(stream("scene", config.seed, patient, tile), tissue, np.asarray(fractions), config.field_um)
    rng = stream("pixels", config.seed, patient, tile, ord(config.renderer), TISSUES.index(tissue))
    painted = paint(_nuclear_shapes(rng, scene, config), config.tile_px, config.mpp_um)
    stain = stain or draw_stain(config, patient)
    concentrations = _concentrations(rng, scene, painted, config)
    mask = np.where(painted.q <= 1.0, painted.owner, 0).astype(np.uint16)
    image = _photograph(rng, concentrations, stain, config)
    axis = coarse_axes(config.field_um)
    inside = np.flatnonzero((axis > 0) & (axis < config.field_um))
    tissue_fraction = 1.0 - float(scene.lumen[np.ix_(inside, inside)].mean())
    return Tile(image, concentrations, stain, mask, scene.nuclei, tissue_fraction)


def nuclei_mask(config: SimulationConfig, patient: int, tile: int) -> np.ndarray:
    """Return the instance mask (H, W) uint16 of a tile, drawn anew: nucleus number in the tile's table + 1, 0 for none."""
    return render_tile(config, patient, tile).mask


def _nuclear_shapes(rng: np.random.Generator, scene: Scene, config: SimulationConfig) -> Shapes:
    """Give every nucleus its outline's irregularities and its nucleoli."""
    nuclei = scene.nuclei
    n = len(nuclei)
    kind, malignant = nuclei["kind"], nuclei["malignant"]
    rough = np.where(malignant, 0.065, 0.03)
    bend = np.where(np.isin(kind, (FIBROBLAST, ENDOTHELIAL)), 0.09, np.where(kind == MACROPHAGE, 0.12, 0.0))
    bend = bend * rng.standard_normal(n)
    spots = np.zeros((n, 2, 3))
    spots[:, :, :2] = rng.uniform(-0.45, 0.45, (n, 2, 2))
    chance = np.where(kind == NEURON, 1.0, np.where(malignant, 0.75, np.where(kind == EPITHELIAL, 0.35, 0.0)))
    spots[:, :, 2] = np.where(rng.random((n, 2)) < chance[:, None] * (1.0, 0.35), rng.uniform(0.55, 0.95, (n, 2)), 0.0)
    spots[kind == NEURON, 1, 2] = 0
    common = {name: nuclei[name] for name in ("x_um", "y_um", "long_um", "short_um", "angle")}
    if config.renderer == "a":
        waves = rough[:, None] * rng.standard_normal((n, 6)) * (1.0, 1.0, 0.8, 0.8, 0.5, 0.5)
        return Shapes(**common, waves=waves, bend=bend, spots=spots)
    power = rng.uniform(1.75, 2.7, n)
    return Shapes(**common, power=power, taper=rng.normal(0, 0.16, n), bend=0.7 * bend, spots=spots)


def _concentrations(rng: np.random.Generator, scene: Scene, painted: Painted, config: SimulationConfig) -> np.ndarray:
    """Return haematoxylin and eosin (2, H, W) of the whole tile, float32, 0 or more."""
    px, mpp, field = config.tile_px, config.mpp_um, config.field_um
    fine = smooth_noise(rng, px, mpp, 0.7 if config.renderer == "a" else 0.55)
    mid = smooth_noise(rng, px, mpp, 2.4)
    large = smooth_noise(rng, px, mpp, 15.0)
    lumen = upsample(scene.lumen, field, px)
    if scene.tissue in ("cortex-like", "glioma-like"):
        haematoxylin, eosin = neuropil(rng, scene, config, fine, mid, large)
    else:
        haematoxylin, eosin = stroma(rng, scene, config, fine, mid, large)
        if scene.tissue == "lung-like":
            haematoxylin, eosin = septa(scene, config, haematoxylin, eosin, fine, mid)
        elif scene.epithelium.any():
            haematoxylin, eosin = epithelium(rng, scene, config, haematoxylin, eosin, (fine, mid, large))
    keep = 1 - lumen
    secretion = 0.05 * np.clip(mid + large, 0, None) * (scene.tissue == "adenocarcinoma-like")
    haematoxylin = haematoxylin * keep + lumen * (0.012 + 0.5 * secretion)
    eosin = eosin * keep + lumen * (0.015 + secretion)
    _vessels(rng, scene, config, haematoxylin, eosin)
    _cell_bodies(rng, scene, config, haematoxylin, eosin, fine, mid)
    _nuclei(scene, painted, haematoxylin, eosin, fine, mid, config.renderer)
    both = np.stack([haematoxylin, eosin])
    return np.maximum(both, 0.0, out=both)


def _vessels(
    rng: np.random.Generator, scene: Scene, config: SimulationConfig, haematoxylin: np.ndarray, eosin: np.ndarray
) -> None:
    """Cut the vessels' lumina with a thin wall, red cells in them; in place."""
    vessels = scene.vessels
    if not len(vessels):
        return
    x, y, long_um, short_um, angle = vessels.T
    wall = paint(Shapes(x, y, long_um + 1.2, short_um + 1.2, angle), config.tile_px, config.mpp_um)
    at = np.nonzero(wall.cover)
    cover, q = wall.cover[at], wall.q[at]
    inside = smoothstep(q, 0.82, 0.62)
    e, h = eosin[at], haematoxylin[at]
    e += cover * (0.74 - e)
    h += cover * (0.14 - h)
    e += inside * (0.05 - e)
    h += inside * (0.02 - h)
    each = rng.poisson(np.clip(long_um * short_um / 6.0, 0.6, 4.0))
    which = np.repeat(np.arange(len(vessels)), each)
    n = len(which)
    r, phi = np.sqrt(rng.random(n)) * 0.8, rng.uniform(0, 6.28, n)
    u, v = r * np.cos(phi) * long_um[which], r * np.sin(phi) * short_um[which]
    ca, sa = np.cos(angle[which]), np.sin(angle[which])
    radius = rng.uniform(1.5, 2.3, n)
    blood = Shapes(x[which] + ca * u - sa * v, y[which] + sa * u + ca * v, radius * 1.15, radius, rng.uniform(0, 3.1, n))
    red = paint(blood, config.tile_px, config.mpp_um)
    share = red.cover[at] * smoothstep(q, 1.05, 0.9)
    e += share * (1.25 - 0.25 * (red.q[at] < 0.5) - e)
    eosin[at], haematoxylin[at] = e, h * (1 - share)


def _cell_bodies(
    rng: np.random.Generator,
    scene: Scene,
    config: SimulationConfig,
    haematoxylin: np.ndarray,
    eosin: np.ndarray,
    fine: np.ndarray,
    mid: np.ndarray,
) -> None:
    """Draw the bodies that stand out from their surroundings: macrophages, neurons, halos of glia and lymphocytes."""
    nuclei = scene.nuclei
    kind = nuclei["kind"]
    halo = (kind == GLIA) & ~nuclei["malignant"] & (rng.random(len(nuclei)) < 0.75)
    halo |= (kind == LYMPHOCYTE) & (rng.random(len(nuclei)) < 0.35)
    chosen = nuclei[(kind == MACROPHAGE) | (kind == NEURON) | halo]
    n = len(chosen)
    if not n:
        return
    body = chosen["kind"]
    neuron, macrophage = body == NEURON, body == MACROPHAGE
    long_um = np.where(
        neuron, 1.85 * chosen["long_um"], np.where(macrophage, 1.9 * chosen["long_um"], chosen["long_um"] + 1.1)
    )
    short_um = np.where(
        neuron, 1.35 * chosen["short_um"], np.where(macrophage, 2.3 * chosen["short_um"], chosen["short_um"] + 1.0)
    )
    turn = np.where(neuron, rng.normal(1.3, 0.3, n), chosen["angle"])  # apical dendrites point one way
    waves = np.zeros((n, 6))
    waves[:, 2] = np.where(neuron, 0.17, 0.0)
    waves += np.where(neuron | macrophage, 0.05, 0.02)[:, None] * rng.standard_normal((n, 6))
    shift = np.where(macrophage, 0.35, 0.0) * chosen["long_um"]
    away = rng.uniform(0, 6.28, n)
    x, y = chosen["x_um"] + shift * np.cos(away), chosen["y_um"] + shift * np.sin(away)
    drawn = paint(Shapes(x, y, long_um, short_um, turn, waves=waves), config.tile_px, config.mpp_um)
    foam = float(rng.random() < 0.4)
    table = np.zeros((n + 1, 4), np.float32)  # haematoxylin, eosin, contrast, opacity
    table[1:] = np.where(neuron[:, None], (0.42, 0.50, 0.10, 0.95), (0.03, 0.10, 0.02, 0.8))
    table[1:][macrophage] = (0.10, 0.52 - 0.22 * foam, 0.09 + 0.06 * foam, 0.92)
    at = np.nonzero(drawn.cover)
    cover, e, h = drawn.cover[at], eosin[at], haematoxylin[at]
    look = table[drawn.owner[at]]
    texture = look[:, 2] * (fine[at] + 0.6 * mid[at])
    opacity = cover * look[:, 3]
    outline = np.exp(-(((drawn.q[at] - 0.96) / 0.08) ** 2)) * (look[:, 2] > 0.05) * cover
    haematoxylin[at] = h + opacity * (look[:, 0] * (1 + texture) - h)
    eosin[at] = e + opacity * (look[:, 1] + texture * 0.6 - e) + 0.14 * outline


def _nuclei(
    scene: Scene,
    painted: Painted,
    haematoxylin: np.ndarray,
    eosin: np.ndarray,
    fine: np.ndarray,
    mid: np.ndarray,
    renderer: str,
) -> None:
    """Stain the nuclei over everything else; in place."""
    if not len(scene.nuclei):
        return
    row = np.where(scene.nuclei["malignant"], MALIGNANT_ROW, scene.nuclei["kind"])
    look = NUCLEAR_LOOK[row]
    # Each nucleus has its own density, pyknotic to pale, hashed from its place: the same for both renderers.
    look[:, 0] *= 0.82 + 0.36 * np.mod(scene.nuclei["angle"] * 57.3 + scene.nuclei["x_um"] * 7.7, 1.0)
    at = np.nonzero(painted.cover)
    cover, q, spots, grain = painted.cover[at], painted.q[at], painted.spots[at], fine[at]
    base, rim, contrast, pale = look[painted.owner[at] - 1].T
    chromatin = 0.85 * grain + 0.5 * mid[at] if renderer == "a" else np.sign(grain) * np.sqrt(np.abs(grain)) + 0.2 * mid[at]
    inside = base * (1 - pale * smoothstep(q, 0.95, 0.25)) * (1 + contrast * np.clip(chromatin, -1.8, 1.8))
    inside += rim * np.exp(-(((q - 0.90) / 0.11) ** 2)) + 0.9 * spots
    haematoxylin[at] += cover * (inside - haematoxylin[at])
    eosin[at] += cover * (0.28 + 0.25 * spots - eosin[at])


def _photograph(rng: np.random.Generator, concentrations: np.ndarray, stain: Stain, config: SimulationConfig) -> np.ndarray:
    """Light, the microscope's blur and the camera's noise; (H, W, 3) uint8."""
    light = transmit(concentrations, stain)
    sigma_px = (0.28 if config.renderer == "a" else 0.55) / config.mpp_um
    for _ in range(1 if config.renderer == "a" else 2):
        weight = min(0.5 * sigma_px**2 / (1 if config.renderer == "a" else 2), 0.25)
        light = _soften(light, weight)
    slope = rng.uniform(-0.015, 0.015, 2)
    ramp = np.linspace(-1, 1, config.tile_px, dtype=np.float32)
    light *= (1 + slope[0] * ramp[:, None] + slope[1] * ramp[None])[..., None].astype(np.float32)
    grain = rng.integers(0, 256, light.shape, dtype=np.uint8).astype(np.float32)
    light += (grain - np.float32(127.5)) * np.float32(0.026)  # uniform, standard deviation 1.9 of 255
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def _soften(light: np.ndarray, weight: float) -> np.ndarray:
    """Convolve rows and columns with (w, 1 - 2 w, w), edges repeated: a Gaussian of variance 2 w pixels."""
    for axis in (0, 1):
        light = np.swapaxes(light, 0, axis)
        out = (1 - 2 * weight) * light
        out[1:] += weight * light[:-1]
        out[:-1] += weight * light[1:]
        out[0] += weight * light[0]
        out[-1] += weight * light[-1]
        light = np.swapaxes(out, 0, axis)
    return light
