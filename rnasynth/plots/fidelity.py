"""Figures of fidelity: generated tiles beside their nearest training tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from rnasynth.plots.style import style
from rnasynth.plots.tissue import scale_bar


def tile_pairs(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray, Sequence[str]]],
    *,
    mpp_um: float,
    names: tuple[str, str] = ("tile", "nearest training tile"),
    tile_in: float = 0.95,
) -> Figure:
    """Pairs of tiles, one above the other, two lines a set; the caller chose them by a fixed rule, never by their looks.

    Parameters
    ----------
    pairs : set -> (its tiles, their nearest training tiles, a short text each): uint8 (n, px, px, 3), the same n and px.
    mpp_um : micrometres per pixel of the tiles as given.
    names : of the two lines.
    tile_in : inches a tile is drawn at.
    """
    with style():
        count, px = next(iter(pairs.values()))[0].shape[:2]
        figure = Figure(figsize=(tile_in * count + 2.3, (2.3 * tile_in + 0.2) * len(pairs) + 0.3), layout="constrained")
        axes = figure.subplots(2 * len(pairs), count, squeeze=False)
        for number, (label, (tiles, nearest, texts)) in enumerate(pairs.items()):
            for line, pictures in enumerate((tiles, nearest)):
                for column in range(count):
                    axis = axes[2 * number + line, column]
                    axis.imshow(pictures[column])
                    axis.set(xticks=[], yticks=[])
                    axis.spines[:].set_visible(False)
                    if line == 0:
                        axis.set_title(texts[column], fontsize=8.5, pad=2)
                    if column == 0:
                        words = f"{label}\n{names[0]}" if line == 0 else names[1]
                        axis.set_ylabel(words, rotation=0, ha="right", va="center", fontsize=9)
        length = scale_bar(axes[-1, -1], px, mpp_um)
        figure.supxlabel(f"scale bar {length:g} µm; {px} px of {mpp_um:g} µm", fontsize=9, x=0.98, ha="right")
        return figure
