"""Charts of what synthetic tiles are good for: who is taken for whom."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rnasynth.plots.style import axes_of, style

DARK = 0.55  # share above which a cell is dark enough for white figures
CHARACTERS = 34  # of a title's line, above few classes 24


def confusion_matrices(panels: Mapping[str, pd.DataFrame], *, unit: str = "tiles") -> Figure:
    """One panel a key: shares of each true class by the class that was named, rows adding up to one.

    Parameters
    ----------
    panels : title -> counts, index the true class, columns the named one, the same classes in all.
    unit : what is counted, for the axes.
    """
    with style():
        classes = [str(name) for name in next(iter(panels.values())).columns]
        side = max(2.3, 0.62 * len(classes) + 0.75)
        longest = max(len(name) for name in classes)
        figure, axes = axes_of(1, len(panels), ((side + 0.35) * len(panels) + 0.075 * longest + 0.9, side + 0.075 * longest))
        axes[0, 0].set_ylabel(f"true class of the {unit}")
        for axis, (title, counts) in zip(axes[0], panels.items(), strict=True):
            values = counts.to_numpy(float)
            totals = values.sum(axis=1, keepdims=True)
            shares = np.divide(values, totals, out=np.zeros_like(values), where=totals > 0)
            picture = axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
            for (row, column), share in np.ndenumerate(shares):
                axis.text(
                    column,
                    row,
                    f"{100 * share:.0f}",
                    ha="center",
                    va="center",
                    fontsize=9.5,
                    fontweight="bold" if row == column else "normal",
                    color="white" if share > DARK else "black",
                )
            axis.set_title(textwrap.fill(title, CHARACTERS if len(classes) > 3 else 24), fontsize=9.5)
            axis.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
            if axis is axes[0, 0]:
                axis.set_yticks(range(len(classes)), classes)
            else:
                axis.set_yticks([])
            axis.set_xlabel("named as")
            axis.grid(visible=False)
            axis.spines[:].set_visible(False)
        figure.colorbar(
            picture, ax=list(axes[0]), label="percent of the row", shrink=0.8, format=lambda v, _: f"{100 * v:.0f}"
        )
        return figure
