"""The longer study: a record holds what was found and how it was trained, and is no paper's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rnasynth.data.cohort import Cohort
from rnasynth.evaluation.utility.longer import longer_study
from rnasynth.pages import provenance
from rnasynth.pages.recorded import Record, write_record
from tests.evaluation.utility.planted import planted, run_of


def recorded(patients: Cohort, folder: Path, kind: str = "perfect", **changes: Any) -> Record:
    bench = planted(patients, kind, **{"shares": (0.0, 0.75), "left_out": (0.75,), "tiles": 60} | changes)
    run = run_of(patients)
    run.system_name = "rna-gan"
    title, trainings, rows = longer_study(bench, run, folder / "trainings")
    return write_record(folder / "record", title=title, run=trainings, cohort=patients, test=rows)


@pytest.fixture(autouse=True)
def _a_clean_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "commit", lambda: ("a" * 40, False))


def test_a_record_holds_what_was_found_and_how_it_was_trained(patients: Cohort, tmp_path: Path) -> None:
    record = recorded(patients, tmp_path)
    assert record.summary["test_samples"] == 12 and record.summary["steps"] == 30
    assert record.facts["device"] == "cpu" and record.facts["precision"] == "fp32" and record.facts["seconds"] > 0
    assert record.summary["mean_change_replaced_75"] == pytest.approx(
        record.summary["mean_replaced_75"] - record.summary["mean_replaced_0"], abs=1e-5
    )
