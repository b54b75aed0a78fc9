"""The race's figures draw what they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rnasynth.plots.race import curves_with_range, spectra


def lines() -> pd.DataFrame:
    rows = [(arm, step, 100.0 / step + shift) for shift, arm in enumerate(("GAN", "RNA-GAN")) for step in (10, 20, 40)]
    table = pd.DataFrame(rows, columns=["arm", "step", "value"])
    return table.assign(low=table["value"] - 1, high=table["value"] + 2)


def test_every_arm_has_its_line_and_its_range_and_every_panel_its_floor() -> None:
    figure = curves_with_range(
        {"Frechet": lines(), "kernel": lines()}, x_label="step", floors={"Frechet": 2.0, "kernel": -0.1}
    )
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.lines[:2]] == [[10.0, 5.0, 2.5], [11.0, 6.0, 3.5]]
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in left.lines[:2]}) == 2
    band = left.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (1.5, 12.0)
    assert left.lines[2].get_ydata()[0] == 2.0 and len(right.lines) == 2  # nothing at or below 0 on a logarithmic axis
    assert [text.get_text() for text in figure.legends[0].texts] == ["GAN", "RNA-GAN", "real tiles of others"]
    assert left.get_yscale() == "log" and left.get_xlabel() == "step"


def test_spectra_share_one_scale_and_have_frequency_nought_in_the_middle() -> None:
    maps = {"real, held out": np.zeros((32, 32)), "made": np.full((32, 32), 3.0)}
    maps["made"][16, 16] = 9.0
    first, second = spectra(maps).axes[:2]
    assert first.images[0].get_clim() == second.images[0].get_clim()
    left, right, *_ = first.images[0].get_extent()
    pixel = (right - left) / 32
    assert left + 16.5 * pixel == 0.0 and left + 0.5 * pixel == -0.5
    assert first.get_title() == "real,\nheld out" and second.images[0].get_array()[16, 16] == 9.0
