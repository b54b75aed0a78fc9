"""Baselines find what was planted where it was planted, and see nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rnasynth.data.patients import PatientInputs
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.profiles import baselines
from rnasynth.evaluation.profiles.attention import ATTENTION, attention_pooling
from rnasynth.evaluation.profiles.genes import gene_correlation, within
from rnasynth.evaluation.profiles.pairs import Pairs, check_disjoint, pair
from tests.evaluation.profiles.made import FOLLOWING, with_inputs, world


def parts(**options: float) -> tuple[Pairs, Pairs, Pairs]:
    sizes = {"train": 120, "val": 40, "test": 60}
    train, val, test = (world(n, split, **options)[0] for split, n in sizes.items())  # type: ignore[arg-type]
    return train, val, test


def skill(model: baselines.Baseline, test: Pairs) -> float:
    """Mean correlation within tissues of the genes that follow the latent."""
    made = within(model.mean(test.inputs), test.tissues)
    return float(gene_correlation(within(test.z, test.tissues), made)[:FOLLOWING].mean())


def test_each_baseline_reads_what_it_may_and_nothing_else() -> None:
    train, val, test = parts()
    fitted = baselines.fit_baselines(train, val)
    assert list(fitted) == [
        baselines.MEAN_PROFILE,
        baselines.LABEL_MEAN,
        baselines.RIDGE_FEATURES,
        ATTENTION,
        baselines.RIDGE_TEXT,
        baselines.RIDGE_BOTH,
    ]
    found = {name: skill(model, test) for name, model in fitted.items()}  # type: ignore[arg-type]
    assert found[baselines.MEAN_PROFILE] == 0 and abs(found[baselines.LABEL_MEAN]) < 1e-9
    assert found[baselines.RIDGE_FEATURES] > 0.55 and found[ATTENTION] > 0.55
    assert 0.1 < found[baselines.RIDGE_TEXT] < found[baselines.RIDGE_FEATURES]
    other_text = with_inputs(test, texts=("stage high noted",) * len(test))
    other_label = with_inputs(test, tissues=("skin",) * len(test))
    other_tiles = with_inputs(test, bags=test.inputs.bags[::-1])
    reads = {
        baselines.MEAN_PROFILE: (False, False, False),
        baselines.LABEL_MEAN: (False, True, False),
        baselines.RIDGE_FEATURES: (False, False, True),
        ATTENTION: (False, False, True),
        baselines.RIDGE_TEXT: (True, False, False),
        baselines.RIDGE_BOTH: (True, False, True),
    }
    for name, model in fitted.items():
        changed = tuple(
            bool(np.abs(model.mean(part.inputs) - model.mean(test.inputs)).max() > 1e-6)
            for part in (other_text, other_label, other_tiles)
        )
        assert changed == reads[name], name


def test_ridge_is_that_of_scikit_learn_and_text_helps_features_or_leaves_them() -> None:
    train, val, test = parts()
    model = baselines.ridge_features(train, val)
    x_train, x_val, x_test = (baselines.mean_features(part.inputs) for part in (train, val, test))
    size = np.sqrt(x_train.shape[1])
    made = []
    for penalty in baselines.PENALTIES:  # ours are of columns whose variances add up to 1
        fit = make_pipeline(StandardScaler(), Ridge(penalty * size**2)).fit(x_train, train.z)
        made.append((float(np.square(fit.predict(x_val) - val.z).mean()), fit))
    best = min(made, key=lambda each: each[0])[1]
    np.testing.assert_allclose(model.mean(test.inputs), best.predict(x_test), atol=1e-4)
    both = baselines.ridge_both(train, val)
    assert skill(both, test) > skill(model, test) - 0.02


def test_shuffled_tiles_lose_everything() -> None:
    train, val, test = parts()
    model = baselines.ridge_features(train, val)
    order = np.random.default_rng(0).permutation(len(test))
    shuffled = with_inputs(test, bags=tuple(test.inputs.bags[row] for row in order))
    assert abs(skill(model, shuffled)) < 0.15 < 0.5 < skill(model, test)


def test_attention_finds_the_tiles_that_tell_where_their_mean_drowns() -> None:
    def told(pairs: Pairs, seed: int) -> Pairs:
        """One tile of twenty holds the sample's features and a mark; the others are noise."""
        generator = np.random.default_rng(seed)
        bags = []
        for bag in pairs.inputs.bags:
            assert bag is not None
            tiles = generator.normal(size=(20, bag.shape[1] + 1)).astype(np.float32) * 3
            tiles[:, -1] = 0
            place = generator.integers(20)
            tiles[place, :-1], tiles[place, -1] = bag.mean(axis=0), 8
            bags.append(tiles)
        return with_inputs(pairs, bags=tuple(bags))

    train, val, test = (told(each, seed) for seed, each in enumerate(parts(by_tissue=0.0)))
    attention = attention_pooling(train, val, epochs=80, lr=3e-3)
    assert skill(attention, test) > skill(baselines.ridge_features(train, val), test) + 0.1


def test_tiles_have_no_order_and_padding_no_influence() -> None:
    train, val, test = parts()
    model = attention_pooling(train, val, epochs=5)
    bags = list(test.inputs.bags)
    turned = with_inputs(test, bags=tuple(None if bag is None else bag[::-1].copy() for bag in bags))
    np.testing.assert_allclose(model.mean(turned.inputs), model.mean(test.inputs), atol=1e-5)
    long = np.concatenate([np.full((30, 12), 7, np.float32)])
    beside = with_inputs(test, bags=(*bags[:-1], long))
    np.testing.assert_allclose(model.mean(beside.inputs)[:-1], model.mean(test.inputs)[:-1], atol=1e-5)


def test_a_draw_is_the_same_in_any_batch_and_another_by_seed_and_number() -> None:
    train, val, test = parts()
    for model in baselines.fit_baselines(train, val).values():
        whole = model.sample(test.inputs, 5, seed=3)
        assert whole.shape == (60, 5, 60) and whole.dtype == np.float32
        assert np.abs(whole.mean(axis=1) - model.mean(test.inputs)).mean() < 0.5
        some = model.sample(test.inputs.take([7, 2]), 3, seed=3)  # type: ignore[attr-defined]
        np.testing.assert_allclose(some, whole[[7, 2], :3], atol=1e-5)
        assert np.abs(whole[:, 0] - whole[:, 1]).max() > 0.1
        assert np.abs(model.sample(test.inputs, 5, seed=4) - whole).max() > 0.1
    with pytest.raises(InputError, match="1 or more"):
        model.sample(test.inputs, 0)


def test_the_same_seed_trains_the_same_attention() -> None:
    train, val, test = parts()
    one, same, other = (attention_pooling(train, val, epochs=4, seed=seed).mean(test.inputs) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-4


def test_missing_tiles_and_texts_are_read_as_the_average() -> None:
    train, val, test = parts()
    without = with_inputs(test, bags=(None,) * len(test), texts=("",) * len(test))
    for name, model in baselines.fit_baselines(train, val).items():
        made = model.mean(without.inputs)
        assert np.isfinite(made).all()
        if name in (baselines.RIDGE_FEATURES, ATTENTION):
            assert np.abs(made - made[0]).max() == 0 and np.abs(made[0] - train.z.mean(axis=0)).max() < 0.5
    bare = with_inputs(train, bags=(None,) * len(train), texts=("",) * len(train))
    assert list(baselines.fit_baselines(bare, val)) == [baselines.MEAN_PROFILE, baselines.LABEL_MEAN]
    with pytest.raises(InputError, match="tile features"):
        baselines.ridge_features(bare, val)
    with pytest.raises(InputError, match="clinical texts"):
        baselines.ridge_text(bare, val)


def test_splits_are_asserted_and_unknown_labels_said() -> None:
    train, val, test = parts()
    for fit in (baselines.ridge_features, baselines.ridge_text, attention_pooling):
        with pytest.raises(SplitError):
            fit(train, test)
        with pytest.raises(SplitError):
            fit(val, val)
    with pytest.raises(SplitError):
        baselines.mean_profile(test)
    with pytest.raises(SplitError, match="split group"):
        check_disjoint(train, Pairs(val.inputs, val.z, val.genes, train.groups[:40], "val"))
    with pytest.raises(InputError, match="'liver'"):
        baselines.label_mean(train).mean(with_inputs(test, tissues=("liver",) * len(test)).inputs)
    with pytest.raises(InputError, match="12, as in training"):
        narrow = with_inputs(test, bags=tuple(None if bag is None else bag[:, :3] for bag in test.inputs.bags))
        baselines.ridge_features(train, val).mean(narrow.inputs)


def test_inputs_are_joined_with_the_profiles_of_their_samples() -> None:
    generator = np.random.default_rng(0)
    names = [f"s{row}" for row in range(8)]
    obs = pd.DataFrame({"sample_id": names, "split": ["train"] * 6 + ["test"] * 2, "split_group": names}, index=names)
    x = generator.gamma(2.0, 50, size=(8, 12)).astype(np.float32)
    var = pd.DataFrame({"symbol": [""] * 12}, index=[f"ENSG{g:011d}" for g in range(12)])
    profiles = AnnData(X=x, obs=obs, var=var, uns={"unit": "tpm"})
    transform = Transform.fit(profiles[:6].copy(), allow_small=True)
    inputs = PatientInputs(("s3", "s1"), (None, np.ones((2, 3), np.float32)), ("", ""), ("a", "b"))
    joined = pair(inputs, profiles, transform)
    expected = np.asarray(transform.apply(profiles, allow_small=True).X)[[3, 1]]
    np.testing.assert_allclose(joined.z, expected, atol=1e-5)
    assert list(joined.groups) == ["s3", "s1"] and joined.split == "train"
    with pytest.raises(SplitError, match="one split"):
        pair(PatientInputs(("s3", "s7"), (None, None), ("", ""), ("a", "b")), profiles, transform)
    with pytest.raises(InputError, match="sample s9"):
        pair(PatientInputs(("s9",), (None,), ("",), ("a",)), profiles, transform)
