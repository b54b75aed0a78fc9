"""Augmentation before the critic and the min-max loss, as options of the GAN systems."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from rnasynth.data.cohort import Cohort
from rnasynth.engine import Noise, TrainConfig, seeded, train
from rnasynth.errors import InputError
from rnasynth.nets.ada import AdaptiveProbability
from rnasynth.runs import run_id
from rnasynth.systems.gan import RNAGAN, GANSystem, PlainGAN
from rnasynth.systems.gan_config import GANConfig
from tests.systems.gan_cohort import Components, small_config

ADA = {"augment_critic": "ada", "ada_images": 64, "ada_target": 0.1}
TRAIN = TrainConfig(steps=6, batch_size=8, checkpoint_every=3, validate_every=0)


def build(kind: type[GANSystem], cohort: Cohort, **changes: Any) -> GANSystem:
    with seeded("test", 0):
        return kind.from_cohort(small_config(**changes), cohort, (Components(cohort),) if kind is RNAGAN else ())


def probability(system: GANSystem) -> float:
    return float(cast(AdaptiveProbability, system.networks["augmentation"]).probability)


def test_options_that_are_off_rename_no_run() -> None:
    before = {name: value for name, value in GANConfig().to_dict().items() if name not in GANConfig.added}
    assert GANConfig.from_dict(before) == GANConfig()
    names = {run_id("gan", GANConfig.from_dict({"augment_critic": kind}), "f00") for kind in ("none", "diffaugment", "ada")}
    names |= {run_id("gan", GANConfig(loss="minmax"), "f00"), run_id("gan", GANConfig(), "f00")}
    assert len(names) == 4


@pytest.mark.parametrize("kind", ["diffaugment", "ada"])
def test_real_and_generated_are_changed_each_tile_by_its_own_draws(kind: str, gan_cohort: Cohort) -> None:
    system = build(PlainGAN, gan_cohort, augment_critic=kind)
    if kind == "ada":
        cast(AdaptiveProbability, system.networks["augmentation"]).probability.fill_(0.8)
    tiles = torch.rand(1, 3, 32, 32).expand(8, 3, 32, 32) * 2 - 1
    real, fake = system.before_critic([tiles, tiles], Noise(0, 0, 0, 8))
    for one, other in ((real[0], real[1]), (real[0], fake[0]), (fake[2], fake[3])):
        assert (one - other).abs().max() > 0.1
    halves = [system.before_critic([tiles[:4]] * 2, Noise(0, 0, 0, 8, rows=rows)) for rows in (slice(0, 4), slice(4, 8))]
    for whole, parts in zip((real, fake), zip(*halves, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(parts), whole)  # two processes change what one changes
    off = build(PlainGAN, gan_cohort)
    assert off.before_critic([tiles], Noise(0, 0, 0, 8))[0] is tiles


@pytest.mark.parametrize("options", [{"augment_critic": "diffaugment"}, ADA, {"loss": "minmax", **ADA}])
def test_training_moves_generator_and_critic(options: dict[str, Any], gan_cohort: Cohort) -> None:
    system = build(RNAGAN, gan_cohort, **options)
    batch = system.dataset(gan_cohort, "train").fetch(np.arange(8))
    for phase in ("critic", "generator"):
        system.zero_grad()
        loss, metrics = system.loss(phase, batch, Noise(0, 0, 0, 8))
        loss.backward()
        assert torch.isfinite(loss) and ("ada_probability" in metrics) == (phase == "critic" and "ada_images" in options)
        for name, parameter in system.networks[phase].named_parameters():
            if name != "score.bias":
                assert parameter.grad is not None and parameter.grad.abs().max() > 0, (phase, name)


def test_ada_goes_on_where_it_was_stopped(gan_cohort: Cohort, tmp_path: Path) -> None:
    def trained(folder: Path | None, steps: int) -> GANSystem:
        system = build(PlainGAN, gan_cohort, **ADA)
        config = dataclasses.replace(TRAIN, steps=6)

        def stop(step: int, _: Any) -> None:
            if step == steps and steps < 6:
                raise InterruptedError

        with contextlib.suppress(InterruptedError):
            train(system, system.dataset(gan_cohort, "train"), config, folder=folder, progress=False, on_step=stop)
        return system

    whole = trained(None, 6)
    trained(tmp_path, 4)  # ends after the checkpoint of step 3
    resumed = trained(tmp_path, 6)
    assert probability(whole) > 0
    states: list[dict[str, Tensor]] = [system.networks.state_dict() for system in (whole, resumed)]
    for name in states[0]:
        assert torch.equal(states[0][name], states[1][name]), name


def test_values_that_cannot_be_are_errors() -> None:
    for bad in ({"augment_critic": "some"}, {"ada_target": 1.0}, {"ada_images": 0}, {"loss": "hinge"}):
        with pytest.raises(InputError, match=next(iter(bad))):
            GANConfig.from_dict(bad)
