"""Charts of what synthetic tiles are good for: who is taken for whom, and how accuracy follows the number of tiles."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rnasynth.plots.style import GREY, MARKERS, OKABE_ITO, axes_of, style

DARK = 0.55  # share above which a cell is dark enough for white figures
LINES = ("-", "--", "-.", ":")  # of groups, beside colour and marker
DODGE = 0.012  # of the axis, between groups, so that intervals do not hide each other
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


def share_curves(
    table: pd.DataFrame,
    *,
    x_label: str,
    y_label: str = "accuracy on real tiles of held-out patients",
    log: bool = False,
    reference: float | None = None,
    reference_label: str = "",
) -> Figure:
    """Points with intervals over a number, joined within a group; a share, drawn in percent.

    Parameters
    ----------
    table : columns group, x, value, low, high; a group of one point is drawn without a line.
    x_label, y_label : of the axes.
    log : x grows by factors; its values are then the ticks.
    reference : draw a dashed line here (chance).
    """
    with style():
        groups = list(dict.fromkeys(table["group"]))
        figure, axes = axes_of(size=(6.8, 3.7 + 0.16 * ((len(groups) + 1) // 2)))
        axis = axes[0, 0]
        x = table["x"].to_numpy(float)
        places = np.log(x) if log else x
        step = DODGE * max(float(np.ptp(places)), 1e-9)
        if reference is not None:
            axis.axhline(100 * reference, color=GREY, ls=(0, (1, 2)), lw=1.4, label=reference_label or None)
        for number, group in enumerate(groups):
            mine = (table["group"] == group).to_numpy()
            rows = table[mine].sort_values("x")
            moved = np.sort(places[mine]) + (number - (len(groups) - 1) / 2) * step
            spread = np.abs(rows[["low", "high"]].to_numpy(float).T - rows["value"].to_numpy(float))
            axis.errorbar(
                np.exp(moved) if log else moved,
                100 * rows["value"],
                yerr=100 * spread,
                color=OKABE_ITO[number],
                marker=MARKERS[number],
                ls=LINES[number % len(LINES)] if len(rows) > 1 else "none",
                ms=5.5,
                lw=1.5,
                elinewidth=1.1,
                capsize=2.5,
                label=group,
            )
        if log:
            axis.set_xscale("log")
        ticks = sorted(set(x))
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set(xlabel=x_label, ylabel=f"{y_label} (%)")
        axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=8.5, borderaxespad=0.2)
        return figure
