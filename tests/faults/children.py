"""One call of the command line in a forked process: as another user, on a small disk, and what it ends with."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rnasynth import cli
from rnasynth.files import TEMPORARY_SUFFIX

NOBODY = 65534


@dataclass
class Outcome:
    """What a situation showed: exit codes and words of its calls, and what was wrong with what they left."""

    name: str
    how: str
    codes: list[int]
    said: list[str]
    wrong: list[str]


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


def halves(out: Path) -> list[str]:
    """Temporary files that were left."""
    return [str(path) for path in out.rglob(f".*{TEMPORARY_SUFFIX}*") if path.is_file()]


def expect(what: str, found: object, expected: object) -> list[str]:
    """Say what is wrong, if it is."""
    return [] if found == expected else [f"{what}: {found}, expected {expected}"]


def other_user() -> None:
    """Give up what root may do; for `before`."""
    if os.getuid() == 0:
        os.setuid(NOBODY)


@dataclass
class SmallDisk:
    """How a folder was made small: a file system of its own, or a limit on the size of each file.

    Attributes
    ----------
    folder : the folder.
    mounted : whether it is a file system of its own.
    limit_bytes : of each file, where it is not.
    """

    folder: Path
    mounted: bool
    limit_bytes: int

    @property
    def how(self) -> str:
        """Return how, for a reader."""
        return "a small tmpfs" if self.mounted else "a limit of file size"

    def limit(self) -> None:
        """Limit the size of a file where no disk was mounted; for `before`."""
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit_bytes, self.limit_bytes))

    def grow(self) -> None:
        """Give it room."""
        if self.mounted:
            subprocess.run(["mount", "-o", "remount,size=64m", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path, room: str, limit_bytes: int) -> Iterator[SmallDisk]:
    """Make a new folder a disk of `room`, such as "300k"; where none can be mounted, files are limited instead."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(folder)]
    mounted = os.getuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield SmallDisk(folder, mounted, limit_bytes)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)  # lazily: this process has a store open
