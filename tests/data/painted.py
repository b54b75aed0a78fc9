"""Small painted sections for the tests of slides and tissue: no mirror of real data needed."""

from __future__ import annotations

import numpy as np

GLASS = (238, 236, 240)


def section(
    width_px: int, height_px: int, *, seed: int = 0, tissue: tuple[float, float, float, float] = (0, 0, 1, 1)
) -> np.ndarray:
    """H&E-like noise: pink stroma with purple nuclei in the box `tissue` (left, top, right, bottom; shares), else glass."""
    rng = np.random.default_rng(seed)
    image = np.empty((height_px, width_px, 3), np.float32)
    image[:] = GLASS
    left, top, right, bottom = (round(s * n) for s, n in zip(tissue, (width_px, height_px) * 2, strict=True))
    stroma = np.array([214, 150, 190], np.float32)
    image[top:bottom, left:right] = stroma
    for x, y in rng.uniform((left, top), (right, bottom), (max(1, width_px * height_px // 900), 2)).astype(int):
        radius = int(rng.integers(3, 7))
        x0, y0 = max(left, x - radius), max(top, y - radius)
        image[y0 : min(bottom, y + radius), x0 : min(right, x + radius)] = (98, 66, 140)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
