"""Headers, parameters, order, and the modules that a page stands on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rnasynth.errors import InputError
from rnasynth.pages.notebooks import check_parameters, choose, modules_of, read_page, read_pages

Write = Callable[..., Path]


def test_a_page_is_read_with_its_header_and_parameters(write_page: Write) -> None:
    page = read_page(write_page("02_line", needs="01_first", cohorts="[her2st, images]"))
    assert (page.name, page.title, page.question) == ("02_line", "Page 02_line", "Is it straight?")
    assert page.needs == ("01_first",) and page.cohorts == ("her2st", "images") and page.demo_seconds == 5
    assert dict(page.parameters) == {"preset": "demo", "cohort": "simulated", "seed": 0, "slope": 2.0, "out": ""}


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("seed: int = 0", "seed: int = 1 + 1", "literals"),
        ("seed: int = 0", "seed = 0", "lines like"),
        ("seed: int = 0  # seed\n", "", "seed"),
        (' tags=["parameters"]', "", "parameters"),
        ("#   demo_seconds: 5\n", "", "demo_seconds"),
    ],
)
def test_a_malformed_page_is_an_error_that_names_it(write_page: Write, old: str, new: str, word: str) -> None:
    path = write_page("02_line")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=f"(?s)02_line.*{word}"):
        read_page(path)


def test_parameters_must_be_known_and_of_their_type(write_page: Write) -> None:
    page = read_page(write_page("02_line"))
    assert check_parameters(page, {"slope": 3}) == {"slope": 3.0}
    with pytest.raises(InputError, match="slpoe"):
        check_parameters(page, {"slpoe": 3.0})
    with pytest.raises(InputError, match="seed"):
        check_parameters(page, {"seed": "0"})
    with pytest.raises(InputError, match="seed"):
        check_parameters(page, {"seed": True})


def test_pages_come_after_what_they_need(write_page: Write) -> None:
    folder = write_page("01_a", needs="03_c").parent
    write_page("02_b", needs="01_a")
    write_page("03_c")
    pages = read_pages(folder)
    assert choose(pages, None) == ["03_c", "01_a", "02_b"]
    assert choose(pages, ["02", "03_c"]) == ["03_c", "02_b"]
    with pytest.raises(InputError, match="99"):
        choose(pages, ["99"])
    write_page("03_c", needs="02_b")
    with pytest.raises(InputError, match="circle"):
        choose(read_pages(folder), None)
    write_page("03_c", needs="04_none")
    with pytest.raises(InputError, match="04_none"):
        choose(read_pages(folder), None)


@pytest.mark.parametrize(
    ("cohorts", "has_tiles", "cohort", "fits"),
    [
        ("all", False, "gtex", True),
        ("images", False, "gtex", False),
        ("paired", True, "her2st", True),
        ("[simulated, gtex]", True, "her2st", False),
        ("[simulated, gtex]", False, "gtex", True),
    ],
)
def test_a_page_says_whom_it_is_not_meant_for(
    write_page: Write, cohorts: str, has_tiles: bool, cohort: str, fits: bool
) -> None:
    reason = read_page(write_page("02_line", cohorts=cohorts)).suits(cohort, has_profiles=True, has_tiles=has_tiles)
    assert (reason == "") is fits


def test_imports_are_followed_through_modules_functions_and_names(tmp_path: Path) -> None:
    package = tmp_path / "house"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "a": "def f():\n    from house import b\n",
        "b": "REGISTRY = ['house.c']\n",
        "c": "import json\n",
        "unused": "",
    }.items():
        (package / f"{name}.py").write_text(text)
    assert set(modules_of("import numpy\nfrom house.a import f", package)) == {"house", "house.a", "house.b", "house.c"}
    assert modules_of("import numpy", package) == {}


def test_the_library_is_found_through_a_page() -> None:
    found = modules_of("from rnasynth.pages import Page")
    assert {"rnasynth.pages.page", "rnasynth.files", "rnasynth.errors", "rnasynth.data.papers"} <= set(found)
    assert "rnasynth.cli" not in found
