"""Charts of made profiles draw what they are given."""

from __future__ import annotations

import numpy as np

from rnasynth.plots import profiles as plots


def test_gene_ranks_draw_every_model_in_every_panel_and_marks_that_fit() -> None:
    lines = {f"model {number}": (np.arange(1, 301), np.linspace(1, 0.1 * number, 300)) for number in range(10)}
    figure = plots.gene_ranks({"mean correlation": lines, "within tissues": lines})
    assert len(figure.axes) == 2 and figure.axes[0].get_ylabel() == "mean correlation"
    for axis in figure.axes:
        drawn = {line.get_label(): line for line in axis.lines if not str(line.get_label()).startswith("_")}
        assert list(drawn) == list(lines)
        np.testing.assert_allclose(np.asarray(drawn["model 3"].get_ydata(), float)[-1], 0.3)
        assert len({line.get_color() for line in list(drawn.values())[:8]}) == 8
        again = (drawn["model 0"], drawn["model 8"])  # colours begin anew, dashes do not
        assert again[0].get_color() == again[1].get_color() and again[0].is_dashed() != again[1].is_dashed()
        assert [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 2][:2] == [20, 200]  # type: ignore[arg-type, index]


def test_calibration_has_the_diagonal_and_the_shares() -> None:
    wanted, found = np.array([50.0, 80, 95]), np.array([30.0, 60, 80])
    axis = plots.calibration({"sure": (wanted, found)}).axes[0]
    assert list(axis.lines[0].get_xdata()) == [0, 100]  # type: ignore[arg-type]
    np.testing.assert_array_equal(axis.lines[1].get_ydata(), found)
    assert "percent" in axis.get_xlabel() and "percent" in axis.get_ylabel()


def test_heat_maps_share_one_order_of_genes_and_one_scale() -> None:
    generator = np.random.default_rng(0)
    block = np.repeat(generator.normal(size=(200, 2)), 5, axis=1)[:, [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]]
    real = block + 0.1 * generator.normal(size=block.shape)
    flat = generator.normal(size=real.shape)
    flat[:, 3] = 1.0
    figure = plots.gene_correlations({"real": real, "made": real[:, :], "none": flat})
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]
    np.testing.assert_allclose(shown[0], shown[1])
    assert shown[0][:5, :5].min() > 0.9 and np.abs(shown[0][:5, 5:]).max() < 0.4
    assert np.abs(shown[2] - np.eye(10)).max() < 0.4 and {axis.images[0].get_clim() for axis in figure.axes[:3]} == {(-1, 1)}
