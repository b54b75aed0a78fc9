"""Counts and shares on tables small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.data.tissue import Mask
from rnasynth.data.transform import Transform
from rnasynth.evaluation import describe


@pytest.fixture
def obs() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "tissue": ["a", "a", "a", "b", "b"],
            "split": ["train", "train", "test", "train", "val"],
            "split_group": ["p1", "p1", "p2", "p3", "p4"],
        }
    )


def test_composition_counts_groups_not_samples(obs: pd.DataFrame) -> None:
    table = describe.composition(obs)
    assert table.loc["a"].tolist() == [1, 0, 1] and table.loc["b"].tolist() == [1, 1, 0]


def test_overlap_shows_a_patient_in_two_splits(obs: pd.DataFrame) -> None:
    assert describe.split_overlap(obs).to_numpy().sum() == 4
    crossing = obs.assign(split_group=["p1", "p1", "p1", "p3", "p4"])
    assert describe.split_overlap(crossing).loc["train", "test"] == 1


def test_order_is_broken_by_log_zero_as_zero_and_kept_by_log2p1() -> None:
    values = np.random.default_rng(0).lognormal(-1, 1, (50, 8)) * (np.arange(50) % 3 > 0)[:, None]
    published = np.where(values > 0, np.log(np.maximum(values, 1e-12)), 0.0)
    assert describe.order_broken(values, published) == pytest.approx(np.mean(values[values > 0] < 1), abs=1e-9)
    assert describe.order_broken(values, np.log2(values + 1)) == 0.0


def test_zero_shares_and_reach() -> None:
    assert describe.zero_shares(np.array([0.0, 0.5, 1.0, 4.0])) == {"zero": 0.25, "below_one": 0.25}
    z = np.random.default_rng(0).normal(size=200_000)
    assert describe.out_of_tanh_reach(z) == pytest.approx(0.3173, abs=0.005)


def test_variance_by_group_is_one_when_groups_explain_all_and_small_when_shuffled() -> None:
    labels = np.repeat(["a", "b"], 100)
    points = np.where(labels == "a", 1.0, -1.0)[:, None] * np.ones((1, 3))
    assert describe.variance_by_group(points, labels) == pytest.approx(1.0)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert describe.variance_by_group(points, shuffled) < 0.1


def test_components_are_fitted_on_training_samples_only() -> None:
    generator = np.random.default_rng(0)
    train = AnnData(generator.normal(size=(40, 6)).astype("float32"))
    far = AnnData((generator.normal(size=(5, 6)) + 100).astype("float32"))
    alone, share = describe.principal_components(train, train, 2)
    with_far, _ = describe.principal_components(train, far, 2)
    assert np.abs(alone.mean(0)).max() < 1e-4 and share.shape == (2,) and np.abs(with_far).max() > 10


def test_missing_genes_cost_more_as_zero_than_as_the_training_mean() -> None:
    generator = np.random.default_rng(0)
    names = [f"G{i}" for i in range(60)]
    x = generator.lognormal(3, 0.5, (80, 60)).astype("float32")
    raw = AnnData(x, var=pd.DataFrame({"symbol": names}, index=names), uns={"unit": "tpm"})
    mean = describe.missing_gene_error(Transform.fit(raw[:60].copy(), name="log2p1_zscore"), raw[60:].copy())
    zero = describe.missing_gene_error(Transform.fit(raw[:60].copy(), name="paper_rna_cdm"), raw[60:].copy())
    assert mean == pytest.approx(1.0, abs=0.15) and zero > 3 * mean


def test_agreement_of_a_mask_with_itself_is_one_and_with_its_complement_zero() -> None:
    truth = np.zeros((40, 60), bool)
    truth[:, :30] = True
    mask = Mask(truth[::2, ::2].astype("float32"), 2.0, 2.0, 200.0, 0.0, "thumbnail")
    assert describe.agreement(mask, truth) == 1.0 and describe.agreement(mask, ~truth) == 0.0
