"""Every figure of the book: results in, a matplotlib Figure out.

One colour and one marker a tissue, the same on every page, from the Okabe-Ito palette that colour-blind readers can
tell apart. A function here computes nothing that a page reports: what it draws is what it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import matplotlib.patches
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SPLITS = ("train", "val", "test")
SPLIT_COLOURS = {"train": "#0072B2", "val": "#E69F00", "test": "#D55E00"}
GREY = "#595959"
STYLE: Any = {
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100,
    "image.interpolation": "nearest",
}


def style() -> AbstractContextManager[None]:
    """Return the book's matplotlib style as a context manager."""
    return matplotlib.rc_context(STYLE)


def colour_of(name: str, names: Iterable[str]) -> str:
    """Colour of `name` among `names`: by its place in the sorted list, so that it is the same on every page."""
    return OKABE_ITO[sorted(set(names)).index(name) % len(OKABE_ITO)]


def marker_of(name: str, names: Iterable[str]) -> str:
    """Marker of `name` among `names`, by the same rule as its colour."""
    return MARKERS[sorted(set(names)).index(name) % len(MARKERS)]


def _axes(rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 3.6)) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, np.atleast_2d(figure.subplots(rows, columns, squeeze=False))


def composition(counts: pd.DataFrame, *, unit: str = "patients") -> Figure:
    """Stacked bars: how many split groups of each tissue are in each split.

    Parameters
    ----------
    counts : index tissue, columns among train, val, test; whole numbers.
    unit : what is counted, for the axis.
    """
    with style():
        figure, axes = _axes(size=(6.8, 0.9 + 0.42 * len(counts)))
        axis = axes[0, 0]
        left = np.zeros(len(counts))
        for split in [name for name in SPLITS if name in counts]:
            values = counts[split].to_numpy(float)
            bars = axis.barh(np.arange(len(counts)), values, left=left, color=SPLIT_COLOURS[split], label=split, height=0.7)
            dark = split != "val"
            axis.bar_label(
                bars,
                [f"{v:g}" if v else "" for v in values],
                label_type="center",
                color="white" if dark else "black",
                fontsize=9,
            )
            left += values
        axis.set_yticks(np.arange(len(counts)), counts.index.astype(str))
        axis.invert_yaxis()
        axis.set_xlabel(unit)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(axis="y", visible=False)
        axis.legend(ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
        return figure


def histograms(panels: Mapping[str, Mapping[str, np.ndarray]], *, x_label: Mapping[str, str], bins: int = 80) -> Figure:
    """One panel a key of `panels`: densities of the named samples of values, drawn as steps.

    Parameters
    ----------
    panels : title -> (legend -> values, any shape).
    x_label : title -> label of its x axis.
    """
    with style():
        figure, axes = _axes(1, len(panels), (3.2 * len(panels), 3.1))
        for axis, (title, samples) in zip(axes[0], panels.items(), strict=True):
            low, high = np.percentile(np.concatenate([np.ravel(v) for v in samples.values()]), [0.2, 99.8])
            for number, (name, values) in enumerate(samples.items()):
                axis.hist(
                    np.clip(np.ravel(values), low, high),
                    bins=bins,
                    range=(low, high),
                    density=True,
                    histtype="step",
                    lw=1.4,
                    color=OKABE_ITO[number],
                    ls=("-", "--", ":", "-.")[number % 4],
                    label=name,
                )
            axis.set(title=title, xlabel=x_label[title], ylabel="density")
            if len(samples) > 1:
                axis.legend(fontsize=8.5)
        return figure


def embedding(
    panels: Mapping[str, tuple[np.ndarray, Sequence[str]]], *, axis_names: Mapping[str, tuple[str, str]]
) -> Figure:
    """Scatter of two coordinates a panel, coloured and marked by group. A picture, never evidence.

    Parameters
    ----------
    panels : title -> (points of shape (n, 2), group of each point).
    axis_names : title -> names of the two axes.
    """
    with style():
        every = sorted({group for _, groups in panels.values() for group in groups})
        figure, axes = _axes(1, len(panels), (3.5 * len(panels) + 1.5, 3.4))
        for axis, (title, (points, groups)) in zip(axes[0], panels.items(), strict=True):
            labels = np.asarray(groups)
            for group in every:
                chosen = points[labels == group]
                axis.scatter(
                    chosen[:, 0],
                    chosen[:, 1],
                    s=16,
                    alpha=0.8,
                    lw=0,
                    color=colour_of(group, every),
                    marker=marker_of(group, every),
                    label=group,
                )
            axis.set(title=title, xlabel=axis_names[title][0], ylabel=axis_names[title][1])
        axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=1.4)
        return figure


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
        length = bar_um or _round_length(px * mpp_um / 4)
        corner = axes[-1, -1]
        corner.plot(
            [px * 0.94 - length / mpp_um, px * 0.94],
            [px * 0.92] * 2,
            color="black",
            lw=3,
            solid_capstyle="butt",
            path_effects=[withStroke(linewidth=5.5, foreground="white")],
        )
        figure.supxlabel(f"scale bar {length:g} µm; {px} px of {mpp_um:g} µm", fontsize=9, x=0.98, ha="right")
        return figure


def _round_length(wanted_um: float) -> float:
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
        figure, axes = _axes(1, 3, (9.6, 9.6 / 3 * height / width + 0.7))
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


def box_by_group(values: Mapping[str, np.ndarray], *, x_label: str) -> Figure:
    """Horizontal box plots (median, quartiles, 5 and 95 %), one a group; no outliers drawn."""
    with style():
        names = list(values)
        figure, axes = _axes(size=(6.4, 0.9 + 0.42 * len(names)))
        axis = axes[0, 0]
        boxes = axis.boxplot(
            [values[name] for name in names],
            orientation="horizontal",
            tick_labels=names,
            showfliers=False,
            whis=(5, 95),
            patch_artist=True,
            medianprops={"color": "black", "lw": 1.6},
            widths=0.6,
        )
        for name, box in zip(names, boxes["boxes"], strict=True):
            box.set(facecolor=colour_of(name, names), alpha=0.75)
        axis.invert_yaxis()
        axis.set_xlabel(x_label)
        axis.grid(axis="y", visible=False)
        return figure


def curves(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], *, x_label: str, log: Sequence[str] = ()
) -> Figure:
    """One panel a key: named lines of (x, y).

    Parameters
    ----------
    panels : y label -> (legend -> (x, y)).
    log : y labels whose axis is logarithmic.
    """
    with style():
        figure, axes = _axes(1, len(panels), (4.0 * len(panels), 3.2))
        for axis, (y_label, lines) in zip(axes[0], panels.items(), strict=True):
            for number, (name, (x, y)) in enumerate(lines.items()):
                axis.plot(x, y, color=OKABE_ITO[number], ls=("-", "--", ":", "-.")[number % 4], lw=1.6, label=name)
            axis.set(xlabel=x_label, ylabel=y_label, yscale="log" if y_label in log else "linear")
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if len(lines) > 1:
                axis.legend(fontsize=9)
        return figure


def intervals(table: pd.DataFrame, *, x_label: str, reference: float | None = None, reference_label: str = "") -> Figure:
    """Points with 95 % intervals, one row a line; groups share a colour and a marker.

    Parameters
    ----------
    table : columns label, value, low, high and, where there are several, group.
    reference : draw a dashed line here (chance, no effect, a baseline).
    """
    with style():
        groups = list(dict.fromkeys(table["group"])) if "group" in table else [""]
        labels = list(dict.fromkeys(table["label"]))
        figure, axes = _axes(size=(6.8, 1.1 + 0.24 * len(table) + 0.14 * len(labels)))
        axis = axes[0, 0]
        if reference is not None:
            axis.axvline(reference, color=GREY, ls="--", lw=1.2, label=reference_label or None)
        for number, group in enumerate(groups):
            rows = table[table["group"] == group] if "group" in table else table
            places = np.array([labels.index(label) for label in rows["label"]], float)
            places += (number - (len(groups) - 1) / 2) * 0.7 / max(len(groups), 1)
            spread = np.abs(rows[["low", "high"]].to_numpy(float).T - rows["value"].to_numpy(float))
            axis.errorbar(
                rows["value"],
                places,
                xerr=spread,
                fmt=MARKERS[number],
                color=OKABE_ITO[number],
                ms=5.5,
                lw=1.6,
                capsize=2.5,
                label=group or None,
            )
        axis.set_yticks(range(len(labels)), labels)
        axis.set_ylim(len(labels) - 0.4, -0.6)
        axis.set_xlabel(x_label)
        axis.grid(axis="y", visible=False)
        if len(groups) > 1 or reference_label:
            axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=9, borderaxespad=0.2)
        return figure


def spectrum(values: np.ndarray, *, y_label: str, threshold: float, threshold_label: str) -> Figure:
    """Sorted positive values on a logarithmic axis, with the threshold that tells active from collapsed."""
    with style():
        figure, axes = _axes(size=(5.6, 3.2))
        ordered = np.sort(np.asarray(values, float))[::-1]
        axes[0, 0].plot(np.arange(1, len(ordered) + 1), np.maximum(ordered, 1e-6), color=OKABE_ITO[0], lw=1.8)
        axes[0, 0].axhline(threshold, color=OKABE_ITO[1], ls="--", lw=1.2, label=threshold_label)
        axes[0, 0].set(xlabel="latent dimension, sorted", ylabel=y_label, yscale="log")
        axes[0, 0].legend(fontsize=9)
        return figure
