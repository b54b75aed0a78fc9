"""External cohorts: what is brought in is what was measured, and a planted shift is seen, and only that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.data.external import External
from rnasynth.data.genes import dense
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.expression.shift import bring_in, quantile_shift, shift_report

GENES = [f"G{i:03d}" for i in range(60)]


def profiles(n: int, seed: int, *, shift: float = 0.0, genes: list[str] = GENES, split: str = "test") -> AnnData:
    """Two tissues that differ in the first ten genes; `shift` multiplies every gene by 2 ** (shift * a fixed sign)."""
    generator = np.random.default_rng(seed)
    tissue = np.array(["a", "b"])[np.arange(n) % 2]
    log = generator.normal(6, 1, (n, len(GENES)))
    log[:, :10] += 4 * (tissue == "b")[:, None]
    log += shift * np.where(np.arange(len(GENES)) % 2, 1, -1)
    obs = pd.DataFrame({"sample_id": [f"{split}{seed}-{i}" for i in range(n)], "tissue": tissue, "split": split})
    obs["patient_id"] = obs["split_group"] = obs["sample_id"]
    obs.index = pd.Index(obs["sample_id"], dtype=object)
    x = pd.DataFrame(np.exp2(log), columns=GENES)[genes].to_numpy(np.float32)
    var = pd.DataFrame({"symbol": genes}, index=pd.Index(genes, dtype=object))
    return AnnData(X=x, obs=obs, var=var, uns={"unit": "tpm"})


class Linear:
    """A model whose latent is the first twenty z-scores."""

    def __init__(self, train: AnnData) -> None:
        self.transform = Transform.fit(train)

    def encode(self, given: Any) -> np.ndarray:
        """Return z-scores 0 to 19."""
        z = given if isinstance(given, np.ndarray) else dense(self.transform.apply(given))
        return np.asarray(z[:, :20], dtype=np.float32)


@pytest.fixture(scope="module")
def world() -> SimpleNamespace:
    train = profiles(200, 0, split="train")
    parts = {"train": train, "test": profiles(80, 1)}
    cohort = SimpleNamespace(only=lambda split: SimpleNamespace(profiles=parts[split]))
    return SimpleNamespace(train=train, test=parts["test"], system=Linear(train), cohort=cohort)


def test_missing_genes_are_zero_as_published_or_at_the_training_mean(world: SimpleNamespace) -> None:
    lacking = profiles(20, 2, genes=GENES[:40])
    published = bring_in(world.system, lacking, world.train, missing="zero")
    whole = lacking.copy()
    at_zero = -world.system.transform.mean[40:] / world.system.transform.sd[40:]  # log2(0 + 1) = 0
    np.testing.assert_allclose(dense(published)[:, 40:], np.tile(at_zero, (20, 1)), rtol=1e-5)
    mean = bring_in(world.system, whole, world.train, missing="train_mean")
    assert (dense(mean)[:, 40:] == 0).all()
    np.testing.assert_array_equal(dense(mean)[:, :40], dense(published)[:, :40])
    assert mean.uns["alignment"]["missing"] == 20 and "transform" in mean.uns


def test_quantile_normalisation_undoes_a_monotone_distortion_of_each_sample(world: SimpleNamespace) -> None:
    distorted = world.test.copy()
    distorted.X = np.asarray(distorted.X) ** 1.3 * 5
    before = dense(bring_in(world.system, distorted, world.train))
    after = dense(bring_in(world.system, distorted, world.train, correction="quantile"))
    clean = dense(bring_in(world.system, world.test, world.train, correction="quantile"))
    np.testing.assert_allclose(after, clean, atol=1e-4)
    assert np.abs(before).mean() > 1.5 * np.abs(after).mean()


def test_matched_moments_have_them_and_forget_where_the_cohort_was(world: SimpleNamespace) -> None:
    z = dense(bring_in(world.system, profiles(60, 3, shift=2.0), world.train, correction="moments"))
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-4)
    with pytest.raises(InputError, match="at least 8 samples"):
        bring_in(world.system, profiles(5, 3), world.train, correction="moments")


def test_z_scores_of_elsewhere_are_taken_as_they_are_and_cut(world: SimpleNamespace) -> None:
    wild = profiles(10, 4)
    wild.uns["unit"] = "zscore"
    wild.X = np.full(wild.shape, 36_893, np.float32)
    assert (dense(bring_in(world.system, wild, world.train)) == 10).all()
    with pytest.raises(InputError, match="z-scores"):
        bring_in(world.system, wild, world.train, correction="quantile")


def test_only_training_profiles_are_a_reference(world: SimpleNamespace) -> None:
    with pytest.raises(SplitError):
        bring_in(world.system, world.test, world.test, correction="quantile")


def test_quantile_shift_is_zero_for_itself_and_the_shift_for_a_shifted_copy() -> None:
    x = np.random.default_rng(0).normal(size=(50, 8))
    assert quantile_shift(x, x) == 0
    assert quantile_shift(x + 0.7, x) == pytest.approx(0.7)


def test_no_shift_is_at_the_test_patients_and_a_planted_one_is_not(world: SimpleNamespace) -> None:
    same = External("same", profiles(80, 5), "drawn alike")
    moved = External("moved", profiles(80, 6, shift=1.5), "every gene shifted")
    report = shift_report(world.system, world.cohort, [same, moved], n_boot=200)
    alike, other = report.numbers["distance_same_training_mean"], report.numbers["distance_moved_training_mean"]
    assert alike.low < 1.05 and alike.high > 0.95 and other.low > 1.15
    table = report.table["quantile shift (z-score)"]
    assert table["moved", "training mean"] > 4 * table["same", "training mean"]
    assert table["same", "training mean"] == pytest.approx(report.table["of as many test patients"].iloc[0], rel=0.3)
    assert report.numbers["named_same_training_mean"].value > 0.95
    undone = report.numbers["distance_moved_training_mean__moments"]
    assert undone.high < other.low  # the correction brings it back


def test_labels_that_do_not_belong_to_the_profiles_are_not_named(world: SimpleNamespace) -> None:
    wrong = profiles(80, 7)
    wrong.obs["tissue"] = np.random.default_rng(0).permutation(wrong.obs["tissue"].to_numpy())
    report = shift_report(world.system, world.cohort, [External("wrong", wrong, "")], n_boot=100)
    assert report.numbers["named_wrong_training_mean"].value < 0.7


def test_a_gene_list_of_another_species_is_refused(world: SimpleNamespace) -> None:
    mouse = profiles(10, 8)
    mouse.var_names = pd.Index([f"ENSMUSG{i:011d}" for i in range(60)], dtype=object)
    mouse.var["symbol"] = ""
    with pytest.raises(InputError, match="0 of 60 present"):
        bring_in(world.system, mouse, world.train)
    with pytest.raises(InputError, match="at least one"):
        shift_report(world.system, world.cohort, [])
