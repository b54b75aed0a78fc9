"""Published choices: each is trained beside the library's own on one scale, and one that must hurt is seen to hurt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rnasynth.data.cohort import Cohort
from rnasynth.data.simulate import SimulationConfig, simulate_profiles
from rnasynth.data.splits import make_splits
from rnasynth.errors import InputError
from rnasynth.evaluation.expression.choices import CHOICES, Choice, measure_choices, published_models
from rnasynth.systems import beta_vae


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    profiles, _ = simulate_profiles(SimulationConfig(patients=60, genes=150))
    profiles.obs["split"] = profiles.obs["split_group"].map(make_splits(profiles.obs, seed=0)).to_numpy(dtype=object)
    return Cohort("simulated", profiles, None, True, "", (), {}, tmp_path_factory.mktemp("cohort"))


def test_a_choice_that_must_hurt_hurts_and_one_that_changes_nothing_does_not(cohort: Cohort, tmp_path: Path) -> None:
    tried = (Choice("blind", "a weight that silences the latent", ("beta=100.0",)), Choice("same", "no change", ()))
    report = measure_choices(cohort, "demo", choices=tried, epochs=15, folder=tmp_path, progress=False)
    blind, same = report.numbers["rmse_change_blind"], report.numbers["rmse_change_same"]
    assert blind.low > 0.1 and blind.n == 3
    assert same.value == same.low == same.high == 0
    assert report.table["active latent dimensions"].iloc[1] < report.table["active latent dimensions"].iloc[0]


def test_a_model_of_another_transform_is_measured_on_the_same_scale(cohort: Cohort, tmp_path: Path) -> None:
    natural = Choice("natural", "natural instead of binary logarithm", ("transform=paper_rna_cdm",))
    report = measure_choices(cohort, "demo", choices=(natural,), epochs=15, folder=tmp_path, progress=False)
    assert abs(report.numbers["rmse_change_natural"].value) < 0.03  # z-scores do not know the base of a logarithm


def test_few_seeds_and_the_paper_preset_are_refused(cohort: Cohort) -> None:
    with pytest.raises(InputError, match="3 or more"):
        measure_choices(cohort, "demo", seeds=(0, 1))
    with pytest.raises(InputError, match="demo or gpu"):
        measure_choices(cohort, "paper")


def test_z_scored_profiles_leave_the_logarithm_out(cohort: Cohort, tmp_path: Path) -> None:
    scored = cohort.profiles.copy()
    scored.X = (scored.X - scored.X.mean(axis=0)) / (scored.X.std(axis=0) + 1e-6)
    scored.uns["unit"] = "zscore"
    other = Cohort("z", scored, None, True, "", (), {}, cohort.folder)
    report = measure_choices(other, "demo", epochs=1, folder=tmp_path, progress=False)
    assert set(report.numbers) == {f"rmse_change_{choice.id}" for choice in CHOICES if choice.id != "log_of_zero"}


def test_the_published_models_are_trained_on_their_tissues_and_shown_where_they_fail(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ["train.epochs=3"]
    monkeypatch.setitem(
        beta_vae.PRESETS, "demo-rna-gan", lambda: beta_vae.demo_rna_gan().with_overrides([*quick, "hidden=[16]", "latent=4"])
    )
    monkeypatch.setitem(
        beta_vae.PRESETS, "demo-rna-cdm", lambda: beta_vae.demo_rna_cdm().with_overrides(["train.epochs=60", "hidden=[64]"])
    )
    report = published_models(cohort, "demo", folder=tmp_path, progress=False)
    assert list(report.table.index) == ["RNA-GAN's, two tissues", "RNA-GAN's, all tissues", "RNA-CDM's, all tissues"]
    assert "RNA-GAN's, all tissues" in report.below_mean and "RNA-CDM's, all tissues" not in report.below_mean
    assert report.numbers["rmse_rna_cdm"].value < report.numbers["rmse_rna_gan"].value
    assert len(report.runs) == 3 and np.isfinite(report.errors["value"]).all()
