"""Colours that carry meaning can be told apart by colour-blind readers, and drawings can be read on a phone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab

from rnasynth.config import project_folder
from rnasynth.plots import systems
from rnasynth.plots.style import OKABE_ITO, SPLIT_COLOURS

# Machado, Oliveira and Fernandes, IEEE TVCG 2009, table of severity 1.0; they act on linear RGB.
DEFICIENCIES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
APART = 10.0  # CIEDE2000; 1 is just noticed side by side, 10 is seen at a glance


def nearest_pair(colours: Sequence[str], deficiency: str) -> float:
    """Least CIEDE2000 difference of two of the colours as somebody with the deficiency sees them."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(DEFICIENCIES[deficiency]).T, 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen[None])[0]
    return min(float(deltaE_ciede2000(one, other)) for one, other in itertools.combinations(lab, 2))


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_groups_and_splits_can_be_told_apart_without_colour_vision(deficiency: str) -> None:
    assert nearest_pair(OKABE_ITO, deficiency) >= APART
    assert nearest_pair(list(SPLIT_COLOURS.values()), deficiency) >= APART


def test_red_and_green_as_matplotlib_has_them_would_fail() -> None:
    assert nearest_pair(["#d62728", "#2ca02c"], "deuteranopia") < APART
    assert nearest_pair(["#2ca02c", "#ff7f0e"], "protanopia") < APART


def test_a_white_matrix_row_stays_white() -> None:
    for matrix in DEFICIENCIES.values():
        np.testing.assert_allclose(np.sum(matrix, axis=1), 1, atol=1e-4)


def test_no_figure_uses_a_colour_map_that_misleads() -> None:
    for path in sorted((project_folder() / "rnasynth" / "plots").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert not [name for name in ("jet", "rainbow", "RdYlGn", "tab10", "hsv", "RdGn") if f'"{name}"' in text], path.name


@pytest.mark.parametrize("preset", ["demo", "gpu", "paper"])
def test_drawings_are_legible_on_a_phone_and_tell_the_sizes_that_are_trained(preset: str) -> None:
    drawn = systems.drawings(preset)
    gan, vae = systems.SYSTEMS["rna-gan"].preset(preset), systems.SYSTEMS["beta-vae"].preset(preset)
    words = "\n".join(box.text for box in drawn["rna_gan"].boxes.values())
    assert f"{gan.tile_px} px" in words and f"latent\n{vae.latent:,} numbers" in words and f"{gan.noise_range:g}" in words
    large = systems.SYSTEMS["cdm-sr"].preset(preset)
    assert f"{large.tile_px} px" in drawn["rna_cdm"].boxes["tile"].text
    assert f"{systems.SYSTEMS['gemm-gan'].preset(preset).noise_dim} numbers" in drawn["gemm_gan"].boxes["noise"].text
    for drawing in drawn.values():
        figure = systems.draw(drawing)
        assert min(systems.text_at(figure, 328)) >= 7, "328 px are left of 360 beside the margins"
        assert len(drawing.alt) > 100 and drawing.caption
        assert {name for arrow in drawing.arrows for name in arrow} == set(drawing.boxes), "every box is connected"
        figure.canvas.draw()
        boxes = figure.axes[0].patches[len(drawing.arrows) :]
        for text, patch in zip(figure.axes[0].texts, boxes, strict=False):
            inside, outside = text.get_window_extent(), patch.get_window_extent()
            assert outside.x0 <= inside.x0 and inside.x1 <= outside.x1, text.get_text()
            assert outside.y0 <= inside.y0 and inside.y1 <= outside.y1, text.get_text()
