"""Pictures of tissue: tiles at one scale, sections with what was kept of them."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.patches
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from rnasynth.plots.style import OKABE_ITO, axes_of, style


def tile_grid(rows: Mapping[str, np.ndarray], *, mpp_um: float, bar_um: float | None = None, row_px: float = 0.95) -> Figure:
    """Rows of tiles at one scale, with a scale bar; the caller chose the tiles by a fixed rule, never by their looks.

    Parameters
    ----------
    rows : label -> uint8 RGB tiles of shape (n, px, px, 3), the same n and px in all rows.
    mpp_um : micrometres per pixel of the tiles as given.
    bar_um : length of the scale bar; a round number near a quarter of a tile when None.
    row_px : inches a tile is drawn at.
    """
    with style():
        count, px = next(iter(rows.values())).shape[:2]
        figure = Figure(figsize=(row_px * count + 1.7, row_px * len(rows) * 1.04 + 0.35), layout="constrained")
        axes = figure.subplots(len(rows), count, squeeze=False)
        for line, (label, tiles) in zip(axes, rows.items(), strict=True):
            for number, (axis, tile) in enumerate(zip(line, tiles, strict=True)):
                axis.imshow(tile)
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
                if number == 0:
                    axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9.5)
        length = scale_bar(axes[-1, -1], px, mpp_um, bar_um)
        figure.supxlabel(f"scale bar {length:g} µm; {px} px of {mpp_um:g} µm", fontsize=9, x=0.98, ha="right")
        return figure


def scale_bar(axis: Axes, px: int, mpp_um: float, bar_um: float | None = None) -> float:
    """Draw a scale bar into the lower right corner of a tile of `px` pixels a side, `mpp_um` micrometres each.

    Parameters
    ----------
    bar_um : its length; a round number near a quarter of the tile when None.

    Returns
    -------
    Its length in micrometres, for the caption.
    """
    length = bar_um or round_length(px * mpp_um / 4)
    axis.plot(
        [px * 0.94 - length / mpp_um, px * 0.94],
        [px * 0.92] * 2,
        color="black",
        lw=3,
        solid_capstyle="butt",
        path_effects=[withStroke(linewidth=5.5, foreground="white")],
    )
    return length


def round_length(wanted_um: float) -> float:
    """Return the round length (1, 2, 5 times a power of ten, or 25) that is nearest to the wanted one."""
    return min((1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000, 2000, 5000), key=lambda length: abs(length - wanted_um))


def slide_overview(thumbnail: np.ndarray, mask: np.ndarray, boxes: np.ndarray, *, mpp_um: float, box_um: float) -> Figure:
    """A section, its tissue mask, and the tiles that were kept.

    Parameters
    ----------
    thumbnail : uint8 RGB (h, w, 3).
    mask : bool, tissue; any size of the same aspect.
    boxes : (n, 2) top-left corners in thumbnail pixels.
    mpp_um : micrometres per thumbnail pixel.
    box_um : side of a tile in micrometres.
    """
    with style():
        height, width = thumbnail.shape[:2]
        figure, axes = axes_of(1, 3, (9.6, 9.6 / 3 * height / width + 0.7))
        extent = (0, width * mpp_um / 1000, height * mpp_um / 1000, 0)
        axes[0, 0].imshow(thumbnail, extent=extent)
        axes[0, 1].imshow(mask, extent=extent, cmap="gray_r", vmin=0, vmax=1)
        axes[0, 2].imshow(thumbnail, extent=extent, alpha=0.55)
        side = box_um / 1000
        for x, y in boxes * mpp_um / 1000:
            axes[0, 2].add_patch(matplotlib.patches.Rectangle((x, y), side, side, fill=False, ec=OKABE_ITO[0], lw=0.5))
        for axis, title in zip(axes[0], ("section", "tissue mask (black)", f"{len(boxes):,} tiles kept"), strict=True):
            axis.set(title=title, xlabel="mm")
            axis.grid(visible=False)
        axes[0, 0].set_ylabel("mm")
        return figure
