"""Glossary and pages, linked both ways when the book is assembled: no link is typed, so none can go stale."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rnasynth.pages.notebooks import PageSource

MOST = 3  # pages that a word names, at most
# Words of everyday language too: a page that says them need not mean them, so their first use is not made a link.
PLAIN = ("page", "run", "tile", "profile", "cohort", "preset", "ceiling", "floor", "verdict", "programme", "latent")
ALSO = {  # what a page says, or calls in its code, when it means a word that it does not spell out
    "ADA": ("augmentation before the critic", "augment_critic"),
    "AnnData": ("profiles",),
    "censoring": ("censored", "concordance"),
    "confusion matrix": ("confusion_matrices",),
    "detectability": ("told from", "coverage"),
    "EMA": ("weights",),
    "equivalence test": ("equivalence",),
    "H&E": ("haematoxylin",),
    "intraclass correlation": ("raters agree", "agreement"),
    "jackknife": ("sampling_seeds",),
    "matched random genes": ("random genes", "perturb"),
    "memorisation": ("nearest training", "memorised", "copies"),
    "min-max loss": ("minmax", "wasserstein"),
    "mpp": ("mpp_um",),
    "Otsu threshold": ("tissue mask", "mask"),
    "precision and recall (of tiles)": ("precision",),
    "projection critic": ("by projection", "condition_critic"),
    "stain vector": ("stain",),
    "TPM": ("library size", "counts"),
    "train on synthetic, test on real": ("train on", "utility", "learns from"),
    "Wilson's interval": ("wilson", "pathologist"),
}
_ENTRY = re.compile(r"^(?P<word>\S[^\n]*)\n(?=  \S)", re.MULTILINE)
_KEPT = re.compile(  # what must stay as it is: code, roles, links, mathematics, bold, headings, tables, html
    r"(```.*?```|`[^`\n]*`|\{[\w:-]+\}`[^`]*`|!?\[[^\]]*\]\([^)]*\)|\$[^$\n]+\$|\*\*[^*\n]+\*\*|^#[^\n]*$|^\|[^\n]*$|<[^>\n]+>)",
    re.DOTALL | re.MULTILINE,
)


def glossary_words(glossary: str) -> list[str]:
    """Return the words that book/glossary.md explains, in its order."""
    return _ENTRY.findall(_body(glossary))


def pages_of_words(words: Iterable[str], pages: Mapping[str, PageSource]) -> dict[str, list[str]]:
    """Return, for each word, the pages whose prose, captions and code texts say it most often, at most `MOST`, in order."""
    texts = {name: "\n".join(cell.source for cell in page.notebook.cells) for name, page in pages.items()}
    found = {}
    for word in words:
        said = [_pattern(form) for form in (word, *ALSO.get(word, ()))]
        counts = {name: sum(len(form.findall(text)) for form in said) for name, text in texts.items()}
        most = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])[:MOST]
        found[word] = sorted(most)
    return found


def link_glossary(glossary: str, pages: Mapping[str, PageSource]) -> str:
    """Return the glossary with, under each word, links to the pages where it matters; a word that no page says has none."""
    where = pages_of_words(glossary_words(glossary), pages)
    out, word = [], ""
    for line in glossary.splitlines():
        if line in where:
            word = line
        if word and where[word] and not line.strip().strip("`"):
            out.append("\n  See: " + ", ".join(f"[{_short(name, pages)}](notebooks/{name})" for name in where[word]) + ".")
            word = ""
        elif word and not line.strip().strip("`"):
            word = ""
        out.append(line)
    return "\n".join(out) + "\n"


def link_first_uses(cells: list[dict[str, Any]], words: Iterable[str]) -> list[str]:
    """Make the first use of each glossary word in a page's Markdown cells a link to the glossary; in place.

    Parameters
    ----------
    cells : of a notebook as JSON; `source` is text or a list of lines.
    words : of the glossary; those in `PLAIN`, and those that the page links by itself, are left alone.

    Returns
    -------
    The words that were linked.
    """
    left = [word for word in sorted(words, key=len, reverse=True) if word.lower() not in PLAIN and "(" not in word]
    whole = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    left = [word for word in left if f"{{term}}`{word}`" not in whole and f"<{word}>`" not in whole]
    linked = []
    for cell in cells:
        if cell["cell_type"] != "markdown":
            continue
        text = "".join(cell["source"])
        for word in list(left):
            pieces = _KEPT.split(text)
            for number in range(0, len(pieces), 2):
                pieces[number], times = _pattern(word).subn(lambda m, word=word: _term(m[0], word), pieces[number], count=1)
                if times:
                    left.remove(word)
                    linked.append(word)
                    break
            text = "".join(pieces)
        cell["source"] = text
    return linked


def _term(said: str, word: str) -> str:
    said = " ".join(said.split())
    return f"{{term}}`{word}`" if said == word else f"{{term}}`{said} <{word}>`"


def _pattern(word: str) -> re.Pattern[str]:
    """Match a word as a whole, in any case and number, over line breaks; capitals of abbreviations must be capitals."""
    word = re.sub(r" \(.*\)$", "", word)
    letters = r"\s+".join(re.escape(part) for part in word.split())
    return re.compile(rf"(?<![\w-]){letters}s?(?![\w-])", 0 if word.isupper() else re.IGNORECASE)


def _body(glossary: str) -> str:
    return glossary.split("```{glossary}\n", 1)[-1].split("\n```", 1)[0]


def _short(name: str, pages: Mapping[str, PageSource]) -> str:
    return f"{name.split('_', 1)[0]} {pages[name].title}"
