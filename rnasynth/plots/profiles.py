"""Charts of profiles made from tiles and text: genes by rank, calibration, and correlations between genes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy.cluster.hierarchy import leaves_list, linkage

from rnasynth.plots.style import GREY, MARKERS, OKABE_ITO, axes_of, style

LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
SHOWN_GENES = 200  # of a heat map


def gene_ranks(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    *,
    marks: tuple[int, ...] = (20, 200, 1000),
    x_label: str = "first k genes, by an order fixed beforehand",
) -> Figure:
    """Mean correlation of the first k genes, a line a model, a panel a kind of correlation.

    Parameters
    ----------
    panels : y label -> (model -> (k, mean correlation of the first k genes)), as `GeneReport.curves` gives them.
    marks : numbers of genes at which a thin line stands; those beyond the last k are left out.
    """
    with style():
        figure, axes = axes_of(1, len(panels), (4.2 * len(panels) + 2.2, 3.6))
        for axis, (y_label, lines) in zip(axes[0], panels.items(), strict=True):
            last = max(int(k[-1]) for k, _ in lines.values())
            for mark in (mark for mark in marks if mark <= last):
                axis.axvline(mark, color=GREY, lw=0.8, ls=":")
            axis.axhline(0, color=GREY, lw=0.8)
            for number, (model, (k, mean)) in enumerate(lines.items()):
                colour, line = OKABE_ITO[number % len(OKABE_ITO)], LINES[number % len(LINES)]
                axis.plot(k, mean, color=colour, ls=line, lw=1.6, label=model)
                marker = MARKERS[(number + number // len(OKABE_ITO)) % len(MARKERS)]
                axis.plot(k[-1:], mean[-1:], color=colour, marker=marker, ms=5, clip_on=False)
            axis.set(xscale="log", xlabel=x_label, ylabel=y_label)
            axis.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:,.0f}"))
        _legend(axes[0, -1])
        return figure


def calibration(lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Share of real values inside intervals of a model's draws, against the share wanted; on the diagonal they are right.

    Parameters
    ----------
    lines : model -> (wanted, found), in percent.
    """
    with style():
        figure, axes = axes_of(size=(6.4, 3.9))
        axis = axes[0, 0]
        axis.plot([0, 100], [0, 100], color=GREY, ls="--", lw=1.2, label="calibrated")
        for number, (model, (wanted, found)) in enumerate(lines.items()):
            colour, marker = OKABE_ITO[number % len(OKABE_ITO)], MARKERS[number % len(MARKERS)]
            axis.plot(wanted, found, color=colour, marker=marker, ls=LINES[number % len(LINES)], ms=4.5, lw=1.4, label=model)
        axis.text(4, 93, "too wide", color=GREY, fontsize=9)
        axis.text(96, 4, "too sure", color=GREY, fontsize=9, ha="right")
        axis.set(xlim=(0, 100), ylim=(0, 100), xlabel="interval (percent)", ylabel="real values inside (percent)")
        axis.set_aspect("equal")
        _legend(axis)
        return figure


def gene_correlations(sets: Mapping[str, np.ndarray], *, order_by: str = "", limit: int = SHOWN_GENES) -> Figure:
    """Heat maps of gene-gene correlations, one a set, the genes in one order for all.

    Parameters
    ----------
    sets : title -> profiles, shape (n, genes); a gene that does not vary in a set correlates 0 there.
    order_by : the set whose clustering (average linkage) orders the genes; "" for the first.
    limit : genes shown: the first ones.
    """
    with style():
        matrices = {title: _correlations(np.asarray(values, dtype=float)[:, :limit]) for title, values in sets.items()}
        reference = matrices[order_by or next(iter(matrices))]
        size = len(reference)
        order = leaves_list(linkage(1 - reference[np.triu_indices(size, 1)], "average")) if size > 2 else np.arange(size)
        columns = min(4, len(matrices))
        rows = -(-len(matrices) // columns)
        figure, axes = axes_of(rows, columns, (2.5 * columns + 0.9, 2.7 * rows))
        panels = list(axes.flat)
        image = None
        for axis, (title, matrix) in zip(panels, matrices.items(), strict=False):
            image = axis.imshow(matrix[np.ix_(order, order)], cmap="PuOr_r", vmin=-1, vmax=1, interpolation="nearest")
            axis.set_title(title, fontsize=9.5)
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
        for axis in panels[len(matrices) :]:
            axis.set_axis_off()
        if image is not None:
            figure.colorbar(image, ax=panels, label=f"correlation over samples, {size} genes", shrink=0.8, pad=0.02)
        return figure


def beside_marks(panels: Mapping[str, tuple[pd.DataFrame, float | None]]) -> Figure:
    """Points with intervals, a panel a set of genes, a row a model; a dashed line where a mark is known, a dotted one at 0.

    Parameters
    ----------
    panels : title -> (columns label, group, value, low and high; the mark or None); labels in the first panel's order. A
        group without any interval has hollow points, which show one behind the other.
    """
    with style():
        labels = list(dict.fromkeys(next(iter(panels.values()))[0]["label"]))
        groups = list(dict.fromkeys(group for rows, _ in panels.values() for group in rows["group"]))
        figure, axes = axes_of(1, len(panels), (2.9 * len(panels) + 2.2, 1.5 + 0.36 * len(labels)))
        for axis, (title, (rows, mark)) in zip(axes.flat, panels.items(), strict=True):
            axis.axvline(0.0, color=GREY, ls=":", lw=1.2, label="chance")
            if mark is not None:
                axis.axvline(mark, color=GREY, ls="--", lw=1.6, label="mark")
            for number, group in enumerate(groups):
                mine = rows[rows["group"] == group]
                places = np.array([labels.index(label) for label in mine["label"]], float) + 0.26 * (number - 0.5)
                spread = np.abs(mine[["low", "high"]].to_numpy(float).T - mine["value"].to_numpy(float))
                bare = not np.isfinite(spread).any()
                axis.errorbar(
                    mine["value"], places, xerr=None if bare else spread, fmt=MARKERS[number], color=OKABE_ITO[number],
                    ms=4.5 if bare else 5.5, mfc="none" if bare else None, lw=1.6, capsize=2.5, label=group,
                )  # fmt: skip
            axis.set_yticks(range(len(labels)), labels if axis is axes.flat[0] else [""] * len(labels))
            axis.set(ylim=(len(labels) - 0.4, -0.6), xlabel="mean correlation of genes")
            axis.set_title(title, fontsize=10)
            axis.grid(axis="y", visible=False)
        handles, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=9)
        return figure


def _correlations(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=0)
    length = np.sqrt(np.square(centred).sum(axis=0))
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-9)
    matrix = unit.T @ unit
    np.fill_diagonal(matrix, 1.0)
    return np.asarray(np.clip(matrix, -1, 1))


def _legend(axis: Axes) -> None:
    axis.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=9)
