"""Commands without permission, without room, interrupted, and two at once, each in a forked child.

Run as `python -m tests.faults.situations WORLD`; prints one JSON object a situation. It runs in a process of its own
because it forks: every command is run once first, so that a child without rights has nothing left to import. Its folder
lies directly below the system's temporary folder, where a child of another user may go.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from rnasynth import cli
from rnasynth.data.tile_writer import take_lock
from rnasynth.data.tiles import TileStore
from rnasynth.evaluation.ratings import form
from rnasynth.files import TEMPORARY_SUFFIX, read_json
from rnasynth.pages import notebooks
from tests.faults import book_situations, world
from tests.faults.children import Child, Outcome, expect, halves, other_user, small_disk

VARYING = ("data.mdb", "versions.json", "metrics.jsonl", "manifest.json", "-key.json", "form.html", ".h5ad")
DISK_ROOM = {  # of the small disk; the inputs of each command need more
    "fetch": "300k", "tile": "100k", "train": "200k", "generate": "40k", "generate-profiles": "24k", "form": "20k",
    "analyse": "4k", "notebooks": "4k",
}  # fmt: skip
FILE_ROOM_BYTES = {
    "fetch": 100_000,
    "tile": 150_000,
    "notebooks": 1000,
    "generate-profiles": 24_000,
}  # where no disk can be mounted, the largest file
WRITES = {"generate-profiles": 1, "form": 2}  # flushes to the disk before an interrupt; else 3
UNREADABLE = {
    "fetch": "good/mirror/two", "tile": "good/section1.png", "train": "good/own/expression.csv",
    "generate": "good/profiles.h5ad", "generate-run": "runs/gan/model.safetensors", "generate-tiles": "good/tiles/s1/1.png",
    "generate-profiles": "good/clinical.csv", "form": "good/rate/a/0.png", "analyse": "good/bob.csv",
}  # fmt: skip


def commands(folder: Path) -> dict[str, list[str]]:
    """Return a working call of each command that writes; `OUT` stands for its output."""
    good, runs = folder / "good", folder / "runs"
    profiles = ["--expression", f"{good}/profiles.h5ad", "--tiles-per-profile", "30"]
    return {
        "fetch": ["fetch", f"{good}/files.yaml", "--mirror", f"{good}/mirror", "--to", "OUT"],
        "tile": ["tile", f"{good}/section1.png", f"{good}/section2.png", "--out", "OUT",
                 "--slide-mpp", "0.5", "--tile-px", "32"],
        "train": ["train", "beta-vae", "--cohort", f"{good}/own/mine.yaml", "--out", "OUT", "--set", "train.epochs=40",
                  "--set", "hidden=[256,128]", "--set", "train.checkpoint_every=5"],
        "generate": ["generate", "--run", f"{runs}/gan", "--out", "OUT", *profiles],
        "generate-profiles": ["generate", "--run", f"{runs}/gemm", "--out", "OUT/made.h5ad", "--clinical",
                              f"{good}/clinical.csv"],
        "form": ["ratings", "form", f"x/a={good}/rate/a", f"x/b={good}/rate/b", "--tissues", "x,y", "--out", "OUT/form",
                 "--tiles-per-group", "2"],
        "analyse": ["ratings", "analyse", f"{good}/ann.csv", f"{good}/bob.csv", "--key", f"{good}/key.json", "--out", "OUT"],
        "notebooks": ["notebooks", "--out", "OUT"],
    }  # fmt: skip


def content(folder: Path) -> dict[str, str]:
    """Return what a folder holds, without what differs between two equal results (times, LMDB pages, versions)."""
    found: dict[str, str] = {}
    for name, inside in world.files_in(folder).items():
        if not name.endswith(VARYING):
            found[name] = str(hash(inside))
        elif not name.endswith("data.mdb"):
            found[name] = ""
    if (folder / "INDEX").is_file():
        found = {"store": TileStore(folder).verify()}
    return found


class Stage:
    """The folder of the situations, the commands' right results, and the outcomes so far."""

    def __init__(self, folder: Path, small_world: Path) -> None:
        self.folder = folder
        places = {"DATA": "data", "RUNS": "none", "HOME": "home"}
        os.environ |= {f"RNASYNTH_{name}": f"{folder}/{place}" for name, place in places.items()}
        os.environ.pop("RNASYNTH_MIRROR", None)
        for part in ("good", "runs"):  # not "bad": it holds a sparse file that a copy would write out
            shutil.copytree(small_world / part, folder / part, symlinks=True)
        big = os.urandom(1 << 19)
        manifest = yaml.safe_load((folder / "good" / "files.yaml").read_text())
        manifest["files"][1] |= {"bytes": len(big), "sha256": hashlib.sha256(big).hexdigest()}
        (folder / "good" / "files.yaml").write_text(yaml.safe_dump(manifest))
        (folder / "good" / "mirror" / "two").write_bytes(big)
        self.calls = commands(folder)
        self.from_tiles = ["generate", "--run", f"{folder}/runs/gemm", "--out", "OUT/made.h5ad", "--tiles",
                           f"{folder}/good/tiles", "--mpp", "1"]  # fmt: skip
        book_situations.write_pages(folder / "good" / "pages")
        notebooks.notebooks_folder = lambda: folder / "good" / "pages"
        self.right: dict[str, dict[str, str]] = {}
        for name, call in self.calls.items():
            out = folder / "right" / name
            out.mkdir(parents=True)
            code = 0
            sys.argv = ["rnasynth", *self.at(call, out)]
            try:
                cli.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
            assert code == 0, (name, code)
            self.right[name] = content(out)
        subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)

    @staticmethod
    def at(call: list[str], out: Path) -> list[str]:
        return [part.replace("OUT", str(out)) for part in call]

    def wrong(self, name: str, out: Path) -> list[str]:
        """Say where a finished output differs from the right one, and which half files lie about."""
        found = content(out)
        different = [key for key in {*found, *self.right[name]} if found.get(key) != self.right[name].get(key)]
        return [f"differs: {key}" for key in different if TEMPORARY_SUFFIX not in key]


def no_permission(stage: Stage, name: str) -> Outcome:
    """The output's folder belongs to somebody else."""
    out = stage.folder / "locked" / name
    out.mkdir(parents=True)
    out.chmod(0o555)
    code, said = Child(stage.at(stage.calls[name], out / "new"), other_user).end()
    return Outcome(f"{name}-permission", "as another user", [code], [said], [str(path) for path in out.iterdir()])


def unreadable(stage: Stage, name: str) -> Outcome:
    """An input that may not be read."""
    path = stage.folder / UNREADABLE[name]
    mode = path.stat().st_mode & 0o777
    path.chmod(0)
    out = stage.folder / "unread" / name
    out.mkdir(parents=True)
    out.chmod(0o777)
    call = stage.calls[{"generate-run": "generate"}.get(name, name)] if name != "generate-tiles" else stage.from_tiles
    code, said = Child(stage.at(call, out), other_user).end()
    path.chmod(mode)
    wrong = expect("files", sorted(world.files_in(out)), ["one"] if name == "fetch" else [])
    return Outcome(f"{name}-unreadable", "as another user", [code], [said], wrong)


def full_disk(stage: Stage, name: str) -> Outcome:
    """A disk of a few hundred kB; then more room, and the same command again."""
    with small_disk(stage.folder / "disk" / name, DISK_ROOM[name], FILE_ROOM_BYTES.get(name, 2000)) as disk:
        out = disk.folder
        code, said = Child(stage.at(stage.calls[name], out), disk.limit).end()
        wrong = [f"half file: {path}" for path in halves(out)]
        kept = set(world.files_in(out))
        disk.grow()
        again, said_again = Child(stage.at(stage.calls[name], out)).end()
        lost = kept - set(world.files_in(out))
        wrong += stage.wrong(name, out) + [f"lost: {path}" for path in lost if path in stage.right[name]]
    return Outcome(f"{name}-full", disk.how, [code, again], [said, said_again], wrong)


def interrupted(stage: Stage, name: str) -> Outcome:
    """Ctrl-C twice, within 30 ms; the same command, ended by SIGTERM; the same command, to its end."""
    out = stage.folder / "interrupted" / name
    out.mkdir(parents=True)
    codes, texts = [], []
    for number, count in ((signal.SIGINT, 2), (signal.SIGTERM, 1)):

        def disturb(number: int = number, count: int = count) -> None:
            real, passed = os.fsync, 0

            def fsync(handle: int) -> None:
                nonlocal passed
                passed += 1
                real(handle)
                if passed == WRITES.get(name, 3):
                    if count == 2:
                        threading.Timer(0.03, os.kill, (os.getpid(), number)).start()
                    os.kill(os.getpid(), number)

            os.fsync = fsync

        code, said = Child(stage.at(stage.calls[name], out), disturb).end()
        codes.append(code)
        texts.append(said)
    code, said = Child(stage.at(stage.calls[name], out)).end()
    return Outcome(f"{name}-interrupted", "signals", [*codes, code], [*texts, said], stage.wrong(name, out) + halves(out))


def at_once(stage: Stage, name: str) -> Outcome:
    """Two processes with the same call and output."""
    out = stage.folder / "twice" / name
    out.mkdir(parents=True)
    children = [Child(stage.at(stage.calls[name], out)) for _ in range(2)]
    ended = [child.end() for child in children]
    wrong = stage.wrong(name, out) + halves(out)
    return Outcome(f"{name}-at-once", "two processes", [code for code, _ in ended], [said for _, said in ended], wrong)


def held(stage: Stage) -> Outcome:
    """A slide that another process holds."""
    out = stage.folder / "held"
    handle = take_lock(out, "section1")
    code, said = Child(stage.at([part for part in stage.calls["tile"] if "section2" not in part], out)).end()
    os.close(handle)
    left = [path for path in world.files_in(out) if "section1" not in path]
    return Outcome("tile-held", "a lock held", [code], [said], left)


def two_forms(stage: Stage) -> Outcome:
    """Two processes make a form in one folder, each with a secret seed: the key that is left must be that of the form."""
    out = stage.folder / "twice" / "form"
    out.mkdir(parents=True)
    children = [Child(stage.at(stage.calls["form"], out), slowly) for _ in range(2)]
    ended = sorted((child.end() for child in children), reverse=True)
    study = read_json(out / "form-key.json")["study"]
    wrong = [] if study in (out / "form" / "form.html").read_text(encoding="utf-8") else ["the key is that of another form"]
    return Outcome("form-at-once", "two processes", [code for code, _ in ended], [said for _, said in ended], wrong)


def slowly() -> None:
    """Wait before a form's key is written, so that two that do not take turns are sure to meet."""
    write = form.write_json

    def write_later(path: str | Path, value: Any) -> None:
        time.sleep(0.5)
        write(path, value)

    form.write_json = write_later


def closed_data(stage: Stage) -> Outcome:
    """`doctor` where the data folder may not be looked into."""
    folder = stage.folder / "closed"
    folder.mkdir()
    folder.chmod(0)

    def before() -> None:
        os.environ["RNASYNTH_DATA"] = str(folder / "data")
        other_user()

    code, said = Child(["doctor"], before).end()
    return Outcome("doctor-closed", "as another user", [code], [said], [])


def all_outcomes(stage: Stage) -> list[Callable[[], Outcome]]:
    """Return every situation, to be called in turn."""
    names = list(stage.calls)
    books = book_situations.Books(stage.folder)
    once = [name for name in names if name not in ("tile", "form")]
    made: list[Callable[[], Outcome]] = []
    made += [partial(no_permission, stage, name) for name in names]
    made += [partial(unreadable, stage, name) for name in UNREADABLE]
    made += [partial(full_disk, stage, name) for name in names]
    made += [partial(interrupted, stage, name) for name in names]
    made += [partial(at_once, stage, name) for name in once]
    made += [partial(situation, stage) for situation in (held, two_forms, closed_data)]
    made += [partial(situation, books) for situation in book_situations.ALL]
    return made


def main() -> None:
    """Run them all, in a copy of the world whose folder is the argument."""
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    folder.chmod(0o755)
    started = time.monotonic()
    try:
        stage = Stage(folder, Path(sys.argv[1]))
        print(f"ready after {time.monotonic() - started:.1f} s", flush=True)
        for situation in all_outcomes(stage):
            started = time.monotonic()
            print(json.dumps(asdict(situation()) | {"seconds": round(time.monotonic() - started, 2)}), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
