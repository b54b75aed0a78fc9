"""Last touches on the rendered HTML, for which the theme has no setting: for readers on phones and of screen readers."""

from __future__ import annotations

import re
from pathlib import Path

from rnasynth.files import write_text

_SHOWN = re.compile(r'(<img\b[^>]*\bstyle="width: )(\d+)px;?"')


def finish(folder: Path) -> None:
    """Change every document of a rendered book in place.

    Parameters
    ----------
    folder : the book's html folder.
    """
    for path in sorted(folder.rglob("*.html")):
        if "_static" not in path.relative_to(folder).parts:
            text = path.read_text(encoding="utf-8")
            if (changed := finished(text)) != text:
                write_text(path, changed)


def finished(text: str) -> str:
    """Return one document's HTML: a figure's style tells its width as `--shown` too, by which house.css keeps it legible."""
    return _SHOWN.sub(r'\1\2px; --shown: \2px"', text)
