"""The book's quiz: what the pages left of real and generated tiles, as one block of HTML that needs nothing else.

The block holds the tiles, a script and the answers. The answers are scrambled with a key that lies beside them: they
cannot be read at a glance, and that is all it is for. Nothing is loaded, sent or kept.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rnasynth.data.pixels import data_uri
from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval, binomial_interval
from rnasynth.files import read_json
from rnasynth.pages.notebooks import PageSource
from rnasynth.pages.quiz_sheets import Sheet, read_sheet
from rnasynth.pages.tables import Code, markdown_table

COUNT = 20  # tiles of a round; so many different ones of each kind a model must have left


def fill(text: str, pages: Mapping[str, PageSource], folder: Path, outcomes: Mapping[str, Any], *, cohort: str) -> str:
    """Return the quiz's document with its placeholders filled: %QUIZ%, %COUNT%, and %UNDECIDED% (scores like guessing).

    The other arguments, and the errors, are those of `quiz_markdown`.
    """
    undecided = [score for score in range(COUNT + 1) if _holds_half(binomial_interval(score, COUNT))]
    words = {
        "%QUIZ%": quiz_markdown(pages, folder, outcomes, cohort=cohort),
        "%COUNT%": str(COUNT),
        "%UNDECIDED%": f"{undecided[0]} to {undecided[-1]} right answers of {COUNT}",
    }
    for placeholder, value in words.items():
        text = text.replace(placeholder, value)
    return text


def quiz_markdown(pages: Mapping[str, PageSource], folder: Path, outcomes: Mapping[str, Any], *, cohort: str) -> str:
    """Return what stands in the quiz's document: the warnings of the pages, the quiz, and where its tiles are from.

    Parameters
    ----------
    pages : all pages in git; those that call `page.quiz` can leave tiles.
    folder : `build/<cohort>-<preset>`, where the pages ran.
    outcomes : of the runner, by page.
    cohort : the book's.

    Raises
    ------
    InputError : a page left a sheet that is not whole, or two pages left one of the same name.
    """
    sheets = collect(pages, folder)
    ready = [sheet for sheet in sheets if min(_different(sheet.real), _different(sheet.made)) >= COUNT]
    parts = [_warnings(sheets, folder)] if ready else [_nothing_left(pages, outcomes, cohort)]
    if ready:
        parts += [f"````{{raw}} html\n{quiz_html(ready)}\n````", "## Where the tiles are from", _table(ready)]
        parts += dict.fromkeys(sheet.handling for sheet in ready)
        links = ", ".join(f"[{name}](notebooks/{name})" for name in dict.fromkeys(sheet.page for sheet in ready))
        parts.append(f"What each model is, and what it is told of a sample, stands on its page: {links}.")
    small = [f"{sheet.model} ({sheet.page})" for sheet in sheets if sheet not in ready]
    if small:
        parts.append(f"Not in the quiz, for a round needs {COUNT} different tiles of each kind: {', '.join(small)}.")
    return "\n\n".join(part for part in parts if part)


def collect(pages: Mapping[str, PageSource], folder: Path) -> list[Sheet]:
    """Return the sheets that the pages of a build left, in the order of the pages.

    Raises
    ------
    InputError : a sheet is missing or not whole, or two have one name: a reader could not tell which model it was.
    """
    found: list[Sheet] = []
    for name in pages:
        results = folder / name / "results.json"
        if (folder / name / "page.ipynb").is_file() and results.is_file():
            found += [read_sheet(name, folder / name / left) for left in read_json(results).get("quiz", [])]
    models = [sheet.model for sheet in found]
    if twice := sorted({model for model in models if models.count(model) > 1}):
        where = ", ".join(sheet.page for sheet in found if sheet.model == twice[0])
        raise InputError(f"quiz, model {twice[0]}", expected="one page that leaves its tiles", found=where)
    return found


def quiz_html(sheets: Sequence[Sheet]) -> str:
    """Return the quiz as a block of HTML: style, controls, tiles, scrambled answers and script.

    Parameters
    ----------
    sheets : each with at least `COUNT` different real and made tiles.

    Returns
    -------
    HTML without head and body. A real tile that several sheets have is in it once. The tiles' order follows from the key,
    and the key from the tiles, so that the same tiles give the same text.

    Raises
    ------
    InputError : no sheet, or too few different tiles in one.
    """
    for sheet in sheets:
        if (fewest := min(_different(sheet.real), _different(sheet.made))) < COUNT:
            raise InputError(f"quiz, model {sheet.model}", expected=f"{COUNT} different tiles a kind", found=str(fewest))
    if not sheets:
        raise InputError("quiz", expected="tiles of a model", found="none")
    sizes = list(dict.fromkeys((sheet.real.shape[1], sheet.mpp_um) for sheet in sheets))
    tiles: dict[tuple[str, int], tuple[int, int]] = {}  # image and size -> maker and size
    for number, sheet in enumerate(sheets, start=1):
        size = sizes.index((sheet.real.shape[1], sheet.mpp_um))
        for maker, part in ((0, sheet.real), (number, sheet.made)):
            for tile in part:
                tiles.setdefault((data_uri(tile), size), (maker, size))
    key = hashlib.sha256("".join(image for image, _ in tiles).encode("ascii")).hexdigest()[:32]
    order = np.random.default_rng(int(key, 16)).permutation(len(tiles))
    images, facts = list(tiles), list(tiles.values())
    truth = {"maker": [facts[i][0] for i in order], "size": [facts[i][1] for i in order]}
    data = {
        "count": COUNT,
        "models": [sheet.model for sheet in sheets],
        "real": "real (of the simulator)" if any(sheet.simulated for sheet in sheets) else "real tissue",
        "sizes": [{"px": px, "mpp": f"{mpp_um:.3g}", "um": f"{px * mpp_um:.4g}"} for px, mpp_um in sizes],
        "tiles": [images[i][0] for i in order],
        "key": key,
        "sealed": seal(truth, key),
    }
    template = Path(__file__).with_name("quiz.html").read_text(encoding="utf-8")
    return template.strip().replace("@DATA@", json.dumps(data).replace("<", "\\u003c"))


def seal(value: Any, key: str) -> str:
    """Scramble a JSON value with a key: no secrecy, the key lies beside it. `unseal` and the quiz's script open it."""
    plain = json.dumps(value, separators=(",", ":")).encode("ascii")
    return base64.b64encode(bytes(byte ^ mask for byte, mask in zip(plain, _keystream(key), strict=False))).decode("ascii")


def unseal(sealed: str, key: str) -> Any:
    """Return the value that `seal` scrambled.

    Raises
    ------
    InputError : it is not what this key sealed.
    """
    try:
        scrambled = base64.b64decode(sealed, validate=True)
        return json.loads(bytes(byte ^ mask for byte, mask in zip(scrambled, _keystream(key), strict=False)).decode("ascii"))
    except ValueError:
        raise InputError("quiz, answers", expected="what this key sealed", found="something else") from None


def _keystream(key: str) -> Iterator[int]:
    """Yield bytes of mulberry32, started by the FNV-1a hash of the key; quiz.html has the same in JavaScript."""
    state = 2166136261
    for letter in key:
        state = (state ^ ord(letter)) * 16777619 & 0xFFFFFFFF
    while True:
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        mixed = (state ^ state >> 15) * (state | 1) & 0xFFFFFFFF
        mixed ^= mixed + (mixed ^ mixed >> 7) * (mixed | 61) & 0xFFFFFFFF
        yield (mixed ^ mixed >> 14) >> 24


def _holds_half(interval: Interval) -> bool:
    return interval.low <= 0.5 <= interval.high


def _different(tiles: np.ndarray) -> int:
    return len({tile.tobytes() for tile in tiles})


def _warnings(sheets: Sequence[Sheet], folder: Path) -> str:
    """Return the pages' own warnings: about their data, and of a proof that failed."""
    simulated = any(sheet.simulated for sheet in sheets)
    banners = dict.fromkeys(sheet.banner for sheet in sheets if sheet.banner)
    parts = [f":::{{{'warning' if simulated else 'important'}}}\n{text}\n:::" for text in banners]
    for page in dict.fromkeys(sheet.page for sheet in sheets):
        for reason in read_json(folder / page / "results.json")["not_converged"]:
            parts.append(f":::{{caution}}\n**Not converged**, says [{page}](notebooks/{page}): {reason.rstrip('.')}.\n:::")
    if simulated:
        parts.append("In this copy *real* means: drawn by the simulator of the cohort. *Synthetic* means: made by a model.")
    return "\n\n".join(parts)


def _table(sheets: Sequence[Sheet]) -> str:
    rows = [
        (
            sheet.model,
            Code(sheet.page),
            len(sheet.made),
            len(sheet.real),
            f"{sheet.real.shape[1]} px of {sheet.mpp_um:.4g} µm",
        )
        for sheet in sheets
    ]
    return markdown_table(pd.DataFrame(rows, columns=["model", "page", "its tiles", "real tiles beside them", "size"]))


def _nothing_left(pages: Mapping[str, PageSource], outcomes: Mapping[str, Any], cohort: str) -> str:
    """Return which pages leave tiles, why they left none here, and the command that makes them."""
    able = [name for name, page in pages.items() if "page.quiz(" in page.code()]
    if not able:
        return ":::{note}\nNo page of this book leaves tiles for a quiz.\n:::"
    lines = []
    for name in able:
        outcome = outcomes.get(name, {})
        unfit = outcome.get("outcome") == "skipped"
        command = f"rnasynth book --cohort {'simulated' if unfit else cohort} --pages {name.split('_', 1)[0]}"
        why = f" (not on {cohort}: {outcome['reason']})" if unfit else ""
        lines.append(f"- [{name}](notebooks/{name}){why}: `{command}`")
    return (
        ":::{note}\nNo page of this copy left enough tiles for a quiz. Run a page that does:\n\n"
        + "\n".join(lines)
        + "\n:::"
    )
