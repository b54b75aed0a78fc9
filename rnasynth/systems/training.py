"""From a system's name and a preset to a finished run, its upstream runs included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rnasynth.config import check_preset
from rnasynth.data.cohort import Cohort
from rnasynth.engine import SYSTEMS, system_class
from rnasynth.errors import InputError, RunError
from rnasynth.runs import Run, get_or_train, load_run
from rnasynth.runs.run import groups_seen, run_places


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
    kinds: Sequence[str] = (),
    folder: str | Path | None = None,
    progress: bool = True,
) -> Run:
    """Find the run of a system's preset on a cohort, or train it; runs that it builds on come first, in their preset for it.

    Parameters
    ----------
    system_name : as registered, e.g. "rna-gan"; or the name of a finished run, such as released weights, which is taken as
        it is.
    cohort : with its splits.
    preset : "demo", "gpu" or "paper".
    overrides : texts "field=value" (nested: "train.seed=1") that change this system's configuration, not its upstream's.
    kinds : systems of which one is asked for, the usual one first; none: any.
    folder : where runs lie; None: the runs folder.
    progress : show progress bars.

    Raises
    ------
    InputError : unknown system, preset or field, or a system or named run that is none of `kinds`.
    RunError, SplitError, DivergedError : see `runs.get_or_train`.
    RunError : a named run learned from another cohort, or with other splits, or was made with other settings than the
        overrides say.
    """
    if not isinstance(cohort, Cohort):
        raise InputError(f"cohort {cohort!r}", expected="a loaded cohort", found="a name", fix="load_cohort(NAME)")
    if system_name not in SYSTEMS and any(place.is_dir() for place in run_places(system_name)):
        run = _finished(system_name, cohort, overrides)
        _check_kind(system_name, run.system_name, kinds)
        return run
    kind = system_class(system_name)
    _check_kind(system_name, system_name, kinds)
    config = kind.preset(preset).with_overrides(list(overrides))
    below = kind.upstream_preset(preset)
    upstream = [train_preset(name, cohort, below, folder=folder, progress=progress) for name in kind.upstream]
    return get_or_train(system_name, config, cohort, upstream=upstream, folder=folder, progress=progress)


def _check_kind(name: str, system_name: str, kinds: Sequence[str]) -> None:
    """Raise InputError where a system, or a run of one, is not what is asked for."""
    if kinds and system_name not in kinds:
        raise InputError(
            name if name == system_name else f"run {name}",
            expected=f"{' or '.join(kinds)}, or a finished run of {'it' if len(kinds) == 1 else 'one'}",
            found=system_name,
            fix=f"give {kinds[0]}",
        )


def _finished(name: str, cohort: Cohort, overrides: Sequence[str]) -> Run:
    """Open a run by its name, and assert that it may be looked at with this cohort's test patients."""
    run = load_run(name)
    learned, obs = run.description["cohort"], cohort.profiles.obs
    seen = groups_seen(run, cohort)
    if seen is None or seen & set(obs["split_group"][obs["split"] == "test"].astype(str)):
        raise RunError(
            f"run {name}",
            expected=f"one that learned from cohort {cohort.name} {cohort.fingerprint()} with its splits",
            found=f"cohort {learned['name']} {learned['fingerprint']}",
            fix="what is tested here may be what it learned from: train the system on this cohort",
        )
    if run.config.with_overrides(list(overrides)) != run.config:
        raise RunError(
            f"run {name}", expected=f"one trained with {', '.join(overrides)}", found="other settings", fix="ask for its own"
        )
    return run
