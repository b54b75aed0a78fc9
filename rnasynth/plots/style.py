"""The book's style of figures: one colour and one marker a group, the same on every page; axes of a size."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

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
    """Marker of `name` among `names`, by the same rule as its colour; beyond eight, colour and marker pair anew."""
    place = sorted(set(names)).index(name)
    return MARKERS[(place + place // len(OKABE_ITO)) % len(MARKERS)]


def axes_of(rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 3.6)) -> tuple[Figure, np.ndarray]:
    """Return a figure of `size` inches and its axes as an array of shape (rows, columns)."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, np.atleast_2d(figure.subplots(rows, columns, squeeze=False))
