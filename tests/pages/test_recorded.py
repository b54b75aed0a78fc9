"""Recorded results: a summary is what its lines give, no patient is named, and a record changed by hand is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from rnasynth.config import Config, project_folder
from rnasynth.errors import InputError
from rnasynth.files import read_json, write_json
from rnasynth.pages import Page, provenance, recorded, show
from rnasynth.pages.recorded import ADA, read_records, record_table, recorded_folder, summarise, write_record


def finished(steps: int = 1000) -> Any:
    history = pd.DataFrame({"step": range(1, steps + 1), "train_mse": 1.0, "seconds": [s / 10 for s in range(steps)]})
    history["val_loss"] = [0.5 if step == 700 else (0.9 if step % 100 == 0 else float("nan")) for step in history["step"]]
    return SimpleNamespace(
        id="beta-vae-0",
        system_name="beta-vae",
        config=Config(),
        metrics=lambda: history,
        versions={"device": "cpu", "precision": "bf16", "torch": "2.13.0"},
    )


COHORT = SimpleNamespace(name="tcga-xena", simulated=False, fingerprint=lambda: "f00")
TEST = pd.DataFrame({"tissue": ["a", "b"], "mse_model": [0.25, 0.75], "mae_model": [0.2, 0.4]})


@pytest.fixture(autouse=True)
def _a_clean_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "commit", lambda: ("a" * 40, False))


def test_code_that_no_commit_holds_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "commit", lambda: ("b" * 40, True))
    with pytest.raises(InputError, match=r"a tree without changes.*bbbbbbbbbb"):
        write_record(tmp_path / "one", title="Paper's", run=finished(), cohort=COHORT, test=TEST)
    assert not (tmp_path / "one").exists()


def test_a_page_keeps_and_shows_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(show, "display", lambda markdown, page_html: said.append(markdown))
    monkeypatch.setattr(recorded, "sources_folder", lambda name: tmp_path / name)
    page = Page.open("04_beta_vae", preset="demo", cohort="tcga-xena", out=tmp_path / "out")
    assert page.recorded({"rmse_model": "RMSE"}, caption="Recorded") == [] and "No recorded results" in said[-1]
    page._cohort = COHORT
    page.record("Xena paper: 1", title="Paper's", run=finished(), test=TEST)
    found = page.recorded({"rmse_model": "RMSE"}, caption="Recorded")
    assert [record.name for record in found] == ["xena_paper_1"]
    assert "Paper's" in said[-1] and "0.7071" in said[-1] and "aaaaaaaaaa" in said[-1]


def test_a_summary_is_made_of_its_lines(tmp_path: Path) -> None:
    record = write_record(tmp_path / "one", title="Paper's", run=finished(), cohort=COHORT, test=TEST)
    assert record.summary["rmse_model"] == pytest.approx(math.sqrt(0.5)) and record.summary["mae_model"] == pytest.approx(
        0.3
    )
    assert record.summary["steps"] == 1000 and record.summary["least_validation_loss"] == 0.5
    assert sum(line["kind"] == "train" for line in record.lines) <= 420
    assert [again.facts for again in read_records("any", folder=tmp_path)] == [record.facts]
    table = record_table([record], {"rmse_model": "RMSE", "absent": "nothing"}, ("hidden",))
    assert table.loc["Paper's", "RMSE"] == pytest.approx(math.sqrt(0.5)) and table.loc["Paper's", "device"] == "cpu, bf16"


def test_means_come_with_their_standard_errors() -> None:
    summary = summarise([{"kind": "test", "mean_rank": value} for value in (0.2, 0.4, 0.9)])
    assert summary["mean_rank"] == pytest.approx(0.5)
    assert summary["se_rank"] == pytest.approx(pd.Series([0.2, 0.4, 0.9]).sem())


def test_the_highest_probability_of_adaptive_augmentation_is_kept() -> None:
    trains = [{"kind": "train", "step": step, ADA: chance} for step, chance in ((1, 0.0), (2, 0.3), (3, 0.1))]
    tests = [{"kind": "test", "mse_model": 1.0}]
    assert summarise([*trains, *tests])["ada_probability"] == 0.3
    assert "ada_probability" not in summarise([{"kind": "train", "step": 1}, *tests])


def test_a_record_changed_by_hand_is_refused(tmp_path: Path) -> None:
    write_record(tmp_path / "one", title="Paper's", run=finished(), cohort=COHORT, test=TEST)
    path = tmp_path / "one" / "record.json"
    facts = read_json(path)
    facts["summary"]["rmse_model"] = 0.1
    write_json(path, facts)
    with pytest.raises(InputError, match="the summary of its metrics"):
        read_records("any", folder=tmp_path)


def test_lines_of_another_kind_or_without_a_test_give_no_summary() -> None:
    with pytest.raises(InputError):
        summarise([{"kind": "train", "step": 1}])
    with pytest.raises(InputError):
        summarise([{"kind": "test", "mse_model": 1.0}, {"kind": "rumour"}])


def test_every_record_of_the_book_holds() -> None:
    pages = sorted(path.name for path in recorded_folder("x").parent.glob("*") if path.is_dir())
    for page in pages:
        assert (project_folder() / "notebooks" / f"{page}.py").is_file()
        for record in read_records(page):
            assert {"config_hash", "cohort_fingerprint", "machine", "seconds", "commit", "recorded"} <= set(record.facts)
            assert "TCGA-" not in json.dumps(record.lines)
