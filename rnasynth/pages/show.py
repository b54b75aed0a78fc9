"""How a page shows things: each in two forms, Markdown for the book and HTML for a notebook viewer."""

from __future__ import annotations

import base64
import html


def display(markdown: str, page_html: str) -> None:
    """Show one thing in both forms."""
    from IPython.display import display as show

    show({"text/markdown": markdown, "text/html": page_html, "text/plain": markdown}, raw=True)


def admonition(kind: str, text: str) -> None:
    """Show a box: note, important, warning, caution."""
    body = text.strip()
    display(f":::{{{kind}}}\n{body}\n:::", f"<blockquote>{html.escape(body)}</blockquote>")


def picture(where: str, png: bytes, *, caption: str, alt: str) -> None:
    """Show a figure at half its pixels.

    Parameters
    ----------
    where : its path as the rendered book finds it.
    png : its bytes.
    caption, alt : one line each.
    """
    encoded = base64.b64encode(png).decode("ascii")
    width = shown_width(png)
    text = f":::{{figure}} {where}\n:alt: {alt}\n:width: {width}px\n\n{caption}\n:::"
    quoted = html.escape(alt, quote=True)
    image = f'<img src="data:image/png;base64,{encoded}" alt="{quoted}" width="{width}" style="max-width:100%">'
    display(text, f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>")


def shown_width(png: bytes) -> int:
    """Return how wide a figure is shown, in pixels: figures are drawn at twice that. From the PNG's header."""
    return int.from_bytes(png[16:20], "big") // 2


def one_line(text: str) -> str:
    """Return text without line breaks and doubled spaces."""
    return " ".join(text.split())
