"""Paper against here: every published number of a page with its verdict, and tables as Markdown.

The published numbers are the rows of `data_manifests/papers/*.csv`, each with the sentence it comes from. A number is
called reproduced only on the paper's own data and metric; elsewhere only the direction of a claim can hold or fail,
and direction and tolerance were written into the csv before the run.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from rnasynth.config import manifests_folder
from rnasynth.errors import InputError

COLUMNS = (
    "id",
    "paper",
    "page",
    "quantity",
    "value",
    "low_or_sd",
    "unit",
    "cohort",
    "metric",
    "direction",
    "tolerance",
    "place",
    "sentence",
)
_COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Number:
    """A named result of a page."""

    value: float
    """The number, at full precision."""
    low: float | None = None
    """Lower end of its interval."""
    high: float | None = None
    """Upper end of its interval."""
    n: int | None = None
    """How many independent units (patients, not tiles) stand behind it."""
    unit: str = ""
    """Unit, empty for a pure number."""
    label: str = ""
    """What a reader calls it."""
    method: str = ""
    """How the interval was made."""
    paper: str = ""
    """`id` of the published row it answers, where that is not the number's own name."""
    metric: str = ""
    """How it was measured, in the words of the published row; needed for "reproduced"."""

    def text(self) -> str:
        """Return the number as a table shows it: four significant digits, its interval, its unit."""
        shown = short(self.value)
        if self.low is not None and self.high is not None:
            shown += f" ({short(self.low)} to {short(self.high)})"
        return f"{shown} {self.unit}".strip()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One published number and what this page can say about it."""

    id: str
    quantity: str
    paper: str
    """Which paper and where in it."""
    published: str
    here: str
    verdict: str
    """Words of the verdict."""
    kind: str
    """reproduced | differs | holds | fails | undecided | not attempted"""
    sentence: str = field(default="", repr=False)


def short(value: float) -> str:
    """Return a number with four significant digits.

    Examples
    --------
    >>> short(0.123456), short(12345.6), short(3.0)
    ('0.1235', '12,346', '3')
    """
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def published(page: str, folder: Path | None = None) -> pd.DataFrame:
    """Return the published rows that a page compares with, as text columns `COLUMNS` plus `file`.

    Parameters
    ----------
    page : name of the page; rows may carry the whole name or its two digits.
    folder : folder of the csv files; `data_manifests/papers` by default.

    Raises
    ------
    InputError : a csv lacks a column, or an id stands twice.
    """
    tables = []
    for path in sorted((folder or manifests_folder() / "papers").glob("*.csv")):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, comment=None)
        if missing := [column for column in COLUMNS if column not in table.columns]:
            raise InputError(str(path), expected=f"columns {', '.join(COLUMNS)}", found=f"no {', '.join(missing)}")
        tables.append(table.loc[:, list(COLUMNS)].assign(file=path.name))
    if not tables:
        return pd.DataFrame(columns=[*COLUMNS, "file"], dtype=str)
    rows = pd.concat(tables, ignore_index=True)
    if doubled := sorted(rows.loc[rows["id"].duplicated(), "id"].unique()):
        raise InputError("data_manifests/papers", expected="each id once", found=f"twice: {', '.join(doubled)}")
    wanted = rows["page"].map(lambda pages: any(_same_page(page, part) for part in re.split(r"[;,\s]+", pages) if part))
    return rows[wanted].reset_index(drop=True)


def _same_page(page: str, written: str) -> bool:
    return written == page or written == page.split("_", 1)[0]


def verdicts(
    numbers: Mapping[str, Number],
    rows: pd.DataFrame,
    *,
    cohort: str,
    preset: str,
    because: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Judge each published row by the page's numbers.

    Parameters
    ----------
    numbers : the page's numbers by name; one answers a row by its name or by `Number.paper`.
    rows : as `published` returns them.
    cohort, preset : what this page ran on.
    because : for an id, the reason that stands in "differs, because" or "not attempted, because".

    Raises
    ------
    InputError : a reason, or a number's `paper`, names an id that no row has; a direction that cannot be read.
    """
    reasons = dict(because or {})
    known = set(rows["id"])
    named = {number.paper for number in numbers.values() if number.paper}
    if unknown := sorted((set(reasons) | named) - known):
        raise InputError(
            f"published numbers {', '.join(unknown)}",
            expected="ids of rows in data_manifests/papers for this page",
            found=f"only {', '.join(sorted(known)) or 'none'}",
        )
    answers = {name: number for name, number in numbers.items() if not number.paper}
    answers |= {number.paper: number for number in numbers.values() if number.paper}
    return [
        _verdict(row, answers.get(str(row["id"])), numbers, cohort, preset, reasons.get(str(row["id"]), ""))
        for row in rows.to_dict("records")
    ]


def _verdict(
    row: Mapping[Any, Any], here: Number | None, numbers: Mapping[str, Number], cohort: str, preset: str, reason: str
) -> Verdict:
    spread = f" ± {row['low_or_sd']}" if row["low_or_sd"] else ""
    common = {
        "id": row["id"],
        "quantity": row["quantity"],
        "paper": f"{row['paper']}, {row['place']}" if row["place"] else row["paper"],
        "published": f"{row['value']}{spread} {row['unit']}".strip() + (f" ({row['cohort']})" if row["cohort"] else ""),
        "sentence": row["sentence"],
    }
    if here is None:
        why = reason or f"it needs {row['cohort'] or 'other data'}; this page ran on {cohort}, preset {preset}"
        return Verdict(**common, here="", verdict=f"not attempted, because {why}", kind="not attempted")
    shown = here.text()
    own_cohort = cohort in re.split(r"[;,\s]+", row["cohort"])
    if own_cohort and row["metric"] and here.metric == row["metric"]:
        if within_tolerance(here.value, row):
            return Verdict(**common, here=shown, verdict="reproduced", kind="reproduced")
        why = reason or "of a reason not found yet"
        return Verdict(**common, here=shown, verdict=f"differs, because {why}", kind="differs")
    kind = direction_of(here, row["direction"], numbers, subject=str(row["id"]))
    words = {
        "holds": f"direction holds on {cohort}",
        "fails": f"direction fails on {cohort}",
        "undecided": f"direction undecided on {cohort}: the interval crosses",
        "": f"no direction claimed; shown beside the paper's, on {cohort}",
    }[kind]
    return Verdict(**common, here=shown, verdict=words, kind=kind or "undecided")


def within_tolerance(value: float, row: Mapping[Any, Any]) -> bool:
    """Whether `value` agrees with the published one: within `tolerance` ("10%" or absolute), else within its spread."""
    target = parse_number(row["value"])
    text = (row["tolerance"] or row["low_or_sd"] or "0").strip()
    if target is None or (size := parse_number(text.rstrip("% "))) is None:
        return False
    allowed = abs(target) * size / 100 if text.endswith("%") else size
    return abs(value - target) <= allowed + 1e-12


def direction_of(here: Number, direction: str, numbers: Mapping[str, Number], *, subject: str) -> str:
    """Judge a claim such as "> 0" or "< fid_gan", where the right side is a literal or a number of the page.

    Returns
    -------
    "holds" or "fails" where the value and its whole interval are on one side, "undecided" where the interval crosses,
    "" where no direction is claimed.

    Raises
    ------
    InputError : the text is no comparison, or names a number that the page does not have.
    """
    direction = direction.strip()
    if not direction:
        return ""
    found = re.fullmatch(r"(<=|>=|<|>)\s*(\S+)", direction)
    if not found:
        raise InputError(f"published number {subject}", expected="a direction like '> 0' or '< fid_gan'", found=direction)
    compare, right = _COMPARISONS[found[1]], found[2]
    literal = parse_number(right)
    if literal is None:
        if right not in numbers:
            raise InputError(
                f"published number {subject}",
                expected=f"a direction against a number of the page ({', '.join(sorted(numbers))})",
                found=direction,
                fix="add page.number for it, or correct data_manifests/papers",
            )
        literal = numbers[right].value
    ends = [end for end in (here.low, here.value, here.high) if end is not None]
    outcomes = {bool(compare(end, literal)) for end in ends}
    if len(outcomes) > 1:
        return "undecided"
    return "holds" if outcomes.pop() else "fails"


def parse_number(text: str) -> float | None:
    """Return the number that a whole text is, thousands separated by commas allowed; None if it is not one."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text.replace(",", ""))
    return value if math.isfinite(value) else None


def verdict_table(judged: Iterable[Verdict]) -> pd.DataFrame:
    """Return the table paper / here / verdict that a page shows."""
    rows = [(v.quantity, v.paper, v.published, v.here or "not attempted", v.verdict) for v in judged]
    return pd.DataFrame(rows, columns=["quantity", "paper", "published", "here", "verdict"])


def markdown_table(table: pd.DataFrame, *, max_rows: int = 200) -> str:
    """Return a table as Markdown pipes: text columns to the left, numbers to the right with four digits.

    The index is shown if it has a name. Cells are escaped, so that no text can break the table.
    """
    shown = table.reset_index() if table.index.name or table.index.nlevels > 1 else table
    cut = shown.head(max_rows)
    numeric = [pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype) for dtype in cut.dtypes]
    lines = [
        "| " + " | ".join(_cell(name) for name in cut.columns) + " |",
        "|" + "|".join("---:" if right else ":---" for right in numeric) + "|",
    ]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in cut.itertuples(index=False, name=None)]
    if len(shown) > len(cut):
        lines += ["", f"({len(shown) - len(cut):,} more rows)"]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return short(value) if math.isfinite(value) else ("" if math.isnan(value) else str(value))
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return _cell(value.item())
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = "" if value is None else str(value)
    return re.sub(r"([\\|*_<>`$\[\]])", r"\\\1", text).replace("\n", " ")
