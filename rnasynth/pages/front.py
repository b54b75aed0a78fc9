"""The book's front page: its best picture, and all pages as a map of what needs what and as a list, from their headers."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnasynth.files import read_json, write_bytes
from rnasynth.pages.notebooks import PageSource
from rnasynth.pages.show import shown_width

# (page, figure) that may stand on the front page, best first
FIGURES = (("09_rna_cdm", "samples"), ("07_rna_gan", "samples"), ("03_tiles", "tiles"), ("03_tiles", "section"))
ROW, LEFT, WIDTH, TOP = 36, 112, 360, 20  # of the map, in its own units, which are pixels on a narrow phone
REACH = 12.5  # how far a line bows out to the left, for each row that it spans


def fill(text: str, pages: Mapping[str, PageSource], folder: Path, to: Path, *, cohort: str, preset: str) -> str:
    """Return the front page with its placeholders filled: %PICTURE%, %MAP%, %PAGES%, %COHORT%, %PRESET%.

    Parameters
    ----------
    text : book/index.md.
    pages : all pages in git.
    folder : `build/<cohort>-<preset>`, where they ran.
    to : folder of the assembled book, into which the picture is copied.
    cohort, preset : the book's.
    """
    words = {
        "%PICTURE%": _picture(folder, to),
        "%MAP%": f"````{{raw}} html\n{map_svg(pages)}\n````",
        "%PAGES%": list_markdown(pages, folder),
        "%COHORT%": cohort,
        "%PRESET%": preset,
    }
    for placeholder, value in words.items():
        text = text.replace(placeholder, value)
    return text


def list_markdown(pages: Mapping[str, PageSource], folder: Path) -> str:
    """Return the list of pages: number, title, question, what each needs; and which of them `folder` does not hold."""
    lines = []
    for name, page in pages.items():
        needs = ", ".join(f"[{_number(other)}](notebooks/{other})" for other in page.needs)
        told = [f"needs {needs}"] if needs else []
        if not (folder / name / "page.ipynb").is_file():
            told.append("not run in this copy")
        after = f" ({'; '.join(told)})" if told else ""
        lines.append(f"- **[{_number(name)} {page.title}](notebooks/{name})** {page.question}{after}")
    return "\n".join(lines)


def map_svg(pages: Mapping[str, PageSource]) -> str:
    """Return the map of pages as an SVG of links: one row a page in their order, a line from each page to what it needs.

    Parameters
    ----------
    pages : by name, in order; a need that is no page of them is left out.

    Returns
    -------
    Inline SVG; its colours are those of the text around it, so that it can be read in light and in dark.
    """
    place = {name: TOP + ROW * number for number, name in enumerate(pages)}
    height = 2 * TOP + ROW * (len(pages) - 1)
    lines, rows = [], []
    for name, page in pages.items():
        y = place[name]
        for other in page.needs:
            if other in place:
                reach = min(REACH * (y - place[other]) / ROW + 10, LEFT - 8)
                x = LEFT - 1.33 * reach  # of the control points; the curve itself comes three quarters as far
                lines.append(f'<path d="M{LEFT} {place[other]}C{x:.0f} {place[other]} {x:.0f} {y} {LEFT} {y}"/>')
        title = html.escape(f"{_number(name)}  {page.title}")
        rows.append(
            f'<a href="notebooks/{name}.html"><circle cx="{LEFT}" cy="{y}" r="6"/>'
            f'<text x="{LEFT + 16}" y="{y + 5}">{title}</text></a>'
        )
    return (
        f'<svg class="page-map" viewBox="0 0 {WIDTH} {height}" role="group" '
        f'aria-label="Map of the pages: a line leads from each page to those it needs">'
        f'<g class="page-map-lines" aria-hidden="true">{"".join(lines)}</g>{"".join(rows)}</svg>'
    )


def _number(name: str) -> str:
    return name.split("_", 1)[0]


def _picture(folder: Path, to: Path) -> str:
    """Return the best figure of the pages that ran, with its own caption and alternative text; "" if there is none."""
    for name, wanted in FIGURES:
        results = folder / name / "results.json"
        figures: list[dict[str, Any]] = read_json(results)["figures"] if results.is_file() else []
        figure = next((entry for entry in figures if entry["name"] == wanted), None)
        if figure is not None:
            png = (folder / name / figure["file"]).read_bytes()
            write_bytes(to / "front.png", png)
            caption = f"{figure['caption']} From [its page](notebooks/{name})."
            return f":::{{figure}} front.png\n:alt: {figure['alt']}\n:width: {shown_width(png)}px\n\n{caption}\n:::"
    return ""
