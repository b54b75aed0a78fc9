"""Stains by Beer-Lambert: concentration images to light and back, and how stains differ between patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnasynth.data.simulate.design import SimulationConfig, stream

#: Unit optical-density vectors (red, green, blue; natural log) of haematoxylin and eosin, and their standard deviation
#: over patients. Renderer "a": method of Macenko et al. 2009 (1st and 99th percentile angles taken at 2 % and 98 %) on
#: the 23 MoNuSeg images at 40x: haematoxylin (0.564, 0.724, 0.390) +- (0.059, 0.035, 0.034), eosin (0.242, 0.811, 0.523)
#: +- (0.071, 0.031, 0.062); the eosin here is purer by a fifth of the difference, because the percentile angle of a
#: tissue is never free of haematoxylin. Renderer "b": her2st sections C2 and C4, (0.73, 0.60, 0.32), (0.42, 0.77, 0.47).
VECTORS = {
    "a": np.array([[0.575, 0.718, 0.385], [0.185, 0.825, 0.530]]),
    "b": np.array([[0.725, 0.608, 0.322], [0.300, 0.840, 0.450]]),
}
VECTOR_SD = {"a": np.array([[0.050, 0.030, 0.028], [0.050, 0.030, 0.050]]), "b": np.full((2, 3), 0.03)}
STRENGTH = {"a": (1.18, 1.15), "b": (1.25, 0.62)}  # median, of haematoxylin and eosin
STRENGTH_SD = {"a": (0.20, 0.22), "b": (0.15, 0.20)}  # natural log
WHITE = {"a": np.array([242.0, 240.0, 243.0]), "b": np.array([231.0, 213.0, 229.0])}  # empty glass, 0 to 255


@dataclass(frozen=True)
class Stain:
    """How one patient's slide is stained and lit.

    vectors : (2, 3) optical density (natural log) of one unit of haematoxylin and eosin in red, green, blue.
    white : (3,) light through empty glass, 0 to 255.
    """

    vectors: np.ndarray
    white: np.ndarray


def draw_stain(config: SimulationConfig, patient: int) -> Stain:
    """Draw a patient's stain from its own random stream."""
    kind = config.renderer
    rng = stream("stain", config.seed, patient, ord(kind))
    vectors = VECTORS[kind] + VECTOR_SD[kind] * rng.standard_normal((2, 3))
    vectors = np.clip(vectors, 0.03, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strength = np.array(STRENGTH[kind]) * np.exp(np.array(STRENGTH_SD[kind]) * np.clip(rng.standard_normal(2), -2, 2))
    white = WHITE[kind] + rng.normal(0, 3, 3)
    return Stain(vectors * strength[:, None], np.clip(white, 180, 250))


def transmit(concentrations: np.ndarray, stain: Stain) -> np.ndarray:
    """Return the light behind the tissue: white * exp(-concentrations . vectors), Beer-Lambert.

    `concentrations` (2, H, W) float32, 0 or more; result (H, W, 3) float32, 0 to 255.
    """
    light = concentrations.reshape(2, -1).T @ (-stain.vectors).astype(np.float32)
    np.exp(light, out=light)
    light *= stain.white.astype(np.float32)
    return light.reshape(*concentrations.shape[1:], 3)


def unmix(image: np.ndarray, stain: Stain) -> np.ndarray:
    """Return the concentrations (2, H, W) of an image (H, W, 3), 0 to 255, by least squares; inverts `transmit`."""
    density = -np.log(np.maximum(image.astype(np.float64), 0.5) / stain.white)
    solved = np.linalg.lstsq(stain.vectors.T, density.reshape(-1, 3).T, rcond=None)[0]
    return np.asarray(solved.reshape(2, *image.shape[:2]))
