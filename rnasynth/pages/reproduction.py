"""What reproduces and what does not: the verdicts of all pages on the published numbers, by system."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rnasynth.files import read_json
from rnasynth.pages.tables import markdown_table

KINDS = {  # of a verdict, in the order of the tables -> what it says, for the heading of a count
    "reproduced": "reproduced",
    "differs": "differs",
    "holds": "direction holds",
    "fails": "direction fails",
    "undecided": "undecided",
    "shown": "shown beside",
    "not attempted": "not attempted",
}
SYSTEMS = {"rna-gan": "RNA-GAN", "rna-cdm": "RNA-CDM", "gemm-gan": "GeMM-GAN"}  # as the published rows name them
COLUMNS = ("system", "kind", "claim", "verdict", "here", "published", "page", "converged")


def collect(pages: Iterable[str], folder: Path) -> pd.DataFrame:
    """Return every verdict that the pages left, sorted by system and by kind of verdict.

    Parameters
    ----------
    pages : names, in order.
    folder : `build/<cohort>-<preset>`, where they ran; a page that did not run has no rows.

    Returns
    -------
    Columns system (as `SYSTEMS` names it), kind, claim (with where the paper says it), verdict, here (with its interval, ""
    where nothing was measured), published, page, converged (False where the page says that its own proof failed).
    """
    rows = []
    for name in pages:
        results = folder / name / "results.json"
        if not (folder / name / "page.ipynb").is_file() or not results.is_file():
            continue
        kept = read_json(results)
        rows += [_row(verdict, name, not kept["not_converged"]) for verdict in kept["verdicts"] if "quantity" in verdict]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    systems, kinds = list(SYSTEMS.values()), list(KINDS)
    order = pd.DataFrame({
        "system": [systems.index(name) if name in systems else len(systems) for name in table["system"]],
        "kind": [kinds.index(kind) if kind in kinds else len(kinds) for kind in table["kind"]],
        "page": table["page"],
    })  # fmt: skip
    return table.loc[order.sort_values(["system", "kind", "page"], kind="stable").index].reset_index(drop=True)


def markdown(pages: Iterable[str], folder: Path, *, cohort: str) -> str:
    """Return the section of the status page: counts by system, then a table a system, what was not attempted folded away.

    Arguments as of `collect`; `cohort` is named where nothing was judged.
    """
    table = collect(pages, folder)
    if table.empty:
        return f":::{{note}}\nNo page that ran on the cohort {cohort} has judged a published number.\n:::"
    parts = [_counts(table)]
    for system, rows in table.groupby("system", sort=False):
        judged = rows[rows["kind"] != "not attempted"]
        parts.append(f"### {system}")
        parts.append(_table(judged) if len(judged) else f"Nothing of this paper was judged on the cohort {cohort}.")
        if left := len(rows) - len(judged):
            text = _table(rows[rows["kind"] == "not attempted"].drop(columns="here"))
            parts.append(f"::::{{dropdown}} Not attempted on the cohort {cohort}: {left}, and why\n{text}\n::::")
    return "\n\n".join(parts)


def _row(verdict: Mapping[str, Any], page: str, converged: bool) -> tuple[Any, ...]:
    paper, _, where = verdict["paper"].partition(", ")
    claim = verdict["quantity"] + (f" ({where})" if where else "")
    said = (verdict["verdict"], verdict.get("here", ""), verdict["published"])
    return (SYSTEMS.get(paper, paper), verdict["kind"], claim, *said, page, converged)


def _counts(table: pd.DataFrame) -> str:
    counts = pd.crosstab(table["kind"], table["system"])
    counts = counts.reindex(index=[kind for kind in KINDS if kind in set(table["kind"])], columns=table["system"].unique())
    return markdown_table(counts.rename(index=KINDS).rename_axis("verdict"))


def _table(rows: pd.DataFrame) -> str:
    """Return the rows as Markdown, a link to its page in each; the proof of a page that failed is named in it."""
    shown = rows.assign(
        page=[
            f"LINK{name}LINK" + ("" if converged else " (not converged)")
            for name, converged in zip(rows["page"], rows["converged"], strict=True)
        ]
    ).drop(columns=["system", "kind", "converged"])
    text = markdown_table(shown.rename(columns={"claim": "claim (where)"}), max_rows=len(shown))
    return re.sub(r"LINK(.+?)LINK", lambda found: _link(found[1].replace("\\", "")), text)


def _link(name: str) -> str:
    return f"[{name.split('_', 1)[0]}](notebooks/{name})"
