"""Sphinx extension: let the house's docstrings pass through reStructuredText as the plain text they are.

They are written to be read in an editor: `code` in single backticks, prose with stars, bars and underscores. Here code
becomes a literal, and any other character that reStructuredText would take as markup is escaped. Runs before napoleon
turns the numpy sections into field lists.
"""

from __future__ import annotations

import re
from typing import Any

_CODE = re.compile(r"(``.+?``|`[^`\n]+`|\$[^$\n]+\$)")
_MARKUP = re.compile(r"(?<!\\)([*|])")
_TARGET = re.compile(r"(?<=\w)_(?=\W|$)")
_LEADING = re.compile(r"(?<![\w\\])_(?=\w)")


def plain(lines: list[str]) -> list[str]:
    """Return a docstring's lines with code as literals and prose escaped; doctests and literal blocks stay."""
    joined = _join_code(lines)
    out: list[str] = []
    block: int | None = None  # indentation above which a literal block goes on
    for line in joined:
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
    if piece.startswith("`"):
        return f"`{piece}`"
    if piece.startswith("$") and piece.endswith("$") and len(piece) > 2:
        return f":math:`{piece[1:-1]}`"
    return _LEADING.sub(r"\\_", _TARGET.sub(r"\\_", _MARKUP.sub(r"\\\1", piece)))


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = plain(lines)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", _process, priority=100)  # napoleon listens at 500
    return {"parallel_read_safe": True}
