"""Every row of the table of faults: exit code, words, what is written and kept, no traceback; and the book's page of it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rnasynth import cli
from rnasynth.errors import InputError
from rnasynth.files import TEMPORARY_SUFFIX
from tests.faults.table import CALLS, MEMORY_GIB, NOTHING, OTHERS, SITUATIONS, TABLE, THERE, Fault, markdown
from tests.faults.world import call, files_in, little_memory

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "book" / "faults.md"
START, END = "<!-- table of tests/faults/table.py -->\n", "<!-- end of the table -->\n"


@pytest.mark.parametrize("fault", CALLS, ids=lambda fault: fault.name)
def test_a_wrong_call(
    fault: Fault, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RNASYNTH_HOME", str(small_world / "home"))
    places = {"good": small_world / "good", "bad": small_world / "bad", "runs": small_world / "runs", "out": tmp_path}
    arguments = [*fault.command.split(), *shlex.split(fault.call.format(**places))]
    before = {name: files_in(folder) for name, folder in places.items()}
    with little_memory(MEMORY_GIB):
        ended = call(arguments, monkeypatch, capsys)
    assert ended.code == fault.code, ended.said
    assert not [word for word in fault.words if word not in ended.said], ended.said
    assert "Traceback" not in ended.said
    if ended.error is not None:
        missing = [part for part in ("subject", "expected", "found") if not getattr(ended.error, part)]
        assert fault.code == 1 or not missing, f"{missing}: {ended.said}"
        remedy = ended.error.fix or f"see rnasynth {fault.command} --help"
        assert remedy in ended.said.strip().splitlines()[-1], ended.said
    after = {name: files_in(folder) for name, folder in places.items()}
    for name in ("good", "bad", "runs"):
        assert after[name] == before[name], name
    assert not [name for name in after["out"] if TEMPORARY_SUFFIX in name]
    if fault.kept in (NOTHING, THERE):
        assert not after["out"]
    elif fault.kept == OTHERS:
        assert after["out"]


@pytest.fixture(scope="module")
def outcomes(small_world: Path) -> dict[str, dict[str, Any]]:
    """Every situation, once, by name."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.faults.situations", str(small_world)],
        cwd=CHECKOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    found = [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("{")]
    return {one["name"]: one for one in found}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", SITUATIONS, ids=lambda fault: fault.situation)
def test_a_situation(fault: Fault, outcomes: dict[str, dict[str, Any]]) -> None:
    one = outcomes[fault.situation]
    first, *later = one["codes"]
    assert first == fault.code, one
    if fault.situation.endswith("-interrupted"):
        assert later == [143, 0], one
    else:
        assert set(later) <= {0}, one
    assert not [word for word in fault.words if word not in one["said"][0]], one
    assert not any("Traceback" in said for said in one["said"]), one
    assert one["wrong"] == [], one


def test_every_situation_is_in_the_table(outcomes: dict[str, dict[str, Any]]) -> None:
    assert sorted(outcomes) == sorted(fault.situation for fault in SITUATIONS)


def test_every_row_has_a_name_of_its_own() -> None:
    names = [fault.name for fault in TABLE]
    assert sorted(set(names)) == sorted(names)


def test_the_books_page_shows_this_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = text[text.index(START) + len(START) : text.index(END)]
    assert shown == markdown(), f"put this between the two comments of {PAGE}:\n{markdown()}"


def test_a_row_that_is_not_tested_would_be_seen() -> None:
    more = (*TABLE, Fault("tile", "a slide of cheese"))
    assert markdown(more) not in PAGE.read_text(encoding="utf-8")


def test_a_command_line_that_says_nothing_would_be_seen(
    small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_told", lambda error: None)
    with pytest.raises(InputError):
        test_a_wrong_call(CALLS[0], small_world, tmp_path, monkeypatch, capsys)
