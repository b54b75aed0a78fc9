"""Figures of expert ratings: each rater's scores, and each rater's differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnasynth.plots.style import GREY, MARKERS, OKABE_ITO, axes_of, colour_of, marker_of, style


def paired_scores(
    scores: pd.DataFrame, *, groups: Sequence[str], scale: tuple[float, float] = (1, 5), x_label: str = "what made the tiles"
) -> Figure:
    """One panel a tissue: each rater's scores joined across groups, each group's mean, and the scale asked for.

    Parameters
    ----------
    scores : columns tissue, group, rater, score (points).
    groups : order on the x axis.
    scale : lowest and highest score that could be given; what lies outside is shaded.
    x_label : of the groups.
    """
    with style():
        tissues, raters = list(dict.fromkeys(scores["tissue"])), sorted(set(scores["rater"]))
        figure, axes = axes_of(1, len(tissues), (3.5 * len(tissues) + 1.0, 3.8))
        nudges = np.linspace(-0.2, 0.2, len(raters)) if len(raters) > 1 else np.zeros(1)
        for axis, tissue in zip(axes[0], tissues, strict=True):
            table = scores[scores["tissue"] == tissue].pivot(index="rater", columns="group", values="score")
            for number, rater in enumerate(raters):
                axis.plot(
                    np.arange(len(groups)) + nudges[number],
                    table.loc[rater, list(groups)].to_numpy(float),
                    color=OKABE_ITO[number % len(OKABE_ITO)],
                    marker=MARKERS[number % len(MARKERS)],
                    ms=6,
                    lw=1.2,
                    label=f"rater {rater}",
                )
            means = table[list(groups)].mean().to_numpy(float)
            axis.hlines(means, np.arange(len(groups)) - 0.3, np.arange(len(groups)) + 0.3, color="black", lw=2.4, zorder=1)
            axis.axhspan(0, scale[0], color="#d9d9d9", alpha=0.6, lw=0, zorder=0)
            axis.set(title=tissue, xlabel=x_label, ylim=(0, scale[1] + 0.25), xlim=(-0.5, len(groups) - 0.5))
            axis.set_xticks(range(len(groups)), groups)
            axis.grid(axis="x", visible=False)
        axes[0, 0].set_ylabel("mean score of a rater (points)")
        axes[0, 0].text(-0.45, 0.06, "below the scale", va="bottom", fontsize=8.5, color="#404040")
        handles, _ = axes[0, 0].get_legend_handles_labels()
        handles.append(Line2D([], [], color="black", lw=2.4, label="mean"))
        figure.legend(handles=handles, loc="outside right center", fontsize=9)
        return figure


def rater_differences(panels: Mapping[str, pd.DataFrame], intervals: pd.DataFrame) -> Figure:
    """Differences of scores: a point a rater and tissue, beside it the mean with its interval.

    Parameters
    ----------
    panels : title -> columns label (the difference), tissue, rater, value (points).
    intervals : columns label, group (the tissue), value, low, high (points).
    """
    with style():
        tissues = sorted({tissue for table in panels.values() for tissue in table["tissue"]})
        counts = [table["label"].nunique() * len(tissues) for table in panels.values()]
        figure = Figure(figsize=(7.2, 1.6 + 0.46 * sum(counts)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=counts)[:, 0]
        for axis, (title, table) in zip(axes, panels.items(), strict=True):
            rows = list(dict.fromkeys(zip(table["label"], table["tissue"], strict=True)))
            for place, (label, tissue) in enumerate(rows):
                look = {"color": colour_of(tissue, tissues), "marker": marker_of(tissue, tissues)}
                values = table[(table["label"] == label) & (table["tissue"] == tissue)]["value"].to_numpy(float)
                axis.scatter(values, _stacked(values, place), s=26, alpha=0.6, lw=0, **look)
                known = intervals[(intervals["label"] == label) & (intervals["group"] == tissue)]
                for row in known.itertuples():
                    spread = [[row.value - row.low], [row.high - row.value]]
                    axis.errorbar(row.value, place + 0.23, xerr=spread, ms=6.5, lw=1.8, capsize=3, **look)
            axis.axvline(0.0, color=GREY, ls="--", lw=1.2)
            axis.set_yticks(range(len(rows)), [f"{label}, {tissue}" for label, tissue in rows])
            axis.set_ylim(len(rows) - 0.45, -0.65)
            axis.set_title(title, loc="left")
            axis.grid(axis="y", visible=False)
        axes[-1].set_xlabel("difference of a rater's mean scores (points); pale: raters, full: mean, 95 % interval")
        return figure


def _stacked(values: np.ndarray, place: float) -> np.ndarray:
    """Heights of points so that equal values lie above each other."""
    heights = np.empty(len(values))
    for number, value in enumerate(np.round(values, 6)):
        heights[number] = place - 0.06 - 0.16 * int(np.sum(np.round(values[:number], 6) == value))
    return heights
