"""Pictures of nuclei: their outlines on the tiles, coloured by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from scipy import ndimage
from skimage.measure import find_contours

from rnasynth.plots.style import style
from rnasynth.plots.tissue import scale_bar

# Of the Okabe-Ito palette, those that stand out from pink and violet.
COLOURS = ("#F0E442", "#56B4E9", "#009E73", "#FFFFFF", "#E69F00", "#000000")
LINES: tuple[Any, ...] = ("solid", (0, (3, 1)), (0, (1, 0.8)), "solid", (0, (4, 1, 1, 1)), "solid")


class Found(Protocol):
    """What is drawn: `evaluation.cells.nuclei.Nuclei` is one."""

    labels: np.ndarray
    table: pd.DataFrame


def nuclei_on_tiles(
    rows: Mapping[str, Sequence[tuple[np.ndarray, Found]]],
    *,
    mpp_um: Mapping[str, float],
    classes: Sequence[str],
    row_inch: float = 1.45,
) -> Figure:
    """Rows of tiles, each twice: as it is, and below it with the outlines of the nuclei found.

    Parameters
    ----------
    rows : label -> (tile, uint8 RGB (H, W, 3); its nuclei); the same number in all rows, chosen by a fixed rule.
    mpp_um : label -> um/px of its tiles; all tiles cover the same field.
    classes : order of the colours.
    row_inch : inches a tile is drawn at.
    """
    with style():
        count = len(next(iter(rows.values())))
        figure = Figure(figsize=(row_inch * count + 1.9, 2 * row_inch * len(rows) * 1.03 + 0.6), layout="constrained")
        axes = figure.subplots(2 * len(rows), count, squeeze=False)
        for number, (label, pictures) in enumerate(rows.items()):
            for column, (tile, found) in enumerate(pictures):
                for axis in axes[2 * number : 2 * number + 2, column]:
                    axis.imshow(tile)
                    axis.set(xticks=[], yticks=[])
                    axis.spines[:].set_visible(False)
                    axis.grid(visible=False)
                _outline(axes[2 * number + 1, column], found, classes)
            axes[2 * number, 0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9.5)
            axes[2 * number + 1, 0].set_ylabel("nuclei found", rotation=0, ha="right", va="center", fontsize=8.5)
        label, pictures = next(iter(rows.items()))
        px = pictures[0][0].shape[0]
        length = scale_bar(axes[0, -1], px, mpp_um[label])
        handles = [
            Line2D([], [], color=COLOURS[k % len(COLOURS)], ls=LINES[k % len(LINES)], lw=2, label=name,
                   path_effects=[withStroke(linewidth=3.5, foreground="black")])
            for k, name in enumerate(classes)
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower left", ncols=len(classes), fontsize=9, handlelength=3)
        figure.supxlabel(f"scale bar {length:g} µm", fontsize=9, x=0.98, ha="right")
        return figure


def outlines(labels: np.ndarray) -> dict[int, list[np.ndarray]]:
    """Return for each number in a map its outlines, each (n, 2) x and y in pixels."""
    found: dict[int, list[np.ndarray]] = {}
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        part = np.pad((labels[box] == number).astype(float), 1)
        corner = np.array([box[1].start - 1, box[0].start - 1], dtype=float)
        found[number] = [line[:, ::-1] + corner for line in find_contours(part, 0.5)]
    return found


def _outline(axis: Any, found: Found, classes: Sequence[str]) -> None:
    lines = outlines(found.labels)
    named = dict(zip(found.table["label"], found.table["class"], strict=True))
    for k, name in enumerate(classes):
        mine = [line for number, each in lines.items() if named.get(number) == name for line in each]
        if mine:
            look = {"colors": COLOURS[k % len(COLOURS)], "linestyles": LINES[k % len(LINES)], "linewidths": 1.1}
            axis.add_collection(LineCollection(mine, colors="black", linewidths=2.0, alpha=0.6))
            axis.add_collection(LineCollection(mine, **look))
