"""Errors have their closed forms, intervals count patients, baselines see training samples only."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from rnasynth.data.transform import Transform
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.expression.reconstruction import (
    compare,
    gene_r2,
    mae,
    mean_baseline,
    pca_baseline,
    reconstruction_report,
    retained,
    rmse,
    training_curves,
)


def pair(n: int = 60, genes: int = 20, noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    real = generator.normal(size=(n, genes))
    return real, real + noise * generator.normal(size=real.shape)


def test_values_equal_those_of_scikit_learn() -> None:
    real, made = pair()
    assert rmse(real, made).value == pytest.approx(root_mean_squared_error(real.ravel(), made.ravel()))
    assert mae(real, made).value == pytest.approx(mean_absolute_error(real, made))
    np.testing.assert_allclose(gene_r2(real, made), r2_score(real, made, multioutput="raw_values"))


def test_rmse_of_known_noise_lies_in_its_interval_and_patients_widen_it() -> None:
    real, made = pair(n=400, noise=0.5)
    interval = rmse(real, made)
    assert interval.low < 0.5 < interval.high
    patients = np.repeat(np.arange(20), 20)
    made = real + np.repeat(np.linspace(0.1, 0.9, 20), 20)[:, None]
    grouped, naive = rmse(real, made, patients=patients), rmse(real, made)
    assert grouped.n == 20 and grouped.high - grouped.low > 2 * (naive.high - naive.low)


def test_perfect_and_mean_reconstructions_mark_the_ends_of_the_scale() -> None:
    real, _ = pair()
    assert rmse(real, real).value == 0 and retained(real, real).value == 1
    flat = np.broadcast_to(real.mean(axis=0), real.shape)
    assert retained(real, flat).value == pytest.approx(0) and np.allclose(gene_r2(real, flat), 0)
    assert np.isnan(gene_r2(np.ones((5, 2)), np.ones((5, 2)))).all()


def test_knowing_the_tissue_alone_retains_nothing_within_it() -> None:
    real, _ = pair(n=80)
    tissues = np.repeat(["a", "b"], 40)
    real[40:] += 3
    label_only = np.concatenate([np.broadcast_to(part.mean(axis=0), part.shape) for part in (real[:40], real[40:])])
    made = {"label": label_only, "same": label_only, "mean": np.broadcast_to(real.mean(axis=0), real.shape)}
    numbers, table, points = compare(real, made, patients=np.arange(80), tissues=tissues, n_boot=50)
    assert numbers["retained_within_tissue"].value == pytest.approx(0)
    assert retained(real, label_only).value > 0.5  # over all tissues it looks good
    assert numbers["rmse_gain_mean"].low > 0 and list(table.index) == list(made)
    assert set(points["label"]) == {"all", "a", "b"} and len(points) == 9


def test_baselines_are_fitted_on_training_samples_only() -> None:
    train, _ = pair(n=30, seed=1)
    test, _ = pair(n=10, seed=2)
    np.testing.assert_allclose(mean_baseline(train, test), np.broadcast_to(train.mean(axis=0), test.shape), atol=1e-6)
    honest = rmse(test, pca_baseline(train, test, 5)).value
    leaked = PCA(5).fit(test)  # the broken variant
    assert rmse(test, leaked.inverse_transform(leaked.transform(test))).value < 0.9 * honest
    assert rmse(train, pca_baseline(train, train, 1000)).value < 1e-5
    np.testing.assert_array_equal(pca_baseline(train[:1], test, 5), mean_baseline(train[:1], test))


class Halves(torch.nn.Module):
    """Encodes the first two genes; the others are lost."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = torch.cat([x[:, :2], torch.zeros(len(x), 1)], dim=1)
        return mean, torch.zeros_like(mean)


class System:
    """A beta-VAE as far as the report needs it."""

    def __init__(self, transform: Transform, broken: bool) -> None:
        self.transform, self.vae, self.broken = transform, Halves(), broken

    def reconstruct(self, adata: AnnData) -> np.ndarray:
        z = np.array(self.transform.apply(adata).X)
        z[:, 2:] = 0
        return np.roll(z, 1, axis=0) if self.broken else z


class Cohort:
    """Profiles with splits."""

    def __init__(self, profiles: AnnData) -> None:
        self.profiles = profiles

    def only(self, split: str) -> Cohort:
        return Cohort(self.profiles[(self.profiles.obs["split"] == split).to_numpy()].copy())


def cohort(n: int = 120) -> Cohort:
    generator = np.random.default_rng(0)
    x = generator.gamma(0.5, 300.0, size=(n, 6)).astype(np.float32)
    obs = pd.DataFrame(index=[f"S{row}" for row in range(n)])
    obs["split"] = np.where(np.arange(n) < n // 2, "train", "test")
    obs["split_group"] = [f"P{row // 2}" for row in range(n)]
    obs["tissue"] = np.where(np.arange(n) % 4 < 2, "lung", "brain")
    return Cohort(AnnData(X=x, obs=obs, var=pd.DataFrame(index=[f"G{g}" for g in range(6)]), uns={"unit": "tpm"}))


@pytest.mark.parametrize("broken", [False, True])
def test_report_tells_a_model_from_one_that_mixes_up_its_samples(broken: bool) -> None:
    data = cohort()
    system = System(Transform.fit(data.only("train").profiles), broken)
    report = reconstruction_report(system, data, n_boot=200)
    assert report.beats_mean is not broken
    assert report.active_dimensions == 2 and report.kl_per_dimension.shape == (3,)
    assert report.numbers["rmse_test"].n == 30
    assert list(report.table.index) == ["beta-VAE", "PCA, 3 components", "mean training profile"]
    assert len(report.by_tissue) == 9 and {"label", "group", "value", "low", "high"} <= set(report.by_tissue)


def test_report_refuses_patients_in_two_splits() -> None:
    data = cohort()
    data.profiles.obs.loc["S119", "split_group"] = "P0"
    with pytest.raises(SplitError, match="P0"):
        reconstruction_report(System(Transform.fit(data.only("train").profiles), False), data)


@pytest.mark.parametrize("bad", [np.zeros((3, 4)), np.full((60, 20), np.nan), np.zeros((0, 20))])
def test_profiles_that_cannot_be_compared_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError):
        rmse(pair()[0], bad)


def test_training_curves_follow_the_recorded_lines() -> None:
    history = pd.DataFrame(
        {"step": [1, 2, 3], "vae_mse": [3.0, 2.0, 1.0], "vae_kl": [0.1, 0.2, 0.3], "val_mse": [np.nan, 2.5, np.nan]}
    )
    curves = training_curves(history)
    first, second = curves.values()
    assert list(first["training"][1]) == [3, 2, 1] and list(first["validation"][0]) == [2]
    assert list(second["training"][1]) == [0.1, 0.2, 0.3] and len(second["validation"][0]) == 0
