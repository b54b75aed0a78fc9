"""Paper against here: every published number of a page with its verdict, and tables as Markdown.

The published numbers are the rows of `data_manifests/papers/*.csv`, each with the sentence it comes from. A number is
called reproduced only on the paper's own data and metric; elsewhere only the direction of a claim can hold or fail,
and direction and tolerance were written into the csv before the run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from rnasynth.config import manifests_folder
from rnasynth.data.papers import OTHER_TABLES, PAPER_COLUMNS, read_papers
from rnasynth.errors import InputError
from rnasynth.pages.provenance import short_commit


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
    against: float = 0.0
    """What a claimed direction is judged against: 0 for a difference or a correlation, else the page's own reference."""

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
    """reproduced | differs | holds | fails | undecided | shown | not attempted"""
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


def published(page: str) -> pd.DataFrame:
    """Return the published rows that a page compares with, as `rnasynth.data.papers.read_papers` gives them."""
    tables_there = [path for path in (manifests_folder() / "papers").glob("*.csv") if path.stem not in OTHER_TABLES]
    return read_papers(page) if tables_there else pd.DataFrame(columns=list(PAPER_COLUMNS))


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
    InputError : a reason, or a number's `paper`, names an id that no row has.
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
        _verdict(row, answers.get(str(row["id"])), cohort, preset, reasons.get(str(row["id"]), ""))
        for row in rows.to_dict("records")
    ]


def _verdict(row: Mapping[Any, Any], here: Number | None, cohort: str, preset: str, reason: str) -> Verdict:
    unit, own = _text(row["unit"]), _text(row["cohort"])
    spread = "" if math.isnan(row["low_or_sd"]) else f" ± {short(row['low_or_sd'])}"
    common = {
        "id": str(row["id"]),
        "quantity": _text(row["quantity"]),
        "paper": ", ".join(part for part in (_text(row["paper"]), _text(row["place"])) if part),
        "published": f"{short(row['value'])}{spread} {unit}".strip() + (f" ({own})" if own else ""),
        "sentence": _text(row["sentence"]),
    }
    if here is None:
        why = reason or f"it needs {own or 'other data'}; this page ran on {cohort}, preset {preset}"
        return Verdict(**common, here="", verdict=f"not attempted, because {why}", kind="not attempted")
    shown = here.text()
    if cohort in re.split(r"[;,\s]+", own) and here.metric and here.metric == _text(row["metric"]):
        if within_tolerance(here.value, row):
            return Verdict(**common, here=shown, verdict="reproduced", kind="reproduced")
        why = reason or "of a reason not found yet"
        return Verdict(**common, here=shown, verdict=f"differs, because {why}", kind="differs")
    kind = direction_of(here, row)
    words = {
        "holds": f"direction holds on {cohort}",
        "fails": f"direction fails on {cohort}",
        "undecided": f"direction undecided on {cohort}: the interval crosses",
        "shown": f"no direction claimed; shown beside, measured on {cohort}",
    }[kind]
    if reason and kind != "holds":
        words += f", because {reason}"
    return Verdict(**common, here=shown, verdict=words, kind=kind)


def within_tolerance(value: float, row: Mapping[Any, Any]) -> bool:
    """Whether `value` is within the row's absolute `tolerance` of the published one, else within its spread."""
    allowed = row["low_or_sd"] if math.isnan(row["tolerance"]) else row["tolerance"]
    return not math.isnan(allowed) and abs(value - row["value"]) <= allowed * (1 + 1e-12)


def direction_of(here: Number, row: Mapping[Any, Any]) -> str:
    """Judge a claimed direction on another cohort than the paper's.

    Parameters
    ----------
    here : the page's number; "higher" and "lower" are meant against `Number.against`, "equal" against the paper's value.
    row : the published row.

    Returns
    -------
    "holds" or "fails" where the value and its whole interval are on one side (of "equal": inside or outside the row's
    tolerance); "undecided" where the interval crosses;
    "shown" where no direction is claimed.
    """
    ends = [end for end in (here.low, here.value, here.high) if end is not None]
    direction = row["direction"]
    if direction == "none":
        return "shown"
    if direction == "equal":
        inside = {within_tolerance(end, row) for end in ends}
        if len(inside) > 1 or (False in inside and min(ends) < row["value"] < max(ends)):
            return "undecided"
        return "holds" if inside.pop() else "fails"
    outcomes = {end > here.against if direction == "higher" else end < here.against for end in ends}
    if len(outcomes) > 1:
        return "undecided"
    return "holds" if outcomes.pop() else "fails"


def _text(value: Any) -> str:
    """Return a cell of a table as text; pandas reads an empty one as NaN."""
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def verdict_table(judged: Iterable[Verdict]) -> pd.DataFrame:
    """Return the table paper / here / verdict that a page shows."""
    rows = [(v.quantity, v.paper, v.published, v.here or "not attempted", v.verdict) for v in judged]
    return pd.DataFrame(rows, columns=["quantity", "paper", "published", "here", "verdict"])


def markdown_table(table: pd.DataFrame, *, max_rows: int = 200) -> str:
    """Return a table as Markdown pipes: text columns to the left, numbers to the right with four digits.

    The index is shown if it has a name. Cells are escaped, so that no text can break the table.
    """
    cut, left = _shown_rows(table, max_rows)
    numeric = [pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype) for dtype in cut.dtypes]
    lines = [
        "| " + " | ".join(_cell(name) for name in cut.columns) + " |",
        "|" + "|".join("---:" if right else ":---" for right in numeric) + "|",
    ]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in cut.itertuples(index=False, name=None)]
    if left:
        lines += ["", f"({left:,} more rows)"]
    return "\n".join(lines)


def html_table(table: pd.DataFrame, *, max_rows: int = 200) -> str:
    """Return the same table for a notebook viewer: the same rows, columns and digits, and every text whole."""
    cut, left = _shown_rows(table, max_rows)
    text = cut.map(_plain).to_html(index=False, justify="left", na_rep="")
    return text + (f"<p>({left:,} more rows)</p>" if left else "")


def _shown_rows(table: pd.DataFrame, max_rows: int) -> tuple[pd.DataFrame, int]:
    """The rows that are shown, a named index among their columns, and how many are left out."""
    shown = table.reset_index() if table.index.name or table.index.nlevels > 1 else table
    return shown.head(max_rows), max(0, len(shown) - max_rows)


def provenance_table(results: Mapping[str, Any], *, data: str = "") -> pd.DataFrame:
    """Return the table that ends a page, from what its results.json holds; `data` names what is not a cohort's."""
    facts = results["provenance"]
    cohort = f"{results['cohort']}, fingerprint {facts['cohort_fingerprint'] or 'not loaded'}"
    rows = {
        "commit": short_commit(facts["commit"], facts["dirty"]),
        "cohort": f"{cohort}; data {data}" if data else cohort,
        "runs": ", ".join(results["runs"]) or "none",
        "preset and seed": f"{results['preset']}, {results['seed']}",
        "device": facts["device"],
        "versions": ", ".join(f"{package} {version}" for package, version in facts["versions"].items()),
        "started": facts["started"],
        "time and memory": f"{facts['seconds']:.0f} s, at most {facts['peak_memory_mb']:,.0f} MB",
        "command": Code(facts["command"]),
    }
    return pd.DataFrame({"provenance": list(rows), "of this page": list(rows.values())})


class Code(str):
    """Text that a table shows as code, such as a command."""

    __slots__ = ()


def _cell(value: Any) -> str:
    return f"`{value}`" if isinstance(value, Code) else escaped(_plain(value)).replace("\n", " ")


def _plain(value: Any) -> str:
    """What a cell shows, without marks: numbers with four digits or whole, nothing where there is none."""
    if isinstance(value, float):
        return short(value) if math.isfinite(value) else ("" if math.isnan(value) else str(value))
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return _plain(value.item())
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def escaped(text: str) -> str:
    """Return text in which nothing is Markdown."""
    return re.sub(r"([\\|*_<>`$\[\]])", r"\\\1", text)
