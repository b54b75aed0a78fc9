"""What every benchmark shares: interleaved timing, peak memory, and the table."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from rnasynth.engine import System, TrainConfig


class Row(TypedDict):
    """One comparison of a benchmark."""

    name: str  # what is done
    ours: float  # our number, in `unit`
    alternative: float  # the same for what a user would pick instead
    ratio: float  # how many times better we are: above 1 is better, whatever the unit
    unit: str  # for instance "tiles/s" (more is better) or "s" (less is better)
    target: float  # the ratio asked for; 0 where none is
    note: str  # what the alternative is


def interleaved(
    ours: Callable[[], Any], other: Callable[[], Any], repeats: int = 5, *, warm_up: bool = True
) -> tuple[float, float]:
    """Median seconds of two calls that take turns: ours, other, other, ours, ours, ...

    Parameters
    ----------
    ours, other : calls to time; what they return is dropped.
    repeats : times that each is timed, at least 1.
    warm_up : call each once before, untimed (caches, imports, compiled code).

    Returns
    -------
    (median of ours, median of other), seconds.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, found {repeats}")
    calls = (ours, other)
    if warm_up:
        for call in calls:
            call()
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            start = time.perf_counter()
            calls[which]()
            seconds[which].append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


class _Enough(Exception):
    """Ends the engine's training before its last checkpoint."""


def engine_steps(
    system: System, data: Any, config: TrainConfig, *, warm_up: int, steps: int
) -> tuple[list[float], list[dict[str, Any]]]:
    """Train by the engine and time its steps, without its start, the steps that warm up, and its last checkpoint.

    Parameters
    ----------
    system, data, config : as `rnasynth.engine.train` takes them; `config` must ask for more than `warm_up + steps` steps.
    warm_up, steps : steps before the first that counts, at least 1, and steps that count.

    Returns
    -------
    Processor seconds, over all threads, of each step that counts, and the lines of metrics of all steps.
    """
    from rnasynth.engine import train  # here: benchmarks that train nothing do not pay for it

    marks: list[float] = []

    def on_step(step: int, _: System) -> None:
        marks.append(time.process_time())
        if step == warm_up + steps:
            raise _Enough

    with tempfile.TemporaryDirectory() as folder:
        with suppress(_Enough):
            train(system, data, config, folder=folder, progress=False, on_step=on_step)
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [after - before for before, after in zip(marks[warm_up - 1 :], marks[warm_up:], strict=False)], lines


def throughput_row(
    name: str, n: int, seconds: tuple[float, float], *, target: float, note: str, unit: str = "tiles/s"
) -> Row:
    """Row in things per second (more is better) from the seconds that `n` things took, (ours, alternative)."""
    ours, other = seconds
    return Row(name=name, ours=n / ours, alternative=n / other, ratio=other / ours, unit=unit, target=target, note=note)


def seconds_row(name: str, seconds: tuple[float, float], *, target: float, note: str) -> Row:
    """Row in seconds (less is better), (ours, alternative)."""
    ours, other = seconds
    return Row(name=name, ours=ours, alternative=other, ratio=other / ours, unit="s", target=target, note=note)


def limit_row(name: str, value: float, limit: float, *, unit: str, note: str = "the limit") -> Row:
    """Row of a value (less is better) beside the limit that it must not pass."""
    return Row(name=name, ours=value, alternative=limit, ratio=limit / max(value, 1e-9), unit=unit, target=1.0, note=note)


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far, MB (1e6 bytes); run what is measured in a process of its own."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: unlike `ru_maxrss`, VmHWM (kB of 1024 bytes) does not begin at the parent's peak
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def print_table(rows: Iterable[Row]) -> None:
    """Print rows as a table, a target that was missed marked."""
    print(f"{'what':<52} {'ours':>10} {'other':>10} {'unit':<9} {'ratio':>6} {'target':>6}  against")
    for row in rows:
        missed = "  MISSED" if row["target"] and row["ratio"] < row["target"] else ""
        print(
            f"{row['name']:<52} {row['ours']:>10.4g} {row['alternative']:>10.4g} {row['unit']:<9} "
            f"{row['ratio']:>6.2f} {row['target'] or '':>6}  {row['note']}{missed}"
        )
