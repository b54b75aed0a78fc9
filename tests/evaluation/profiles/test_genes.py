"""Gene-wise correlation: planted ones are found, the label alone is 0 within tissues, noise is not called good."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.profiles import genes as by_gene
from rnasynth.evaluation.profiles.baselines import label_mean
from rnasynth.evaluation.stats import bootstrap
from tests.evaluation.profiles.made import FOLLOWING, world


def planted(n: int, genes: int, r: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    real = generator.normal(size=(n, genes))
    return real, r * real + np.sqrt(1 - r**2) * generator.normal(size=(n, genes))


def report(real: np.ndarray, made: dict[str, np.ndarray], **options: object) -> by_gene.GeneReport:
    n, genes = real.shape
    settings: dict[str, object] = {
        "genes": [f"G{g}" for g in range(genes)],
        "order": np.arange(genes),
        "groups": np.arange(n),
        "tissues": ["one"] * n,
        "tops": (20,),
        "n_boot": 100,
        "n_permutations": 99,
    }
    return by_gene.gene_report(real, made, **{**settings, **options})  # type: ignore[arg-type]


def _named(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return pair[0], {"noise": pair[1]}


@pytest.mark.parametrize("r", [0.0, 0.5, 0.9])
def test_a_planted_correlation_is_measured(r: float) -> None:
    real, made = planted(400, 50, r)
    found = by_gene.gene_correlation(real, made)
    assert abs(found.mean() - r) < 0.02
    np.testing.assert_allclose(found, [np.corrcoef(real[:, g], made[:, g])[0, 1] for g in range(50)], atol=1e-12)


def test_a_constant_prediction_counts_as_nothing_and_a_constant_gene_is_left_out() -> None:
    real, made = planted(30, 4, 0.8)
    made[:, 0], real[:, 1] = 3.0, 7.0
    found = by_gene.gene_correlation(real, made)
    assert found[0] == 0 and np.isnan(found[1]) and (found[2:] > 0.5).all()
    numbers = report(real, {"model": made}, tops=()).numbers
    assert numbers["correlation_model_all"].value == pytest.approx(np.mean(found[[0, 2, 3]]))


def test_the_fast_bootstrap_is_the_slow_one() -> None:
    real, made = planted(40, 30, 0.6)
    groups = np.arange(40) // 2
    slow = bootstrap(
        lambda x, y: float(np.nanmean(by_gene.gene_correlation(x, y))), real, made, groups=groups, n_boot=100, seed=5
    )
    fast = report(real, {"model": made}, groups=groups, seed=5).numbers["correlation_model_all"]
    assert (fast.value, fast.low, fast.high) == pytest.approx((slow.value, slow.low, slow.high), abs=1e-9)
    assert fast.n == slow.n == 20


def test_the_label_alone_predicts_genes_but_none_within_its_tissues() -> None:
    train, _ = world(120, "train", by_tissue=2.0)
    test, _ = world(60, "test", by_tissue=2.0)
    found = report(
        test.z, {"label": label_mean(train).mean(test.inputs), "truth": test.z}, genes=test.genes, tissues=test.tissues
    ).numbers
    assert found["correlation_label_top20"].low > 0.5
    assert found["within_label_top20"].value == 0 and found["found_label"] == 0
    assert found["within_truth_all"].value == pytest.approx(1)


def test_planted_genes_are_found_and_no_others_but_none_after_a_shuffle() -> None:
    test, latent = world(90, "test")
    loads = np.linalg.lstsq(latent, by_gene.within(test.z, test.tissues), rcond=None)[0]
    made = latent @ loads + 0.01 * np.random.default_rng(1).normal(size=test.z.shape)
    made[:, FOLLOWING:] = np.random.default_rng(0).normal(size=(90, len(test.genes) - FOLLOWING))
    found = by_gene.found(by_gene.gene_p_values(test.z, made, tissues=test.tissues, n_permutations=499))
    assert found[:FOLLOWING].mean() > 0.9 and found[FOLLOWING:].mean() < 0.2
    others = np.concatenate([made[1:], made[:1]])[np.random.default_rng(2).permutation(90)]
    assert by_gene.found(by_gene.gene_p_values(test.z, others, tissues=test.tissues)).mean() < 0.05


def test_genes_chosen_on_the_test_samples_make_noise_look_good() -> None:
    numbers = [report(*_named(planted(20, 1000, 0.0, seed=seed)), n_permutations=9).numbers for seed in range(5)]
    assert abs(np.mean([found["correlation_noise_top20"].value for found in numbers])) < 0.06
    assert min(found["optimistic_noise_top20"] for found in numbers) > 0.4


def test_a_gain_is_paired_and_over_the_reference() -> None:
    real, good = planted(60, 40, 0.8)
    _, poor = planted(60, 40, 0.0, seed=7)
    found = report(real, {"good": good, "poor": poor}, reference="poor")
    gain = found.numbers["gain_good_all"]
    expected = found.numbers["within_good_all"].value - found.numbers["within_poor_all"].value
    assert gain.low > 0.5 and gain.value == pytest.approx(expected)
    assert report(real, {"good": good, "same": good}, reference="same").numbers["gain_good_all"].high == 0
    assert set(found.gain_rows["label"]) == {"good"} and list(found.summary().index) == ["good", "poor"]


def test_the_order_is_by_validation_and_curves_follow_it() -> None:
    real, made = planted(200, 6, 0.0)
    made[:, 2], made[:, 4] = real[:, 2], real[:, 4] + 0.5 * made[:, 4]
    order = by_gene.order_by_validation(real, {"model": made})
    assert list(order[:2]) == [2, 4]
    found = report(real, {"model": made}, order=order, tops=(2,))
    k, mean = found.curves()["model"]
    assert list(k) == [1, 2, 3, 4, 5, 6] and mean[0] == pytest.approx(1)
    assert mean[-1] == pytest.approx(found.numbers["within_model_all"].value)
    assert list(found.table.index[:2]) == ["G2", "G4"]
    assert list(by_gene.order_by_variance([1.0, 3.0, 2.0])) == [1, 2, 0]


def test_well_measured_genes_are_those_most_training_samples_have() -> None:
    x = np.array([[1, 0, 9, 0], [1, 5, 9, 0], [2, 0, 9, 1]], dtype=np.float32)
    obs = pd.DataFrame({"split": "train"}, index=["a", "b", "c"])
    train = AnnData(X=x, obs=obs, var=pd.DataFrame(index=["A", "B", "C", "D"]))
    assert by_gene.well_measured(train, 2) == ["A", "C"] and by_gene.well_measured(train, 3) == ["A", "B", "C"]
    train.obs.loc["b", "split"] = "test"
    with pytest.raises(SplitError, match="sample b"):
        by_gene.well_measured(train, 2)


def test_one_section_is_said_to_be_one() -> None:
    real, made = planted(30, 25, 0.5)
    found = report(real, {"model": made}, groups=["C5"] * 30)
    assert found.unit == "samples of one split group" and found.numbers["correlation_model_all"].n == 30


def test_what_does_not_fit_is_said() -> None:
    real, made = planted(10, 5, 0.5)
    with pytest.raises(InputError, match="order of genes"):
        report(real, {"model": made}, order=np.array([0, 0, 1, 2, 3]))
    with pytest.raises(InputError, match="one shape"):
        report(real, {"model": made[:, :3]})
    with pytest.raises(InputError, match="finite"):
        report(real, {"model": np.full_like(made, np.nan)})
    with pytest.raises(InputError, match="models"):
        report(real, {"model": made}, reference="other")
