"""A fair race: what may differ is the input alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rnasynth.data.cohort import Cohort
from rnasynth.engine import system_class
from rnasynth.errors import InputError
from rnasynth.evaluation.race.arms import ARMS, GAN, NARROW, RNA, check_fair, settings, train_arms
from rnasynth.runs import Run
from tests.evaluation.race.conftest import STEPS, TINY


def standing_in(run: Run, **changes: Any) -> Any:
    """A run with another configuration."""
    train = {name[6:]: value for name, value in changes.items() if name.startswith("train_")}
    own = {name: value for name, value in changes.items() if not name.startswith("train_")}
    config = dataclasses.replace(run.config, **own, train=dataclasses.replace(run.config.train, **train))
    return SimpleNamespace(config=config, description=run.description)


def test_every_arm_has_its_runs_by_seed_with_snapshots(race_runs: dict[str, list[Run]]) -> None:
    assert list(race_runs) == [GAN, NARROW, RNA]
    for arm in ARMS:
        assert [run.config.train.seed for run in race_runs[arm.name]] == [0, 1]
        for run in race_runs[arm.name]:
            assert run.system_name == arm.system and run.snapshots() == [2, 4, STEPS]


def test_all_arms_start_from_the_same_critic_and_see_the_same_tiles(
    race_cohort: Cohort, race_runs: dict[str, list[Run]]
) -> None:
    kinds = {name: several[1] for name, several in race_runs.items()}
    shapes = {
        name: {key: tensor.shape for key, tensor in run.networks(ema=False)["critic"].items()} for name, run in kinds.items()
    }
    assert shapes[GAN] == shapes[NARROW] == shapes[RNA]  # no head or projection that only one arm has
    first = {
        name: system_class(run.system_name)
        .from_cohort(run.config, race_cohort, run.upstream())
        .dataset(race_cohort, "train")
        .fetch([3, 5])["tile"]  # type: ignore[arg-type]
        for name, run in kinds.items()
    }
    assert torch.equal(first[GAN], first[RNA]) and torch.equal(first[GAN], first[NARROW])


def test_rna_gan_alone_is_told_the_latent_and_nothing_but_the_narrow_noise_beside_it(
    race_runs: dict[str, list[Run]],
) -> None:
    told = race_runs[RNA][0].load().system
    assert told.condition_dim > 0 and told.input_dim == told.condition_dim
    assert all(race_runs[name][0].load().system.condition_dim == 0 for name in (GAN, NARROW))


@pytest.mark.parametrize(
    "change",
    [
        {"lr_critic": 1e-4},
        {"matching_weight": 3.0},
        {"upsample": "transposed"},
        {"colour_jitter": 0.2},
        {"train_steps": 7},
        {"train_batch_size": 8},
        {"train_grad_clip": 1.0},
    ],
)
def test_any_other_difference_is_refused(race_runs: dict[str, list[Run]], change: dict[str, Any]) -> None:
    check_fair(race_runs)
    unfair = {**race_runs, RNA: [race_runs[RNA][0], standing_in(race_runs[RNA][1], **change)]}
    with pytest.raises(InputError, match=next(iter(change)).removeprefix("train_")):
        check_fair(unfair)


def test_other_seeds_or_another_cohort_are_refused(race_runs: dict[str, list[Run]]) -> None:
    with pytest.raises(InputError, match="seeds"):
        check_fair({GAN: race_runs[GAN], RNA: race_runs[RNA][:1]})
    other = SimpleNamespace(config=race_runs[RNA][1].config, description={"cohort": {"fingerprint": "another"}})
    with pytest.raises(InputError, match="cohort"):
        check_fair({GAN: race_runs[GAN], RNA: [race_runs[RNA][0], other]})  # type: ignore[list-item]


def test_how_a_training_is_executed_may_differ(race_runs: dict[str, list[Run]]) -> None:
    check_fair({**race_runs, RNA: [standing_in(run, train_log_every=7, train_snapshot_every=1) for run in race_runs[RNA]]})


def test_a_second_race_finds_the_runs(race_cohort: Cohort, race_runs: dict[str, list[Run]], race_folder: Path) -> None:
    again = train_arms(
        race_cohort, "demo", arms=ARMS[:1], seeds=(0,), steps=STEPS, snapshots=3, changes=TINY, folder=race_folder
    )
    assert again[GAN][0].id == race_runs[GAN][0].id


@pytest.mark.parametrize("preset", ["demo", "gpu"])
@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.system)
def test_the_settings_fit_every_arm_and_give_no_critic_the_profile(preset: str, arm: Any) -> None:
    config = system_class(arm.system).preset(preset).with_overrides(settings(preset, seed=4))
    assert config.condition_critic == "none" and config.matching_weight == 0 and config.lr_decay == 0
    assert config.extra_noise == 0 and config.train.seed == 4 and config.train.snapshot_every > 0


def test_a_preset_of_epochs_needs_its_steps() -> None:
    with pytest.raises(InputError, match="steps"):
        settings("paper", seed=0)
    config = system_class("gan").preset("paper").with_overrides(settings("paper", seed=0, steps=60, snapshots=4))
    assert config.train.steps == 60 and config.train.epochs is None and config.train.snapshot_every == 15


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_no_or_double_seeds_are_errors(race_cohort: Cohort, race_folder: Path, seeds: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="seeds"):
        train_arms(race_cohort, "demo", seeds=seeds, folder=race_folder)
