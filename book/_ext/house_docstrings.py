"""Sphinx extension: show the house's docstrings as the plain text they are.

They are written to be read in an editor: numpy's sections, but "name : what it is, shape, unit, range" where numpy has a
type; code in single backticks; prose with stars, bars and underscores. Here code becomes a literal, whatever else
reStructuredText would take for markup is escaped, and the sections become lists.
"""

from __future__ import annotations

import re
from typing import Any

_CODE = re.compile(r"(``.+?``|`[^`\n]+`|\$[^$\n]+\$)")
_MARKUP = re.compile(r"(?<!\\)([*|])")
_TARGET = re.compile(r"(?<=\w)_(?=\W|$)")
_LEADING = re.compile(r"(?<![\w\\])_(?=\w)")
_ENTRY = re.compile(r"(?P<name>\S.*?) : (?P<text>.*)")
LISTS = ("Parameters", "Attributes", "Raises", "Yields", "Warns")
OTHERS = ("Returns", "Notes", "Examples", "See Also", "References", "Source")


def render(lines: list[str]) -> list[str]:
    """Return a docstring's lines as reStructuredText."""
    out: list[str] = []
    for title, body in sections(lines):
        if title:
            out += ["", f".. rubric:: {title}", ""]
        if title in LISTS:
            for name, text in entries(body):
                out += [f"``{name}``", *(f"    {line}" for line in plain(text)), ""]
        else:
            out += plain(body)
    return [*out, ""]


def sections(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Divide a docstring at numpy's underlined titles; the text before the first one has the title ""."""
    found: list[tuple[str, list[str]]] = [("", [])]
    number = 0
    while number < len(lines):
        title = lines[number].strip()
        underlined = number + 1 < len(lines) and set(lines[number + 1].strip()) == {"-"}
        if underlined and title in LISTS + OTHERS:
            found.append((title, []))
            number += 2
            continue
        found[-1][1].append(lines[number])
        number += 1
    return found


def entries(body: list[str]) -> list[tuple[str, list[str]]]:
    """Divide a section into (name, lines of text); what stands before the first "name : text" has the name "..."."""
    found: list[tuple[str, list[str]]] = []
    for line in body:
        entry = _ENTRY.fullmatch(line.rstrip())
        if entry and not line.startswith(" "):
            found.append((entry["name"].strip("`"), [entry["text"].strip()]))
        elif line.strip() and not line.startswith(" ") and not found:
            found.append((line.strip().strip("`"), [""]))
        elif found:
            found[-1][1].append(line.strip())
    return found


def plain(lines: list[str]) -> list[str]:
    """Return lines with code as literals and prose escaped; doctests and literal blocks stay."""
    out: list[str] = []
    block: int | None = None  # indentation above which a literal block goes on
    for line in _join_code(lines):
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        if block is not None or line.lstrip().startswith((">>>", "...")) or _in_doctest(out):
            out.append(line)
            continue
        if line.rstrip().endswith("::"):
            block = indent
        out.append("".join(_piece(piece) for piece in _CODE.split(line)))
    return out


def _join_code(lines: list[str]) -> list[str]:
    """Bring code that is broken over two lines onto one."""
    joined: list[str] = []
    for line in lines:
        if joined and joined[-1].strip() and line.strip() and joined[-1].replace("``", "").count("`") % 2:
            joined[-1] = f"{joined[-1].rstrip()} {line.strip()}"
        else:
            joined.append(line)
    return joined


def _in_doctest(out: list[str]) -> bool:
    """Whether the paragraph above began as a doctest, so that this line is its expected output."""
    for line in reversed(out):
        if not line.strip():
            return False
        if line.lstrip().startswith(">>>"):
            return True
    return False


def _piece(piece: str) -> str:
    if piece.startswith("``"):
        return piece
    if piece.startswith("`") and piece.endswith("`") and len(piece) > 2:
        return f"`{piece}`"
    if piece.startswith("$") and piece.endswith("$") and len(piece) > 2:
        return f":math:`{piece[1:-1]}`"
    return _LEADING.sub(r"\\_", _TARGET.sub(r"\\_", _MARKUP.sub(r"\\\1", piece)))


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = render(lines)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
