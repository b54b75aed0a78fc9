"""Run the pages: clean kernels, dependency order, in parallel where independent, and only where something changed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rnasynth.config import check_preset, places, project_folder
from rnasynth.errors import InputError, PartialFailure, is_full, of_system
from rnasynth.files import locked_folder, read_json, write_json
from rnasynth.pages import stamps
from rnasynth.pages.book import OUTCOMES
from rnasynth.pages.book import build_book as build_book
from rnasynth.pages.execute import DISK_FULL, FAILED
from rnasynth.pages.notebooks import PageSource, check_parameters, choose, needs_of, read_pages
from rnasynth.pages.parameters import build_folder, check_cohort
from rnasynth.pages.provenance import short_commit

QUIET = {
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # ipykernel's debugger warns on each start with frozen modules
    # the last is said by tqdm, which some dependency imports, where there are no notebook widgets
    "PYTHONWARNINGS": "ignore::DeprecationWarning,ignore::FutureWarning,ignore:IProgress not found",
    "TQDM_DISABLE": "1",  # a progress bar in a page would be hundreds of lines on standard error
    "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not one of the same name in the home folder
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
LOOK_SECONDS = 0.2  # how often a page's process looks whether it is to stop
END_SECONDS = 10.0  # a kernel is asked, then told, then killed within 6 s of the signal to its page's process


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one page in a call of `run_pages`."""

    page: str
    outcome: str
    """ran | kept (nothing changed) | skipped (not meant for the cohort) | failed | blocked (a page it needs failed)"""
    reason: str = ""
    seconds: float = 0.0
    expected_seconds: float = 0.0
    """As the page's header says of the demo preset on two cores; 0 for another preset"""

    def line(self) -> str:
        """Return one line for the terminal."""
        time_text = f" in {self.seconds:.0f} s" if self.outcome == "ran" else ""
        expected = f" (expected on two cores: {self.expected_seconds:.0f} s)" if time_text and self.expected_seconds else ""
        return f"{self.page}: {self.outcome}{time_text}{expected}" + (f", {self.reason}" if self.reason else "")


@dataclass(frozen=True, kw_only=True)
class CohortFacts:
    """What the runner must know of a cohort."""

    fingerprint: str
    has_profiles: bool
    has_tiles: bool


def cohort_facts(cohort: str, seed: int, mirror: Path | None = None) -> CohortFacts:
    """Load a cohort once, before any page does, so that pages that run at the same time all find it made."""
    from rnasynth.data.cohort import load_cohort

    loaded = load_cohort(cohort, seed=seed, mirror=mirror)
    return CohortFacts(
        fingerprint=loaded.fingerprint(), has_profiles=loaded.profiles.n_obs > 0, has_tiles=loaded.tiles is not None
    )


def run_pages(
    cohort: str = "simulated",
    preset: str = "demo",
    pages: list[str] | None = None,
    *,
    force: bool = False,
    jobs: int = 1,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    mirror: Path | None = None,
    notebooks: Path | None = None,
    root: Path | None = None,
    facts: CohortFacts | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Outcome]:
    """Run pages on a cohort; each leaves page.ipynb, results.json, figures/ and stamp.json in its folder.

    Parameters
    ----------
    cohort, preset, seed : handed to every page.
    pages : names or two digits; None: all. Pages that a chosen one needs are not added: what they left is used.
    force : run pages also where nothing changed.
    jobs : pages at a time; the CPU's threads are shared among them.
    parameters : further parameters; each must be one of every chosen page.
    mirror : a local folder that stands in for the internet, for this call and its pages (default: `$RNASYNTH_MIRROR`).
    notebooks, root, facts : folder of the pages, folder that holds `build`, and facts of the cohort; for tests.
    say : receives each line of progress; printed by default.

    Returns
    -------
    One outcome a page, in the order of running.

    Raises
    ------
    InputError : unknown preset, cohort, page or parameter; nothing is run.
    OSError : the folder may not be written to, and nothing is run; or a disk is full, and the pages at work are ended.
    PartialFailure : some pages failed; all that did not need them have run.
    """
    say = say or _say
    check_preset(preset)
    if Path(check_cohort(cohort)).is_file():
        cohort = str(Path(cohort).resolve())  # the pages' kernels start in another folder
    sources = read_pages(notebooks)
    order = choose(sources, pages)
    given = {"preset": preset, "cohort": cohort, "seed": seed, **(parameters or {})}
    given_of = {name: check_parameters(sources[name], given) for name in order}
    if jobs < 1:
        raise InputError(f"jobs {jobs}", expected="1 or more", found=str(jobs))
    folder = build_folder(cohort, preset, root)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    say(f"cohort {cohort}, preset {preset}: pages {', '.join(name.split('_')[0] for name in order)}")
    facts = facts or cohort_facts(cohort, seed, mirror)
    read_from = {} if mirror is None else {"RNASYNTH_MIRROR": str(mirror.resolve())}
    stop = threading.Event()

    def run_one(name: str) -> Outcome:
        source, out = sources[name], folder / name
        full = {**source.parameters, **given_of[name], "out": ""}
        upstream = {need: folder / need for need in needs_of(sources, name)}
        inputs = stamps.inputs_of(
            source, parameters=full, cohort=cohort, cohort_fingerprint=facts.fingerprint, upstream=upstream
        )
        reasons = ["it was asked for"] if force else stamps.changed(out, inputs)
        if not reasons:
            stamp = stamps.read_stamp(out) or {}
            made = short_commit(str(stamp.get("commit", "")), bool(stamp.get("dirty")))
            return Outcome(page=name, outcome="kept", reason=f"nothing changed since commit {made} ran it")
        say(f"{name}: runs, because {' and '.join(reasons)}")
        started = time.monotonic()
        values = {key: value for key, value in full.items() if value != source.parameters[key]}
        if root is not None:  # else the page finds its own folder
            values["out"] = str(out)
        try:
            failure = _execute(source, out, values, threads=_threads(jobs), environment=read_from, stop=stop)
        except OSError as error:
            if is_full(error):
                raise
            failure = str(of_system(error))
        seconds = time.monotonic() - started
        if not failure and not (out / "results.json").is_file():
            failure = "it left no results.json; its last cell must call page.close()"
        if not failure:
            stamps.write_stamp(out, inputs, seconds=seconds)
        return Outcome(
            page=name,
            outcome="failed" if failure else "ran",
            reason=failure,
            seconds=round(seconds, 2),
            expected_seconds=source.demo_seconds if preset == "demo" else 0.0,
        )

    outcomes = _in_order(order, sources, run_one, jobs, cohort, facts, say, stop)
    _remember(folder, outcomes)
    if failures := {o.page: o.reason for o in outcomes if o.outcome in ("failed", "blocked")}:
        left = [folder / name / FAILED for name in failures if (folder / name / FAILED).is_file()]
        shown = left[0] if len(left) == 1 else f"{folder}/<page>/{FAILED}"
        fix = f"look at {shown}" if left else "mend that: what was finished is kept, the same command goes on from there"
        raise PartialFailure(f"pages on {cohort}, preset {preset}", failures, fix=fix)
    return outcomes


def _in_order(
    order: list[str],
    sources: Mapping[str, PageSource],
    run_one: Callable[[str], Outcome],
    jobs: int,
    cohort: str,
    facts: CohortFacts,
    say: Callable[[str], None],
    stop: threading.Event,
) -> list[Outcome]:
    done: dict[str, Outcome] = {}
    running: dict[Future[Outcome], str] = {}

    def settle(outcome: Outcome) -> None:
        done[outcome.page] = outcome
        say(outcome.line())

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            while len(done) < len(order):
                for name in order:
                    if name in done or name in running.values():
                        continue
                    needs = [need for need in needs_of(sources, name) if need in order]
                    bad = [need for need in needs if need in done and done[need].outcome in ("failed", "blocked")]
                    if reason := sources[name].suits(cohort, has_profiles=facts.has_profiles, has_tiles=facts.has_tiles):
                        settle(Outcome(page=name, outcome="skipped", reason=reason))
                    elif bad:
                        settle(Outcome(page=name, outcome="blocked", reason=f"it needs {', '.join(bad)}, which failed"))
                    elif len(running) < jobs and all(need in done for need in needs):
                        running[pool.submit(run_one, name)] = name
                if running:
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        running.pop(future)
                        settle(future.result())
        finally:
            stop.set()  # none is left, unless an error or interrupt ended the loop; the pool then waits for their ends
    return [done[name] for name in sorted(done, key=order.index)]


def _execute(
    source: PageSource,
    out: Path,
    parameters: dict[str, Any],
    *,
    threads: int,
    environment: Mapping[str, str],
    stop: threading.Event,
) -> str:
    """Run one page in a process of its own, with `environment` on top; return "" or why it failed, in one line.

    Raises
    ------
    OSError : the page's folder may not be written to, or a disk is full.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in (stamps.STAMP, *stamps.OUTPUTS, FAILED):  # the stamp first: what is half made must have none
        (out / name).unlink(missing_ok=True)
    write_json(out / "parameters.json", parameters)
    count = str(threads)
    whole = {
        **os.environ,
        **QUIET,
        **places(),
        **environment,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
    }
    command = [sys.executable, "-m", "rnasynth.pages.execute", str(source.path), str(out), str(out / "parameters.json")]
    with subprocess.Popen(
        command,
        env=whole,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=project_folder(),
    ) as process:
        said, complained = _await(process, stop)
    if process.returncode == 0:
        return ""
    lines = [line for line in (said.strip() or complained.strip()).splitlines() if line.strip()]
    reason = lines[-1] if lines else f"its process ended with {process.returncode}"
    if process.returncode == DISK_FULL:
        raise OSError(errno.ENOSPC, reason, f"page {source.name}")
    return reason


def _await(process: subprocess.Popen[str], stop: threading.Event) -> tuple[str, str]:
    """Return what a page's process says until it and its kernel, which has the same output, end; `stop` ends them.

    In the thread of the page, where no interrupt arrives: a second one cannot leave the work half done.
    """
    while not stop.is_set():
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=LOOK_SECONDS)
    for end in (process.terminate, process.terminate):  # one that comes while the kernel starts is lost
        end()
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=END_SECONDS)
    process.kill()  # its kernel sees that within a second
    return process.communicate()


@contextmanager
def only_builder(cohort: str, preset: str, root: Path | None = None) -> Iterator[None]:
    """Hold the build folder of a cohort and preset: two builds in it would take each other's files away.

    Raises
    ------
    InputError : another process builds it.
    """
    folder = build_folder(cohort, preset, root)
    with locked_folder(folder, wait=False):
        yield


def _threads(jobs: int) -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, available // jobs))


def _remember(folder: Path, outcomes: list[Outcome]) -> None:
    """Keep the outcome of each page, for the status page; a page that only kept its results keeps its time as well."""
    path = folder / OUTCOMES
    known: dict[str, Any] = {}
    with suppress(InputError):  # none there yet, or a damaged one
        found = read_json(path)
        known = found if isinstance(found, dict) else {}
    for outcome in outcomes:
        if outcome.outcome != "kept" or outcome.page not in known:
            known[outcome.page] = asdict(outcome)
    write_json(path, known)


def _say(line: str) -> None:
    print(line, flush=True)
