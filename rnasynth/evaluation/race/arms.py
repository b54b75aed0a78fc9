"""The arms of the race, and their short trainings: the same in everything but what the generator is fed.

RNA-GAN's authors compare epochs of two trainings that also differ in weight clipping (their released code clips the plain
GAN's critic and not RNA-GAN's). Here all settings are one list, and runs that differ in anything but the seed are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnasynth.data.cohort import Cohort
from rnasynth.engine import system_class
from rnasynth.errors import InputError
from rnasynth.runs import Run
from rnasynth.systems.training import train_preset


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to feed the generator."""

    name: str
    """What stands in figures."""
    system: str
    """The registered system."""
    fed: str
    """Its input, in words."""


GAN = "GAN"
NARROW = "Narrow-noise GAN"
RNA = "RNA-GAN"
ARMS = (
    Arm(name=GAN, system="gan", fed="Gaussian noise"),
    Arm(name=NARROW, system="gan-narrow", fed="uniform noise in [-0.3, 0.3]"),
    Arm(name=RNA, system="rna-gan", fed="the latent of the profile, plus uniform noise in [-0.3, 0.3]"),
)
# What only one arm could have, a critic that sees the profile; Gaussian noise beside RNA-GAN's published input; and a rate
# that falls with the planned length, which would make a short run another training than the beginning of a long one.
FAIR = ("condition_critic=none", "matching_weight=0", "extra_noise=0", "lr_decay=0")
# `demo` of the systems takes a minute and a half a run; nine runs have to be shorter. Chosen by the plain GAN's Frechet
# distance to simulated test tiles of seed 0, among seven trials of 300 steps, so if for anyone, for it: judge it on another
# seed. With beta1 = 0.5 they swing.
SHORT = (
    "width_generator=12",
    "width_critic=16",
    "lr_generator=2e-3",
    "lr_critic=4e-3",
    "beta1=0.0",
    "ema_decay=0.95",
    "train.batch_size=16",
    "train.log_every=50",
)
DEMO_STEPS = 200


def settings(preset: str, *, seed: int, steps: int = 0, snapshots: int = 5) -> list[str]:
    """Return the changes to a preset that all arms share, as texts "field=value".

    Parameters
    ----------
    preset : "demo" is made much shorter and narrower; others keep their size.
    steps : of training; 0: the preset's own (`demo`: 200).
    snapshots : points of the curve, at equal distances up to the last step.

    Raises
    ------
    InputError : no snapshot, or 0 steps of a preset that counts epochs (`paper`): epochs differ between its systems.
    """
    own = DEMO_STEPS if preset == "demo" else system_class("gan").preset(preset).train.steps
    length = steps or own
    if not length or length < 1 or snapshots < 1:
        fix = "give the steps of every arm" if not length else ""
        raise InputError("race", expected="1 step or more, and 1 snapshot or more", found=f"{steps}, {snapshots}", fix=fix)
    every = max(1, length // snapshots)
    return [
        *FAIR,
        *(SHORT if preset == "demo" else ()),
        f"train.seed={seed}",
        f"train.steps={length}",
        "train.epochs=null",
        f"train.snapshot_every={every}",
    ]


def train_arms(
    cohort: Cohort,
    preset: str,
    *,
    arms: Sequence[Arm] = ARMS,
    seeds: Sequence[int],
    steps: int = 0,
    snapshots: int = 5,
    changes: Sequence[str] = (),
    folder: str | Path | None = None,
    progress: bool = True,
) -> dict[str, list[Run]]:
    """Find or train one run an arm and seed, seed after seed.

    Parameters
    ----------
    steps, snapshots : see `settings`.
    changes : further texts "field=value" for every arm, such as "tiles_per_patient=2".
    folder : where runs lie; None: the runs folder.

    Returns
    -------
    Name of the arm -> its runs, in the order of `seeds`.

    Raises
    ------
    InputError : no seed, or a seed twice. Others: see `systems.training.train_preset`.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError("seeds", expected="one or more, each once", found=str(list(seeds)))
    runs: dict[str, list[Run]] = {arm.name: [] for arm in arms}
    for seed in seeds:
        overrides = [*settings(preset, seed=seed, steps=steps, snapshots=snapshots), *changes]
        for arm in arms:
            runs[arm.name].append(
                train_preset(arm.system, cohort, preset, overrides=overrides, folder=folder, progress=progress)
            )
    check_fair(runs)
    return runs


def check_fair(runs: Mapping[str, Sequence[Run]]) -> None:
    """Make sure that arms differ in their system alone, and runs of one arm in their seed alone.

    Raises
    ------
    InputError : another setting differs, the arms have other seeds, or another cohort was trained on.
    """
    expected: tuple[Any, Any, list[int]] | None = None
    for name, several in runs.items():
        seeds = [int(run.config.train.seed) for run in several]
        for run in several:
            facts = _settings_of(run), run.description["cohort"]["fingerprint"], seeds
            expected = facts if expected is None else expected
            if facts != expected:
                fields = sorted(key for key in facts[0] if facts[0][key] != expected[0].get(key))
                found = ", ".join(fields) or ("another cohort" if facts[1] != expected[1] else "other seeds")
                raise InputError(f"race, {name}", expected="the settings, seeds and cohort of the first arm", found=found)


def _settings_of(run: Run) -> dict[str, Any]:
    """The configuration as flat fields, without the seed and what is execution alone."""
    values = dict(run.config.to_dict())
    training = dict(values.pop("train"))
    kept = ("steps", "epochs", "batch_size", "precision", "grad_clip", "patience")
    return {**values, **{f"train.{key}": training.get(key) for key in kept}}
