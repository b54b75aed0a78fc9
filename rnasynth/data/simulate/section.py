"""A whole simulated section on glass, with its true tissue mask and a pen stroke: the slide step's oracle."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from scipy.ndimage import gaussian_filter, zoom

from rnasynth import files
from rnasynth.data.simulate.design import SimulationConfig, patient_name
from rnasynth.data.simulate.render import render_tile

BLOCK_PX = 512  # the section is laid from fields of this size, of one patient and one stain
FIELDS = 8  # that many are rendered; each is laid several times, turned and mirrored
GLASS = np.array([243.0, 242.0, 244.0], np.float32)  # bright and colourless, as glass under a scanner's lamp
PEN = np.array([38.0, 120.0, 70.0], np.float32)  # green ink
PATIENT_OF_SECTION = 2  # whose section a simulated cohort shows: the first adenocarcinoma-like one
PEN_HALF_WIDTH_UM = 45.0
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Section:
    """A simulated section.

    image : uint8 RGB (H, W, 3). tissue, pen : bool (H, W), true tissue (also under ink), and ink. mpp_um : um/px.
    """

    image: np.ndarray
    tissue: np.ndarray
    pen: np.ndarray
    mpp_um: float


def render_section(config: SimulationConfig, patient: int = 0, *, blocks: tuple[int, int] = (6, 8)) -> Section:
    """Render a section of one patient: an island of tissue with a ragged edge and a hole, on glass, with a pen stroke.

    Parameters
    ----------
    config : its seed and renderer; the tile size is not used.
    patient : whose tissue and stain.
    blocks : rows and columns of fields of 512 px (256 um at 0.5 um/px).
    """
    field = dataclasses.replace(config, tile_px=BLOCK_PX, mpp_um=0.5)
    rng = np.random.default_rng([config.seed, patient, 77])
    fields = [render_tile(field, patient, number).image for number in range(min(FIELDS, blocks[0] * blocks[1]))]
    order = [number % len(fields) for number in range(blocks[0] * blocks[1])]
    laid = [np.rot90(fields[number], turn) for number, turn in zip(order, rng.integers(0, 4, len(order)), strict=True)]
    rows = [np.concatenate(laid[row * blocks[1] : (row + 1) * blocks[1]], axis=1) for row in range(blocks[0])]
    image = np.concatenate(rows).astype(np.float32)
    height, width = image.shape[:2]
    tissue = _island(rng, height, width)
    pen = _stroke(height, width, field.mpp_um)
    image[~tissue] = GLASS
    image[pen] = 0.25 * image[pen] + 0.75 * PEN
    return Section(np.clip(np.rint(image), 0, 255).astype(np.uint8), tissue, pen, field.mpp_um)


def write_section(folder: str | Path, config: SimulationConfig, patient: int = 0) -> Path:
    """Write a section as JPEG with its truth beside it, once; return the image's path.

    Files: `section-PATIENT.jpg`, and `section-PATIENT.npz` with "tissue" and "pen" (bool, packed bits) and their shape.
    """
    path = Path(folder) / f"section-{patient_name(patient)}.jpg"
    if not path.exists():
        section = render_section(config, patient)
        with files.atomic_path(path.with_suffix(".npz")) as temporary:
            np.savez(
                temporary,
                tissue=np.packbits(section.tissue),
                pen=np.packbits(section.pen),
                shape=np.array(section.tissue.shape),
            )
        jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(section.image), quality=JPEG_QUALITY, colorsubsampling="444")
        files.write_bytes(path, jpeg)
    return path


def read_truth(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the true masks (tissue, pen), bool (H, W), of a section that `write_section` wrote."""
    with np.load(Path(path).with_suffix(".npz")) as stored:
        shape = tuple(stored["shape"])
        size = int(np.prod(shape))
        tissue, pen = (np.unpackbits(stored[name], count=size).astype(bool).reshape(shape) for name in ("tissue", "pen"))
    return tissue, pen


def _island(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One rounded piece of tissue with a ragged edge and one round hole, bool (H, W)."""
    step = 16
    small = (height // step, width // step)
    y, x = np.mgrid[0 : small[0], 0 : small[1]]
    radius = np.hypot((y / small[0] - 0.5) / 0.44, (x / small[1] - 0.5) / 0.43)
    rough = gaussian_filter(rng.normal(size=small), 5)
    edge = radius + 0.13 * rough / rough.std()
    hole = np.hypot((y / small[0] - 0.44) * height, (x / small[1] - 0.62) * width) < 0.085 * width
    level = zoom(np.where(hole, 2.0, edge), step, order=1)[:height, :width]
    fine = gaussian_filter(rng.normal(size=(height // 4, width // 4)).astype(np.float32), 3)
    ragged = zoom(0.02 * fine / fine.std(), 4, order=1)[:height, :width]
    return np.asarray(level + ragged < 1.0)


def _stroke(height: int, width: int, mpp_um: float) -> np.ndarray:
    """A slanted pen line near the right edge, bool (H, W)."""
    y, x = np.mgrid[0:height, 0:width]
    centre = 0.80 * width + 0.10 * width * np.sin(y / height * 3.0)
    return np.asarray(np.abs(x - centre) < PEN_HALF_WIDTH_UM / mpp_um) & (y > 0.12 * height) & (y < 0.62 * height)
