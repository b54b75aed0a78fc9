"""The beta-VAE as a system: presets, what is fitted on whom, and the latents it gives."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from sklearn.decomposition import PCA

from rnasynth.data.cohort import Cohort
from rnasynth.data.papers import read_hyperparameters
from rnasynth.data.simulate import SimulationConfig, simulate_profiles
from rnasynth.engine import SYSTEMS, TrainConfig, train
from rnasynth.errors import InputError, SplitError
from rnasynth.runs import Run, get_or_train
from rnasynth.systems.beta_vae import PRESETS, BetaVAEConfig, BetaVAESystem, demo


def cohort_of(folder: Path, patients: int = 200, genes: int = 1000) -> Cohort:
    """Simulated profiles without tiles; 60/20/20."""
    profiles, _ = simulate_profiles(SimulationConfig(patients=patients, genes=genes))
    order = np.random.default_rng(0).permutation(patients)
    split = np.array(["train"] * patients, dtype=object)
    split[order[int(0.6 * patients) : int(0.8 * patients)]] = "val"
    split[order[int(0.8 * patients) :]] = "test"
    profiles.obs["split"] = split
    return Cohort("simulated", profiles, None, True, "", (), {}, folder)


SMALL = BetaVAEConfig(
    hidden=(16, 8), latent=4, beta=0.001, lr=1e-3, n_genes=60, train=TrainConfig(steps=20, batch_size=16, patience=5)
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return cohort_of(tmp_path_factory.mktemp("cohort"), patients=60, genes=120)


@pytest.fixture(scope="module")
def run(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return get_or_train("beta-vae", SMALL, cohort, folder=tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture(scope="module")
def vae(run: Run) -> BetaVAESystem:
    loaded = run.load()
    assert isinstance(loaded, BetaVAESystem)
    return loaded


def test_presets_are_known_by_name() -> None:
    assert SYSTEMS["beta-vae"] is BetaVAESystem
    for name in PRESETS:
        config = BetaVAESystem.preset(name)
        assert BetaVAEConfig.from_dict(config.to_dict()) == config
    with pytest.raises(InputError, match="paper-rna-cdm"):
        BetaVAESystem.preset("papper")


@pytest.mark.parametrize("paper", ["rna-gan", "rna-cdm"])
def test_paper_presets_hold_the_printed_numbers(paper: str) -> None:
    printed = read_hyperparameters(f"beta-vae/{paper}").set_index("field")["value"].astype(str)
    config = BetaVAESystem.preset(f"paper-{paper}")
    kept = {**config.to_dict(), **config.to_dict()["train"]}
    compared = [name for name in printed.index if name in kept]
    assert {"hidden", "latent", "beta", "lr", "epochs", "batch_size", "transform"} <= set(compared)
    for name in compared:
        value = printed[name] if name == "transform" else json.loads(printed[name])
        assert kept[name] == value, name
    assert config.output == "linear" and config.input_dropout == 0
    assert (config.train.patience is not None) == json.loads(printed["early_stopping"])
    assert BetaVAESystem.preset("paper") == BetaVAESystem.preset("paper-rna-gan")


@pytest.mark.parametrize("bad", [{"hidden": []}, {"latent": 0}, {"input_dropout": 1.0}, {"lr": 0.0}, {"warmup_share": 1.0}])
def test_values_out_of_range_are_errors(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        BetaVAEConfig.from_dict(bad)


def test_genes_and_transform_come_from_training_patients_only(cohort: Cohort) -> None:
    system = BetaVAESystem.from_cohort(SMALL, cohort)
    changed = cohort.profiles.copy()
    other = (changed.obs["split"] != "train").to_numpy()
    changed.X[other] *= 3.0
    again = BetaVAESystem.from_cohort(SMALL, dataclasses.replace(cohort, profiles=changed))
    assert again.transform == system.transform
    changed.X[~other] *= 3.0
    fitted_on_all = BetaVAESystem.from_cohort(SMALL, dataclasses.replace(cohort, profiles=changed))
    assert fitted_on_all.transform != system.transform


def test_a_test_patient_among_the_training_ones_is_an_error(cohort: Cohort) -> None:
    class Leaking:
        profiles = cohort.profiles

        def only(self, split: str) -> Leaking:
            return self

    with pytest.raises(SplitError):
        BetaVAESystem.from_cohort(SMALL, Leaking())


def test_auto_transform_follows_the_unit(cohort: Cohort) -> None:
    for unit, name, scale in (("tpm", "log2p1_zscore", "none"), ("counts", "log2p1_zscore", "cp10k")):
        profiles = cohort.profiles.copy()
        profiles.uns["unit"] = unit
        if unit == "counts":
            profiles.X = np.round(profiles.X)
        transform = BetaVAESystem.from_cohort(SMALL, dataclasses.replace(cohort, profiles=profiles)).transform
        assert (transform.name, transform.scale) == (name, scale)


def test_gene_order_and_extra_genes_do_not_change_the_latents(cohort: Cohort, vae: BetaVAESystem) -> None:
    profiles = cohort.only("test").profiles
    expected = vae.encode(profiles)
    assert expected.shape == (12, 4) and expected.dtype == np.float32 and np.isfinite(expected).all()
    order = np.random.default_rng(1).permutation(profiles.n_vars)
    assert np.array_equal(vae.encode(profiles[:, order].copy()), expected)
    only_needed = profiles[:, list(vae.transform.genes)].copy()  # the run knows 60 of the cohort's 120 genes
    assert np.array_equal(vae.encode(only_needed), expected)
    assert np.array_equal(vae.encode(np.asarray(vae.transform.apply(profiles).X)), expected)
    broken = AnnData(X=profiles.X, obs=profiles.obs, var=profiles.var.iloc[order].copy(), uns={"unit": "tpm"})
    assert not np.allclose(vae.encode(broken), expected, atol=1e-2)  # values under other names are noticed


def test_transformed_profiles_are_not_transformed_again(cohort: Cohort, vae: BetaVAESystem) -> None:
    profiles = cohort.only("test").profiles
    transformed = vae.transform.apply(profiles)
    assert np.array_equal(vae.encode(transformed), vae.encode(profiles))
    turned = transformed[:, ::-1].copy()
    assert np.array_equal(vae.encode(turned), vae.encode(profiles))
    other = dataclasses.replace(vae.transform, mean=vae.transform.mean + 1)
    with pytest.raises(InputError, match="this run's own transform"):
        vae.encode(other.apply(profiles))


def test_shapes_that_do_not_fit_are_errors(vae: BetaVAESystem) -> None:
    with pytest.raises(InputError, match="z-scores"):
        vae.encode(np.zeros((2, 7), dtype=np.float32))
    with pytest.raises(InputError, match="latents"):
        vae.decode(np.zeros((2, 7), dtype=np.float32))


def test_decode_gives_scores_that_become_linear(vae: BetaVAESystem) -> None:
    z = vae.decode(np.zeros((3, 4), dtype=np.float32))
    assert z.shape == (3, 60) and z.dtype == np.float32
    assert (vae.transform.inverse(z) >= 0).all()
    assert vae.encode(np.zeros((0, 60), dtype=np.float32)).shape == (0, 4)


def test_a_sample_does_not_depend_on_how_many_are_drawn(vae: BetaVAESystem) -> None:
    few, many = vae.sample(3, seed=5), vae.sample(7, seed=5)
    np.testing.assert_allclose(few, many[:3], rtol=1e-5, atol=1e-6)
    assert not np.allclose(few, vae.sample(3, seed=6))


def test_schedule_is_one_cosine_over_the_whole_training() -> None:
    system = BetaVAESystem(SMALL, _transform())
    system.total_steps = 100
    factors = [system.schedule("vae", step) for step in range(100)]
    assert factors[4] == 1.0 and factors[0] == pytest.approx(0.2) and factors[-1] < 0.01
    assert np.all(np.diff(factors[5:]) < 0)  # never up again, as a cosine of fixed length stepped by batch would go


def _transform() -> Any:
    from rnasynth.data.transform import Transform

    genes = tuple(f"G{number}" for number in range(30))
    return Transform(name="log2p1_zscore", genes=genes, mean=np.zeros(30), sd=np.ones(30))


# The first twenty losses of the system below, of torch 2.13 on an x86-64 CPU, one thread, fp32. Where this test fails and
# the change was meant, raise BetaVAESystem.step_version (old runs are then not taken for new ones) and record them anew.
FROZEN_STEP_VERSION = 2
FROZEN = [
    3.217215,
    2.993776,
    2.432368,
    2.591282,
    3.267589,
    2.624745,
    3.4759,
    2.739115,
    3.607121,
    1.941651,
    3.256988,
    2.093667,
    3.075555,
    3.665524,
    2.287942,
    2.955332,
    2.911633,
    2.740175,
    2.589121,
    3.316807,
]


def frozen_losses() -> list[float]:
    """Twenty losses at a fixed seed and fixed data."""
    config = dataclasses.replace(SMALL, train=TrainConfig(steps=20, batch_size=16, seed=3))
    torch.manual_seed(3)
    system = BetaVAESystem(config, _transform())
    data = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)) @ torch.randn(
        3, 30, generator=torch.Generator().manual_seed(2)
    )

    class Data:
        def __len__(self) -> int:
            return len(data)

        def fetch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
            return {"profile": data[torch.from_numpy(indices)]}

    losses: list[float] = []
    original = system._loss

    def kept(*arguments: Any) -> Any:
        result = original(*arguments)
        losses.append(float(result[0].detach()))
        return result

    system._loss = kept  # type: ignore[method-assign]
    train(system, Data(), config.train, folder=None, progress=False)
    return losses


def test_the_first_losses_are_frozen() -> None:
    np.testing.assert_allclose(frozen_losses(), FROZEN, rtol=1e-4)
    assert BetaVAESystem.step_version == FROZEN_STEP_VERSION


@pytest.mark.slow
def test_demo_beats_the_mean_profile_and_is_near_pca(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path)
    vae = get_or_train("beta-vae", demo(), cohort, folder=tmp_path, progress=False).load()
    train_z, test_z = (np.asarray(vae.transform.apply(cohort.only(split).profiles).X) for split in ("train", "test"))
    assert train_z.shape == (120, 1000)

    def rmse(guess: np.ndarray) -> float:
        return float(np.sqrt(np.square(guess - test_z).mean()))

    pca = PCA(32, random_state=0).fit(train_z)
    by_pca = rmse(pca.inverse_transform(pca.transform(test_z)))
    by_mean = rmse(np.zeros_like(test_z))
    assert rmse(vae.reconstruct(test_z)) < min(0.55 * by_mean, 1.15 * by_pca)
    shuffled = np.random.default_rng(0).permutation(len(test_z))
    assert rmse(vae.reconstruct(test_z[shuffled])) > 0.9 * by_mean  # another patient's latent does not help


def test_profiles_that_come_as_z_scores_are_cut_at_ten_and_others_are_not(cohort: Cohort) -> None:
    z = cohort.profiles.copy()
    z.X = np.random.default_rng(0).normal(size=z.shape).astype(np.float32)
    z.X[0, 0], z.X[1, 1] = 36_893.0, -500.0
    z.uns["unit"] = "zscore"
    scored = dataclasses.replace(cohort, profiles=z)
    config = dataclasses.replace(SMALL, n_genes=None)
    system = BetaVAESystem.from_cohort(config, scored)
    assert system.transform.name == "none" and system.transform.clip == 10
    whole = np.asarray(system.transform.apply(z).X)
    assert whole.max() == 10 and whole.min() == -10 and (np.abs(whole) < 10).mean() > 0.99
    assert BetaVAESystem.from_cohort(config, cohort).transform.clip is None
