"""Dose and response: what changed profiles do to what is read from tiles."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from rnasynth.plots.style import GREY, MARKERS, OKABE_ITO, axes_of, style

COLUMNS = 4


def dose_response(doses: pd.DataFrame, *, x_label: str = "log2 fold change of the RNA", of: str = "") -> Figure:
    """One panel a change: difference of its named quantity to the unchanged tile, against the dose; a line a source.

    Parameters
    ----------
    doses : `perturb.EffectReport.doses`: source, change, quantity, primary, dose, value, low, high; only primary rows are
        drawn, with their intervals. Panels share no axis of values: what is read differs.
    x_label : of the doses.
    of : added to the quantity's name, such as "fraction".
    """
    with style():
        rows = doses[doses["primary"]]
        changes, sources = list(dict.fromkeys(rows["change"])), list(dict.fromkeys(rows["source"]))
        columns = min(COLUMNS, len(changes))
        lines = -(-len(changes) // columns)
        figure, axes = axes_of(lines, columns, (3.1 * columns, 2.7 * lines + 0.5))
        step = float(rows["dose"].diff().abs().loc[lambda gap: gap > 0].min())
        for axis, change in zip(axes.flat, changes, strict=False):
            part = rows[rows["change"] == change]
            axis.axhline(0, color=GREY, lw=0.9)
            for number, source in enumerate(sources):
                own = part[part["source"] == source].sort_values("dose")
                if own.empty:
                    continue
                middle = own["value"].to_numpy(float)
                spread = abs(own[["low", "high"]].to_numpy(float).T - middle)
                axis.errorbar(
                    own["dose"] + (number - (len(sources) - 1) / 2) * 0.12 * step,
                    middle,
                    yerr=spread,
                    fmt=MARKERS[number],
                    ls=("-", "--", ":", "-.")[number % 4],
                    color=OKABE_ITO[number],
                    ms=4.5,
                    lw=1.4,
                    capsize=2.5,
                    label=source,
                )
            axis.set_title(change, fontsize=9.5)
            axis.set(xlabel=x_label, ylabel=f"{part['quantity'].iloc[0]} {of}".strip() + ", difference")
            axis.xaxis.label.set_size(9)
            axis.yaxis.label.set_size(9)
        for axis in list(axes.flat)[len(changes) :]:
            axis.set_axis_off()
        if len(sources) > 1:
            handles, names = axes.flat[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside upper left", ncols=len(sources), fontsize=9)
        return figure
