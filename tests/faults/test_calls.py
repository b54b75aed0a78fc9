"""Every call of the table ends with its code and its words, writes what it says, and never shows a traceback."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from rnasynth.files import TEMPORARY_SUFFIX
from tests.faults.table import CALLS, MEMORY_GIB, NOTHING, OTHERS, THERE, Fault
from tests.faults.world import call, files_in, little_memory


@pytest.mark.parametrize("fault", CALLS, ids=lambda fault: fault.name)
def test_a_wrong_call(
    fault: Fault, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert {name: after[name] for name in ("good", "bad", "runs")} == {
        name: before[name] for name in ("good", "bad", "runs")
    }
    assert not [name for name in after["out"] if TEMPORARY_SUFFIX in name]
    if fault.kept in (NOTHING, THERE):
        assert not after["out"]
    elif fault.kept == OTHERS:
        assert after["out"]
