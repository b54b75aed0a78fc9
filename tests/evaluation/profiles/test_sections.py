"""Sections held out in turn: nothing of the unseen one is used, a deaf model is not above a mark, and records are joined."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from rnasynth.data.cohort import Cohort
from rnasynth.data.patients import PatientInputs
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.profiles import mark, sections
from rnasynth.evaluation.profiles.baselines import RIDGE_FEATURES, ridge_features
from rnasynth.evaluation.profiles.pairs import pair
from rnasynth.plots.profiles import beside_marks
from tests.evaluation.profiles.test_mark import GENES, SECTIONS, compared, spots

KEPT, BEST = GENES // 2, 5
SYSTEMS = ("good", "deaf")


class Trained:
    """What a run loads: one that was fitted on the training spots of its fold, or one that says noise."""

    def __init__(self, name: str, fold: Cohort, inputs: dict[str, PatientInputs]) -> None:
        self.name, self._inputs = name, inputs
        self.transform = Transform.fit(fold.only("train").profiles, scale="cp10k", allow_small=True)
        train, val = (pair(self.inputs(fold, split), fold.profiles, self.transform) for split in ("train", "val"))
        self._ridge = ridge_features(train, val)

    def inputs(self, cohort: Cohort, split: str) -> PatientInputs:
        every = {name: (part, row) for part in self._inputs.values() for row, name in enumerate(part.sample_ids)}
        found = [every[str(name)] for name in cohort.only(split).profiles.obs["sample_id"]]
        bags = tuple(part.bags[row] for part, row in found)
        names = tuple(part.sample_ids[row] for part, row in found)
        return PatientInputs(names, bags, ("",) * len(bags), ("immune",) * len(bags), "made")

    def mean(self, asked: PatientInputs, n: int, seed: int) -> np.ndarray:
        if self.name == "deaf":
            return np.random.default_rng(5).normal(size=(len(asked), KEPT)).astype(np.float32)
        return self._ridge.mean(asked)


@pytest.fixture(scope="module")
def turns() -> tuple[Cohort, dict[str, PatientInputs], list[Any], list[Cohort]]:
    """The cohort, its inputs, records as a page would keep them, and what was trained on."""
    cohort, inputs = spots()
    folds: list[Cohort] = []

    def train(name: str, fold: Cohort, preset: str, *, overrides: list[str], progress: bool) -> Any:
        assert preset == "demo" and overrides == ["train.seed=3"]
        folds.append(fold)
        return SimpleNamespace(system_name=name, load=lambda: Trained(name, fold, inputs))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "train_preset", train)
        kept = [
            (run.system_name, title, rows)
            for title, run, rows in sections.in_turn(cohort, "demo", systems=SYSTEMS, n_genes=KEPT, n_best=BEST, seed=3)
        ]
    return cohort, inputs, [as_record(name, rows, title) for name, title, rows in kept], folds


def as_record(system: str, rows: pd.DataFrame, title: str = "", cohort: str = "made") -> Any:
    lines = [{"kind": "train", "step": 1}, *({"kind": "test", **row} for row in rows.to_dict("records"))]
    return SimpleNamespace(facts={"system": system, "cohort": cohort, "title": title}, lines=lines)


def changed(record: Any, **facts: Any) -> Any:
    lines = [{**line, **facts} if line["kind"] == "test" else line for line in record.lines]
    return SimpleNamespace(facts=dict(record.facts), lines=lines)


def value(record: Any, column: str) -> float:
    return float(record.lines[-1][column])


def test_each_section_is_unseen_once_and_nothing_is_chosen_by_it(turns: Any) -> None:
    cohort, _, records, folds = turns
    assert [record.lines[-1]["section"] for record in records[::2]] == [
        str(fold.only("test").profiles.obs["section"].iloc[0]) for fold in folds[::2]
    ]
    assert {record.lines[-1]["section"] for record in records} == set(SECTIONS) and len(records) == 8
    assert all("held out" in record.facts["title"] for record in records)
    for fold in folds:
        counted = fold.profiles.obs.groupby("split")["section"].nunique()
        assert counted.to_dict() == {"train": 2, "val": 1, "test": 1}
    # a section whose counts are turned about changes no gene, scale or pattern of its own turn
    spoiled = replace(folds[0], profiles=cohort.profiles.copy())
    spoiled.profiles.obs = folds[0].profiles.obs
    unseen = (spoiled.profiles.obs["split"] == "test").to_numpy()
    spoiled.profiles.X[unseen] = spoiled.profiles.X[unseen][:, ::-1]
    again = mark.best_measured(spoiled, KEPT)
    assert list(again.profiles.var_names) == list(folds[0].profiles.var_names)
    assert Transform.fit(again.only("train").profiles, scale="cp10k", allow_small=True) == Transform.fit(
        folds[0].only("train").profiles, scale="cp10k", allow_small=True
    )


def test_a_turn_says_what_the_page_says_of_its_own_split(turns: Any) -> None:
    cohort, inputs, records, folds = turns
    fold = cohort.folds(len(SECTIONS), seed=3)[0]
    good, deaf = (Trained(name, folds[0], inputs) for name in SYSTEMS)
    mine = compared(fold, {split: good.inputs(fold, split) for split in ("train", "val", "test")})
    mine.models = {"good": good, "deaf": deaf}
    found = mark.mark_report(fold, mine, models=SYSTEMS, n_best=BEST, n_boot=10, seed=3).numbers
    names = {"": "good", "together": f"good {mark.TOGETHER}", "another": f"good {mark.ANOTHER}"} | sections.BESIDE
    for what, label in names.items():
        for kind in ("measured", "first", "best"):
            recorded = value(records[0], "_".join(filter(None, ("mean", kind, what))))
            assert recorded == pytest.approx(found[f"mark_{key_of(label)}_{kind}"].value, abs=1e-6), label


def test_regressions_of_the_turns_are_those_made_without_training(turns: Any) -> None:
    cohort, inputs, records, _ = turns
    live = {
        row["key"]: row["value"] for row in mark.regressions_in_turn(cohort, compared(cohort, inputs), n_best=BEST, seed=3)
    }
    for what, label in (("kernel", mark.KERNEL), ("ridge", RIDGE_FEATURES)):
        mean = np.mean([value(record, f"mean_measured_{what}") for record in records[::2]])
        assert mean == pytest.approx(live[f"sections_{key_of(label)}_measured"], abs=1e-4)


def test_records_are_joined_by_students_t_and_said_as_they_are(turns: Any) -> None:
    cohort, _, records, _ = turns
    found = sections.joined(records, cohort, "demo", systems=SYSTEMS)
    assert found is not None and found.sections == tuple(sorted(SECTIONS)) and found.seeds == (3,)
    good = [value(record, "mean_measured") for record in records[::2]]
    interval = found.numbers["turns_good_measured"]
    want = scipy.stats.t.interval(0.95, 3, np.mean(good), scipy.stats.sem(good))
    assert (interval.value, interval.low, interval.high) == pytest.approx((np.mean(good), *want))
    assert "3 degrees of freedom" in interval.method and interval.n == 4
    gain = found.numbers[f"turns_gain_good_and_kernel__mean__over__{key_of(RIDGE_FEATURES)}_best"]
    pairs = [value(record, "mean_best_together") - value(record, "mean_best_ridge") for record in records[::2]]
    assert gain.value == pytest.approx(np.mean(pairs))
    assert found.numbers["turns_good_measured"].low > 0.2 > found.numbers["turns_deaf_measured"].high  # the broken variant
    assert abs(found.numbers["turns_good_of_another_spot_measured"].value) < 0.1
    assert found.numbers["turns_gain_good__over__good_of_another_spot_measured"].low > 0
    assert set(found.numbers) == set(found.labels)
    said = found.summary()
    assert "above the mark 0.2" in said and f"above good {mark.ANOTHER}" in said and "not shown to be above ridge" in said
    assert "3 degrees of freedom" in found.caption and all(name in found.of for name in SECTIONS)
    assert list(found.table().index)[:2] == ["good", found.together] and found.table().notna().all(axis=None)
    figure = beside_marks(found.panels())
    assert len(figure.axes) == 3
    assert 4 * len(found.table()) in {len(line.get_xdata()) for line in figure.axes[0].lines}  # type: ignore[arg-type]


def test_a_deaf_reference_is_not_above_anything(turns: Any) -> None:
    cohort, _, records, _ = turns
    deaf = [changed(record) for record in records[::2]]
    for record, other in zip(deaf, records[1::2], strict=True):
        record.lines[-1] |= {key: other.lines[-1][key] for key in ("mean_measured", "mean_first", "mean_best")}
    found = sections.joined(deaf, cohort, "demo", systems=("good",))
    assert found is not None
    own = found.summary().split(mark.TOGETHER)[0]
    assert "below the mark 0.2" in own and f"below {RIDGE_FEATURES}" in own and "not shown to be above good of" in own


def test_other_records_are_left_out_and_broken_ones_refused(turns: Any) -> None:
    cohort, _, records, _ = turns
    assert sections.joined([], cohort, "demo", systems=SYSTEMS) is None
    assert sections.joined(records, cohort, "gpu", systems=SYSTEMS) is None
    other = replace(cohort, name="other")
    assert sections.joined(records, other, "demo", systems=SYSTEMS) is None
    assert sections.joined([changed(record, section="D1") for record in records], cohort, "demo", systems=SYSTEMS) is None
    with pytest.raises(InputError, match=r"each section once.*twice"):
        sections.joined([*records, records[0]], cohort, "demo", systems=SYSTEMS)
    with pytest.raises(InputError, match="of each system"):
        sections.joined(records[:-1], cohort, "demo", systems=SYSTEMS)
    seeds = [changed(record, seed=4, mean_measured=0.0) for record in records]  # a second seed: halves, still four sections
    once, both = (sections.joined(rows, cohort, "demo", systems=SYSTEMS) for rows in (records, [*records, *seeds]))
    assert once is not None and both is not None
    key = "turns_good_measured"
    assert both.numbers[key].value == pytest.approx(once.numbers[key].value / 2) and both.numbers[key].n == 4
