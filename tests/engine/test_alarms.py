"""A training that is finite but beyond help stops, says why and where it was still good; an ordinary one never does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rnasynth.engine import Alarm, Noise, TrainConfig, train
from rnasynth.engine.alarms import Alarms
from rnasynth.errors import DivergedError
from tests.engine.toy import Rows, Toy

HIGH = Alarm(metric="auto_pull", what="a pull", times_median=10.0, steps=3, earliest=4, fix="pull less")
LOW = Alarm(metric="auto_pull", what="a pull", floor=0.1, steps=3, fix="pull more")


class Pulled(Toy):
    """Reports a number that is written down for each step."""

    def __init__(self, pulls: list[float], alarm: Alarm) -> None:
        super().__init__(dropout=0.0)
        self.pulls, self.alarm = pulls, alarm

    def alarms(self) -> tuple[Alarm, ...]:
        return (self.alarm,)

    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = super().loss(phase, batch, noise)
        return loss, {**metrics, "pull": torch.tensor(self.pulls[noise.key[1]])}


def run(pulls: list[float], alarm: Alarm, folder: Path | None = None, **changes: Any) -> Pulled:
    config = TrainConfig.from_dict({"steps": len(pulls), "batch_size": 8, "checkpoint_every": 2, **changes})
    system = Pulled(pulls, alarm)
    train(system, Rows(), config, folder=folder, progress=False)
    return system


def test_a_number_that_explodes_stops_the_training_and_names_what_was_good(tmp_path: Path) -> None:
    pulls = [1.0, -2.0, 2.0, -1.0, 2.0, 2.0, 30.0, -40.0, 50.0, 60.0, 70.0, 80.0]
    with pytest.raises(DivergedError) as caught:
        run(pulls, HIGH, tmp_path)
    message = str(caught.value)
    assert "toy, step 9" in message and "a pull of at most 10 times" in message and "since step 7" in message
    assert "step-000000006" in message and "pull less" in message
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-000000004", "step-000000006"]  # none was written over them while it rang
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1])["step"] == 8


def test_what_comes_back_by_itself_is_left_alone() -> None:
    run([1.0, 1.0, 1.0, 1.0, 1.0, 50.0, 50.0, 1.0, 50.0, 50.0, 1.0], HIGH)  # never three in a row
    run([90.0, 90.0, 90.0, 90.0, 1.0, 1.0, 1.0], HIGH)  # a start
    run([0.0, 0.0, 0.0, 0.0, 0.0, 1.0], HIGH)  # nothing before it to compare with but nothing: a bin of 1e-12
    with pytest.raises(DivergedError, match="step 9"):
        run([0.0] * 6 + [1.0] * 3, HIGH)


def test_slow_explosions_are_found_too() -> None:
    """A running mean would follow them; the median of all that was before does not."""
    pulls = [2.0] * 20 + [2.0 * 1.3**step for step in range(30)]
    with pytest.raises(DivergedError):
        run(pulls, HIGH)
    mean, followed = 2.0, True
    for value in pulls:  # the broken variant: compared with an exponential mean that takes everything in
        followed &= value < 10.0 * mean
        mean += 0.1 * (value - mean)
    assert followed


def test_a_number_that_vanishes_stops_the_training() -> None:
    with pytest.raises(DivergedError, match=r"step 5.*at least 0\.1.*since step 3"):
        run([1.0, 1.0, 0.01, 0.0, -0.05, 1.0], LOW)
    run([1.0, 0.0, 0.0, 1.0, 0.0, 0.0], LOW)


def test_a_resumed_training_stops_at_the_same_step(tmp_path: Path) -> None:
    pulls = [1.0] * 8 + [100.0] * 4

    def stop(step: int, system: object) -> None:
        if step == 9:
            raise RuntimeError("cut")

    config = TrainConfig(steps=12, batch_size=8, checkpoint_every=8)
    with pytest.raises(RuntimeError, match="cut"):
        train(Pulled(pulls, HIGH), Rows(), config, folder=tmp_path, progress=False, on_step=stop)
    with pytest.raises(DivergedError, match="toy, step 11"):
        train(Pulled(pulls, HIGH), Rows(), config, folder=tmp_path, progress=False)


def test_the_running_median_is_that_of_all_lines_to_a_bin() -> None:
    values = np.random.default_rng(0).lognormal(1.0, 1.5, 500)
    alarms = Alarms([HIGH])
    for value in values:
        alarms.watched["auto_pull"].count(float(value))
    assert alarms.watched["auto_pull"].median() == pytest.approx(np.median(values), rel=0.1)
    again = Alarms([HIGH])
    again.restore(json.loads(json.dumps(alarms.to_dict())))
    assert again.to_dict() == alarms.to_dict()


def test_an_alarm_has_one_limit() -> None:
    with pytest.raises(ValueError, match="one of them"):
        Alarm(metric="x", what="x", steps=1, fix="")
