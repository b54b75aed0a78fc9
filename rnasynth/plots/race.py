"""Figures of the race of generators: quality over steps with the range of seeds, and spectra of tiles."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rnasynth.plots.style import GREY, MARKERS, OKABE_ITO, axes_of, style

MAX_TICKS = 8


def curves_with_range(
    panels: Mapping[str, pd.DataFrame],
    *,
    x_label: str,
    floors: Mapping[str, float] | None = None,
    floor_label: str = "real tiles of others",
    log: bool = True,
) -> Figure:
    """One panel a key (its y label): a line an arm with the range over seeds as a band, and a dashed floor.

    Parameters
    ----------
    panels : y label -> columns arm, step, value, low, high.
    floors : y label -> where the floor lies; none is drawn where it is not above 0 on a logarithmic axis.
    log : logarithmic y axes.
    """
    with style():
        figure, axes = axes_of(1, len(panels), (4.3 * len(panels), 3.5))
        for axis, (y_label, table) in zip(axes[0], panels.items(), strict=True):
            for number, (arm, rows) in enumerate(table.groupby("arm", sort=False)):
                x, low, high = (rows[name].to_numpy(float) for name in ("step", "low", "high"))
                axis.fill_between(x, low, high, color=OKABE_ITO[number], alpha=0.18, lw=0)
                axis.plot(
                    x,
                    rows["value"],
                    color=OKABE_ITO[number],
                    ls=("-", "--", ":", "-.")[number % 4],
                    marker=MARKERS[number],
                    ms=4.5,
                    lw=1.8,
                    label=str(arm),
                )
            floor = (floors or {}).get(y_label)
            if floor is not None and (floor > 0 or not log):
                axis.axhline(floor, color=GREY, ls="--", lw=1.2, label=floor_label)
            axis.set(xlabel=x_label, ylabel=y_label, yscale="log" if log else "linear")
            steps = sorted(set(table["step"]))
            if len(steps) <= MAX_TICKS:
                axis.set_xticks(steps)
            else:
                axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=9)
        return figure


def spectra(maps: Mapping[str, np.ndarray]) -> Figure:
    """Mean power spectra side by side on one colour scale.

    Parameters
    ----------
    maps : title -> log10 of the power relative to its mean, frequency 0 in the middle, shape (px, px).
    """
    with style():
        figure, axes = axes_of(1, len(maps), (2.15 * len(maps) + 0.9, 2.7))
        low, high = np.percentile(np.concatenate([np.ravel(values) for values in maps.values()]), [2, 99.8])
        for number, (axis, (title, values)) in enumerate(zip(axes[0], maps.items(), strict=True)):
            half = 0.5 / len(values)
            extent = (-0.5 - half, 0.5 - half, 0.5 - half, -0.5 - half)
            image = axis.imshow(values, vmin=low, vmax=high, cmap="cividis", extent=extent)
            axis.set(
                title=title.replace(", ", ",\n"),
                xlabel="cycles a pixel",
                xticks=[-0.5, 0, 0.25],
                yticks=[-0.5, -0.25, 0, 0.25],
            )
            axis.grid(visible=False)
            if number:
                axis.set_yticklabels([])
        axes[0, 0].set_ylabel("cycles a pixel")
        figure.colorbar(image, ax=axes[0, -1], label="log10 of power / mean", shrink=0.85)
        return figure
