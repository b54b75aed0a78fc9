"""Charts of survival: Kaplan-Meier curves with the numbers at risk below."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rnasynth.plots.style import OKABE_ITO, style

MAX_TICKS = 200  # of one curve; more would hide it
LINES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))


def kaplan_meier(
    curves: Mapping[str, pd.DataFrame], *, x_label: str, at_risk: pd.DataFrame, y_label: str = "alive (share)"
) -> Figure:
    """Steps of survival with their bands, a tick where a patient was last seen alive, and the numbers at risk below.

    Parameters
    ----------
    curves : group -> table with months, survival, low, high and censored (how many were last seen alive then); at most four.
        A curve with more than 200 ticks is drawn without them.
    at_risk : index group, columns the times (whole numbers, in the unit of `months`) at which the axis has its ticks.
    """
    names = list(curves)
    ticks = [float(tick) for tick in at_risk.columns]
    with style():
        figure = Figure(figsize=(6.6, 3.4 + 0.26 * (len(names) + 1)), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 0.26 * (len(names) + 1)))
        for number, name in enumerate(names):
            table, colour = curves[name], OKABE_ITO[number]
            months, survival = table["months"].to_numpy(float), table["survival"].to_numpy(float)
            above.fill_between(months, table["low"], table["high"], step="post", color=colour, alpha=0.16, lw=0)
            above.step(months, survival, where="post", color=colour, ls=LINES[number % 4], lw=1.8, label=name)
            seen = table["censored"].to_numpy() > 0
            if seen.sum() <= MAX_TICKS:
                above.plot(months[seen], survival[seen], ls="", marker="|", ms=5, mew=0.8, color=colour)
        above.set(xlabel=x_label, ylabel=y_label, ylim=(0, 1.02), xlim=(-0.02 * ticks[-1], ticks[-1] * 1.03))
        above.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        above.set_yticks(np.linspace(0, 1, 6))
        above.legend(loc="lower left")
        for row, name in enumerate(names):
            for tick, count in zip(ticks, at_risk.loc[name], strict=True):
                below.text(tick, row, f"{int(count):,}", ha="center", va="center", fontsize=9)
        below.set_yticks(range(len(names)), names, fontsize=9)
        for number, label in enumerate(below.get_yticklabels()):
            label.set_color(OKABE_ITO[number])
        below.set(ylim=(len(names) - 0.5, -0.5))
        below.set_title("at risk", fontsize=9, loc="left", pad=2)
        above.tick_params(axis="x", labelbottom=True)
        below.tick_params(axis="both", labelbottom=False, length=0)
        below.tick_params(axis="y", pad=18)
        below.grid(visible=False)
        below.spines[:].set_visible(False)
        below.patch.set_alpha(0)
        return figure
