"""Crashes of the tiling command, injected in forked processes: the engine of test_tiles_crash.py.

Run as `python -m tests.data.tile_storm points|kills FOLDER [--rounds N] [--variant NAME]`; prints one JSON object a round.
It runs in a process of its own because it forks: everything is imported once, nothing computes before the forks.

A *point* is the moment before or after each os.fsync, os.replace, os.rename and LMDB commit of the command.
"""

from __future__ import annotations

import argparse
import functools
import json
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnasynth.data import tile_writer
from rnasynth.data.tile_writer import COMMIT_EVERY, TileWriter, begun
from rnasynth.data.tiles import POINTER, TileStore
from rnasynth.data.tiling import tile_slides
from rnasynth.data.tissue import TileConfig
from tests.data.sections import draw_section

CRASHED = 77
CONFIG = TileConfig(tile_px=16, mpp_um=0.5)
_shared = mmap.mmap(-1, 16)  # position reached by the writer and points passed; survives the crash of a child


def command(slides: list[Path], store: Path) -> None:
    """Tile the slides: the command that is disturbed."""
    tile_slides(slides, store, CONFIG, slide_mpp=0.5, progress=False)


def in_child(work: Callable[[], None], *, crash_at: int | None = None, kill_after_s: float | None = None) -> int:
    """Run `work` in a forked child; return 0, CRASHED, or minus the signal that ended it."""
    _shared[:16] = bytes(16)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _instrument(crash_at)
            work()
            code = 0
        finally:
            if code:
                import traceback

                traceback.print_exc()
            os._exit(code)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _instrument(crash_at: int | None) -> None:
    def point() -> None:
        passed = struct.unpack("q", _shared[8:16])[0]
        if passed == crash_at:
            os._exit(CRASHED)
        _shared[8:16] = struct.pack("q", passed + 1)

    def around(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def wrapped(*args: Any, **options: Any) -> Any:
            point()
            result = call(*args, **options)
            point()
            return result

        return wrapped

    for name in ("fsync", "replace", "rename"):
        setattr(os, name, around(getattr(os, name)))
    tile_writer._commit = around(tile_writer._commit)
    advance = TileWriter._advance

    def recorded(self: TileWriter, position: int) -> None:
        _shared[:8] = struct.pack("q", position)
        advance(self, position)

    TileWriter._advance = recorded  # type: ignore[method-assign]


def break_position() -> None:
    """Variant that must fail: the position is committed before the tiles instead of with them."""
    whole = tile_writer.TileWriter.commit

    def commit(self: TileWriter) -> None:
        assert self._env is not None
        state = self._state | {"position": self.position, "tiles": self.kept, "dropped": self.dropped}
        tile_writer._commit(self._env, [(b"state", json.dumps(state).encode())])
        whole(self)

    tile_writer.TileWriter.commit = commit  # type: ignore[method-assign]


def disturbed(slides: list[Path], base: Path, store: Path, truth: str, **how: Any) -> dict[str, Any]:
    """One round: a copy of `base` is extended, disturbed, and the same command is run again to its end."""
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(base, store)
    ended = in_child(lambda: command(slides, store), **how)
    reached = struct.unpack("q", _shared[:8])[0]
    state = begun(store, slides[-1].stem)
    committed = reached if (store / slides[-1].stem).exists() else 0 if state is None else state["position"]
    readable = TileStore(store).verify()  # the old index or the new one, never a part
    again = in_child(lambda: command(slides, store))
    return {
        "how": how,
        "ended": ended,
        "rerun": again,
        "lost": reached - committed,
        "readable": bool(readable),
        "equal": again == 0 and TileStore(store).verify() == truth,
        "left_over": [path.name for path in store.rglob("*") if ".tmp" in path.name or ".partial" in path.name],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["points", "kills"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", choices=["position"])
    options = parser.parse_args()
    slides = [draw_section(options.folder / f"s{number}.png", seed=number, size_px=384) for number in range(2)]
    base, whole, store = (options.folder / name for name in ("base", "whole", "store"))
    if in_child(lambda: command(slides[:1], base)):  # a finished store of one slide, to be extended by the other
        sys.exit("the undisturbed command failed")
    shutil.copytree(base, whole)
    start = time.perf_counter()
    if in_child(lambda: command(slides, whole)):
        sys.exit("the undisturbed command failed")
    seconds = time.perf_counter() - start
    points = struct.unpack("q", _shared[8:16])[0]
    truth = TileStore(whole).verify()
    assert (base / POINTER).exists() and truth != TileStore(base).verify() and COMMIT_EVERY == 256
    if options.variant == "position":
        break_position()
        points += 6
    rng = random.Random(options.seed)
    if options.kind == "points":
        rounds: list[dict[str, Any]] = [{"crash_at": number} for number in range(points)]
    else:
        rounds = [{"kill_after_s": rng.uniform(0, 1.1 * seconds)} for _ in range(options.rounds)]
    for how in rounds:
        one = disturbed(slides, base, store, truth, **how)
        print(json.dumps(one), flush=True)
        if options.variant and not one["equal"]:
            break  # found


if __name__ == "__main__":
    main()
