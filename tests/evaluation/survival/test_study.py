"""A planted hazard is found, noise is not, held-out patients take part in nothing, and bad input is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.data.cohort import Cohort
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.survival import controls as survival_controls
from rnasynth.evaluation.survival import cox
from rnasynth.evaluation.survival import models as survival_models
from rnasynth.evaluation.survival import study as survival
from rnasynth.evaluation.survival.data import stage_number, survival_folds

FACTORS = 24


class Linear:
    """A beta-VAE as far as survival needs it: its latent is the first genes' z-scores, times one or nothing."""

    def __init__(self, part: Cohort, factor: float = 1.0) -> None:
        self.transform, self.factor = Transform.fit(part.only("train").profiles, allow_small=True), factor

    def encode(self, profiles: AnnData) -> np.ndarray:
        return self.factor * np.asarray(profiles.X, dtype=np.float32)[:, :FACTORS]


def cohort(
    n: int = 240, *, effect: float = 1.2, genes: int = 40, seed: int = 0, change: Callable[[pd.DataFrame], Any] | None = None
) -> Cohort:
    """Two tissues of very different hazard; the first gene's log carries the rest of it."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, genes))
    tissue = np.arange(n) % 2
    log_hazard = effect * z[:, 0] + 0.03 * (age := rng.normal(60, 10, n)) - 1.8
    died, seen = 12 * rng.exponential(np.exp(-log_hazard - 2 * tissue)), rng.exponential(20, size=n)
    ids = [f"P{row:03d}" for row in range(n)]
    obs = pd.DataFrame({"sample_id": ids, "patient_id": ids, "split_group": ids}, index=ids)
    obs["tissue"], obs["cohort"], obs["split"] = np.where(tissue, "slow", "fast"), "made", "train"
    obs["age"], obs["sex"], obs["stage"] = age, rng.choice(["male", "female"], n), rng.choice(["I", "II", "IIIA", ""], n)
    obs["survival_months"], obs["event"] = np.minimum(died, seen), (died < seen).astype(float)
    if change is not None:
        change(obs)
    profiles = AnnData(X=np.exp2(6 + z).astype(np.float32), obs=obs, var=pd.DataFrame(index=[f"G{g}" for g in range(genes)]))
    profiles.uns["unit"] = "tpm"
    truth = {"hazard": pd.DataFrame({"patient_id": ids, "log_hazard": log_hazard})}
    return Cohort("made", profiles, None, True, "", (), truth, Path("."))


def study_of(data: Cohort, n: int = 4, **options: Any) -> survival.SurvivalStudy:
    parts = data.folds(n)
    return survival.cross_validated(parts, [Linear(part) for part in parts], n_boot=300, **options)


@pytest.fixture(scope="module")
def planted() -> survival.SurvivalStudy:
    return study_of(cohort())


@pytest.fixture(scope="module")
def noise() -> survival.SurvivalStudy:
    return study_of(cohort(effect=0.0, seed=1))


def test_a_planted_hazard_is_found_and_stays_below_the_truth(planted: survival.SurvivalStudy) -> None:
    numbers = planted.numbers
    assert numbers["concordance_latent"].low > 0.65
    assert numbers["concordance_true_hazard"].value >= numbers["concordance_latent_clinical"].value - 0.03
    assert numbers["gain_latent_over_clinical"].low > 0.05
    assert numbers["gain_latent_over_pca"].value == pytest.approx(
        numbers["concordance_latent"].value - numbers["concordance_pca"].value
    )
    assert list(planted.models["label"]) == [*survival_models.MODELS, survival.TRUE_HAZARD]
    assert "240 patients" in planted.n and planted.headline == "latent + clinical"


def test_intervals_cover_chance_where_there_is_nothing_to_find() -> None:
    covered = []
    for seed in range(16):
        numbers = study_of(cohort(120, effect=0.0, seed=seed)).numbers
        gain = numbers["gain_latent_over_pca"]
        covered.append(
            (numbers["concordance_latent"].low <= 0.5 <= numbers["concordance_latent"].high, gain.low <= 0 <= gain.high)
        )
    assert (np.sum(covered, axis=0) >= 14).all()


def test_concordance_is_what_lifelines_gives_cell_by_cell(planted: survival.SurvivalStudy) -> None:
    from lifelines.utils import concordance_index

    top = below = 0.0
    for _, rows in planted.risks.groupby(["fold", "tissue"]):
        pairs = cox.Pairs(rows["months"].to_numpy(), rows["event"].to_numpy(), np.full(len(rows), "one")).count
        top += pairs * concordance_index(rows["months"], -rows["latent"], rows["event"])
        below += pairs
    assert planted.numbers["concordance_latent"].value == pytest.approx(top / below)


def fitted_on_held_out(patch: pytest.MonkeyPatch, study: survival.SurvivalStudy, **options: Any) -> int:
    """Fit each fold anew, watching whose outcomes the fits and rankings see; number of held-out patients among them."""
    seen: set[float] = set()
    real_init = cox.RiskSets.__init__

    def spy(self: cox.RiskSets, months: Any, event: Any, strata: Any) -> None:
        seen.update(np.asarray(months).tolist())
        real_init(self, months, event, strata)

    found = 0
    patch.setattr(cox.RiskSets, "__init__", spy)
    for fold in study.folds:
        seen.clear()
        everyone = {"ranked_on": np.ones(len(fold.test), dtype=bool)} if options.get("leak") else {}
        survival_models.fit_model(fold, "latent + clinical", **everyone)
        assert len(seen & set(fold.months[~fold.test].tolist())) == (~fold.test).sum()
        found += len(seen & set(fold.months[fold.test].tolist()))
    return found


def test_held_out_outcomes_are_never_seen(planted: survival.SurvivalStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(set(planted.folds[0].months)) == 240  # months name the patient
    assert fitted_on_held_out(monkeypatch, planted) == 0
    assert fitted_on_held_out(monkeypatch, planted, leak=True) == 240  # the broken variant


def test_changed_outcomes_of_held_out_patients_change_no_model(planted: survival.SurvivalStudy) -> None:
    fold = planted.folds[0]
    other = replace(fold, months=np.where(fold.test, 1.0, fold.months), event=np.where(fold.test, 1.0, fold.event))
    for model in survival_models.MODELS:
        np.testing.assert_array_equal(planted.fitted[0][model].risk, survival_models.fit_model(other, model).risk)


def test_scaling_and_fillings_of_a_latent_change_nothing_in_the_concordance(planted: survival.SurvivalStudy) -> None:
    fold = planted.folds[0]
    scaled = replace(fold, blocks={**fold.blocks, "latent": 1000 * fold.blocks["latent"] + 7})
    np.testing.assert_allclose(survival_models.fit_model(scaled, "latent").risk, planted.fitted[0]["latent"].risk, atol=1e-6)


def test_shuffled_outcomes_come_back_at_one_half_and_the_leak_above(planted: survival.SurvivalStudy) -> None:
    control = survival_controls.permuted_control(planted, n_permutations=20)
    leaky = survival_controls.permuted_control(planted, factors="genes", n_permutations=20)

    def honest(interval: Any) -> bool:
        return bool(interval.low <= 0.5 <= interval.high)

    assert honest(control.interval) and honest(leaky.interval)
    assert not honest(control.leaky) and control.leaky.low > 0.5  # the broken variant fails the same assertion
    assert not honest(leaky.leaky) and leaky.leaky.low > 0.5
    assert control.draws.shape == (20, 2) and list(control.table.index) == ["inside the folds", "on all patients (wrong)"]
    with pytest.raises(InputError, match="n_permutations"):
        survival_controls.permuted_control(planted, n_permutations=1)


def test_shuffling_keeps_outcomes_in_their_tissue() -> None:
    labels = np.array(list("aabbbcaab"))
    order = survival_controls.shuffled_within(labels, np.random.default_rng(0))
    assert sorted(order) == list(range(9)) and (labels[order] == labels).all() and (order != np.arange(9)).any()


def test_risk_groups_have_a_like_mix_of_tissues_and_differ(planted: survival.SurvivalStudy) -> None:
    groups = survival.risk_groups(planted)
    assert groups.logrank_p < 1e-4
    assert set(groups.curves) == {"low risk", "high risk"}
    high, low = groups.curves["high risk"], groups.curves["low risk"]
    at_year = [table.loc[table["months"] <= 12, "survival"].iloc[-1] for table in (high, low)]
    assert at_year[0] < at_year[1]
    assert (low["low"].dropna() <= low["survival"][low["low"].notna()] + 1e-12).all()
    assert groups.at_risk.iloc[:, 0].sum() == 240 and (groups.at_risk.diff(axis=1).iloc[:, 1:] <= 0).to_numpy().all()
    assert 90 <= groups.at_risk.iloc[0, 0] <= 150
    with pytest.raises(InputError, match="no such model"):
        survival.risk_groups(planted, "no such model")


def test_risk_groups_of_noise_do_not_differ(noise: survival.SurvivalStudy) -> None:
    assert survival.risk_groups(noise, "latent").logrank_p > 0.01


def test_hazards_that_cross_are_found_and_constant_ones_are_not(planted: survival.SurvivalStudy) -> None:
    table = survival.proportional_hazards(planted)
    assert table["p (Holm)"].min() > 0.01 and (table["p (Holm)"] >= table["p"]).all()
    assert table.loc["latent 1", "hazard ratio a SD"] > 1.5

    def crossing(obs: pd.DataFrame) -> None:
        rng = np.random.default_rng(3)
        old, early = (obs["age"] > 60).to_numpy(), rng.random(len(obs)) < 0.6  # the old die early or never, the young later
        obs["survival_months"] = np.where(old, np.where(early, 2, 60), 20) * rng.uniform(0.8, 1.2, len(obs))
        obs["event"] = np.where(old & ~early, 0.0, 1.0)

    assert survival.proportional_hazards(study_of(cohort(change=crossing)))["p (Holm)"]["age"] < 1e-3


def test_unknown_survival_is_dropped_and_counted() -> None:
    def change(obs: pd.DataFrame) -> None:
        obs.loc[obs.index[:10], "survival_months"] = np.nan
        obs.loc[obs.index[10:15], "event"] = np.nan
        obs.loc[obs.index[15:17], "survival_months"] = -1.0

    study = study_of(cohort(change=change))
    assert len(study.risks) == 223 and "17 of 240 patients without known survival left out" in study.n
    assert not set(study.risks["patient_id"]) & {f"P{row:03d}" for row in range(17)}
    assert study.risks["patient_id"].is_unique


def test_covariates_that_are_absent_or_say_nothing_are_left_out_and_named() -> None:
    def change(obs: pd.DataFrame) -> None:
        del obs["stage"]
        obs["sex"] = np.where(obs["tissue"] == "slow", "female", "male")

    study = study_of(cohort(change=change))
    assert study.folds[0].columns["clinical"] == ["age"]
    assert any("stage (absent)" in note for note in study.notes) and any("sex (unknown" in note for note in study.notes)
    bare = study_of(cohort(change=lambda obs: obs.drop(columns=["stage", "sex", "age"], inplace=True)))
    assert bare.headline == "latent" and "concordance_clinical" not in bare.numbers
    assert "gain_latent_over_pca" in bare.numbers and survival.risk_groups(bare).logrank_p < 0.01


def test_unknown_stages_have_an_indicator_and_no_nan(planted: survival.SurvivalStudy) -> None:
    assert planted.folds[0].columns["clinical"] == ["age", "stage", "stage unknown", "male"]
    assert all(np.isfinite(fold.blocks["clinical"]).all() for fold in planted.folds)
    assert [stage_number(text) for text in ("Stage IIIB", "iv", "0")] == [3, 4, 0] and np.isnan(stage_number("GX"))


def test_one_tissue_and_no_censoring_are_no_obstacle() -> None:
    def change(obs: pd.DataFrame) -> None:
        obs["tissue"], obs["event"] = "one", 1.0

    assert study_of(cohort(change=change)).numbers["concordance_latent"].low > 0.6


def no_columns(obs: pd.DataFrame) -> None:
    del obs["survival_months"], obs["event"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (no_columns, r"cohort made.*no survival_months and no event.*manifest"),
        (lambda obs: obs.__setitem__("event", 0.0), r"cohort made.*all censored"),
        (lambda obs: obs.__setitem__("event", np.nan), r"cohort made.*0 patients with known survival"),
        (lambda obs: obs.__setitem__("event", (np.arange(len(obs)) < 9).astype(float)), r"fold 1.*10 deaths.*fewer folds"),
    ],
)
def test_cohorts_without_enough_survival_are_named(change: Callable[[pd.DataFrame], None], said: str) -> None:
    with pytest.raises(InputError, match=said):
        study_of(cohort(change=change))


def test_fewer_patients_than_folds_is_refused() -> None:
    with pytest.raises(SplitError, match="fewer folds"):
        study_of(cohort(n=4), n=5)
    with pytest.raises(InputError, match=r"10 deaths to fit on, 2 patients to test"):
        study_of(cohort(n=12), n=3)


def test_a_collapsed_latent_and_systems_of_other_folds_are_refused() -> None:
    parts = cohort().folds(4)
    with pytest.raises(InputError, match="posterior collapse"):
        survival_folds(parts, [Linear(part, factor=0.0) for part in parts])
    with pytest.raises(InputError, match="4 parts, 1 systems"):
        survival_folds(parts, [Linear(parts[0])])
    with pytest.raises(SplitError, match="tested in one fold"):
        survival_folds([parts[0], parts[0], parts[1], parts[2]], [Linear(part) for part in parts])
