"""The longer study: a record holds what was found and how it was trained, is shown as what it is, and is no paper's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnasynth.data.cohort import Cohort
from rnasynth.data.papers import read_hyperparameters
from rnasynth.evaluation.cells.composition import equivalence
from rnasynth.evaluation.utility import protocols
from rnasynth.evaluation.utility.longer import COLUMNS, LongerReport, longer_report, longer_study
from rnasynth.evaluation.utility.protocols import Protocol
from rnasynth.evaluation.utility.replacement import ReplacementReport, replacement_study
from rnasynth.pages import provenance
from rnasynth.pages.recorded import Record, read_records, record_table, write_record
from tests.evaluation.utility.planted import planted, run_of

ARMS: dict[str, Any] = {"shares": (0.0, 0.75), "left_out": (0.75,), "tiles": 60}


def record_of(patients: Cohort, folder: Path, kind: str) -> Record:
    bench = planted(patients, kind, **ARMS)
    run = run_of(patients)
    run.system_name = "rna-gan"
    title, trainings, rows = longer_study(bench, run, folder / "trainings")
    return write_record(folder / "record", title=title, run=trainings, cohort=patients, test=rows)


@pytest.fixture(scope="module")
def found(patients: Cohort) -> ReplacementReport:
    return replacement_study(planted(patients, **ARMS), n_boot=50)


@pytest.fixture(scope="module")
def records(patients: Cohort, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """Return a record of perfect tiles, and the broken variant: of tiles of other classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "commit", lambda: ("a" * 40, False))
        return {kind: record_of(patients, tmp_path_factory.mktemp(kind), kind) for kind in ("perfect", "swapped")}


def told(record: Record, found: ReplacementReport) -> LongerReport:
    return longer_report(record.facts, record.lines, found)


def test_a_record_holds_what_was_found_and_how_it_was_trained(
    records: dict[str, Record], found: ReplacementReport, patients: Cohort
) -> None:
    record = records["perfect"]
    assert record.summary["test_samples"] == 12 and record.summary["steps"] == 30
    assert record.facts["device"] == "cpu" and record.facts["precision"] == "fp32" and record.facts["seconds"] > 0
    assert Protocol.from_dict(record.facts["config"]) == planted(patients, **ARMS).protocol
    report = told(record, found)
    for arm, test in found.tests.items():  # the same trainings: the record gives the page's numbers again
        assert report.tests[arm].difference.value == pytest.approx(test.difference.value, abs=1e-5)
        assert report.tests[arm].verdict == test.verdict
    assert report.changed() == [] and "stand." in report.note()
    names = set(patients.profiles.obs["split_group"].astype(str))
    assert not names & set(json.dumps(record.lines).replace('"', " ").split())


def test_tiles_of_other_classes_are_told_apart_from_perfect_ones(
    records: dict[str, Record], found: ReplacementReport
) -> None:
    broken = told(records["swapped"], found)
    assert broken.kept["replaced_75"].difference.high < 0 < broken.whole and broken.sees()
    assert "replaced_75" in broken.changed()
    assert "they take from these" in broken.note() and "does not stand for: 75 % replaced" in broken.note()
    assert "take from these" not in told(records["perfect"], found).note()


def test_plenty_is_said_of_equivalence_and_missed_of_a_loss_alone(
    records: dict[str, Record], found: ReplacementReport
) -> None:
    report = told(records["perfect"], found)
    before = np.linspace(0.5, 0.9, 12)
    for loss, spread, words in ((0.0, 0.01, "were plenty"), (0.2, 0.01, "were not plenty"), (0.05, 0.3, "")):
        after = before - loss + spread * np.tile([1.0, -1.0], 6)
        note = replace(report, tests={**report.tests, "left_out_75": equivalence(before, after, margin=0.1)}).note()
        assert words in note and ("plenty" in note) == bool(words)


def test_a_loss_that_still_falls_is_said(records: dict[str, Record], found: ReplacementReport) -> None:
    steps = np.arange(10.0, 110.0, 10.0)
    report = told(records["perfect"], found)
    flat = replace(report, losses=dict.fromkeys(report.losses, (steps, np.full(10, 0.4))))
    falling = replace(flat, losses={**flat.losses, "replaced_75": (steps, np.linspace(2.0, 0.2, 10))})
    assert flat.still() and "may end otherwise" not in flat.note()
    assert falling.fall("replaced_75") == pytest.approx(4 / 7) and not falling.still()
    assert "may end otherwise" in falling.note() and "57%" in falling.note()
    heart = replace(flat, losses={**flat.losses, "exchanged_100": (steps, np.linspace(2.0, 0.2, 10))})
    assert heart.still()


def test_the_chart_draws_both_trainings_and_the_table_says_where_they_ran(
    records: dict[str, Record], found: ReplacementReport
) -> None:
    report = told(records["perfect"], found)
    rows = report.rows()
    assert list(rows.groupby("group").size()) == [3, 3] and set(rows["group"]) == {"this page", "recorded"}
    here = rows[(rows["group"] == "this page") & (rows["label"] == "75 % replaced")]
    assert here["value"].item() == pytest.approx(100 * found.difference(75).value)
    assert set(report.curves()) == {"all real", "75 % replaced", "75 % only left out"}
    assert set(COLUMNS) <= set(records["perfect"].summary)
    shown = record_table([records["perfect"]], COLUMNS, ("tiles",)).iloc[0]
    assert shown["device"] == "cpu, fp32" and shown["tiles"] == 60
    assert shown["all real"] == pytest.approx(report.whole)


def printed(found: Protocol) -> bool:
    """Whether a protocol has the published numbers of the replacement, and their tiles of 256 px."""
    table = read_hyperparameters("substitution/rna-cdm").set_index("field")["value"]
    wanted = [json.loads(table[name]) for name in ("tiles", "shares", "folds")]
    return [found.tiles, list(found.shares[1:4]), found.folds] == wanted and found.scratch.tile_px == 256


def test_the_wide_protocol_has_the_published_network_and_is_no_papers() -> None:
    wide, paper = protocols.wide(), protocols.paper()
    assert (wide.scratch.depth, wide.scratch.width, wide.scratch.stem) == (
        paper.scratch.depth,
        paper.scratch.width,
        paper.scratch.stem,
    )
    assert wide.folds == paper.folds and printed(paper) and not printed(wide)
    assert wide.replacing == wide.scratch and wide.margin == protocols.demo().margin


def test_records_of_the_page_are_no_papers_and_say_what_they_are() -> None:
    for record in read_records("15_synthetic_training"):
        config = Protocol.from_dict(record.facts["config"])
        assert not printed(config) and config not in [
            make() for name, make in protocols.PROTOCOLS.items() if "paper" in name
        ]
        scratch = config.scratch
        assert f"width {scratch.width}, {scratch.tile_px} px" in record.facts["title"] and record.facts["device"]
        assert record.facts["simulated"] == (record.facts["cohort"] == "simulated")
