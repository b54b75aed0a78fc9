"""Charts of numbers: bars, distributions, points with intervals, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rnasynth.plots.style import GREY, MARKERS, OKABE_ITO, SPLIT_COLOURS, SPLITS, axes_of, colour_of, marker_of, style


def composition(counts: pd.DataFrame, *, unit: str = "patients") -> Figure:
    """Stacked bars: how many split groups of each tissue are in each split.

    Parameters
    ----------
    counts : index tissue, columns among train, val, test; whole numbers.
    unit : what is counted, for the axis.
    """
    with style():
        figure, axes = axes_of(size=(6.8, 0.9 + 0.42 * len(counts)))
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
        figure, axes = axes_of(1, len(panels), (3.2 * len(panels), 3.1))
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
        figure, axes = axes_of(1, len(panels), (3.5 * len(panels) + 1.5, 3.4))
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


def box_by_group(values: Mapping[str, np.ndarray], *, x_label: str) -> Figure:
    """Horizontal box plots (median, quartiles, 5 and 95 %), one a group; no outliers drawn."""
    with style():
        names = list(values)
        figure, axes = axes_of(size=(6.4, 0.9 + 0.42 * len(names)))
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
    panels : y label -> (legend -> (x, y)); a line without points is left out.
    log : y labels whose axis is logarithmic.
    """
    with style():
        figure, axes = axes_of(1, len(panels), (4.0 * len(panels), 3.2))
        for axis, (y_label, lines) in zip(axes[0], panels.items(), strict=True):
            drawn = {name: (x, y) for name, (x, y) in lines.items() if len(x)}
            for number, (name, (x, y)) in enumerate(drawn.items()):
                axis.plot(x, y, color=OKABE_ITO[number], ls=("-", "--", ":", "-.")[number % 4], lw=1.6, label=name)
            axis.set(xlabel=x_label, ylabel=y_label, yscale="log" if y_label in log else "linear")
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if len(drawn) > 1:
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
        figure, axes = axes_of(size=(6.8, 1.1 + 0.24 * len(table) + 0.14 * len(labels)))
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
        figure, axes = axes_of(size=(5.6, 3.2))
        ordered = np.sort(np.asarray(values, float))[::-1]
        axes[0, 0].plot(np.arange(1, len(ordered) + 1), np.maximum(ordered, 1e-6), color=OKABE_ITO[0], lw=1.8)
        axes[0, 0].axhline(threshold, color=OKABE_ITO[1], ls="--", lw=1.2, label=threshold_label)
        axes[0, 0].set(xlabel="latent dimension, sorted", ylabel=y_label, yscale="log")
        axes[0, 0].legend(fontsize=9)
        return figure
