"""Published numbers that the pages compare with (`data_manifests/papers/*.csv`), each row quoting its sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from rnasynth.config import manifests_folder
from rnasynth.errors import InputError

PAPER_COLUMNS = (
    "id", "paper", "page", "quantity", "value", "low_or_sd", "unit", "cohort", "metric", "direction", "tolerance",
    "place", "sentence",
)  # fmt: skip
OTHER_TABLES = ("hyperparameters", "expert_ratings")  # of other columns; the second is read by `evaluation.ratings.scores`


def read_papers(page: str | None = None) -> pd.DataFrame:
    """Return the published numbers, of all pages or of one (`"07_rna_gan"`), one row each, sorted by id.

    Columns: id, paper, page, quantity, value (float), low_or_sd (float, NaN where none is printed), unit, cohort,
    metric, direction ("higher", "lower", "equal" or "none": the sign that would count as holding elsewhere), tolerance
    (float, absolute, in `unit`), place, sentence (quoted).

    Raises
    ------
    InputError : a table with other columns, two rows of one id, an empty quote, or an unknown direction.
    """
    frames = []
    for path in _paper_tables():
        frame = pd.read_csv(path, dtype={"value": float, "low_or_sd": float, "tolerance": float}, keep_default_na=True)
        if tuple(frame.columns) != PAPER_COLUMNS:
            raise InputError(str(path), expected=", ".join(PAPER_COLUMNS), found=", ".join(map(str, frame.columns)))
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    if (double := table["id"][table["id"].duplicated()]).size:
        raise InputError("papers", expected="each id once", found=", ".join(double))
    if table["sentence"].isna().any() or not table["direction"].isin(["higher", "lower", "equal", "none"]).all():
        raise InputError("papers", expected="a quoted sentence and a known direction in each row", found="another")
    if page is not None:
        table = table[table["page"] == page]
    return table.sort_values("id", ignore_index=True)


def read_hyperparameters(system: str | None = None) -> pd.DataFrame:
    """Return the papers' hyper-parameters: system, field, value (text), paper, place, sentence."""
    table = pd.read_csv(manifests_folder() / "papers" / "hyperparameters.csv", dtype=str, keep_default_na=False)
    return table if system is None else table[table["system"] == system].reset_index(drop=True)


def _paper_tables() -> Iterator[Path]:
    yield from (p for p in sorted((manifests_folder() / "papers").glob("*.csv")) if p.stem not in OTHER_TABLES)


def quotable(text: str) -> str:
    """Return `text` in the form in which a quote is looked for.

    Line numbers of a preprint, hyphenation at line ends, mark-up of formulas and citations, case and white space carry
    no meaning in a quote and differ between copies of a paper; they are dropped.

    Examples
    --------
    >>> quotable("172 We evaluated the stan-\\n 173 dard") == quotable("we evaluated the standard")
    True
    """
    text = re.sub(r"(?m)^[ \t]*\d{1,3}[ \t]+(?=\S)", "", text)
    text = re.sub(r"<sup>.*?</sup>", "", text)
    return re.sub(r"[\s$*_{}\\‐‑–-]+", "", text).replace("’", "'").casefold()
