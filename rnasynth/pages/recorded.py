"""Recorded results: what a long run left for the book, with where it came from, and every summary recomputed from it.

A record is a folder `book/recorded/<page>/<name>/` of two files: `metrics.jsonl` (a line a logged training step, kind
"train", and a line a test sample, kind "test", without its name) and `record.json` (title, configuration, hashes, device,
time, and the summary). The summary is never typed: `summarise` makes it from the lines, and a test makes it again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rnasynth.config import config_hash, sources_folder
from rnasynth.errors import InputError
from rnasynth.files import read_json, write_json, write_text
from rnasynth.pages import provenance

MOST_LINES = 400  # training lines kept, evenly spaced, the last one always
DIGITS = 7
ADA = "critic_ada_probability"


def recorded_folder(page: str) -> Path:
    """Return the folder of a page's records in the checkout or in the installed package."""
    return sources_folder("book") / "recorded" / page


@dataclass(frozen=True)
class Record:
    """One recorded run.

    Attributes
    ----------
    name : its folder's name.
    facts : content of record.json: title, cohort, simulated, system, config, config_hash, cohort_fingerprint, run, device,
        seconds, versions, recorded, commit, summary.
    lines : content of metrics.jsonl.
    """

    name: str
    facts: dict[str, Any]
    lines: list[dict[str, Any]]

    @property
    def summary(self) -> dict[str, float]:
        """The numbers as stored."""
        return dict(self.facts["summary"])


def summarise(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the numbers of a record from its lines.

    For each `mse_X` of the test lines the root of its mean ("rmse_X"), for each `mae_X` its mean, for each `mean_X` its mean
    and its standard error ("se_X", over samples); from the training lines the last step, and, where they are there, the
    least `val_loss` and the highest probability of adaptive augmentation.

    Raises
    ------
    InputError : a line of another kind, or no test line.
    """
    tests = [line for line in lines if line.get("kind") == "test"]
    trains = [line for line in lines if line.get("kind") == "train"]
    if not tests or len(tests) + len(trains) != len(lines):
        raise InputError("record", expected='lines of kind "train" and "test"', found=f"{len(lines)}, {len(tests)} of test")
    summary: dict[str, float] = {"test_samples": float(len(tests))}
    for key in tests[0]:
        if key.startswith("mse_"):
            summary[f"rmse_{key.removeprefix('mse_')}"] = math.sqrt(math.fsum(line[key] for line in tests) / len(tests))
        elif key.startswith(("mae_", "mean_")):
            mean = summary[key] = math.fsum(line[key] for line in tests) / len(tests)
            if key.startswith("mean_") and len(tests) > 1:
                squares = math.fsum((line[key] - mean) ** 2 for line in tests)
                summary[f"se_{key.removeprefix('mean_')}"] = math.sqrt(squares / (len(tests) - 1) / len(tests))
    if trains:
        summary["steps"] = float(max(line["step"] for line in trains))
        losses = [line["val_loss"] for line in trains if line.get("val_loss") is not None]
        if losses:
            summary["least_validation_loss"] = min(losses)
        if chances := [line[ADA] for line in trains if ADA in line]:
            summary["ada_probability"] = max(chances)
    return summary


def write_record(folder: Path, *, title: str, run: Any, cohort: Any, test: pd.DataFrame) -> Record:
    """Write a record of a finished run, atomically, `record.json` last.

    Parameters
    ----------
    folder : `book/recorded/<page>/<name>`.
    title : one line for the table.
    run : a `Run`: its configuration, metrics, versions and time.
    cohort : what it was trained on.
    test : a row a test sample: `mse_*`, `mae_*`, `mean_*` and what else shall be kept of it (no names of patients).

    Raises
    ------
    InputError : no checkout, or one with changes that no commit holds: a record must say which code measured it.
    """
    head, dirty = provenance.commit()
    if dirty or head == provenance.UNKNOWN:
        raise InputError(
            f"record {folder.name}",
            expected="a tree without changes",
            found=f"changes since {head[:10]}" if dirty else "no checkout",
            fix="commit first" if dirty else "record from a checkout",
        )
    history = run.metrics()
    loss = history["val_loss"].notna() if "val_loss" in history else pd.Series(False, index=history.index)
    keep = set(np.linspace(0, len(history) - 1, min(MOST_LINES, len(history))).astype(int)) if len(history) else set()
    keep |= set(np.flatnonzero(loss)) if loss.sum() <= MOST_LINES else {int(history["val_loss"].idxmin())}
    lines: list[dict[str, Any]] = [
        {"kind": "train", **{str(k): _plain(v) for k, v in history.iloc[row].items() if v == v}} for row in sorted(keep)
    ]
    lines += [{"kind": "test", **{str(k): _plain(v) for k, v in row.items()}} for row in test.to_dict("records")]
    versions = run.versions
    facts = {
        "title": title,
        "cohort": str(cohort.name),
        "simulated": bool(cohort.simulated),
        "cohort_fingerprint": cohort.fingerprint(),
        "system": run.system_name,
        "config": run.config.to_dict(),
        "config_hash": config_hash(run.config.to_dict()),
        "run": run.id,
        "device": str(versions.get("device", "cpu")),
        "machine": provenance.device(),
        "precision": str(versions.get("precision", "")),
        "seconds": float(history["seconds"].max()) if "seconds" in history and len(history) else 0.0,
        "versions": {name: versions[name] for name in ("rnasynth", "python", "torch", "numpy") if name in versions},
        "recorded": provenance.now(),
        "commit": provenance.short_commit(head, dirty=False),
        "summary": summarise(lines),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_json(folder / "record.json", facts)
    return Record(folder.name, facts, lines)


def read_records(page: str, *, folder: Path | None = None) -> list[Record]:
    """Return the records of a page by name.

    Raises
    ------
    InputError : a summary is not what its lines give: the record was changed by hand.
    """
    found = []
    for path in sorted((folder or recorded_folder(page)).glob("*/record.json")):
        facts = read_json(path)
        lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        if summarise(lines) != facts["summary"]:
            raise InputError(str(path), expected="the summary of its metrics.jsonl", found="another", fix="record it anew")
        found.append(Record(path.parent.name, facts, lines))
    return found


def record_table(records: Sequence[Record], numbers: Mapping[str, str], fields: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table, a row a record.

    Parameters
    ----------
    records : to be shown, in this order.
    numbers : name in the summary -> heading.
    fields : of the configuration, shown by their names; a sequence with commas.
    """
    rows = []
    for record in records:
        facts = record.facts
        row: dict[str, Any] = {
            "recorded run": facts["title"],
            "cohort": facts["cohort"] + (" (simulated)" if facts["simulated"] else ""),
        }
        for name in fields:
            value = facts["config"].get(name, "")
            row[name] = ", ".join(map(str, value)) if isinstance(value, list) else value
        row |= {heading: record.summary.get(name, math.nan) for name, heading in numbers.items()}
        row |= {
            "device": f"{facts['device']}, {facts['precision']}",
            "minutes": facts["seconds"] / 60,
            "config": facts["config_hash"],
            "measured at": facts["commit"],
        }
        rows.append(row)
    return pd.DataFrame(rows).set_index("recorded run")


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.{DIGITS}g}")
    if isinstance(value, np.integer):
        return int(value)
    return value
