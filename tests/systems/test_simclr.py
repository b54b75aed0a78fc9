"""SimCLR as a system: what a step is, what the trained network refuses, and that it learns."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rnasynth.data.cohort import ArrayDataset, Cohort
from rnasynth.engine import SYSTEMS, Noise, TrainConfig, seeded, train
from rnasynth.errors import InputError
from rnasynth.features import FeatureNetwork
from rnasynth.runs import get_or_train
from rnasynth.runs.run import run_id
from rnasynth.systems.simclr import SimCLRConfig, SimCLRSystem, TileEncoder, demo, paper


def small(steps: int = 3, **changes: object) -> SimCLRConfig:
    config = SimCLRConfig(width=4, stem="small", tile_px=64, crop_px=32, train=TrainConfig(steps=steps, batch_size=16))
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def build(cohort: Cohort, config: SimCLRConfig) -> SimCLRSystem:
    with seeded("test", 0):
        return SimCLRSystem.from_cohort(config, cohort)


def test_a_run_is_trained_released_and_used_as_feature_network(gan_cohort: Cohort, tmp_path: Path) -> None:
    run = get_or_train("simclr", small(), gan_cohort, folder=tmp_path, progress=False)
    network = run.load()
    assert SYSTEMS["simclr"] is SimCLRSystem and isinstance(network, FeatureNetwork) and network.name == run.id
    tiles = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    features = network(tiles, 1.0)
    assert features.shape == (3, 32) and features.dtype == np.float32
    np.testing.assert_allclose(network(tiles[1:2], 1.0), features[1:2], rtol=1e-4, atol=1e-5)  # no batch statistics
    assert "bilinear" in network.preprocessing


def test_tiles_of_another_magnification_or_kind_are_refused(gan_cohort: Cohort) -> None:
    network = TileEncoder(build(gan_cohort, small()), name="test")
    tiles = np.zeros((1, 64, 64, 3), np.uint8)
    for mpp_um in (0.25, 2.0, math.nan):  # trained on 32 to 64 um
        with pytest.raises(InputError, match="um a side"):
            network(tiles, mpp_um)
    with pytest.raises(InputError, match="uint8"):
        network(tiles.astype(np.float32), 1.0)  # type: ignore[arg-type]


def test_views_differ_by_tile_and_draw_and_come_again_by_seed(gan_cohort: Cohort) -> None:
    system = build(gan_cohort, small())
    tiles = system.dataset(gan_cohort, "train").fetch(np.arange(8))["tile"]
    first, again, other = (system.view(tiles, Noise(0, step, 0, 8)) for step in (0, 0, 1))
    assert first.shape == (8, 3, 32, 32) and first.abs().max() <= 1
    torch.testing.assert_close(first, again)
    assert (first - other).abs().mean(dim=(1, 2, 3)).min() > 0.01
    part = system.view(tiles[4:], Noise(0, 0, 0, 8, rows=slice(4, 8)))
    torch.testing.assert_close(part, first[4:])  # whichever process holds the row


def test_only_training_tiles_are_read(gan_cohort: Cohort) -> None:
    dataset = build(gan_cohort, small()).dataset(gan_cohort, "train")
    owners = gan_cohort.profiles.obs["split"].to_numpy()[dataset.samples]
    assert set(owners) == {"train"}


def test_it_learns_to_know_a_tile_again_and_with_views_of_strangers_it_does_not(gan_cohort: Cohort) -> None:
    config = small(60, learning_rate=3e-3, stain_factor=0.05)
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(64, 3, 1, 1, generator=generator) * 1.4 - 0.7  # a colour each: what is to be known again is planted
    tiles = ArrayDataset(tile=(colours + 0.1 * torch.randn(64, 3, 64, 64, generator=generator)).clamp(-1, 1))

    def share(kind: type[SimCLRSystem]) -> float:
        with seeded("test", 0):
            system = kind.from_cohort(config, gan_cohort)
        seen: list[float] = []
        loss = system.loss

        def watched(*arguments: object) -> object:
            value, metrics = loss(*arguments)  # type: ignore[arg-type]
            seen.append(float(metrics["partner_nearest"]))
            return value, metrics

        system.loss = watched  # type: ignore[method-assign, assignment]
        train(system, tiles, config.train, folder=None, progress=False)
        return float(np.mean(seen[-10:]))

    class Strangers(SimCLRSystem):
        """The deliberately broken variant: the second view is of another tile."""

        calls = 0

        def view(self, tiles: torch.Tensor, noise: Noise) -> torch.Tensor:
            self.calls += 1
            return super().view(tiles.roll(self.calls % 2, 0), noise)

    learned = share(SimCLRSystem)
    assert learned > 0.5  # chance is 1 in 31
    assert share(Strangers) < learned / 2


def test_presets_and_ranges() -> None:
    assert demo().train.batch_size == 128 and demo().width == 16
    assert paper().depth == 50 and paper().temperature == 0.1 and paper().train.batch_size == 4096  # SimCLR, section 2
    for field, value in (
        ("temperature", 0.0),
        ("smallest_crop", 0.0),
        ("crop_px", 16),
        ("tile_px", 16),
        ("width", 0),
        ("momentum", 1.0),
    ):
        with pytest.raises(InputError, match=field):
            small(**{field: value})


def test_the_published_optimiser_can_be_chosen_and_earlier_runs_keep_their_names() -> None:
    system = SimCLRSystem(small(optimizer="sgd", learning_rate=6e-2, weight_decay=5e-4, warmup=0.0), {"tile_um": 64.0})
    chosen = system.optimizer("encoder")
    assert isinstance(chosen, torch.optim.SGD)
    group = chosen.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (6e-2, 0.9, 5e-4)
    system.total_steps = 10
    assert system.schedule("encoder", 0) == 1.0 and system.schedule("encoder", 9) < 0.05  # cosine, no warm-up
    assert isinstance(SimCLRSystem(small(), {"tile_um": 64.0}).optimizer("encoder"), torch.optim.AdamW)
    assert run_id("simclr", small(), "c") == run_id("simclr", small(optimizer="adamw", momentum=0.9, warmup=0.1), "c")
    assert run_id("simclr", small(), "c") != run_id("simclr", small(optimizer="sgd"), "c")
    assert not set(SimCLRConfig.added) - set(small().to_dict())
