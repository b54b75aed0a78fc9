"""From a system's name and a preset to a finished run, its upstream runs included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rnasynth.config import check_preset
from rnasynth.data.cohort import Cohort
from rnasynth.engine import system_class
from rnasynth.runs import Run, get_or_train


def check_training(system_name: str, preset: str, overrides: Sequence[str] = ()) -> None:
    """Raise where a call of `train_preset` is wrong by itself, before a cohort is loaded or built for it.

    Raises
    ------
    InputError : unknown system, preset or field, or a value of the wrong type.
    """
    system_class(system_name).preset(check_preset(preset)).with_overrides(list(overrides))


def train_preset(
    system_name: str,
    cohort: Cohort,
    preset: str,
    *,
    overrides: Sequence[str] = (),
    folder: str | Path | None = None,
    progress: bool = True,
) -> Run:
    """Find the run of a system's preset on a cohort, or train it; runs that it builds on come first, in their preset for it.

    Parameters
    ----------
    system_name : as registered, e.g. "rna-gan".
    cohort : with its splits.
    preset : "demo", "gpu" or "paper".
    overrides : texts "field=value" (nested: "train.seed=1") that change this system's configuration, not its upstream's.
    folder : where runs lie; None: the runs folder.
    progress : show progress bars.

    Raises
    ------
    InputError : unknown system, preset or field. RunError, SplitError, DivergedError : see `runs.get_or_train`.
    """
    kind = system_class(system_name)
    config = kind.preset(preset).with_overrides(list(overrides))
    below = kind.upstream_preset(preset)
    upstream = [train_preset(name, cohort, below, folder=folder, progress=progress) for name in kind.upstream]
    return get_or_train(system_name, config, cohort, upstream=upstream, folder=folder, progress=progress)
