"""The command `book` without permission, without room, interrupted, and with a page that fails: tiny pages, real kernels.

What the pages do is told by the environment of a call: `FAULTS_HOLD` is a file that makes page 02 write its processes into
it and wait while it is there, `FAULTS_BYTES` is how much page 02 writes, `FAULTS_FAIL` a page that fails.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from rnasynth.files import locked_folder
from rnasynth.pages import runner
from tests.faults.children import Child, Outcome, expect, halves, other_user, small_disk
from tests.faults.world import files_in

HELD_SECONDS = 120  # that a page waits at most
START_SECONDS = 240  # in which two pages' kernels start, on the busiest machine
PAGES = ["01_first", "02_second"]
PAGE = """\
# ---
# jupyter:
#   kernelspec: {{display_name: Python 3, language: python, name: python3}}
# rnasynth:
#   question: What is left?
#   cohorts: all
#   needs: []
#   demo_seconds: 1
# ---

# %% [markdown]
# # {name}

# %% tags=["parameters"]
preset: str = "demo"
cohort: str = "simulated"
seed: int = 0
out: str = ""

# %%
import json, os, time
from pathlib import Path

here = Path(os.environ["RNASYNTH_HOME"]) / "build" / "mine-demo" / "{name}"
results = {{"numbers": {{"x": {{"value": 1}}}}, "runs": [], "figures": [], "verdicts": [], "not_converged": []}}
(here / "results.json").write_text(json.dumps(results))

# %%
if os.environ.get("FAULTS_FAIL") == "{name}":
    raise ValueError("the slide C2 is bent")
"""
SECOND = """
# %%
(here / "large").write_bytes(bytes(int(os.environ.get("FAULTS_BYTES", "0"))))
hold = Path(os.environ.get("FAULTS_HOLD", "/none"))
if hold.exists():
    hold.with_suffix(".new").write_text(json.dumps([os.getppid(), os.getpid()]))
    hold.with_suffix(".new").replace(hold)
    started = time.monotonic()
    while hold.exists() and time.monotonic() - started < {seconds}:
        time.sleep(0.05)
"""


def write_pages(folder: Path) -> None:
    """Write the two pages."""
    folder.mkdir()
    for name, more in zip(PAGES, ("", SECOND.format(seconds=HELD_SECONDS)), strict=True):
        (folder / f"{name}.py").write_text(PAGE.format(name=name) + more, encoding="utf-8")


class Books:
    """Calls of `book` on the world's own cohort.

    Attributes
    ----------
    folder : of the situations.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.call = ["book", "--cohort", f"{folder}/good/own/mine.yaml"]

    def start(
        self, home: Path, before: Callable[[], object] = lambda: None, *, render: bool = False, **told: object
    ) -> Child:
        """Start a call with `home` as the project's folder; the book is rendered only where it is asked for."""

        def prepare() -> None:
            os.environ["RNASYNTH_HOME"] = str(home)
            os.environ.update({f"FAULTS_{name.upper()}": str(value) for name, value in told.items()})
            if not render:
                runner.build_book = lambda *_, **__: home / "build"
            before()

        return Child(self.call, prepare)


def alive(process: int) -> bool:
    """Tell whether a process runs (in a container nobody may collect the dead)."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def finished(home: Path) -> set[str]:
    """Names of the pages that have a stamp."""
    return {path.parent.name for path in home.glob("build/*/*/stamp.json")}


def interrupted(books: Books) -> Outcome:
    """Ctrl-C twice while a page waits; the same command, ended by SIGTERM; the same command, to its end."""
    home, hold = books.folder / "book-interrupted", books.folder / "hold"
    home.mkdir()
    codes, texts, wrong = [], [], []
    for number in (signal.SIGINT, signal.SIGTERM):
        hold.write_text("")
        child = books.start(home, os.setsid, hold=hold)
        pids = _wait_for(hold)
        if number == signal.SIGINT:
            for pause in (0.03, 0):  # as a terminal sends it, to the pages as well
                os.killpg(child.pid, number)
                time.sleep(pause)
        else:
            os.kill(child.pid, number)
        code, said = child.end()
        wrong += [f"runs still: {pid}" for pid in pids if alive(pid)] or expect("processes", len(pids), 2)
        wrong += expect("finished", finished(home), {"01_first"})
        hold.unlink()
        codes.append(code)
        texts.append(said)
    code, said = books.start(home).end()
    wrong += expect("kept", "01_first: kept" in texts[1] and "01_first: kept" in said and "02_second: ran" in said, True)
    return Outcome("book-interrupted", "signals", [*codes, code], [*texts, said], wrong + halves(home))


def _wait_for(hold: Path) -> list[int]:
    """Return the processes of the page that waits: its own and its kernel's."""
    started = time.monotonic()
    while time.monotonic() - started < START_SECONDS:
        if said := hold.read_text(encoding="utf-8"):
            return list(json.loads(said))
        time.sleep(0.02)
    return []


def _made(books: Books, home: Path) -> Path:
    """Copy the folder of a finished build, which `failed` left; return it."""
    shutil.copytree(books.folder / "book-failed" / "build", home / "build", dirs_exist_ok=True)
    return home / "build" / "mine-demo"


def full_disk(books: Books) -> Outcome:
    """Page 02 needs more than the disk has; then more room, and the same command again."""
    with small_disk(books.folder / "book-full", "300k", 200_000) as disk:
        home = disk.folder
        (_made(books, home) / "02_second" / "stamp.json").unlink()
        code, said = books.start(home, disk.limit, bytes=1_000_000).end()
        wrong = [f"half file: {path}" for path in halves(home)] + expect("finished", finished(home), {"01_first"})
        disk.grow()
        again, said_again = books.start(home).end()
        wrong += expect("kept", "01_first: kept" in said_again and "02_second: ran" in said_again, True)
    return Outcome("book-full", disk.how, [code, again], [said, said_again], wrong)


def failed(books: Books) -> Outcome:
    """Page 01 fails; then it does not, and page 02 is kept."""
    home = books.folder / "book-failed"
    home.mkdir()
    code, said = books.start(home, fail="01_first").end()
    wrong = expect("finished", finished(home), {"02_second"})
    wrong += expect("failed.ipynb", [path.parent.name for path in home.rglob("failed.ipynb")], ["01_first"])
    wrong += expect("page.ipynb", [path.parent.name for path in home.rglob("page.ipynb")], ["02_second"])
    again, said_again = books.start(home).end()
    wrong += expect("kept", "02_second: kept" in said_again and "01_first: ran" in said_again, True)
    return Outcome("book-failed", "a page", [code, again], [said, said_again], wrong + halves(home))


def no_room_to_render(books: Books) -> Outcome:
    """The pages fit on the disk, the book does not."""
    with small_disk(books.folder / "book-render", "1m", 50_000) as disk:
        _made(books, disk.folder)
        code, said = books.start(disk.folder, disk.limit, render=True).end()
        wrong = expect("finished", finished(disk.folder), {"01_first", "02_second"})
    return Outcome("book-render-full", disk.how, [code], [said], wrong)


def no_permission(books: Books) -> Outcome:
    """The project's folder belongs to somebody else, as does the build folder in one that may be written to."""
    new, there = books.folder / "book-locked" / "new", books.folder / "book-locked" / "there"
    (there / "build" / "mine-demo").mkdir(parents=True)
    new.parent.chmod(0o555)
    (there / "build" / "mine-demo").chmod(0o555)
    ended = [books.start(home, other_user).end() for home in (new, there)]
    wrong = sorted(files_in(new.parent)) + expect("codes", [code for code, _ in ended], [2, 2])
    return Outcome("book-permission", "as another user", [2], [f"{ended[0][1]}{ended[1][1]}"], wrong)


def page_folder(books: Books) -> Outcome:
    """The folder of page 02, which has to run again, belongs to somebody else."""
    home = books.folder / "book-page"
    folder = _made(books, home)
    (folder / "02_second" / "stamp.json").unlink()
    (folder / "02_second").chmod(0o555)
    folder.chmod(0o777)
    (folder / "pages.json").chmod(0o666)
    there = files_in(folder / "02_second")
    home.chmod(0o777)

    def before() -> None:
        os.environ["RNASYNTH_DATA"] = str(home / "data")
        other_user()

    code, said = books.start(home, before).end()
    wrong = expect("kept", "01_first: kept" in said, True) + expect("02_second", files_in(folder / "02_second"), there)
    return Outcome("book-page-permission", "as another user", [code], [said], wrong)


def damaged_record(books: Books) -> Outcome:
    """The build's list of outcomes is cut short."""
    home = books.folder / "book-record"
    record = _made(books, home) / "pages.json"
    record.write_text(record.read_text()[:20])
    code, said = books.start(home).end()
    wrong = expect("kept", said.count(": kept"), 2) + expect("record", sorted(json.loads(record.read_text())), PAGES)
    return Outcome("book-record", "a file cut short", [code], [said], wrong)


def held(books: Books) -> Outcome:
    """A build folder that another process holds."""
    home = books.folder / "book-held"
    with locked_folder(home / "build" / "mine-demo"):
        code, said = books.start(home).end()
    return Outcome("book-held", "a lock held", [code], [said], sorted(files_in(home)))


ALL = (failed, interrupted, full_disk, no_room_to_render, no_permission, page_folder, damaged_record, held)
