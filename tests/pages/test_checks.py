"""The checks find each departure that they are there for, and pass what is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rnasynth.pages.checks import check_html, check_outputs, check_page
from rnasynth.pages.notebooks import read_page

Write = Callable[..., Path]


def test_a_page_of_the_right_structure_passes(write_page: Write) -> None:
    assert check_page(read_page(write_page("02_line"))) == []


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("page.verdicts()", "class A:\n    pass\npage.verdicts()", "class"),
        ("page.verdicts()", "def f(): pass\ndef g(): pass\npage.verdicts()", "functions"),
        ("page.verdicts()", "def f():\n" + "    pass\n" * 11 + "page.verdicts()", "longer"),
        ("page.verdicts()", "x = 1\n" * 150 + "page.verdicts()", "code lines"),
        ("page.verdicts()", "", "verdicts"),
        (', alt="A rising line."', "", "alternative"),
        ("page.close(", "print(", "close"),
        ("# ## Limits", "# ## Ends", "limits"),
        ("# ## Take-aways", "# ## Ends", "take-aways"),
        ("**Question.** Is it straight?", "**Question.** Is it bent?", "question"),
        ("**What you will see.**", "See.", "see"),
        ('out: str = ""', 'out: str = "x"', "out"),
        ("seed: int = 0  # seed", "seed: int = 0", "comment"),
        ('Page.open("02_line"', 'Page.open("03_line"', "03_line"),
        (", seed=seed", "", "seed"),
    ],
)
def test_each_departure_is_found(write_page: Write, old: str, new: str, word: str) -> None:
    path = write_page("02_line")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    problems = check_page(read_page(path))
    assert any(word in problem for problem in problems), problems


def test_errors_warnings_and_cells_that_did_not_run_are_found(tmp_path: Path) -> None:
    def cell(count: int | None, *outputs: dict[str, object]) -> dict[str, object]:
        return {"cell_type": "code", "execution_count": count, "source": ["x"], "outputs": list(outputs), "metadata": {}}

    error = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    warning = {"output_type": "stream", "name": "stderr", "text": ["UserWarning: hm\n"]}
    path = tmp_path / "page.ipynb"
    path.write_text(json.dumps({"cells": [cell(1), cell(2, error), cell(None), cell(3, warning)]}))
    problems = check_outputs(path)
    assert len(problems) == 3 and "ValueError: no" in problems[0] and "did not run" in problems[1] and "hm" in problems[2]


def book(tmp_path: Path, body: str) -> list[str]:
    (tmp_path / "index.html").write_text(f"<html><body>{body}</body></html>")
    (tmp_path / "a.png").write_bytes(b"x")
    return check_html(tmp_path, ["index"])


def test_a_local_book_passes_and_links_for_readers_are_no_loads(tmp_path: Path) -> None:
    body = (
        "<a href='https://example.org'>x</a><img src='a.png?v=1' alt='Tiles.'><img src='data:image/png;base64,AA==' alt='x'>"
    )
    assert book(tmp_path, body + "<link rel='next' href='https://example.org/next'>") == []


@pytest.mark.parametrize(
    "body",
    [
        "<script src='https://example.org/x.js'></script>",
        "<img src='//example.org/x.png'>",
        "<link rel='stylesheet' href='https://example.org/x.css'>",
        "<link rel='preconnect' href='https://example.org'>",
        "<style>@import url(https://example.org/x.css)</style>",
        "<p style='background: url(https://example.org/x.png)'>x</p>",
        "<iframe src='http://example.org'></iframe>",
    ],
)
def test_whatever_a_browser_would_load_from_elsewhere_is_found(tmp_path: Path, body: str) -> None:
    assert any("another machine" in problem for problem in book(tmp_path, body))


@pytest.mark.parametrize("alt", ["", "alt=''", "alt='_images/a.png'"])
def test_an_image_without_a_text_and_a_link_that_leads_nowhere_are_found(tmp_path: Path, alt: str) -> None:
    assert book(tmp_path, f"<img src='a.png' {alt}>") == ["index.html shows a.png without alternative text"]
    there = "<a href='index.html#x'>x</a><a href='#x'>x</a><a href='a.png'>x</a><a href='mailto:a@example.org'>x</a>"
    assert book(tmp_path, there) == []
    assert book(tmp_path, "<a href='gone.html#x'>x</a>") == ["index.html links to gone.html#x, which does not exist"]


def test_missing_documents_missing_files_and_error_outputs_are_found(tmp_path: Path) -> None:
    assert check_html(tmp_path, ["index"]) == ["index.html is missing"]
    assert any("does not exist" in problem for problem in book(tmp_path, "<img src='b.png'>"))
    assert any("error output" in problem for problem in book(tmp_path, "<div class='output traceback highlight'>x</div>"))
    (tmp_path / "x.css").write_text("@font-face { src: url('https://example.org/f.woff2') }")
    assert any("x.css" in problem for problem in book(tmp_path, ""))
