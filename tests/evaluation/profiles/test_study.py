"""Several systems on the same genes and z-scores, told less, and said in words."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.data.patients import PatientInputs
from rnasynth.data.transform import Transform
from rnasynth.evaluation.profiles import baselines, genes, pairs, study
from tests.evaluation.profiles.made import world

GENES = [f"ENSG{number:011d}" for number in range(1, 13)]


def transforms() -> tuple[Transform, Transform, AnnData]:
    """All genes, and eight of them in another order with other samples' mean and spread."""
    x = np.exp2(np.random.default_rng(0).normal(5, 1.5, (40, len(GENES)))).astype(np.float32)
    obs = pd.DataFrame({"split": "train"}, index=[f"s{row}" for row in range(40)])
    raw = AnnData(X=x, obs=obs, var=pd.DataFrame({"symbol": ""}, index=GENES), uns={"unit": "tpm"})
    some = [GENES[place] for place in (7, 2, 5, 0, 11, 3, 9, 1)]
    return (
        Transform.fit(raw, allow_small=True),
        Transform.fit(raw[:20].copy(), genes=some, allow_small=True),
        raw,
    )


def speaker(transform: Transform, raw: AnnData) -> Any:
    """A perfect model: it says the real profile, in its own transform."""
    z = np.asarray(transform.apply(raw, allow_small=True).X)
    return SimpleNamespace(
        transform=transform,
        mean=lambda inputs, n, seed: z,
        sample=lambda inputs, n, seed: np.repeat(z[:, None], n, axis=1),
    )


def test_what_another_system_makes_arrives_in_the_reference_scores() -> None:
    whole, part, raw = transforms()
    wanted = np.asarray(part.apply(raw, allow_small=True).X)
    moved = study.InTransform(speaker(whole, raw), part, "other")
    assert moved.genes == part.genes
    np.testing.assert_allclose(moved.mean(None), wanted, atol=2e-3)
    np.testing.assert_allclose(moved.sample(None, 3)[:, 2], wanted, atol=2e-3)
    same = study.InTransform(speaker(part, raw), part, "same")
    np.testing.assert_array_equal(same.mean(None), wanted)


def test_a_gene_that_a_system_does_not_make_is_at_the_mean() -> None:
    whole, part, raw = transforms()
    moved = study.InTransform(speaker(part, raw), whole, "fewer").mean(None)
    missing = [place for place, gene in enumerate(whole.genes) if gene not in part.genes]
    assert np.allclose(moved[:, missing], 0.0, atol=1e-5)
    there = [place for place, gene in enumerate(whole.genes) if gene in part.genes]
    np.testing.assert_allclose(moved[:, there], np.asarray(whole.apply(raw, allow_small=True).X)[:, there], atol=2e-3)


def inputs(*, tiles: bool, text: bool) -> PatientInputs:
    generator = np.random.default_rng(0)
    bags = tuple(generator.normal(size=(2, 3)).astype(np.float32) if tiles else None for _ in range(5))
    texts = tuple(f"text {row}" if text else "" for row in range(5))
    return PatientInputs(tuple("abcde"), bags, texts, ("x",) * 5)


def test_told_less_offers_what_there_is() -> None:
    assert list(study.told_less(inputs(tiles=True, text=False))) == ["tiles", "tiles of another"]
    assert list(study.told_less(inputs(tiles=False, text=True))) == ["text", "text of another"]
    less = study.told_less(inputs(tiles=True, text=True))
    assert not any(less["tiles alone"].texts) and all(bag is None for bag in less["text alone"].bags)
    whole = less[study.BOTH]
    other = less["tiles of another"]
    assert other.texts == whole.texts
    assert all(mine is not theirs for mine, theirs in zip(whole.bags, other.bags, strict=True))


def test_text_is_exchanged_inside_a_tissue() -> None:
    whole = inputs(tiles=True, text=True)
    tissues = PatientInputs(whole.sample_ids, whole.bags, whole.texts, ("x", "y", "x", "y", "z"))
    other = study.told_less(tissues)[study.OTHER_TEXT]
    assert other.texts == ("text 2", "text 3", "text 0", "text 1", "text 4") and other.bags == tissues.bags


def test_what_the_text_adds_is_said_as_it_is() -> None:
    train, val, test = (world(n, split)[0] for n, split in ((90, "train"), (30, "val"), (40, "test")))

    def real_inputs(part: Any) -> Any:
        given = part.inputs
        return replace(part, inputs=PatientInputs(given.sample_ids, given.bags, given.texts, given.tissues))

    train, val, test = (real_inputs(part) for part in (train, val, test))
    every = (baselines.ridge_features(train, val), baselines.ridge_text(train, val), baselines.ridge_both(train, val))
    fitted = {model.name: model for model in every}
    order = genes.order_by_variance(np.ones(len(test.genes)))
    names = (baselines.RIDGE_BOTH, baselines.RIDGE_TEXT)
    whole = study.Study(fitted, (), train, val, test, transforms()[0], order)
    told = study.ablation_report(whole, names, n_boot=100, n_permutations=9)
    lost = told.numbers["gain_ridge__text__text_of_another_of_its_tissue_all"]
    assert lost.high < 0 and set(told.numbers) == set(told.labels)  # who reads the text alone loses it
    means = {name: fitted[name].mean(test.inputs) for name in (baselines.RIDGE_BOTH, baselines.RIDGE_TEXT)}
    means[baselines.RIDGE_FEATURES] = fitted[baselines.RIDGE_FEATURES].mean(test.inputs)
    found = genes.gene_report(
        test.z, means, genes=test.genes, order=order, groups=test.groups, tissues=test.tissues, n_boot=50, n_permutations=19
    )
    said = study.text_in_words(told, found, (baselines.RIDGE_TEXT,))
    assert "ridge, text uses the text" in said and "the tiles" in said
    deaf = told.numbers["gain_ridge__features_and_text__tiles_alone_all"]
    assert deaf.low <= 0.02  # tiles show nearly all that the text tells
    silent = replace(test, inputs=test.inputs.without_text())
    without = study.ablation_report(replace(whole, test=silent), (baselines.RIDGE_FEATURES,), n_boot=20, n_permutations=9)
    assert study.text_in_words(without, found, (baselines.RIDGE_FEATURES,)) == ""


def test_few_samples_are_said_to_be_few() -> None:
    train, val, test = (world(n, split)[0] for n, split in ((40, "train"), (20, "val"), (30, "test")))
    whole = study.Study({}, (), train, val, test, transforms()[0], np.arange(60))
    assert not whole.too_few and whole.remarks() == []
    few = replace(whole, test=pairs.take(test, np.arange(6)), left_out=24)
    assert set(few.strata) == {"all"} and set(whole.strata) == set(test.tissues)
    said = " ".join(few.remarks())
    assert few.too_few and "24 test samples without tiles" in said and "nothing can be concluded" in said


def report(noise: float) -> genes.GeneReport:
    """A ridge that reads tiles, and one that reads tiles of other samples."""
    train, val, test = (world(n, split, noise=noise)[0] for n, split in ((90, "train"), (30, "val"), (40, "test")))
    ridge = baselines.ridge_features(train, val)
    means = {"good": ridge.mean(test.inputs), "label alone": baselines.label_mean(train).mean(test.inputs)}
    means["deaf"] = np.roll(means["good"], 3, axis=0)  # three tissues in turn: another sample of the same tissue
    order = genes.order_by_variance(np.ones(len(test.genes)))
    return genes.gene_report(
        test.z, means, genes=test.genes, order=order, groups=test.groups, tissues=test.tissues, n_boot=100, n_permutations=49
    )


def test_words_follow_the_numbers() -> None:
    found = report(0.5)
    assert study.beats_the_label(found, "good") and not study.beats_the_label(found, "deaf")
    text = study.genes_in_words(found, ("good", "deaf"), control="good")
    assert "good follows the genes" in text and "deaf is not shown to follow" in text and "so the measurement works" in text
    assert "may not tell the genes" in study.genes_in_words(found, ("good",), control="deaf")


def test_percent_keeps_what_is_not_a_share() -> None:
    found = report(0.5).numbers["within_good_all"]
    percent = study.in_percent(found)
    assert percent.value == pytest.approx(100 * found.value) and percent.n == found.n and percent.method == found.method
