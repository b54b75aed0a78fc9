"""Is a latent prognostic? Cox models in nested cross-validation, judged on patients that took part in nothing.

In each fold, scaling, choice of factors, their number and the penalty come from the patients that the models are fitted
on; held-out patients are scored once. Choosing factors on all patients first is the classic mistake, and
`controls` shows what it gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.statistics import proportional_hazard_test

from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval
from rnasynth.evaluation.survival import cox
from rnasynth.evaluation.survival.data import Floats, SurvivalFold, survival_folds
from rnasynth.evaluation.survival.models import MODELS, FittedModel, fit_model

TRUE_HAZARD = "true log hazard"
KEYS = {
    "clinical": "clinical",
    "latent": "latent",
    "PCA": "pca",
    "latent + clinical": "latent_clinical",
    "PCA + clinical": "pca_clinical",
    TRUE_HAZARD: "true_hazard",
}
DIFFERENCES = {  # name of the number -> (model, less model)
    "gain_latent_over_clinical": ("latent + clinical", "clinical"),
    "gain_latent_over_pca": ("latent", "PCA"),
}


@dataclass(frozen=True, eq=False)
class SurvivalStudy:
    """Models of survival compared on held-out patients.

    Attributes
    ----------
    numbers : name -> interval: concordance_MODEL, and the paired differences gain_latent_over_clinical and
        gain_latent_over_pca.
    labels : name -> what it is, in words.
    models : rows for a chart: label, value, low, high, n.
    table : the same as text, with the factors taken and the pairs compared.
    differences : the paired differences as text.
    n : patients and deaths, and how many were dropped, in words.
    notes : covariates left out, in words.
    headline : the model of the risk groups: "latent + clinical", or "latent" where no covariate is known.
    risks : a row a patient: patient_id, fold, tissue, months, event and, a column a model, the held-out risk.
    folds : what went in.
    fitted : a dictionary a fold, model -> `FittedModel`.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    models: pd.DataFrame
    table: pd.DataFrame
    differences: pd.DataFrame
    n: str
    notes: tuple[str, ...]
    headline: str
    risks: pd.DataFrame
    folds: list[SurvivalFold] = field(repr=False)
    fitted: list[dict[str, FittedModel]] = field(repr=False)


def cross_validated(parts: Sequence[Any], systems: Sequence[Any], *, seed: int = 0, n_boot: int = 1000) -> SurvivalStudy:
    """Fit the models in each part of a cross-validation and compare them on the patients held out.

    Parameters
    ----------
    parts : cohorts of `Cohort.folds`.
    systems : the beta-VAE trained on each, see `data.survival_folds`.
    seed : of the inner folds and of the bootstrap.
    n_boot : resamples of patients, within their fold.

    Returns
    -------
    Concordance counts only pairs of the same fold and tissue, so no model gains by telling tissues apart. Its intervals
    speak for the patients, with the fitted models as they are; folds share most of their fitting patients. Where nothing was
    planted they held 0.5 in 95 of 100 made cohorts of 120 patients, and in 53 of 60 of 400.

    Raises
    ------
    InputError, SplitError : see `data.survival_folds`; or no two patients can be compared.
    """
    folds, dropped = survival_folds(parts, systems, seed=seed)
    names = [name for name, (clinical, _) in MODELS.items() if not clinical or folds[0].columns["clinical"]]
    fitted = [{name: fit_model(fold, name, seed=seed) for name in names} for fold in folds]
    risks = _held_out(folds, fitted, names)
    if folds[0].log_hazard is not None:
        names.append(TRUE_HAZARD)
    numbers, count = _compare(risks, names, n_boot=n_boot, seed=seed)
    labels = {f"concordance_{KEYS[name]}": f"concordance within tissue, {name}" for name in names}
    labels |= {key: f"{a}, less {b}" for key, (a, b) in DIFFERENCES.items() if key in numbers}
    label_n = f"{len(risks):,} patients, {int(risks['event'].sum()):,} deaths"
    if dropped.unknown:
        label_n += f"; {dropped.unknown:,} of {dropped.patients:,} patients without known survival left out"
    if dropped.repeats:
        label_n += f"; {dropped.repeats:,} further samples of the same patients left out"
    rows, text = [], {}
    for name in names:
        interval = numbers[f"concordance_{KEYS[name]}"]
        rows.append({"label": name, **interval.to_dict()})
        text[name] = {"concordance": str(interval), "covariates": _taken(fitted, name), "pairs compared": f"{count:,}"}
    differences = [{"concordance": labels[key], "difference": str(numbers[key])} for key in DIFFERENCES if key in numbers]
    return SurvivalStudy(
        numbers=numbers,
        labels=labels,
        models=pd.DataFrame(rows),
        table=pd.DataFrame.from_dict(text, orient="index").rename_axis("model"),
        differences=pd.DataFrame(differences).set_index("concordance"),
        n=label_n,
        notes=tuple(f"Left out of the clinical model: {name}." for name in dropped.covariates),
        headline="latent + clinical" if "latent + clinical" in names else "latent",
        risks=risks,
        folds=folds,
        fitted=fitted,
    )


def _held_out(folds: list[SurvivalFold], fitted: list[dict[str, FittedModel]], names: list[str]) -> pd.DataFrame:
    tables = []
    for number, (fold, models) in enumerate(zip(folds, fitted, strict=True)):
        columns: dict[str, Any] = {
            "patient_id": fold.patients,
            "fold": number + 1,
            "tissue": fold.tissue,
            "months": fold.months,
            "event": fold.event,
        }
        columns |= {name: models[name].risk for name in names}
        if fold.log_hazard is not None:
            columns[TRUE_HAZARD] = fold.log_hazard
        tables.append(pd.DataFrame(columns)[fold.test])
    return pd.concat(tables, ignore_index=True)


def held_out_pairs(risks: pd.DataFrame) -> cox.Pairs:
    """Return the comparable pairs of held-out patients: same fold, same tissue.

    Raises
    ------
    InputError : there is none.
    """
    cells = (risks["fold"].astype(str) + "|" + risks["tissue"]).to_numpy(dtype=str)
    pairs = cox.Pairs(risks["months"].to_numpy(), risks["event"].to_numpy(), cells)
    if not pairs.count:
        raise InputError(
            "held-out patients",
            expected="pairs of one fold and tissue of which one is known to have died first",
            found="none",
            fix="use fewer folds, or tissues with more deaths",
        )
    return pairs


def _compare(risks: pd.DataFrame, names: list[str], *, n_boot: int, seed: int) -> tuple[dict[str, Interval], int]:
    pairs = held_out_pairs(risks)
    values = {name: risks[name].to_numpy() for name in names}
    at = {name: pairs.concordance(risk) for name, risk in values.items()}
    draws = pairs.resampled(values, n_boot=n_boot, seed=seed, within=risks["fold"])
    method = f"percentile bootstrap over patients within their fold, {n_boot} resamples, 95%"
    n = len(risks)
    numbers = {f"concordance_{KEYS[m]}": cox.percentile_interval(at[m], draws[m], n, method) for m in names}
    for key, (a, b) in DIFFERENCES.items():
        if a in at and b in at:
            numbers[key] = cox.percentile_interval(at[a] - at[b], draws[a] - draws[b], n, f"paired {method}")
    return numbers, pairs.count


def _taken(fitted: list[dict[str, FittedModel]], name: str) -> str:
    if name not in fitted[0]:
        return "planted"
    counts = [len(models[name].columns) for models in fitted]
    return f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0])


@dataclass(frozen=True, eq=False)
class RiskGroups:
    """Held-out patients by predicted risk.

    Attributes
    ----------
    curves : "high risk", "low risk" -> table with months, survival, low, high (95 %, log-log), censored (last contacts).
    at_risk : index group, columns months: how many are still under observation.
    logrank_p : stratified by tissue.
    n : patients and deaths of each group, in words.
    """

    curves: dict[str, pd.DataFrame]
    at_risk: pd.DataFrame
    logrank_p: float
    n: str


def risk_groups(study: SurvivalStudy, model: str | None = None) -> RiskGroups:
    """Split held-out patients at the median risk of their fold's fitting patients of the same tissue.

    Parameters
    ----------
    model : a column of `study.risks`; None: `study.headline`.

    Returns
    -------
    Cutting within the tissue gives both groups the same mix of tissues; the log-rank test adds up deaths observed less
    expected over tissues (`cox.log_rank`). Curves and bands are Kaplan and Meier's, by lifelines, over all tissues.

    Raises
    ------
    InputError : no such model, or all patients fall into one group.
    """
    model = study.headline if model is None else model
    if model not in study.fitted[0]:
        raise InputError(f"model {model!r}", expected=f"one of {', '.join(study.fitted[0])}", found="unknown")
    risks = study.risks
    high = np.zeros(len(risks), dtype=bool)
    for number, (fold, models) in enumerate(zip(study.folds, study.fitted, strict=True)):
        risk = models[model].risk
        for tissue in np.unique(fold.tissue):
            seen = ~fold.test & (fold.tissue == tissue)
            cut = np.median(risk[seen] if seen.any() else risk[~fold.test])
            here = ((risks["fold"] == number + 1) & (risks["tissue"] == tissue)).to_numpy()
            high[here] = risks.loc[here, model].to_numpy() > cut
    months, event = risks["months"].to_numpy(), risks["event"].to_numpy()
    curves, at_risk, words = {}, {}, []
    ticks = _month_ticks(months)
    for name, chosen in (("low risk", ~high), ("high risk", high)):
        if not chosen.any():
            raise InputError(f"risk groups of {model}", expected="patients in both groups", found=f"none at {name}")
        curves[name] = _kaplan_meier(months[chosen], event[chosen])
        at_risk[name] = [int((months[chosen] >= tick).sum()) for tick in ticks]
        words.append(f"{int(chosen.sum()):,} at {name} ({int(event[chosen].sum()):,} deaths)")
    table = pd.DataFrame.from_dict(at_risk, orient="index", columns=ticks)
    return RiskGroups(curves, table, cox.log_rank(high, months, event, risks["tissue"]), ", ".join(words))


def _month_ticks(months: Floats) -> list[int]:
    """Whole years, five to seven of them, up to where one patient in twenty is still under observation."""
    end = float(np.quantile(months, 0.95))
    step = next((step for step in (6, 12, 24, 36, 48, 60, 120) if end / step <= 7), 240)
    return list(range(0, int(np.ceil(end / step)) * step + 1, step))


def _kaplan_meier(months: Floats, event: Floats) -> pd.DataFrame:
    estimate = KaplanMeierFitter().fit(months, event)
    ends = estimate.confidence_interval_
    table = pd.DataFrame(
        {
            "months": estimate.survival_function_.index.to_numpy(np.float64),
            "survival": estimate.survival_function_.iloc[:, 0].to_numpy(),
            "low": ends.iloc[:, 0].to_numpy(),
            "high": ends.iloc[:, 1].to_numpy(),
        }
    )
    table["censored"] = estimate.event_table["censored"].to_numpy().astype(int)
    return table


def proportional_hazards(study: SurvivalStudy, model: str | None = None) -> pd.DataFrame:
    """Check on the fitting patients of the first fold whether each hazard ratio is constant over time.

    Parameters
    ----------
    model : a key of `study.fitted[0]`; None: `study.headline`.

    Returns
    -------
    A row a covariate: hazard ratio a standard deviation, chi-square and p of the scaled Schoenfeld residuals against the
    rank of time (Grambsch and Therneau, Biometrika 1994; `lifelines`), and p by Holm. The model is the fold's, fitted
    again by `lifelines.CoxPHFitter` with the same penalties, by which the test is approximate.
    """
    model = study.headline if model is None else model
    fitted, fold = study.fitted[0][model], study.folds[0]
    fit = ~fold.test
    table = pd.DataFrame(fitted.x[fit], columns=fitted.columns)
    table["months"], table["event"], table["tissue"] = fold.months[fit], fold.event[fit], fold.tissue[fit]
    fitter = CoxPHFitter(penalizer=fitted.penalties).fit(table, "months", "event", strata=["tissue"])
    found = proportional_hazard_test(fitter, table, time_transform="rank")
    p = np.asarray(found.p_value, dtype=np.float64)
    order = np.argsort(p)
    holm = np.empty(len(p))
    holm[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    rows = {
        "hazard ratio a SD": np.exp(fitter.params_[found.name].to_numpy()),
        "chi-square": np.asarray(found.test_statistic),
        "p": p,
        "p (Holm)": holm,
    }
    return pd.DataFrame(rows, index=pd.Index(found.name, name="covariate"))
