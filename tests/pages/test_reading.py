"""What a reader meets first: the front page's map and list, the verdicts by system, linked words, downloads."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnasynth.config import project_folder
from rnasynth.pages import downloads, finish, front, reproduction, words
from rnasynth.pages.notebooks import read_pages

GLOSSARY = (
    "# Glossary\n\n```{glossary}\ncritic\n  It scores tiles.\n\nmin-max loss\n  Another loss.\n\nnowhere\n  Unused.\n```\n"
)
Write = Callable[..., Path]


def judged(**changes: str) -> dict[str, str]:
    """A verdict as results.json has it."""
    kept = {"id": "x", "quantity": "a gain", "paper": "rna-gan, Figure 2", "published": "2 % (gtex)", "kind": "holds"}
    return {**kept, "verdict": "direction holds on simulated", "here": "1 (0.5 to 2) %", **changes}


def leave(folder: Path, verdicts: list[dict[str, str]], not_converged: list[str] | None = None) -> None:
    """Leave a page's results."""
    folder.mkdir(parents=True)
    (folder / "page.ipynb").write_text("{}")
    (folder / "results.json").write_text(json.dumps({"verdicts": verdicts, "not_converged": not_converged or []}))


def test_the_map_and_the_list_have_every_page_of_the_book_and_what_it_needs(tmp_path: Path) -> None:
    pages = read_pages()
    svg, listed = front.map_svg(pages), front.list_markdown(pages, tmp_path)
    assert re.findall(r'href="notebooks/(\w+)\.html"', svg) == list(pages)
    assert re.findall(r"\*\*\[\d\d [^\]]+\]\(notebooks/(\w+)\)", listed) == list(pages)
    assert svg.count("<path ") == sum(len(page.needs) for page in pages.values())
    for line, page in zip(listed.splitlines(), pages.values(), strict=True):
        assert page.question in line and all(f"(notebooks/{need})" in line for need in page.needs)
        assert "not run in this copy)" in line


def test_lines_of_the_map_stay_inside_it(write_page: Write, tmp_path: Path) -> None:
    for number in range(1, 30):
        write_page(f"{number:02d}_page", needs="01_page" if number == 29 else "")
    svg = front.map_svg(read_pages(tmp_path / "notebooks"))
    control = int(re.findall(r"C(-?\d+) ", svg)[0])
    assert front.LEFT - 0.75 * (front.LEFT - control) >= 0


def test_verdicts_stand_by_system_and_kind_with_their_page(tmp_path: Path) -> None:
    leave(
        tmp_path / "07_a", [judged(), judged(kind="fails", verdict="direction fails on simulated", quantity="b|ar")], ["no"]
    )
    missing = judged(kind="not attempted", verdict="not attempted, because it needs gtex")
    del missing["here"]
    leave(tmp_path / "09_b", [judged(paper="rna-cdm, Results"), missing])
    leave(tmp_path / "08_c", [judged(kind="reproduced", verdict="reproduced")])
    table = reproduction.collect(["07_a", "08_c", "09_b", "10_never_ran"], tmp_path)
    assert list(table["kind"]) == ["reproduced", "holds", "fails", "not attempted", "holds"]
    assert list(table["system"]) == ["RNA-GAN"] * 4 + ["RNA-CDM"]
    first = table.iloc[0]
    assert (first["verdict"], first["here"], first["published"]) == ("reproduced", "1 (0.5 to 2) %", "2 % (gtex)")
    text = reproduction.markdown(["07_a", "08_c", "09_b"], tmp_path, cohort="simulated")
    assert "[07](notebooks/07_a) (not converged)" in text and "[09](notebooks/09_b)" in text
    assert "1 (0.5 to 2) %" in text and "2 % (gtex)" in text and "a gain (Figure 2)" in text and r"b\|ar" in text
    assert "Not attempted on the cohort simulated: 1, and why" in text
    assert text.index("### RNA-GAN") < text.index("### RNA-CDM")
    assert "no published number" in reproduction.markdown([], tmp_path, cohort="gtex").replace("has judged a", "no")


def test_each_word_of_the_glossary_names_pages_that_say_it(write_page: Write, tmp_path: Path) -> None:
    write_page("01_a", question="Is it the critic's?")
    write_page("02_b", question="Is it a Min-max loss?")
    pages = read_pages(tmp_path / "notebooks")
    assert words.glossary_words(GLOSSARY) == ["critic", "min-max loss", "nowhere"]
    text = words.link_glossary(GLOSSARY, pages)
    assert "It scores tiles.\n\n  See: [01 Page 01_a](notebooks/01_a).\n\nmin-max loss" in text
    assert "Another loss.\n\n  See: [02 Page 02_b](notebooks/02_b).\n" in text and text.endswith("  Unused.\n```\n")


def test_the_glossary_of_the_book_leads_to_pages_that_exist() -> None:
    pages = read_pages()
    text = (project_folder() / "book" / "glossary.md").read_text(encoding="utf-8")
    where = words.pages_of_words(words.glossary_words(text), pages)
    assert len(where) > 60 and {name for names in where.values() for name in names} <= set(pages)
    assert not [word for word, names in where.items() if not names], "say in words.ALSO how pages put them"
    linked = words.link_glossary(text, pages)
    assert re.sub(r"\n  See: .*\n", "", linked) == text and linked != text


def test_only_the_first_use_in_prose_becomes_a_link() -> None:
    source = "# The critic\n\n`critic` and [critic](x) and **critic**; Critics score, a critic too. A run of $critic$."
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "source": "critic"},
        {"cell_type": "markdown", "source": source.splitlines(keepends=True)},
        {"cell_type": "markdown", "source": "The critic, a min-max\nloss."},
    ]
    assert sorted(words.link_first_uses(cells, ["critic", "min-max loss", "run"])) == ["critic", "min-max loss"]
    assert cells[0]["source"] == "critic"
    assert cells[1]["source"] == source.replace("Critics score", "{term}`Critics <critic>` score")
    assert cells[2]["source"] == "The critic, a {term}`min-max loss`."
    again = [{"cell_type": "markdown", "source": "See {term}`critic`; the critic."}]
    assert words.link_first_uses(again, ["critic"]) == []


def test_a_download_stands_alone_and_names_no_machine() -> None:
    figure = base64.b64encode(b"png").decode()
    output = {"data": {"text/html": f'<img src="data:image/png;base64,{figure}">', "text/markdown": ":::{figure} x.png"}}
    text = "See {cite}`a2020,b2021`, {term}`words <word>`, [Tiles](03_tiles) and [here](https://example.org)."
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": [text], "metadata": {"papermill": {"x": "/elsewhere"}}},
            {"cell_type": "code", "source": "x", "outputs": [output], "metadata": {"tags": ["parameters"]}},
        ],
        "metadata": {"papermill": {"output_path": "/elsewhere/page.ipynb"}, "kernelspec": {"name": "python3"}},
    }
    made = downloads.stand_alone(notebook)
    assert "/elsewhere" not in json.dumps(made) and "/elsewhere" in json.dumps(notebook), "the executed page is left alone"
    assert made["cells"][0]["source"] == "See (a2020, b2021), words, Tiles and [here](https://example.org)."
    assert list(made["cells"][1]["outputs"][0]["data"]) == ["text/html"]
    assert made["cells"][1]["metadata"] == {"tags": ["parameters"]} and made["metadata"] == {
        "kernelspec": {"name": "python3"}
    }


def test_a_figures_width_is_known_to_the_style_sheet() -> None:
    before = '<img alt="a" src="b.png" style="width: 640px;" /><img src="c.png" />'
    after = '<img alt="a" src="b.png" style="width: 640px; --shown: 640px" /><img src="c.png" />'
    assert finish.finished(before) == after and finish.finished(after) == after
