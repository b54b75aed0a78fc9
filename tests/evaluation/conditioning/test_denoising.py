"""What the own profile takes off a diffusion stage's error: found where it is planted, absent where the stage is deaf."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.conditioning.denoising import RIVALS, SIGMAS, _others, denoising_gain
from rnasynth.evaluation.conditioning.experiment import with_tiles
from rnasynth.systems.cdm import BaseStage, SuperResolutionStage
from rnasynth.systems.cdm_config import CDMConfig
from rnasynth.systems.diffusion import DiffusionGenerator
from tests.systems.gan_cohort import small_cohort

PX = 16
CONFIG = CDMConfig(
    tile_px=PX, width=8, multipliers=(1,), blocks=(1,), self_attention=(False,), cross_attention=(True,), tokens=2
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return small_cohort(tmp_path_factory.mktemp("denoising"), patients=50, tiles=2)


class Brightness:
    """An encoder that knows the answer: the mean colour of a sample's real tiles."""

    def __init__(self, cohort: Cohort) -> None:
        self.known: dict[str, Any] = {}
        for split in ("train", "val", "test"):
            profiles, ids = with_tiles(cohort, split)
            for name in profiles.obs_names:
                assert cohort.tiles is not None
                self.known[str(name)] = cohort.tiles.read_float(ids[str(name)], PX).mean(dim=(0, 2, 3)).numpy()

    def encode(self, profiles: Any) -> Any:
        grey = np.stack(list(self.known.values())).mean(axis=0)
        return np.stack([np.asarray(self.known.get(str(name), grey)) for name in profiles.obs_names]).astype(np.float32)


class Answer(nn.Module):
    """Answers so that the clean estimate is the colour it was told (or grey for the null condition)."""

    def __init__(self, deaf: bool) -> None:
        super().__init__()
        self.deaf, self.weight = deaf, nn.Parameter(torch.zeros(1))
        self.low: dict[str, Tensor] = {}

    def forward(
        self, image: Tensor, level: Tensor, condition: Tensor, *, keep: Tensor | None = None, **low: Tensor
    ) -> Tensor:
        self.low = low
        told = torch.full_like(condition, 0.3) if self.deaf else condition
        if keep is not None:
            told = torch.where(keep[:, None], told, 0.3)
        sigma = (4 * level.double()).exp()
        total = sigma.square() + 0.25
        skip, out, scale = (v.float()[:, None, None, None] for v in (0.25 / total, sigma * 0.5 / total.sqrt(), total.sqrt()))
        return (told[:, :, None, None] - skip * image * scale) / out


def generator_of(cohort: Cohort, *, deaf: bool, low_px: int = 0, residual: bool = False) -> DiffusionGenerator:
    facts = {"latent_dim": 3, "latent_mean": [], "latent_spread": [], "tissues": ["a"], "tile_um": 64.0}
    config = dataclasses.replace(CONFIG, standardise="none", low_px=low_px, residual=residual, low_level_max=0.3)
    system = (SuperResolutionStage if low_px else BaseStage)(config, facts)
    system.networks["unet"] = Answer(deaf)
    return DiffusionGenerator(system, encoder=Brightness(cohort))


def test_a_planted_gain_is_found_and_a_deaf_stage_has_none(cohort: Cohort) -> None:
    hearing = denoising_gain(generator_of(cohort, deaf=False), cohort, sigmas=(0.5, 5.0), n_boot=200)
    assert hearing.hears and hearing.numbers["denoising_gain_null"].value > 0
    assert set(hearing.gains["label"]) == set(RIVALS.values()) and set(hearing.numbers) == set(hearing.labels)
    assert hearing.verdict().startswith("The base stage uses more")
    deaf = denoising_gain(generator_of(cohort, deaf=True), cohort, sigmas=(0.5, 5.0), n_boot=200)
    assert not deaf.hears and deaf.numbers["denoising_gain_shuffled"].value == pytest.approx(0.0, abs=1e-4)
    assert deaf.verdict().startswith("It is not shown")


def test_the_other_profile_is_never_the_own_and_of_the_tissue() -> None:
    tissues = np.array(["a", "b", "a", "c", "b", "a", "a"])
    others = _others(tissues, 3)
    assert others[3] == -1
    rows = np.flatnonzero(others >= 0)
    assert (others[rows] != rows).all() and (tissues[others[rows]] == tissues[rows]).all()


def test_a_super_resolution_stage_gets_the_real_small_tile(cohort: Cohort) -> None:
    hearing = generator_of(cohort, deaf=False, low_px=8)
    report = denoising_gain(hearing, cohort, sigmas=(0.5,), n_boot=200)
    assert report.hears and report.stage == "super-resolution stage" and report.gain("null").value > 0
    assert set(report.numbers) == {f"denoising_gain_sr_{rival}" for rival in RIVALS} == set(report.labels)
    low = hearing.system.networks["unet"].low
    assert low["low"].shape[1:] == (3, PX, PX)
    assert low["low_level"].unique().tolist() == pytest.approx([hearing.sampling.low_level])
    # What makes the residue of the enlarged small tile is judged on the residue: told the whole colour, it is wrong.
    residue = denoising_gain(generator_of(cohort, deaf=False, low_px=8, residual=True), cohort, sigmas=(0.5,), n_boot=200)
    assert residue.errors["mse_own"].mean() > 2 * report.errors["mse_own"].mean()
    deaf = denoising_gain(generator_of(cohort, deaf=True, low_px=8), cohort, sigmas=(0.5,), n_boot=200)
    assert not deaf.hears


def test_noise_levels_follow_the_spread_of_what_is_made(cohort: Cohort) -> None:
    generator = generator_of(cohort, deaf=True)
    usual = denoising_gain(generator, cohort, n_boot=10, max_samples=20).gains["x"].unique()
    np.testing.assert_allclose(usual, SIGMAS)
    generator.system.settings = dataclasses.replace(generator.system.settings, sigma_data=0.1)
    np.testing.assert_allclose(denoising_gain(generator, cohort, n_boot=10, max_samples=20).gains["x"].unique(), usual / 5)


def test_training_samples_are_refused(cohort: Cohort) -> None:
    with pytest.raises(SplitError):
        denoising_gain(generator_of(cohort, deaf=True), cohort, split="train")


def test_a_stage_that_never_did_without_its_profile_is_refused(cohort: Cohort) -> None:
    facts = {"latent_dim": 3, "latent_mean": [], "latent_spread": [], "tissues": ["a"], "tile_um": 64.0}
    always = BaseStage(dataclasses.replace(CONFIG, standardise="none", condition_dropout=0.0), facts)
    with pytest.raises(InputError, match="condition_dropout"):
        denoising_gain(DiffusionGenerator(always, encoder=Brightness(cohort)), cohort)
