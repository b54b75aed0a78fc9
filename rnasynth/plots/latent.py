"""Charts of latent arithmetic: sets of profiles on one map, and points beside what they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rnasynth.plots.style import GREY, axes_of, colour_of, marker_of, style

COLUMNS = 3


def map_of_sets(
    sets: Mapping[str, tuple[np.ndarray, Sequence[str]]],
    *,
    background: np.ndarray | None = None,
    background_label: str = "training",
    axis_names: tuple[str, str] = ("UMAP 1", "UMAP 2"),
) -> Figure:
    """One panel a set, all with the same axes: points coloured and marked by tissue. A picture, never evidence.

    Parameters
    ----------
    sets : title -> (points of shape (n, 2), tissue of each point).
    background : shape (n, 2), drawn in light grey in each panel; what the map was fitted on.
    axis_names : map coordinates have no unit.
    """
    with style():
        every = sorted({str(tissue) for _, tissues in sets.values() for tissue in tissues})
        columns = min(COLUMNS, len(sets))
        rows = -(-len(sets) // columns)
        figure, axes = axes_of(rows, columns, (3.0 * columns + (0.0 if rows * columns > len(sets) else 1.9), 2.9 * rows))
        whole = np.concatenate([points for points, _ in sets.values()] + ([] if background is None else [background]))
        low, high = whole.min(axis=0), whole.max(axis=0)
        margin = 0.05 * np.maximum(high - low, 1e-6)
        panels = list(axes.flat)
        for axis, (title, (points, tissues)) in zip(panels, sets.items(), strict=False):
            if background is not None:
                axis.scatter(*background.T, s=9, color="#d0d0d0", lw=0, label=background_label)
            labels = np.asarray(tissues, dtype=str)
            for tissue in every:
                axis.scatter(
                    *points[labels == tissue].T,
                    s=15,
                    alpha=0.75,
                    lw=0,
                    color=colour_of(tissue, every),
                    marker=marker_of(tissue, every),
                    label=tissue,
                )
            axis.set_title(title, fontsize=9.5)
            axis.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
            axis.set(xlabel=axis_names[0], ylabel=axis_names[1])
        handles, names = panels[0].get_legend_handles_labels()
        spare = panels[len(sets) :]
        for axis in spare:
            axis.set_axis_off()
        if spare:
            spare[0].legend(handles, names, loc="center", markerscale=1.6, fontsize=9.5)
        else:
            panels[columns - 1].legend(handles, names, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=1.6)
        return figure


def scatter_against(points: pd.DataFrame, *, x_label: str, y_label: str, identity: bool = True) -> Figure:
    """Scatter of what is beside what should be, coloured and marked by group.

    Parameters
    ----------
    points : columns x, y and, where there are several, group.
    identity : draw the line on which both are equal; both axes then have one scale.
    """
    with style():
        figure, axes = axes_of(size=(6.4, 4.4))
        axis = axes[0, 0]
        groups = points["group"].astype(str) if "group" in points else pd.Series("", index=points.index)
        every = sorted(set(groups))
        axis.axhline(0, color=GREY, lw=0.8)
        axis.axvline(0, color=GREY, lw=0.8)
        for group in every:
            rows = points[groups == group]
            colour, marker = colour_of(group, every), marker_of(group, every)
            axis.scatter(rows["x"], rows["y"], s=22, alpha=0.7, lw=0, color=colour, marker=marker, label=group or None)
        if identity:
            ends = [float(points[["x", "y"]].min().min()), float(points[["x", "y"]].max().max())]
            axis.plot(ends, ends, color=GREY, ls="--", lw=1.2, label="equal")
            axis.set_aspect("equal")
        axis.set(xlabel=x_label, ylabel=y_label)
        if identity or len(every) > 1:
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
        return figure
