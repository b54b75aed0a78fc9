"""The runner on tiny pages with real kernels: what is run, what is kept, what a failure stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from rnasynth.errors import InputError, PartialFailure
from rnasynth.pages import runner, stamps
from rnasynth.pages.notebooks import read_page
from rnasynth.pages.runner import CohortFacts, run_pages

Write = Callable[..., Path]
FACTS = CohortFacts(fingerprint="f00", has_profiles=True, has_tiles=False)


def run(tmp_path: Path, facts: CohortFacts = FACTS, **options: Any) -> dict[str, str]:
    said: list[str] = []
    try:
        outcomes = run_pages(
            "simulated", "demo", notebooks=tmp_path / "notebooks", root=tmp_path, facts=facts, say=said.append, **options
        )
    finally:
        run.said = said  # type: ignore[attr-defined]
    return {outcome.page: outcome.outcome for outcome in outcomes}


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the kernel by a stand-in that leaves results at once; the list says which pages ran, in order."""
    order: list[str] = []

    def execute(source: Any, out: Path, parameters: dict[str, Any], **_: Any) -> str:
        order.append(source.name)
        out.mkdir(parents=True, exist_ok=True)
        if "raise" in source.code():
            return "cell 3: ValueError: no"
        value = source.code().count("page.note")
        results = {"numbers": {"x": {"value": value}}, "runs": [], "figures": [], "verdicts": [], "not_converged": []}
        (out / "results.json").write_text(json.dumps(results))
        (out / "page.ipynb").write_text("{}")
        return ""

    monkeypatch.setattr(runner, "_execute", execute)
    return order


def test_a_page_runs_in_a_clean_kernel_and_leaves_results_figures_and_stamp(tmp_path: Path, write_page: Write) -> None:
    write_page("01_line")
    write_page("02_broken", body="raise ValueError('the slide C2 is bent')")
    with pytest.raises(PartialFailure, match=r"02_broken: cell \d+: ValueError: the slide C2 is bent") as caught:
        run(tmp_path, jobs=2)
    assert caught.value.exit_code == 1
    folder = tmp_path / "build" / "simulated-demo"
    results = json.loads((folder / "01_line" / "results.json").read_text())
    assert results["numbers"]["slope"] == {
        "against": 0.0, "value": 2.0, "low": 1.0, "high": 3.0, "n": 40, "label": "slope of the line",
    }  # fmt: skip
    assert (folder / "01_line" / "figures" / "line.png").stat().st_size > 1000
    notebook = json.loads((folder / "01_line" / "page.ipynb").read_text())
    assert all(cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    assert not any(o.get("name") == "stderr" for cell in notebook["cells"] for o in cell.get("outputs", []))
    assert (folder / "02_broken" / "failed.ipynb").is_file() and not (folder / "02_broken" / "page.ipynb").exists()
    with pytest.raises(PartialFailure):
        run(tmp_path)
    assert any(line.startswith("01_line: kept") for line in run.said)  # type: ignore[attr-defined]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # in a container nobody may collect the dead
    except psutil.NoSuchProcess:
        return False


def test_an_interrupt_ends_the_pages_that_run_and_their_kernels(tmp_path: Path, write_page: Write) -> None:
    mark = tmp_path / "pid"
    start = f"import os, time\nfrom pathlib import Path\nmark, new = Path({str(mark)!r}), Path({str(mark)!r} + '.new')\n"
    write_page("01_long", body=start + "new.write_text(str(os.getpid()))\nnew.replace(mark)\ntime.sleep(100)")
    wait = "end = time.monotonic() + 100\nwhile not mark.exists():\n    assert time.monotonic() < end\n    time.sleep(0.05)"
    write_page("02_short", body=start + wait)
    interrupted: list[float] = []

    def say(line: str) -> None:
        if line.startswith("02_short: ran"):
            interrupted.append(time.monotonic())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pages("simulated", notebooks=tmp_path / "notebooks", root=tmp_path, facts=FACTS, jobs=2, say=say)
    assert time.monotonic() - interrupted[0] < 80  # the long page was ended, not waited for
    kernel = int(mark.read_text())
    while time.monotonic() - interrupted[0] < 80 and alive(kernel):
        time.sleep(0.1)
    assert not alive(kernel)
    folder = tmp_path / "build" / "simulated-demo"
    assert (folder / "02_short" / "results.json").is_file() and not (folder / "01_long" / stamps.STAMP).exists()


STUBBORN = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(3)"


@pytest.mark.parametrize(("asked", "code"), [(True, -9), (False, 0)])
def test_a_process_that_does_not_hear_is_killed_and_one_that_is_not_asked_ends_by_itself(
    asked: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "END_SECONDS", 0.1)
    stop = threading.Event()
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "on\n"
        if asked:
            stop.set()
        assert runner._await(process, stop) == ("", "")
    assert process.returncode == code


def test_a_page_that_is_ended_as_it_starts_leaves_nothing_of_before_that_looks_finished(
    tmp_path: Path, write_page: Write
) -> None:
    folder = tmp_path / "build" / "simulated-demo" / "01_a"
    folder.mkdir(parents=True)
    before = (stamps.STAMP, "page.ipynb", "results.json", "failed.ipynb")
    for name in before:
        (folder / name).write_text("{}")
    stop = threading.Event()
    stop.set()
    page = read_page(write_page("01_a"))
    assert "-15" in runner._execute(page, folder, {}, threads=1, environment={}, stop=stop)
    assert not [name for name in before if (folder / name).exists()]


def test_pages_read_the_mirror_of_their_call_and_nothing_stays_set(tmp_path: Path, write_page: Write) -> None:
    write_page("01_a", body="import os\npage.note(os.environ['RNASYNTH_MIRROR'])")
    assert run(tmp_path, mirror=tmp_path) == {"01_a": "ran"}
    notebook = (tmp_path / "build" / "simulated-demo" / "01_a" / "page.ipynb").read_text()
    assert str(tmp_path) in notebook and os.environ.get("RNASYNTH_MIRROR") != str(tmp_path)


def test_order_follows_needs_and_unsuitable_pages_are_listed_with_the_reason(
    tmp_path: Path, write_page: Write, instant: list[str]
) -> None:
    write_page("01_a", needs="02_b")
    write_page("02_b")
    write_page("03_c", cohorts="[images]", needs="01_a")
    assert run(tmp_path) == {"02_b": "ran", "01_a": "ran", "03_c": "skipped"}
    assert instant == ["02_b", "01_a"]
    assert "03_c: skipped, it is meant for a cohort with images" in run.said  # type: ignore[attr-defined]
    with_tiles = CohortFacts(fingerprint="f00", has_profiles=True, has_tiles=True)
    assert run(tmp_path, with_tiles) == {"02_b": "kept", "01_a": "kept", "03_c": "ran"}


def test_a_failure_stops_what_needs_it_and_nothing_else(tmp_path: Path, write_page: Write, instant: list[str]) -> None:
    write_page("01_a", body="raise ValueError")
    write_page("02_b", needs="01_a")
    write_page("03_c", needs="02_b")
    write_page("04_d")
    with pytest.raises(PartialFailure) as caught:
        run(tmp_path, jobs=2)
    assert set(caught.value.failures) == {"01_a", "02_b", "03_c"}
    assert sorted(instant) == ["01_a", "04_d"]


def test_a_page_runs_again_only_where_something_changed(
    tmp_path: Path, write_page: Write, instant: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_page("01_a")
    write_page("02_b", needs="01_a")
    write_page("03_c")
    everything = {"01_a": "ran", "02_b": "ran", "03_c": "ran"}
    kept = dict.fromkeys(everything, "kept")
    assert run(tmp_path) == everything and run(tmp_path) == kept
    assert any("nothing changed since commit" in line for line in run.said)  # type: ignore[attr-defined]
    assert run(tmp_path, force=True, pages=["03"]) == {"03_c": "ran"}
    write_page("01_a", body="# another source, the same results")
    assert run(tmp_path) == {**kept, "01_a": "ran"}
    write_page("01_a", body="page.note('x')")
    assert run(tmp_path) == {**kept, "01_a": "ran", "02_b": "ran"}  # the results changed: what needs them follows
    assert run(tmp_path, parameters={"slope": 3.0}) == everything
    assert run(tmp_path, parameters={"slope": 3.0}) == kept
    (tmp_path / "build" / "simulated-demo" / "03_c" / "results.json").write_text("{}")
    assert run(tmp_path, parameters={"slope": 3.0}) == {**kept, "03_c": "ran"}
    other = CohortFacts(fingerprint="f11", has_profiles=True, has_tiles=False)
    assert run(tmp_path, other, parameters={"slope": 3.0}) == everything
    monkeypatch.setattr(stamps.provenance, "versions", lambda: {"torch": "another"})
    assert run(tmp_path, other, parameters={"slope": 3.0}) == everything


def test_each_kind_of_input_has_its_own_hash(tmp_path: Path, write_page: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    page = read_page(write_page("04_beta_vae"))
    recorded = tmp_path / "recorded"
    recorded.mkdir()

    def hashes() -> dict[str, str]:
        return stamps.inputs_of(
            page, parameters={"seed": 0}, cohort="her2st", cohort_fingerprint="f", upstream={}, recorded=recorded
        )

    before = hashes()
    assert before == hashes()
    (recorded / "metrics.jsonl").write_text("{}")
    assert {kind for kind, value in hashes().items() if value != before[kind]} == {"recorded results"}
    module = tmp_path / "changed.py"
    module.write_text("x = 1")
    monkeypatch.setattr(stamps, "modules_of", lambda code: {"rnasynth.x": module})
    changed = {kind for kind, value in hashes().items() if value != before[kind]}
    assert changed == {"recorded results", "modules"}


def test_a_file_that_a_parameter_names_counts_by_its_content(tmp_path: Path, write_page: Write) -> None:
    page = read_page(write_page("04_beta_vae"))
    mine = tmp_path / "mine.csv"

    def hash_of(scores: str) -> str:
        inputs = stamps.inputs_of(page, parameters={"scores": scores}, cohort="geo", cohort_fingerprint="f", upstream={})
        return inputs["files that parameters name"]

    nothing, table = hash_of("neither a file nor a table"), hash_of("expert_ratings")
    mine.write_text("a", encoding="utf-8")
    first = hash_of(str(mine))
    mine.write_text("b", encoding="utf-8")
    assert len({nothing, table, first, hash_of(str(mine))}) == 4


@pytest.mark.parametrize(
    "options", [{"pages": ["77"]}, {"parameters": {"slpoe": 1.0}}, {"parameters": {"slope": "steep"}}, {"jobs": 0}]
)
def test_a_wrong_call_runs_nothing(tmp_path: Path, write_page: Write, instant: list[str], options: dict[str, Any]) -> None:
    write_page("01_a")
    with pytest.raises(InputError):
        run(tmp_path, **options)
    assert instant == [] and not (tmp_path / "build").exists()


def test_a_line_says_the_expected_time_of_the_preset_that_has_one() -> None:
    ran = runner.Outcome(page="01_a", outcome="ran", seconds=8.4, expected_seconds=30)
    assert ran.line() == "01_a: ran in 8 s (expected on two cores: 30 s)"
    assert runner.Outcome(page="01_a", outcome="ran", seconds=8.4).line() == "01_a: ran in 8 s"
    assert runner.Outcome(page="01_a", outcome="failed", reason="no", expected_seconds=30).line() == "01_a: failed, no"
