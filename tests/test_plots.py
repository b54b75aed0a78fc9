"""A figure is tested by the data it draws; looking at it is a person's job."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rnasynth import plots

TISSUES = ("adeno-like", "cortex-like", "lung-like", "sarcoma-like", "squamous-like")


def test_a_tissue_has_one_colour_and_one_marker_wherever_it_stands() -> None:
    shuffled = TISSUES[::-1]
    assert [plots.colour_of(t, TISSUES) for t in TISSUES] == [plots.colour_of(t, shuffled) for t in TISSUES]
    assert len({plots.colour_of(t, TISSUES) for t in TISSUES}) == len({plots.marker_of(t, TISSUES) for t in TISSUES}) == 5


def test_composition_draws_every_count_once() -> None:
    counts = pd.DataFrame({"train": [24, 6], "val": [8, 2], "test": [8, 0]}, index=["a", "b"])
    figure = plots.composition(counts)
    widths = sorted(patch.get_width() for patch in figure.axes[0].patches)
    assert widths == [0, 2, 6, 8, 8, 24]
    assert figure.axes[0].get_xlabel() == "patients"


def test_intervals_draws_value_and_both_ends() -> None:
    table = pd.DataFrame({"label": ["x", "y"], "value": [0.5, 0.2], "low": [0.4, -0.1], "high": [0.9, 0.3]})
    axis = plots.intervals(table, x_label="rho", reference=0.0, reference_label="chance").axes[0]
    segments = axis.collections[0].get_segments()
    np.testing.assert_allclose([segment[:, 0] for segment in segments], [[0.4, 0.9], [-0.1, 0.3]])
    assert axis.lines[0].get_xdata()[0] == 0.0


def test_histogram_clips_but_does_not_drop() -> None:
    values = np.r_[np.zeros(1000), 1e9]
    axis = plots.histograms({"a": {"x": values}}, x_label={"a": "z"}).axes[0]
    assert axis.get_xlabel() == "z" and axis.get_xlim()[1] < 1e9


@pytest.mark.parametrize(("mpp_um", "length"), [(0.5, 20), (2.0, 100), (4.0, 200)])
def test_scale_bar_is_a_round_length_and_drawn_true(mpp_um: float, length: int) -> None:
    tiles = np.zeros((3, 200, 200, 3), np.uint8)
    figure = plots.tile_grid({"real": tiles}, mpp_um=mpp_um)
    line = figure.axes[-1].lines[0]
    drawn_um = np.ptp(line.get_xdata()) * mpp_um
    assert drawn_um == pytest.approx(plots.round_length(200 * mpp_um / 4)) and drawn_um == pytest.approx(length, rel=0.3)
    assert f"{drawn_um:g} µm" in figure._supxlabel.get_text()


def test_tile_grid_shows_the_tiles_as_given() -> None:
    tiles = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)
    figure = plots.tile_grid({"real": tiles, "generated": tiles[::-1]}, mpp_um=1.0)
    shown = np.stack([axis.images[0].get_array() for axis in figure.axes])
    assert np.array_equal(shown, np.concatenate([tiles, tiles[::-1]]))


def test_slide_overview_draws_one_box_a_tile_in_millimetres() -> None:
    boxes = np.array([[0, 0], [10, 20]])
    figure = plots.slide_overview(
        np.zeros((40, 60, 3), np.uint8), np.ones((40, 60), bool), boxes, mpp_um=100.0, box_um=128.0
    )
    drawn = [patch.get_xy() for patch in figure.axes[2].patches]
    np.testing.assert_allclose(drawn, boxes * 0.1)


def test_curves_spectrum_boxes_and_embeddings_draw_what_they_are_given() -> None:
    x = np.arange(5)
    assert np.array_equal(plots.curves({"loss": {"a": (x, x**2)}}, x_label="step").axes[0].lines[0].get_ydata(), x**2)
    drawn = plots.spectrum(np.array([1.0, 3.0, 2.0]), y_label="KL (nats)", threshold=0.01, threshold_label="active").axes[0]
    assert list(drawn.lines[0].get_ydata()) == [3.0, 2.0, 1.0]
    boxes = plots.box_by_group({"a": np.arange(11.0), "b": np.zeros(3)}, x_label="OD").axes[0]
    assert len(boxes.patches) == 2
    points = plots.embedding({"raw": (np.eye(2), ["a", "b"])}, axis_names={"raw": ("PC 1", "PC 2")}).axes[0]
    assert [tuple(c.get_offsets()[0]) for c in points.collections] == [(1.0, 0.0), (0.0, 1.0)]


def test_a_map_draws_each_set_in_its_panel_on_common_axes_over_the_background() -> None:
    sets = {"real": (np.eye(2), ["a", "b"]), "made": (np.array([[3.0, 4.0]]), ["b"])}
    figure = plots.map_of_sets(sets, background=np.array([[-1.0, -1.0]]))
    real, made = figure.axes[:2]
    drawn = [c.get_offsets().tolist() for c in real.collections]
    assert drawn == [[[-1.0, -1.0]], [[1.0, 0.0]], [[0.0, 1.0]]]
    assert real.get_xlim() == made.get_xlim() and real.get_xlim()[1] > 3
    assert made.collections[2].get_offsets().tolist() == [[3.0, 4.0]] and made.get_title() == "made"
    np.testing.assert_array_equal(real.collections[2].get_facecolor()[0], made.collections[2].get_facecolor()[0])


def test_scatter_against_draws_points_by_group_and_the_line_of_equals() -> None:
    points = pd.DataFrame({"x": [0.0, 1.0], "y": [0.5, -2.0], "group": ["a", "b"]})
    axis = plots.scatter_against(points, x_label="real (z-score)", y_label="made (z-score)").axes[0]
    assert [c.get_offsets().tolist() for c in axis.collections] == [[[0.0, 0.5]], [[1.0, -2.0]]]
    line = axis.lines[-1]
    np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
    assert axis.get_xlabel() == "real (z-score)" and axis.get_aspect() == 1


def test_more_groups_than_colours_still_differ_in_colour_and_marker() -> None:
    names = [f"tissue {number:02d}" for number in range(30)]
    assert len({(plots.colour_of(name, names), plots.marker_of(name, names)) for name in names}) == 30


def rating_scores() -> pd.DataFrame:
    rows = [
        (t, g, r, i + j + 0.5 * k)
        for i, t in enumerate("ab")
        for j, g in enumerate(("real", "gan"))
        for k, r in enumerate("12")
    ]
    return pd.DataFrame(rows, columns=["tissue", "group", "rater", "score"])


def test_paired_scores_draw_each_rater_each_mean_and_the_scale() -> None:
    figure = plots.paired_scores(rating_scores(), groups=["gan", "real"], scale=(1, 5))
    first, second = figure.axes
    assert [list(line.get_ydata()) for line in first.lines] == [[1.0, 0.0], [1.5, 0.5]]
    assert [list(line.get_ydata()) for line in second.lines] == [[2.0, 1.0], [2.5, 1.5]]
    assert [segment[0, 1] for segment in first.collections[0].get_segments()] == [1.25, 0.25]
    assert first.patches[0].get_height() == 1 and first.get_title() == "a"


def test_rater_differences_draw_each_point_and_each_interval() -> None:
    table = pd.DataFrame(
        {"label": ["x - y"] * 3, "tissue": ["a", "a", "b"], "rater": list("121"), "value": [0.5, 0.5, -1.0]}
    )
    means = pd.DataFrame(
        {"label": ["x - y"] * 2, "group": ["a", "b"], "value": [0.5, -1], "low": [0.2, -2], "high": [0.9, 0]}
    )
    axis = plots.rater_differences({"A": table}, means).axes[0]
    points = np.concatenate(
        [c.get_offsets() for c in axis.collections if len(c.get_offsets()) and not hasattr(c, "get_segments")]
    )
    assert sorted(points[:, 0]) == [-1.0, 0.5, 0.5]
    assert len({tuple(point) for point in points}) == 3, "equal differences lie above each other"
    ends = [segment[:, 0].tolist() for c in axis.collections if hasattr(c, "get_segments") for segment in c.get_segments()]
    np.testing.assert_allclose(sorted(ends), [[-2.0, 0.0], [0.2, 0.9]])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["x - y, a", "x - y, b"]


def test_kaplan_meier_draws_steps_bands_ticks_and_aligned_numbers_at_risk() -> None:
    table = pd.DataFrame(
        {
            "months": [0.0, 5.0, 9.0],
            "survival": [1.0, 0.6, 0.6],
            "low": [1.0, 0.3, 0.3],
            "high": [1.0, 0.8, 0.8],
            "censored": [0, 0, 4],
        }
    )
    at_risk = pd.DataFrame([[1200, 4], [10, 2]], index=["low risk", "high risk"], columns=[0, 6])
    figure = plots.kaplan_meier({"low risk": table, "high risk": table}, x_label="months", at_risk=at_risk)
    above, below = figure.axes
    steps, seen = above.lines[0], above.lines[1]
    assert steps.get_drawstyle() == "steps-post" and list(steps.get_ydata()) == [1.0, 0.6, 0.6]
    assert list(seen.get_xdata()) == [9.0] and above.get_xlabel() == "months"
    assert above.lines[0].get_linestyle() != above.lines[2].get_linestyle()
    assert len(above.collections) == 2 and above.get_legend() is not None
    assert [(text.get_position(), text.get_text()) for text in below.texts] == [
        ((0.0, 0), "1,200"),
        ((6.0, 0), "4"),
        ((0.0, 1), "10"),
        ((6.0, 1), "2"),
    ]
    assert above.get_xlim() == below.get_xlim()
    many = pd.DataFrame({"months": np.arange(300.0), "survival": 1.0, "low": 1.0, "high": 1.0, "censored": 1})
    assert len(plots.kaplan_meier({"low risk": many}, x_label="months", at_risk=at_risk[:1]).axes[0].lines) == 1


def test_dose_response_draws_a_panel_a_change_and_a_line_a_source() -> None:
    rows = [
        {"source": source, "change": change, "quantity": "lymphocyte", "primary": primary, "dose": dose}
        for source in ("own", "truth")
        for change in ("A", "B")
        for primary in (True, False)
        for dose in (-1.0, 0.0, 1.0)
    ]
    table = pd.DataFrame(rows).assign(value=lambda table: 0.1 * table["dose"], low=-0.2, high=0.2)
    figure = plots.dose_response(table, of="fraction")
    assert [axis.get_title() for axis in figure.axes] == ["A", "B"] and len(figure.legends) == 1
    assert figure.axes[0].get_ylabel() == "lymphocyte fraction, difference"
    for axis in figure.axes:
        assert len(axis.containers) == 2
        assert [list(each.lines[0].get_ydata()) for each in axis.containers] == [[-0.1, 0.0, 0.1]] * 2
    assert not plots.dose_response(table[table["source"] == "own"]).legends
