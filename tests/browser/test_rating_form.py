"""The rating form in headless Chromium: filled in by keyboard alone, exported, and read back by the analysis."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rnasynth.evaluation.ratings.form import Form, TileGroup, make_form
from rnasynth.evaluation.ratings.study import analyse_forms, read_forms

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
LABELS = ("lung/real", "lung/gan", "brain/real", "brain/gan")


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> Form:
    """A form of four groups with two tiles each."""
    root = tmp_path_factory.mktemp("form")
    generator = np.random.default_rng(0)
    groups = []
    for label in LABELS:
        folder = root / label.replace("/", "_")
        folder.mkdir()
        for number in range(2):
            Image.fromarray(generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        groups.append(TileGroup.parse(f"{label}={folder}"))
    return make_form(groups, root / "form", tiles_per_group=2, seed=3)


def begin(tab: Any, form: Form, rater: str) -> None:
    """Open the form and give a rater's code, by keyboard."""
    tab.goto(form.path.as_uri(), wait_until="load")
    tab.wait_for_function("document.activeElement.id === 'rater'")
    tab.keyboard.type(rater)
    tab.keyboard.press("Enter")


def fill(tab: Any, form: Form, rater: str, folder: Path, score: dict[str, str]) -> Path:
    """Answer every tile by keyboard, as the key knows it, and save the exported csv."""
    secret = json.loads(form.key.read_text(encoding="utf-8"))["tiles"]
    begin(tab, form, rater)
    for number in range(form.n_tiles):
        assert tab.locator("#where").inner_text().startswith(f"Tile {number + 1} of {form.n_tiles}")
        name = tab.evaluate("data.tiles[order[place]].id")
        tab.keyboard.press({"brain": "a", "lung": "b"}[secret[name]["tissue"]])
        tab.keyboard.press(score[secret[name]["group"]])
        tab.keyboard.press("n")
        tab.keyboard.press("Enter")
    with tab.expect_download() as download:
        tab.keyboard.press("Enter")  # the export button has the focus
    assert download.value.suggested_filename == f"ratings-{rater}.csv"
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_form_is_filled_in_by_keyboard_and_read_back(form: Form, tab: Any, tmp_path: Path) -> None:
    paths = [
        fill(tab, form, "hv", tmp_path, {"real": "5", "gan": "2"}),
        fill(tab, form, "mgo", tmp_path, {"real": "4", "gan": "2"}),
    ]
    assert tab.complaints == [] and all(url.startswith(("file:", "data:", "blob:")) for url in tab.requests)
    answers = read_forms(paths, form.key)
    assert (answers["tissue"] == answers["tissue_answer"]).all() and not answers["artefacts"].any()
    assert answers.groupby(["rater", "group"])["quality"].unique().map(list).to_dict() == {
        ("hv", "real"): [5], ("hv", "gan"): [2], ("mgo", "real"): [4], ("mgo", "gan"): [2],
    }  # fmt: skip
    found = analyse_forms(paths, form.key, tmp_path / "out")
    assert set(found.tests["difference"].round(9)) == {2.5}
    orders = [pd.read_csv(path)["tile"].tolist() for path in paths]
    assert sorted(orders[0]) == sorted(orders[1]) and orders[0] != orders[1], "each rater has an order of their own"


def test_a_question_left_open_is_said_and_the_tile_stays(form: Form, tab: Any) -> None:
    begin(tab, form, "open")
    tab.keyboard.press("3")
    tab.keyboard.press("Enter")
    assert tab.locator("#message").inner_text() == "Question 1 is still open."
    assert tab.locator("#where").inner_text().startswith("Tile 1 of")


def test_progress_survives_closing_the_page(form: Form, tab: Any) -> None:
    begin(tab, form, "later")
    for key in ("a", "4", "y", "Enter", "b", "1"):
        tab.keyboard.press(key)
    tab.goto("about:blank")
    begin(tab, form, "later")
    assert tab.locator("#where").inner_text() == f"Tile 2 of {form.n_tiles}, 1 answered"
    assert tab.locator("input[name=quality]:checked").get_attribute("value") == "1"
    tab.keyboard.press("p")
    assert tab.locator("input[name=artefacts]:checked").get_attribute("value") == "yes"


def test_every_control_has_a_name_and_every_tile_a_text(form: Form, tab: Any) -> None:
    tab.goto(form.path.as_uri(), wait_until="load")
    tab.get_by_label(re.compile("Your code")).fill("names")
    tab.get_by_role("button", name="Begin").click()
    assert tab.get_by_role("radio").count() == 2 + 5 + 2
    for name in ("brain", "lung", "yes", "no"):
        tab.get_by_role("radio", name=re.compile(f"^{name}")).check()
    assert tab.locator("#tile").get_attribute("alt") == f"Tissue tile 1 of {form.n_tiles}"
    assert tab.evaluate("document.getElementById('tile').naturalWidth") == 16
