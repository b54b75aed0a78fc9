"""The executed page as a notebook of its own: one file with its figures inside, which needs nothing of the book."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

KEPT_METADATA = ("kernelspec", "language_info")
_CITE = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
_ROLE = re.compile(r"\{\w+\}`([^`<]+?)(?:\s*<[^`>]+>)?`")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)]+)\)")


def plain_metadata(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the book keeps of a notebook's metadata: nothing of the machine that ran it."""
    return {key: notebook["metadata"][key] for key in KEPT_METADATA if key in notebook["metadata"]}


def stand_alone(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Return an executed page as it is downloaded.

    Parameters
    ----------
    notebook : as JSON; its outputs have the two forms of `show.display`.

    Returns
    -------
    A copy whose outputs are HTML with the figures inside; in its text citations, glossary words and links to other pages,
    which only the book can follow, are plain words. Of its metadata the kernel and the cells' tags are left.
    """
    made = copy.deepcopy(dict(notebook))
    made["metadata"] = plain_metadata(notebook)
    for cell in made["cells"]:
        tags = cell["metadata"].get("tags", [])
        cell["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "markdown":
            cell["source"] = plain_text("".join(cell["source"]))
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" in data and "text/markdown" in data:
                del data["text/markdown"]
    return made


def plain_text(text: str) -> str:
    """Return MyST text with its roles and its links into the book as words.

    Examples
    --------
    >>> plain_text("See {cite}`gan2014`, {term}`critics <critic>` and [Tiles](03_tiles).")
    'See (gan2014), critics and Tiles.'
    """
    text = _ROLE.sub(r"\1", _CITE.sub(lambda found: "(" + found[1].replace(",", ", ") + ")", text))
    return _LINK.sub(r"\1", text)


def offer(cells: list[dict[str, Any]], name: str) -> None:
    """Put a link to the download under the first cell of a page, in place."""
    line = f"\n\n{{download}}`Download this page as a notebook, with its results <../downloads/{name}.ipynb>`"
    cells[0]["source"] = "".join(cells[0]["source"]).rstrip() + line
