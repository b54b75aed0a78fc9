"""A transform is monotone, fitted on training samples, applied once, and the same after writing and reading."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

from rnasynth.data.transform import Transform, concatenate
from rnasynth.errors import InputError, SplitError

NAMES = ("log2p1_zscore", "paper_rna_gan", "paper_rna_cdm")
GENES = [f"ENSG{number:011d}" for number in range(70)]


def profiles(n: int = 40, seed: int = 0, unit: str = "tpm") -> AnnData:
    generator = np.random.default_rng(seed)
    x = generator.gamma(0.4, 300.0, size=(n, len(GENES))).astype(np.float32)
    x[generator.random(x.shape) < 0.2] = 0
    x[:, 5] = 7.0  # constant
    x[:, 6] = 0.0  # never expressed
    var = pd.DataFrame({"symbol": [f"SYM{number}" for number in range(len(GENES))]}, index=GENES)
    return AnnData(X=x, obs=pd.DataFrame(index=[f"S{row}" for row in range(n)]), var=var, uns={"unit": unit})


def monotone(name: str) -> bool:
    """Whether more RNA never gives a smaller value, on a fine ladder that starts at 0."""
    transform = Transform.fit(profiles(), name=name)
    ladder = profiles(n=400, seed=1)
    ladder.X[:] = np.concatenate([[0], np.geomspace(1e-3, 1e5, 399)])[:, None]
    z = transform.apply(ladder).X[:, transform.sd > 0]
    return bool((np.diff(z, axis=0) >= 0).all())


@pytest.mark.parametrize("name, expected", [("log2p1_zscore", True), ("paper_rna_cdm", True), ("paper_rna_gan", False)])
def test_more_rna_is_never_less_but_in_the_published_form(name: str, expected: bool) -> None:
    assert monotone(name) is expected


@pytest.mark.parametrize("name", NAMES)
def test_training_profiles_have_mean_0_and_sd_1(name: str) -> None:
    train = profiles()
    transform = Transform.fit(train, name=name)
    z = transform.apply(train).X
    varying = transform.sd > 0
    assert varying.sum() == len(GENES) - 2
    np.testing.assert_allclose(z[:, varying].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(z[:, varying].std(axis=0), 1, atol=1e-5)


def test_values_follow_the_formula() -> None:
    train = profiles()
    logs = {"log2p1_zscore": np.log2(train.X + 1.0), "paper_rna_cdm": np.log(train.X + 1.0)}
    logs["paper_rna_gan"] = np.where(train.X > 0, np.log(np.where(train.X > 0, train.X, 1)), 0)
    for name, log in logs.items():
        keep = log.std(axis=0) > 1e-6
        expected = (log - log.mean(axis=0))[:, keep] / log.std(axis=0)[keep]
        np.testing.assert_allclose(Transform.fit(train, name=name).apply(train).X[:, keep], expected, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_constant_genes_give_0_and_no_nan_even_where_they_vary_later(name: str) -> None:
    transform = Transform.fit(profiles(), name=name)
    other = profiles(seed=3)
    other.X[:, 5:7] = 1000.0
    z = transform.apply(other).X
    assert np.isfinite(z).all() and (z[:, 5:7] == 0).all()


@pytest.mark.parametrize("name", ["log2p1_zscore", "paper_rna_cdm"])
def test_inverse_gives_the_linear_values_back(name: str) -> None:
    train = profiles()
    transform = Transform.fit(train, name=name)
    back = transform.inverse(transform.apply(train).X)
    np.testing.assert_allclose(back, train.X, rtol=2e-4, atol=2e-4)


def test_published_inverse_confuses_0_with_1_and_nothing_else() -> None:
    train = profiles()
    transform = Transform.fit(train, name="paper_rna_gan")
    back = transform.inverse(transform.apply(train).X)
    zero = (train.X == 0) & (transform.sd > 0)
    np.testing.assert_allclose(back[zero], 1, rtol=1e-4)
    rest = (train.X > 0) & (transform.sd > 0)
    np.testing.assert_allclose(back[rest], train.X[rest], rtol=1e-3)


def test_inverse_is_finite_and_non_negative_for_any_network_output() -> None:
    for name in NAMES:
        transform = Transform.fit(profiles(), name=name)
        for z in (-1e6, 1e6):
            back = transform.inverse(np.full((2, len(GENES)), z))
            assert np.isfinite(back).all() and (back >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_missing_genes_sit_at_the_training_mean_or_at_zero_as_published(name: str) -> None:
    train = profiles()
    transform = Transform.fit(train, name=name)
    missing = [0, 9, 30]
    external = train[:, [number for number in range(len(GENES)) if number not in missing]].copy()
    result = transform.apply(external)
    expected = 0 if name == "log2p1_zscore" else -transform.mean[missing] / transform.sd[missing]
    np.testing.assert_allclose(result.X[:, missing], np.broadcast_to(expected, (train.n_obs, 3)), atol=1e-5)
    assert result.uns["alignment"]["missing"] == 3
    kept = [number for number in range(len(GENES)) if number not in missing]
    np.testing.assert_array_equal(result.X[:, kept], transform.apply(train).X[:, kept])


@pytest.mark.parametrize("scale", ["none", "cp10k", "cpm"])
def test_gene_order_and_extra_genes_change_nothing(scale: str) -> None:
    train = profiles()
    transform = Transform.fit(train, scale=scale, genes=GENES[10:60])
    shuffled = train[:, np.random.default_rng(0).permutation(len(GENES))].copy()
    narrow = train[:, GENES[10:60]].copy()
    one, two, three = (transform.apply(each).X for each in (train, shuffled, narrow))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, three)


def test_library_scaling_removes_depth_and_forgives_empty_spots() -> None:
    train = profiles(unit="counts")
    train.X = np.round(train.X)
    transform = Transform.fit(train, scale="cp10k")
    deeper = train.copy()
    deeper.X = train.X * 3
    np.testing.assert_allclose(transform.apply(deeper).X, transform.apply(train).X, atol=1e-4)
    assert not np.allclose(Transform.fit(train).apply(deeper).X, Transform.fit(train).apply(train).X, atol=0.1)
    deeper.X[0] = 0
    assert np.isfinite(transform.apply(deeper).X).all()


def test_a_second_application_is_refused() -> None:
    train = profiles()
    transform = Transform.fit(train)
    with pytest.raises(InputError, match="applied already"):
        transform.apply(transform.apply(train))
    with pytest.raises(InputError, match="applied already"):
        Transform.fit(transform.apply(train))


def test_statistics_of_other_than_training_samples_are_refused() -> None:
    adata = profiles()
    adata.obs["split"] = ["train"] * 30 + ["test"] * 10
    with pytest.raises(SplitError, match="S30"):
        Transform.fit(adata)
    honest = Transform.fit(adata[:30].copy())
    del adata.obs["split"]  # the broken variant: a scaler that has seen the test samples
    assert not np.allclose(Transform.fit(adata).mean, honest.mean)


def test_log_scale_input_is_refused_at_fit_and_apply() -> None:
    train = profiles()
    logged = train.copy()
    logged.X = np.log2(train.X + 1)
    for call in (lambda: Transform.fit(logged), lambda: Transform.fit(train).apply(logged)):
        with pytest.raises(InputError, match="log scale"):
            call()


def test_units_do_not_mix() -> None:
    with pytest.raises(InputError, match="unit 'tpm'"):
        Transform.fit(profiles()).apply(profiles(unit="rsem"))


def test_profiles_in_z_scores_take_no_transform_and_can_be_clipped() -> None:
    adata = profiles(unit="zscore")
    adata.X = np.random.default_rng(0).normal(size=adata.shape).astype(np.float32)
    adata.X[3, 4] = 36893.0
    with pytest.raises(InputError, match='transform "none"'):
        Transform.fit(adata)
    transform = Transform.fit(adata, name="none", clip=10.0)
    z = transform.apply(adata).X
    assert z[3, 4] == 10 and np.array_equal(np.delete(z, 4, axis=1), np.delete(adata.X, 4, axis=1))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([*NAMES, "none"]), st.sampled_from(["none", "cp10k"]), st.one_of(st.none(), st.floats(1, 20)))
def test_json_round_trip_is_exact(name: str, scale: str, clip: float | None) -> None:
    transform = Transform.fit(profiles(), name=name, scale=scale, clip=clip)
    again = Transform.from_dict(json.loads(json.dumps(transform.to_dict(), allow_nan=False)))
    assert again == transform and hash(again) == hash(transform)
    np.testing.assert_array_equal(again.apply(profiles(seed=8)).X, transform.apply(profiles(seed=8)).X)


@pytest.mark.parametrize("transformed", [False, True])
def test_h5ad_round_trip_keeps_everything(tmp_path: Path, transformed: bool) -> None:
    adata = profiles()
    adata.obs = pd.DataFrame(
        {"patient_id": "P", "age": 61.5, "event": 1, "stage": ["II", "III"] * 20, "known": True}, index=adata.obs_names
    )
    transform = Transform.fit(adata, clip=12.0)
    if transformed:
        adata = transform.apply(adata)
    adata.write_h5ad(tmp_path / "profiles.h5ad")
    again = anndata.read_h5ad(tmp_path / "profiles.h5ad")
    np.testing.assert_array_equal(again.X, adata.X)
    assert list(again.obs_names) == list(adata.obs_names) and list(again.var_names) == list(adata.var_names)
    assert again.uns["unit"] == "tpm" and again.X.dtype == np.float32
    for column in adata.obs:
        assert list(again.obs[column]) == list(adata.obs[column])
    assert list(again.var["symbol"]) == list(adata.var["symbol"])
    if transformed:
        assert Transform.from_dict(again.uns["transform"]) == transform
        assert dict(again.uns["alignment"]) == adata.uns["alignment"]
        with pytest.raises(InputError, match="applied already"):
            transform.apply(again)
    else:
        np.testing.assert_array_equal(transform.apply(again).X, transform.apply(adata).X)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"name": "log10"}, "spelling"),
        ({"sd": [-1.0] * 70}, "sd >= 0"),
        ({"mean": [1.0]}, "70 genes"),
        ({"clip": 0}, "clip"),
        ({"extra": 1}, "keys"),
    ],
)
def test_a_damaged_transform_is_refused(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Transform.from_dict({**Transform.fit(profiles()).to_dict(), **change})


def test_concatenation_keeps_shared_genes_and_refuses_mixtures() -> None:
    one, two = profiles(5), profiles(6, seed=2)[:, ::-1][:, 3:].copy()
    two.obs_names = [f"T{row}" for row in range(6)]
    both = concatenate([one, two])
    assert both.shape == (11, 67) and list(both.var_names) == [name for name in one.var_names if name in two.var_names]
    np.testing.assert_array_equal(both["T3"].X, two["T3", both.var_names].X)
    with pytest.raises(InputError, match="each once"):
        concatenate([one, one])
    with pytest.raises(InputError, match="one unit"):
        concatenate([one, profiles(unit="counts")])


def test_made_scores_are_wrapped_as_transformed_profiles() -> None:
    train = profiles()
    transform = Transform.fit(train)
    z = transform.apply(train)
    made = transform.wrap(np.asarray(z.X), pd.DataFrame(index=z.obs_names))
    np.testing.assert_array_equal(made.X, z.X)
    assert Transform.from_dict(dict(made.uns["transform"])) == transform and list(made.var_names) == list(z.var_names)
    with pytest.raises(InputError):
        transform.apply(made)
    for bad in (np.asarray(z.X)[:, 1:], np.full(z.shape, np.nan)):
        with pytest.raises(InputError, match="finite, shape"):
            transform.wrap(bad, pd.DataFrame(index=z.obs_names))
