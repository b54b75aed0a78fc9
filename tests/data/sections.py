"""Drawn sections for the tests of tiling: pink tissue with purple nuclei on glass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def draw_section(path: Path, *, seed: int = 0, size_px: int = 512) -> Path:
    """Write a PNG of `size_px` squared whose middle three quarters are tissue."""
    rng = np.random.default_rng(seed)
    image = np.full((size_px, size_px, 3), 240, np.uint8)
    nuclei = np.kron(rng.random((size_px // 8, size_px // 8)) < 0.2, np.ones((8, 8), bool))
    inside = np.zeros((size_px, size_px), bool)
    inside[size_px // 8 : -size_px // 8, size_px // 8 : -size_px // 8] = True
    image[inside] = (220, 160, 190)
    image[inside & nuclei] = (90, 60, 140)
    image[inside] -= rng.integers(0, 40, (int(inside.sum()), 1), dtype=np.uint8)  # texture: no tile lacks contrast
    Image.fromarray(image).save(path)
    return path
