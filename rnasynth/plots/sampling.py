"""Charts of sampler settings: a measure against evaluations, seconds, guidance or churn, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rnasynth.plots.style import GREY, MARKERS, OKABE_ITO, axes_of, style

LINES = ("-", "--", ":", "-.")
DODGE = 0.012  # of the axis' length, between lines, so that intervals at one x can be told apart


def quality(
    panels: Mapping[str, pd.DataFrame],
    *,
    x_label: str,
    log_x: bool = True,
    log_y: Sequence[str] = (),
    bands: Mapping[str, tuple[str, float, float]] | None = None,
    marked: Mapping[str, str] | None = None,
) -> Figure:
    """One panel a measure: a line a method with intervals, over what its settings cost or are set to.

    Parameters
    ----------
    panels : y label -> columns group (line), x, value, low, high and name; see `evaluation.sampling_map.SamplingMap.rows`.
        Intervals that are not numbers are left out.
    log_x : logarithmic x axis (evaluations, seconds); else linear (guidance, churn).
    log_y : y labels whose axis is logarithmic.
    bands : y label -> (label, low, high): a grey band, such as the range of real tiles of other patients.
    marked : name of a setting -> text that is written beside its point.
    """
    with style():
        groups = list(dict.fromkeys(group for table in panels.values() for group in table["group"]))
        figure, axes = axes_of(1, len(panels), (4.3 * len(panels) + 0.4, 4.0))
        for axis, (y_label, table) in zip(axes[0], panels.items(), strict=True):
            values = table["x"].to_numpy(float)
            for number, group in enumerate(groups):
                rows = table[table["group"] == group].sort_values("x", kind="stable")
                if not len(rows):
                    continue
                step = DODGE * (number - (len(groups) - 1) / 2)
                x = rows["x"].to_numpy(float)
                span = np.log(values.max() / values.min()) if log_x else np.ptp(values)
                x = x * np.exp(step * span) if log_x else x + step * span
                y = rows["value"].to_numpy(float)
                spread = np.nan_to_num(np.abs(rows[["low", "high"]].to_numpy(float).T - y))
                look = {"color": OKABE_ITO[number % 7], "marker": MARKERS[number % 8], "ls": LINES[number % 4]}
                axis.errorbar(
                    x, y, yerr=spread, ms=5.5, lw=1.5, elinewidth=1.0, capsize=2.5, label=group or "one setting", **look
                )
                for place, name in enumerate(rows["name"]):
                    if marked and name in marked:
                        late = x[place] > (np.sqrt(values.min() * values.max()) if log_x else values.mean())
                        axis.annotate(
                            marked[name],
                            (x[place], y[place]),
                            xytext=(-10 if late else 10, 22),
                            textcoords="offset points",
                            ha="right" if late else "left",
                            fontsize=9,
                            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
                            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.8},
                        )
            if bands and y_label in bands:
                label, low, high = bands[y_label]
                axis.axhspan(low, high, color=GREY, alpha=0.25, lw=0, label=label)
            axis.set(xlabel=x_label, ylabel=y_label, yscale="log" if y_label in log_y else "linear")
            if log_x:
                axis.set_xscale("log")
                axis.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
                axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.xaxis.set_minor_formatter(NullFormatter())
        handles: dict[str, Any] = {}
        for axis in axes[0]:
            handles |= {name: handle for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
        figure.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=3, fontsize=9)
        return figure
