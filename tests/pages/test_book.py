"""Assembling the book, its status, and docstrings on their way into it. The whole build is tested by `make book`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rnasynth import files
from rnasynth.config import project_folder
from rnasynth.errors import InputError
from rnasynth.pages import book, stamps
from rnasynth.pages.notebooks import read_pages

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def docstrings() -> ModuleType:
    path = project_folder() / "book" / "_ext" / "house_docstrings.py"
    spec = importlib.util.spec_from_file_location("house_docstrings", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leave(folder: Path, **changes: Any) -> None:
    """Leave what a page leaves."""
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "tiles.png").write_bytes(b"png")
    results: dict[str, Any] = {
        "numbers": {"a": {"value": 1}, "b": {"value": 2}},
        "figures": [{"name": "tiles", "file": "figures/tiles.png", "caption": "A line.", "alt": "Line."}],
        "verdicts": [{"kind": "holds"}, {"kind": "holds"}, {"kind": "not attempted"}],
        "not_converged": [],
        "runs": [],
        "provenance": {"peak_memory_mb": 321.0},
        **changes,
    }
    (folder / "results.json").write_text(json.dumps(results))
    output = {"output_type": "display_data", "data": {"text/html": "<b>x</b>", "text/markdown": "**x**"}, "metadata": {}}
    cell = {"cell_type": "code", "execution_count": 1, "source": ["x"], "outputs": [output], "metadata": {"papermill": {}}}
    (folder / "page.ipynb").write_text(
        json.dumps({"cells": [cell], "metadata": {"papermill": {}}, "nbformat": 4, "nbformat_minor": 5})
    )
    stamps.write_stamp(folder, {"source": "x"}, seconds=12.3)


def test_the_assembled_book_has_every_page_run_or_explained(tmp_path: Path, write_page: Write) -> None:
    for name in read_pages():
        write_page(name)
    pages = read_pages(tmp_path / "notebooks")
    leave(tmp_path / "b" / "03_tiles", not_converged=["no"])
    (tmp_path / "b" / "pages.json").write_text(json.dumps({"04_beta_vae": {"reason": "it is meant for gtex"}}))
    documents = book.assemble(tmp_path / "src", tmp_path / "b", pages, cohort="her2st", preset="demo")
    assert {"index", "quiz", "status", "glossary", "decisions", "references", "api", "api/rnasynth.pages.page"} <= set(
        documents
    )
    for document in documents:
        assert list((tmp_path / "src").glob(f"{document}.*")), document
    notebook = json.loads((tmp_path / "src" / "notebooks" / "03_tiles.ipynb").read_text())
    assert notebook["cells"][0]["outputs"][0]["data"] == {"text/markdown": "**x**"}
    assert (tmp_path / "src" / "notebooks" / "03_tiles" / "figures" / "tiles.png").is_file()
    assert "it is meant for gtex" in (tmp_path / "src" / "notebooks" / "04_beta_vae.md").read_text()
    status = (tmp_path / "src" / "status.md").read_text()
    line = next(line for line in status.splitlines() if "(notebooks/03_tiles)" in line and line.startswith("| [03 "))
    said = "2 numbers; published claims: direction holds 2, not attempted 1; NOT CONVERGED"
    for part in ("12 s (expected: 5 s)", "321 MB", said):
        assert part in line
    assert "All on the cohort her2st, with the preset demo." in status
    assert "did not run: it is meant for gtex" in status and "did not run: it was not asked for" in status
    front = (tmp_path / "src" / "index.md").read_text()
    assert "A line. From [its page](notebooks/03_tiles)" in front and "%" not in front.split("This copy")[1][:200]
    assert (tmp_path / "src" / "front.png").read_bytes() == b"png"


def test_a_page_that_the_contents_do_not_list_is_an_error(tmp_path: Path, write_page: Write) -> None:
    write_page("99_new")
    with pytest.raises(InputError, match="99_new"):
        book.assemble(
            tmp_path / "src", tmp_path / "b", read_pages(tmp_path / "notebooks"), cohort="simulated", preset="demo"
        )


def test_a_book_without_pages_says_how_to_make_them(tmp_path: Path, write_page: Write) -> None:
    write_page("01_a")
    with pytest.raises(InputError, match="rnasynth book"):
        book.build_book("simulated", "demo", root=tmp_path, notebooks=tmp_path / "notebooks")


def test_sections_become_lists_and_prose_is_escaped(docstrings: ModuleType) -> None:
    text = """Read `a_b` of x*y, |z| and name_.

    Parameters
    ----------
    path, other : file of `kind
        two` lines.
    **options : more.

    Raises
    ------
    InputError : it is *not* there.

    Examples
    --------
    >>> f(*x)
    [1, 2*3]
    """
    lines = [line[4:] if line.startswith("    ") else line for line in text.splitlines()]
    out = "\n".join(docstrings.render(lines))
    assert "Read ``a_b`` of x\\*y, \\|z\\| and name\\_." in out
    assert ".. rubric:: Parameters" in out and "``path, other``\n    file of ``kind two`` lines." in out
    assert "``**options``\n    more." in out
    assert "``InputError``\n    it is \\*not\\* there." in out
    assert ">>> f(*x)\n[1, 2*3]" in out


def test_titles_that_are_no_sections_stay_prose(docstrings: ModuleType) -> None:
    assert docstrings.sections(["A table", "-------", "x"]) == [("", ["A table", "-------", "x"])]


def test_ledger_takes_its_numbers_from_the_pages_and_says_where_there_are_none(tmp_path: Path) -> None:
    files.write_json(
        tmp_path / "02_expression" / "results.json", {"numbers": {"out_of_tanh_reach_log2p1_zscore": {"value": 0.25}}}
    )
    table = book.ledger_markdown(tmp_path)
    assert "0.25" in table and "not measured" in table and "tanh" in table
