"""Commands without permission, without room, interrupted, and two at once, each in a forked child.

Run as `python -m tests.faults.situations WORLD`; prints one JSON object a situation. It runs in a process of its own
because it forks: every command is run once first, so that a child without rights has nothing left to import. Its folder
lies directly below the system's temporary folder, where a child of another user may go.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import yaml

from rnasynth import cli
from rnasynth.data.tile_writer import take_lock
from rnasynth.data.tiles import TileStore
from rnasynth.files import TEMPORARY_SUFFIX, locked_folder
from tests.faults import world

NOBODY = 65534
VARYING = ("data.mdb", "versions.json", "metrics.jsonl", "manifest.json", "-key.json", "form.html", ".h5ad")
ROOM = "300k"  # of the small disk; the inputs of each command need more
FILE_ROOM_BYTES = {"fetch": 1 << 20, "tile": 150_000}  # where no disk can be mounted, the largest file


@dataclass
class Outcome:
    """What a situation showed: exit codes and words of its calls, and what was wrong with what they left."""

    name: str
    how: str
    codes: list[int]
    said: list[str]
    wrong: list[str]


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
    }  # fmt: skip


class Child:
    """One call of the command line in a forked process; `before` runs in it first."""

    def __init__(self, arguments: list[str], before: Callable[[], object] = lambda: None) -> None:
        self.out = tempfile.TemporaryFile()  # noqa: SIM115
        self.pid = os.fork()
        if self.pid == 0:
            code = 99
            try:
                for stream in (1, 2):
                    os.dup2(self.out.fileno(), stream)
                signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
                before()
                sys.argv = ["rnasynth", *arguments]
                cli.main()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
            except BaseException:  # noqa: BLE001  a traceback is what these tests look for
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def end(self) -> tuple[int, str]:
        """Wait for it, and return its exit code and what it said."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.out.seek(0)
        return code, self.out.read().decode("utf-8", "replace")


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


def halves(out: Path) -> list[str]:
    """Temporary files that were left."""
    return [str(path) for path in out.rglob(f".*{TEMPORARY_SUFFIX}*") if path.is_file()]


def no_permission(stage: Stage, name: str) -> Outcome:
    """The output's folder belongs to somebody else."""
    out = stage.folder / "locked" / name
    out.mkdir(parents=True)
    out.chmod(0o555)
    drop = (lambda: os.setuid(NOBODY)) if os.getuid() == 0 else (lambda: None)
    code, said = Child(stage.at(stage.calls[name], out / "new"), drop).end()
    return Outcome(f"{name}-permission", "as another user", [code], [said], [str(path) for path in out.iterdir()])


def unreadable(stage: Stage, name: str, *parts: str) -> Outcome:
    """An input that may not be read."""
    path = stage.folder / "good" / parts[0]
    mode = path.stat().st_mode & 0o777
    path.chmod(0)
    out = stage.folder / "unread" / name
    drop = (lambda: os.setuid(NOBODY)) if os.getuid() == 0 else (lambda: None)
    out.mkdir(parents=True)
    out.chmod(0o777)
    code, said = Child(stage.at(stage.calls[name], out), drop).end()
    path.chmod(mode)
    return Outcome(f"{name}-unreadable", "as another user", [code], [said], sorted(world.files_in(out)))


def full_disk(stage: Stage, name: str) -> Outcome:
    """A disk of a few hundred kB; then more room, and the same command again."""
    out = stage.folder / "disk" / name
    out.mkdir(parents=True)
    room = {
        "generate": "40k",
        "tile": "100k",
        "form": "20k",
        "generate-profiles": "24k",
        "analyse": "4k",
        "train": "200k",
    }.get(name, ROOM)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(out)]
    mounted = os.getuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    limit = {**FILE_ROOM_BYTES}.get(name, 2000)
    before: Callable[[], object] = lambda: None  # noqa: E731
    if not mounted:
        before = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # noqa: E731
    code, said = Child(stage.at(stage.calls[name], out), before).end()
    wrong = [f"half file: {path}" for path in halves(out)]
    kept = set(world.files_in(out))
    if mounted:
        subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
    again, said_again = Child(stage.at(stage.calls[name], out)).end()
    lost = kept - set(world.files_in(out))
    wrong += stage.wrong(name, out) + [f"lost: {path}" for path in lost if path in stage.right[name]]
    if mounted:
        subprocess.run(["umount", "-l", str(out)], check=False)  # lazily: this process has the store open
    how = "a small tmpfs" if mounted else "a limit of file size"
    return Outcome(f"{name}-full", how, [code, again], [said, said_again], wrong)


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
                if passed == 3:
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


def held(stage: Stage, name: str) -> Outcome:
    """A slide, or a build folder, that another process holds."""
    if name == "tile":
        out = stage.folder / "held"
        handle = take_lock(out, "section1")
        code, said = Child(stage.at([part for part in stage.calls["tile"] if "section2" not in part], out)).end()
        os.close(handle)
        left = [path for path in world.files_in(out) if "section1" not in path]
        return Outcome("tile-held", "a lock held", [code], [said], left)
    with locked_folder(stage.folder / "home" / "build" / "gtex-demo"):
        code, said = Child(["book", "--cohort", "gtex", "--pages", "02"]).end()
    return Outcome("book-held", "a lock held", [code], [said], sorted(world.files_in(stage.folder / "home")))


def all_outcomes(stage: Stage) -> list[Callable[[], Outcome]]:
    """Return every situation, to be called in turn."""
    names = list(stage.calls)
    made: list[Callable[[], Outcome]] = []
    made += [lambda name=name: no_permission(stage, name) for name in names]  # type: ignore[misc]
    inputs = {"fetch": "mirror/two", "tile": "section1.png", "generate": "profiles.h5ad",
              "generate-profiles": "clinical.csv", "form": "rate/a/0.png", "analyse": "bob.csv"}  # fmt: skip
    made += [lambda name=name, part=part: unreadable(stage, name, part) for name, part in inputs.items()]  # type: ignore[misc]
    made += [lambda name=name: full_disk(stage, name) for name in names]  # type: ignore[misc]
    made += [lambda name=name: interrupted(stage, name) for name in ("tile", "train", "generate")]  # type: ignore[misc]
    made += [lambda name=name: at_once(stage, name) for name in ("fetch", "train", "generate")]  # type: ignore[misc]
    made += [lambda name=name: held(stage, name) for name in ("tile", "book")]  # type: ignore[misc]
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
