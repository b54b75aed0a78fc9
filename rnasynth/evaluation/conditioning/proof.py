"""What the proof of conditioning found, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import pandas as pd

from rnasynth.evaluation.stats import Interval

NAMES = {
    "shuffled": "another profile of the tissue",
    "mean_profile": "the tissue's mean profile",
    "label": "the label alone",
}


@dataclass(frozen=True)
class ConditioningProof:
    """What was found; distances are energy distances of standardised features (0: the same tiles), by patient.

    Parameters
    ----------
    network : the feature network's name.
    n_samples, n_patients, tiles_per_profile : how much stands behind the numbers.
    unit : what the intervals resample, see `stats.resampling_units`.
    own : distance from tiles made from a patient's own profile to the patient's real tiles.
    shuffled : the same, made from other held-out profiles of the same tissue (the mean over all of them).
    mean_profile : made from the mean training profile of the tissue; None where not asked.
    label : made by the generator that is given only the tissue; None where not asked.
    gain_over_shuffled, gain_over_mean, gain_over_label : that distance minus `own`, paired by patient; > 0 speaks for RNA.
    retrieval_rank : share of the same tissue's other held-out patients that lie farther from the tiles made from a profile
        than the right patient does; 1 is perfect, 0.5 is chance.
    retrieval_top1, top1_chance : share of patients found first among their tissue, and what chance gives.
    retrieval_p : permutation within tissue of the rank, one-sided.
    label_retrieval_rank : the same rank for the label's generator, which has nothing to go by: a check of the measure.
    tissue_accuracy : share of profiles whose tiles lie nearest to the right tissue's real tiles.
    per_sample : one row a sample, with everything above before averaging.
    """

    network: str
    n_samples: int
    n_patients: int
    unit: str
    tiles_per_profile: int
    own: Interval
    shuffled: Interval
    mean_profile: Interval | None
    label: Interval | None
    gain_over_shuffled: Interval
    gain_over_mean: Interval | None
    gain_over_label: Interval | None
    retrieval_rank: Interval
    retrieval_top1: Interval
    top1_chance: float
    retrieval_p: float
    label_retrieval_rank: Interval | None
    tissue_accuracy: Interval
    per_sample: pd.DataFrame = field(compare=False, repr=False)

    @property
    def n_groups(self) -> int:
        """How many units the intervals count."""
        return self.own.n

    @property
    def numbers(self) -> dict[str, Interval]:
        """Every measured interval by name."""
        return {item.name: value for item in fields(self) if isinstance(value := getattr(self, item.name), Interval)}

    @property
    def differences(self) -> pd.DataFrame:
        """One row a replacement of the own profile: label, value, low, high; > 0 speaks for RNA."""
        gains = {"shuffled": self.gain_over_shuffled, "mean_profile": self.gain_over_mean, "label": self.gain_over_label}
        return _rows({NAMES[name]: gain for name, gain in gains.items()})

    @property
    def retrieval(self) -> pd.DataFrame:
        """One row a generator: label, value, low, high of the rank within tissue (chance 0.5)."""
        return _rows({"RNA profile": self.retrieval_rank, "label only": self.label_retrieval_rank})

    @property
    def beats_shuffled(self) -> bool:
        """Whether the own profile beats other profiles of the same tissue: the interval of the gain excludes 0."""
        return _above(self.gain_over_shuffled, 0.0)

    @property
    def beats_mean(self) -> bool | None:
        """Whether the own profile beats the tissue's mean profile; None where not measured."""
        return None if self.gain_over_mean is None else _above(self.gain_over_mean, 0.0)

    @property
    def beats_label(self) -> bool | None:
        """Whether conditioning beats the label; None where not measured."""
        return None if self.gain_over_label is None else _above(self.gain_over_label, 0.0) and not self.control_broke_down

    @property
    def control_broke_down(self) -> bool:
        """Whether the label's tiles lie more than twice as far from real ones as the own profile's and the mean profile's:
        such a control failed in training, and beating it proves nothing."""
        rivals = [self.own.value, *([self.mean_profile.value] if self.mean_profile is not None else [])]
        return self.label is not None and self.label.value > 2 * max(*rivals, 0.0)

    @property
    def retrieves(self) -> bool:
        """Whether retrieval within tissue is above chance: the interval of the rank excludes 0.5."""
        return _above(self.retrieval_rank, 0.5)

    def verdict(self) -> str:
        """Say in one sentence what the intervals allow, and no more."""
        if not math.isfinite(self.gain_over_shuffled.low):
            return f"Not decided: {self.n_groups} {self.unit} give no interval."
        told = [
            "the profile reaches the tile"
            if self.beats_shuffled and self.retrieves
            else "it is not shown that more than the tissue reaches the tile"
        ]
        told.append(f"retrieval within tissue {self.retrieval_rank} (chance 0.5)")
        for name, gain, wins in (
            ("shuffled profiles of the same tissue", self.gain_over_shuffled, self.beats_shuffled),
            ("the tissue's mean profile", self.gain_over_mean, self.beats_mean),
            ("the tissue label", self.gain_over_label, self.beats_label),
        ):
            if gain is not None:
                told.append(f"{'beats' if wins else 'does not beat'} {name} ({gain})")
        words = ("" if self.n_patients > 1 else "within one split group alone, ") + "; ".join(told) + "."
        return words[0].upper() + words[1:]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: intervals as dicts, the four claims, the verdict; without the table."""
        values: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name != "per_sample":
                values[item.name] = value.to_dict() if isinstance(value, Interval) else value
        claims = {name: getattr(self, name) for name in ("beats_shuffled", "beats_mean", "beats_label", "retrieves")}
        return {**values, **claims, "verdict": self.verdict()}


def _rows(intervals: Mapping[str, Interval | None]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"label": name, "value": i.value, "low": i.low, "high": i.high} for name, i in intervals.items() if i is not None],
        columns=["label", "value", "low", "high"],
    )


def _above(interval: Interval, threshold: float) -> bool:
    return bool(math.isfinite(interval.low) and interval.low > threshold)
