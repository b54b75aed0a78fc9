"""What every benchmark shares: interleaved timing, peak memory, and the table."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypedDict


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
