"""Signs that a training has left what it can come back from, though every number of it is still finite.

A system names them (`System.alarms`), the engine looks at each line of metrics.jsonl: a number far above its own running
median, or below a floor, for so many steps in a row. What was seen is part of the checkpoint, so that a resumed training
stops where an uninterrupted one does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rnasynth.errors import DivergedError

BINS_PER_DOUBLING = 8  # of the histogram that the running median is taken from: a bin is 9 % wide
SMALLEST = 1e-12  # what counts as nothing there


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """One sign; exactly one of `times_median` and `floor` is given.

    Parameters
    ----------
    metric : a number of metrics.jsonl, e.g. "critic_wasserstein"; its magnitude is looked at.
    what : what it is, for the message.
    times_median : rings above so many times the running median of what was seen before.
    floor : rings below this.
    steps : steps in a row after which it stops the training.
    earliest : steps that are not looked at, and from which a median is taken first: a start settles.
    fix : what to change.
    """

    metric: str
    what: str
    times_median: float | None = None
    floor: float | None = None
    steps: int
    earliest: int = 0
    fix: str

    def __post_init__(self) -> None:
        if (self.times_median is None) == (self.floor is None):
            raise ValueError("an alarm has times_median or floor, one of them")


@dataclass
class Watched:
    """What one alarm has seen: a histogram of magnitudes by log2, and since when it rings."""

    histogram: dict[int, int] = field(default_factory=dict)
    since: int | None = None  # the last step before it began to ring

    def median(self) -> float:
        """Return the median magnitude to a bin's width; 0 where nothing was seen."""
        wanted, passed = sum(self.histogram.values()) / 2, 0
        for number in sorted(self.histogram):
            passed += self.histogram[number]
            if passed >= wanted:
                return float(2 ** ((number + 0.5) / BINS_PER_DOUBLING))
        return 0.0

    def count(self, magnitude: float) -> None:
        """Add one to the histogram."""
        number = math.floor(BINS_PER_DOUBLING * math.log2(max(magnitude, SMALLEST)))
        self.histogram[number] = self.histogram.get(number, 0) + 1


class Alarms:
    """The alarms of one training and what they have seen."""

    def __init__(self, alarms: Sequence[Alarm]) -> None:
        self.alarms = tuple(alarms)
        self.watched = {alarm.metric: Watched() for alarm in self.alarms}
        self.before = 0  # step of the line before

    @property
    def ringing_since(self) -> int | None:
        """The last step before the first of the alarms that ring now; None where none does."""
        return min((seen.since for seen in self.watched.values() if seen.since is not None), default=None)

    def look(self, name: str, line: Mapping[str, float | None], last_good: str) -> None:
        """Look at a line of metrics.jsonl.

        Parameters
        ----------
        name : the system's, for the message.
        line : "step" and numbers by name; one that it does not have is not looked at.
        last_good : where the last checkpoint before the trouble is.

        Raises
        ------
        DivergedError : an alarm has rung for all its steps.
        """
        step = int(line["step"] or 0)
        for alarm in self.alarms:
            value, seen = line.get(alarm.metric), self.watched[alarm.metric]
            if value is None or not math.isfinite(value):
                continue
            magnitude, median = abs(value), seen.median()
            limit = alarm.floor if alarm.times_median is None else alarm.times_median * median
            assert limit is not None
            rings = step > alarm.earliest and (magnitude < limit if alarm.floor is not None else 0 < limit < magnitude)
            if not rings:
                seen.since = None
                seen.count(magnitude)
                continue
            seen.since = self.before if seen.since is None else seen.since
            if step - seen.since >= alarm.steps:
                said = (
                    f"at least {alarm.floor:g}"
                    if alarm.floor is not None
                    else f"at most {alarm.times_median:g} times the {median:.3g} that it was so far"
                )
                raise DivergedError(
                    f"{name}, step {step}",
                    expected=f"{alarm.what} of {said}",
                    found=f"{magnitude:.3g}, and beyond that limit since step {seen.since + 1}",
                    fix=f"{last_good}; {alarm.fix}",
                )
        self.before = step

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain JSON types."""
        watched = {
            metric: {"since": seen.since, "histogram": {str(bin): n for bin, n in sorted(seen.histogram.items())}}
            for metric, seen in self.watched.items()
        }
        return {"before": self.before, "watched": watched}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state from `to_dict`; of alarms that were not there then nothing is known."""
        self.before = int(state["before"])
        for metric, seen in state["watched"].items():
            if metric in self.watched:
                histogram = {int(number): int(n) for number, n in seen["histogram"].items()}
                self.watched[metric] = Watched(histogram, seen["since"])
