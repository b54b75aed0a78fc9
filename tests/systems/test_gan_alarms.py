"""The GANs' own alarms: a critic that runs away, tiles of one colour; never on what stored trainings look like."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rnasynth.data.cohort import Cohort
from rnasynth.engine import Alarm, TrainConfig, seeded, train
from rnasynth.errors import DivergedError
from rnasynth.nets.dcgan import pixel_spread
from rnasynth.systems.gan import ALARMS, PlainGAN
from tests.systems.gan_cohort import small_config


def quick(alarm: Alarm) -> Alarm:
    return dataclasses.replace(alarm, steps=8, earliest=4)


def trained(cohort: Cohort, folder: Path, steps: int = 30, *, break_at: int | None = None, how: str = "") -> None:
    """Train a few steps; from `break_at` on the critic's scores are multiplied, or the generator paints one colour."""
    train_config = TrainConfig(steps=steps, batch_size=8, checkpoint_every=5, validate_every=0)
    config = small_config(critic_steps=1, train=train_config, ema_decay=0.9)
    with seeded("alarm", 0):
        system = PlainGAN.from_cohort(config, cohort)
    system.alarms = lambda: tuple(quick(alarm) for alarm in ALARMS)

    def spoil(step: int, current: object) -> None:
        if step == break_at:
            critic, generator = system.networks["critic"], system.networks["generator"]
            with torch.no_grad():
                if how == "explodes":
                    critic.score.weight *= 3000.0
                else:
                    last: Any = generator.blocks[-1]
                    last.weight.zero_()
                    last.bias.fill_(5.0)  # tanh is flat there: no way back

    train(system, system.dataset(cohort, "train"), config.train, folder=folder, progress=False, on_step=spoil)


def test_an_ordinary_training_rings_none(gan_cohort: Cohort, tmp_path: Path) -> None:
    trained(gan_cohort, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert min(line["critic_spread"] for line in lines) > 0.1


def test_a_critic_that_runs_away_stops_the_training(gan_cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"a distance of the critic.*since step 16.*step-000000015.*penalty_weight"):
        trained(gan_cohort, tmp_path, break_at=15, how="explodes")


def test_tiles_of_one_colour_stop_the_training(gan_cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"a spread of the pixels.*since step 16.*step-000000015.*one colour"):
        trained(gan_cohort, tmp_path, break_at=15, how="one colour")


def test_spread_is_the_deviation_of_a_tiles_own_pixels() -> None:
    colours = torch.rand(4, 3, 1, 1).expand(4, 3, 32, 32)  # four tiles, each of another one colour
    assert float(pixel_spread(colours)) == pytest.approx(0.0, abs=1e-6)
    assert float(colours.std()) > 0.1  # the broken variant: the deviation over the whole batch
    noise = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert float(pixel_spread(noise)) == pytest.approx(1.0, rel=0.05)
