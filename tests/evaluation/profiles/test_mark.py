"""Spots with their surroundings, the best measured genes, and what stands beside a mark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.data.cohort import Cohort
from rnasynth.data.patients import PatientInputs
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.profiles import mark, surroundings
from rnasynth.evaluation.profiles.baselines import RIDGE_FEATURES
from rnasynth.evaluation.profiles.genes import weighted_correlation
from rnasynth.evaluation.profiles.pairs import pair
from rnasynth.plots.profiles import beside_marks

SIDE, GENES, DIM = 9, 60, 6
SECTIONS = {"C2": "train", "C3": "train", "C4": "val", "C5": "test"}


def spots(*, around: bool = True, seed: int = 0) -> tuple[Cohort, dict[str, PatientInputs]]:
    """Sections whose genes follow what the tiles show, of the spot itself and (if `around`) of its neighbours; counts."""
    rng = np.random.default_rng(seed)
    rules = np.random.default_rng(99)
    loads, seen = rules.normal(size=(2, GENES)), rules.normal(size=(2, DIM))
    place = np.array([(x, y) for x in range(SIDE) for y in range(SIDE)], float)
    apart = np.sqrt(np.square(place[:, None] - place[None]).sum(axis=-1))
    near = np.exp(-0.5 * np.square(apart / 1.0))
    rows, counts, bags = [], [], []
    for section, split in SECTIONS.items():
        u = rng.normal(size=(len(place), 2))
        told = near / near.sum(axis=1, keepdims=True) @ u if around else u
        told = told / told.std(axis=0)
        rate = np.exp(0.7 * told @ loads + 1.5)
        rate[:, GENES // 2 :] *= 0.02  # hardly counted
        counts.append(rng.poisson(rate))
        bags += [(row @ seen + 0.1 * rng.normal(size=DIM)).astype(np.float32)[None] for row in u]
        rows += [
            {"sample_id": f"{section}_{x:.0f}x{y:.0f}", "section": section, "array_x": x, "array_y": y, "split": split}
            for x, y in place
        ]
    obs = pd.DataFrame(rows).assign(patient_id="C", cohort="made", tissue="immune")
    obs["split_group"] = obs["section"]
    obs.index = pd.Index(obs["sample_id"], dtype=object)
    var = pd.DataFrame({"symbol": ""}, index=[f"G{number}" for number in range(GENES)])
    adata = AnnData(X=np.concatenate(counts).astype(np.float32), obs=obs, var=var, uns={"unit": "counts"})
    cohort = Cohort("made", adata, None, False, "", (), {}, Path("."), split_by="section")
    inputs = PatientInputs(tuple(obs["sample_id"]), tuple(bags), ("",) * len(obs), ("immune",) * len(obs), "made")
    of = {split: inputs.take(np.flatnonzero((obs["split"] == split).to_numpy())) for split in ("train", "val", "test")}
    return cohort, of


def compared(cohort: Cohort, inputs: dict[str, PatientInputs], *, genes: int = GENES // 2) -> Any:
    """What the page hands over: z-scores of the best measured genes, and a perfect and a deaf model."""
    part = mark.best_measured(cohort, genes)
    transform = Transform.fit(part.only("train").profiles, scale="cp10k", allow_small=True)
    parts = {split: pair(inputs[split], part.only(split).profiles, transform) for split in inputs}

    def expected(asked: Any, n: int, seed: int) -> np.ndarray:
        mine = next(each for each in parts.values() if each.inputs.sample_ids == asked.sample_ids)
        return mine.z

    perfect = SimpleNamespace(name="perfect", genes=transform.genes, mean=expected)
    deaf = SimpleNamespace(
        name="deaf", mean=lambda asked, n, seed: np.random.default_rng(5).normal(size=(len(asked), genes)).astype(np.float32)
    )
    return SimpleNamespace(models={"perfect": perfect, "deaf": deaf}, transform=transform, **parts)


@pytest.fixture(scope="module")
def report() -> mark.MarkReport:
    cohort, inputs = spots()
    return mark.mark_report(cohort, compared(cohort, inputs), models=("perfect", "deaf"), n_best=5, n_boot=60)


def test_genes_are_chosen_by_the_training_counts_and_other_cohorts_stay() -> None:
    cohort, _ = spots()
    chosen = mark.best_measured(cohort, GENES // 2)
    assert list(chosen.profiles.var_names) == [f"G{number}" for number in range(GENES // 2)]
    changed = replace(cohort, profiles=cohort.profiles.copy())
    test = (changed.profiles.obs["split"] == "test").to_numpy()
    changed.profiles.X[test] = changed.profiles.X[test][:, ::-1]  # the test section counts other genes
    assert list(mark.best_measured(changed, GENES // 2).profiles.var_names) == list(chosen.profiles.var_names)
    bulk = replace(cohort, profiles=cohort.profiles.copy())
    bulk.profiles.obs = bulk.profiles.obs.drop(columns="array_x")
    assert mark.best_measured(bulk, 5) is bulk


def test_a_spot_is_read_with_its_section_alone() -> None:
    cohort, inputs = spots()
    obs = cohort.profiles.obs
    wide = surroundings.with_surroundings(inputs["train"], obs)
    assert wide.dim == 3 * DIM and wide.features != inputs["train"].features
    mine = [number for number, name in enumerate(inputs["train"].sample_ids) if name.startswith("C2")]
    alone = surroundings.with_surroundings(inputs["train"].take(mine), obs)  # the other section changes nothing
    for one, number in zip(alone.bags, mine, strict=True):
        np.testing.assert_allclose(one, wide.bags[number], atol=1e-6)
    corner = inputs["train"].sample_ids.index("C2_0x0")
    real = np.arange(len(inputs["train"]), dtype=float)[:, None]
    names = list(inputs["train"].sample_ids)
    want = np.mean([names.index(f"C2_{place}") for place in ("0x1", "1x0", "1x1")])
    assert surroundings.next_spots(real, inputs["train"], obs)[corner, 0] == pytest.approx(want)  # never the spot itself
    with pytest.raises(InputError, match="tile for every spot"):
        bags = (None, *inputs["train"].bags[1:])
        surroundings.with_surroundings(replace(inputs["train"], bags=bags), obs)
    with pytest.raises(InputError, match="place on an array"):
        surroundings.with_surroundings(inputs["train"], obs.drop(columns="section"))


def test_what_stands_around_is_found_where_it_matters_and_not_where_it_does_not(report: mark.MarkReport) -> None:
    kernel, ridge = f"mark_{key_of(mark.KERNEL)}_measured", f"mark_{key_of(RIDGE_FEATURES)}_measured"
    assert report.numbers[kernel].value > report.numbers[ridge].value + 0.1
    cohort, inputs = spots(around=False)
    other = mark.mark_report(cohort, compared(cohort, inputs), models=("perfect",), n_best=5, n_boot=20)
    assert other.numbers[kernel].value < other.numbers[ridge].value + 0.06


def test_the_models_stand_between_chance_and_the_ceiling(report: mark.MarkReport) -> None:
    numbers = report.numbers
    chance, ceiling = numbers["mark_perfect_of_another_spot_measured"], numbers[f"mark_{key_of(mark.CEILING)}_measured"]
    assert numbers["mark_perfect_measured"].value == pytest.approx(1.0)
    assert abs(chance.value) < 0.1 and abs(numbers["mark_deaf_measured"].value) < 0.1  # the broken variant
    assert chance.high < numbers[f"mark_{key_of(mark.KERNEL)}_measured"].value < ceiling.value < 1
    assert numbers["mark_perfect_of_another_spot_best"].value > chance.value + 0.1  # the best of many by chance alone
    assert set(numbers) == set(report.labels)
    said = report.summary("perfect", "deaf")
    assert "perfect: 1.000" in said and "below the mark 0.2" in said and "by chance" in said
    assert {"label", "group", "value", "low", "high", "n"} <= set(report.rows)
    assert str(report.table().index[0]).startswith("mark")


def test_sections_are_held_out_in_turn(report: mark.MarkReport) -> None:
    found = report.numbers[f"sections_{key_of(mark.KERNEL)}_measured"]
    assert found.n == len(SECTIONS) and found.low <= found.value <= found.high
    assert not any(key.startswith("sections_perfect") for key in report.numbers)


def test_the_ceiling_is_the_reliability_that_was_planted() -> None:
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(4000, 3)), [0.5, 1.0, 2.0]
    sides = [signal + np.array(noise) * rng.normal(size=signal.shape) * np.sqrt(2) for _ in range(2)]
    whole = (sides[0] + sides[1]) / 2
    once = np.ones((1, 4000))
    found = mark.reachable(weighted_correlation(*sides, once))[0]
    np.testing.assert_allclose(found, weighted_correlation(signal, whole, once)[0], atol=0.03)
    assert (mark.reachable(np.array([[-0.3, 0.0, 1.0]])) == [[0.0, 0.0, 1.0]]).all()


def test_no_regression_is_chosen_by_test_spots() -> None:
    cohort, inputs = spots()
    parts = compared(cohort, inputs)
    with pytest.raises(SplitError):
        surroundings.kernel_regression(parts.train, parts.test)
    with pytest.raises(SplitError):
        surroundings.kernel_regression(parts.val, parts.train)


def test_the_figure_shows_marks_and_every_model(report: mark.MarkReport) -> None:
    figure = beside_marks(report.panels())
    assert len(figure.axes) == 3
    lines = [{line.get_label() for line in axis.lines} for axis in figure.axes]
    assert ["mark" in names for names in lines] == [True, False, True]
    assert figure.axes[0].get_yticklabels()[0].get_text() == "perfect"
