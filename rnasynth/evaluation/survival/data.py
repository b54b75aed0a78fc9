"""What survival models are made of, fold by fold: outcomes, clinical covariates, latents and principal components."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from rnasynth.errors import InputError, SplitError

Floats = NDArray[np.float64]
MIN_DEATHS = 10  # among the patients that a fold's models are fitted on
STAGES = {"0": 0.0, "I": 1.0, "II": 2.0, "III": 3.0, "IV": 4.0}


@dataclass(frozen=True, eq=False)
class SurvivalFold:
    """The patients of one part of a cross-validation whose survival is known.

    Attributes
    ----------
    patients, tissue : shape (n,), one row a patient.
    months : shape (n,), to death or last contact.
    event : shape (n,), 1 died, 0 alive at last contact.
    test : shape (n,), held out: neither the latent nor any survival model saw them.
    blocks : name ("clinical", "latent", "PCA", "genes") -> shape (n, columns); not standardised, no NaN.
    columns : name -> the columns' names.
    log_hazard : shape (n,), as planted by the simulator; None for patients of flesh and blood.
    """

    patients: NDArray[np.str_]
    tissue: NDArray[np.str_]
    months: Floats
    event: Floats
    test: NDArray[np.bool_]
    blocks: dict[str, Floats]
    columns: dict[str, list[str]]
    log_hazard: Floats | None = None


@dataclass(frozen=True)
class Dropped:
    """What was left out before any model was fitted.

    Attributes
    ----------
    patients : number of patients in the cohort.
    unknown : of them without known survival.
    repeats : further samples of a patient that has one already.
    covariates : clinical covariates that are absent, or do not vary within a tissue.
    """

    patients: int
    unknown: int
    repeats: int
    covariates: tuple[str, ...]


def survival_folds(parts: Sequence[Any], systems: Sequence[Any], *, seed: int = 0) -> tuple[list[SurvivalFold], Dropped]:
    """Join outcomes, covariates and factors for each part of a cross-validation.

    Parameters
    ----------
    parts : cohorts of `Cohort.folds`, each with its own splits; `obs` has survival_months and event.
    systems : the beta-VAE trained on each part, in the same order.
    seed : of the principal components' solver.

    Returns
    -------
    One `SurvivalFold` a part, and what was dropped. Principal components are fitted on the z-scores of the part's
    "train" samples, as many as the latent has dimensions, all their patients included (no outcome is used).

    Raises
    ------
    InputError : no survival columns, all patients censored, too few patients or deaths for the folds, systems that do
        not match the parts, or latents that do not vary.
    SplitError : a patient is tested in several folds, or in none.
    """
    if len(parts) != len(systems) or len(parts) < 2:
        raise InputError(
            "survival folds",
            expected="two or more parts, a system each",
            found=f"{len(parts)} parts, {len(systems)} systems",
        )
    table, dropped = _outcomes(parts[0])
    clinical, left_out = _clinical(table)
    hazard = parts[0].truth.get("hazard") if parts[0].simulated else None
    folds = []
    for number, (part, system) in enumerate(zip(parts, systems, strict=True)):
        _check_fold(part, table, number)
        rows = part.profiles.obs_names.get_indexer(table.index)
        transformed = system.transform.apply(part.profiles)
        z, latent = np.asarray(transformed.X, np.float32), np.asarray(system.encode(transformed), np.float64)
        train = (part.profiles.obs["split"].astype(str) == "train").to_numpy()
        size = min(latent.shape[1], int(train.sum()) - 1, z.shape[1])
        components = PCA(size, random_state=seed).fit(z[train]).transform(z)
        if not (latent[rows].std(axis=0) > 1e-8).any():
            raise InputError(
                f"latent of fold {number + 1}",
                expected="dimensions that vary between patients",
                found="none (posterior collapse)",
                fix="lower beta or train longer; see page 04",
            )
        blocks = {
            "clinical": clinical.to_numpy(np.float64),
            "latent": latent[rows],
            "PCA": np.asarray(components, np.float64)[rows],
            "genes": z[rows].astype(np.float64),
        }
        columns = {
            "clinical": list(clinical.columns),
            "latent": [f"latent {i + 1}" for i in range(latent.shape[1])],
            "PCA": [f"component {i + 1}" for i in range(size)],
            "genes": [str(name) for name in transformed.var_names],
        }
        split = part.profiles.obs["split"].astype(str).to_numpy()[rows]
        patients = table["patient_id"].to_numpy(dtype=str)
        folds.append(
            SurvivalFold(
                patients=patients,
                tissue=table["tissue"].to_numpy(dtype=str),
                months=table["survival_months"].to_numpy(np.float64),
                event=table["event"].to_numpy(np.float64),
                test=split == "test",
                blocks=blocks,
                columns=columns,
                log_hazard=None if hazard is None else hazard.set_index("patient_id")["log_hazard"][patients].to_numpy(),
            )
        )
    times = np.sum([fold.test for fold in folds], axis=0)
    if (times != 1).any():
        odd = folds[0].patients[times != 1][0]
        raise SplitError(
            f"patient {odd}", expected="tested in one fold", found=f"in {times[times != 1][0]}", fix="use Cohort.folds"
        )
    return folds, Dropped(*dropped, covariates=left_out)


def _outcomes(cohort: Any) -> tuple[pd.DataFrame, tuple[int, int, int]]:
    """Return the obs rows of patients with known survival, one a patient, and (patients, unknown, repeats)."""
    obs = cohort.profiles.obs
    if missing := [name for name in ("survival_months", "event") if name not in obs]:
        raise InputError(
            f"cohort {cohort.name}",
            expected="columns survival_months and event (1 = died) for each sample",
            found=f"no {' and no '.join(missing)}",
            fix="choose simulated, tcga-xena or porpoise, or add the columns to the table of your manifest",
        )
    one = obs[~obs["patient_id"].astype(str).duplicated()]
    months, event = (pd.to_numeric(one[name], errors="coerce") for name in ("survival_months", "event"))
    known = np.isfinite(months) & (months >= 0) & event.isin([0, 1])
    table = one[known.to_numpy()].copy()
    table["survival_months"], table["event"] = months[known].astype(float), event[known].astype(float)
    if not len(table) or not (table["event"] == 1).any():
        raise InputError(
            f"cohort {cohort.name}",
            expected="patients who died (event 1)",
            found=f"{len(table)} patients with known survival, "
            + ("all censored" if len(table) else "out of " + str(len(one))),
            fix="check the column event: 1 = died, 0 = alive at last contact",
        )
    return table, (len(one), int((~known).sum()), len(obs) - len(one))


def _check_fold(part: Any, table: pd.DataFrame, number: int) -> None:
    obs = part.profiles.obs
    if absent := sorted(set(table.index) - set(part.profiles.obs_names)):
        raise InputError(f"fold {number + 1}, sample {absent[0]}", expected="the same samples in all parts", found="absent")
    test = (obs.loc[table.index, "split"].astype(str) == "test").to_numpy()
    if crossing := sorted(set(table["split_group"].astype(str)[test]) & set(table["split_group"].astype(str)[~test])):
        raise SplitError(f"fold {number + 1}, split group {crossing[0]}", expected="tested or fitted on", found="both")
    deaths = int(table["event"].to_numpy()[~test].sum())
    if deaths < MIN_DEATHS or test.sum() < 2:
        raise InputError(
            f"cohort {part.name}, fold {number + 1}",
            expected=f"{MIN_DEATHS} deaths to fit on, 2 patients to test",
            found=f"{deaths} deaths, {int(test.sum())} test patients with known survival",
            fix="use a cohort with more patients, or fewer folds",
        )


def _clinical(table: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return age (years), stage (0 to 4) and sex (1 male), NaN filled beside an indicator, and what was left out."""
    raw = {
        "age": pd.to_numeric(table["age"], errors="coerce") if "age" in table else None,
        "stage": table["stage"].map(stage_number) if "stage" in table else None,
        "male": table["sex"].astype(str).str.lower().map({"male": 1.0, "female": 0.0}) if "sex" in table else None,
    }
    tissue = table["tissue"].astype(str)
    columns: dict[str, pd.Series] = {}
    left_out = []
    for name, values in raw.items():
        shown = "sex" if name == "male" else name
        if values is None:
            left_out.append(f"{shown} (absent)")
            continue
        if not (values.groupby(tissue).nunique() > 1).any():
            left_out.append(f"{shown} (unknown or the same for all patients of a tissue)")
            continue
        unknown = values.isna().astype(float)
        # The middle of what is known in the tissue; no outcome is used, and the indicator takes up the rest.
        middle = values.groupby(tissue).transform("median").fillna(values.median())
        columns[name] = values.fillna(middle).astype(float)
        if (unknown.groupby(tissue).nunique() > 1).any():
            columns[f"{shown} unknown"] = unknown
    return pd.DataFrame(columns, index=table.index), tuple(left_out)


def stage_number(stage: Any) -> float:
    """Return 0 to 4 for an AJCC stage ("Stage IIIA" -> 3.0), NaN where it is none.

    Examples
    --------
    >>> [stage_number(text) for text in ("I", "Stage IIIA", "iv", "0", "not applicable")]
    [1.0, 3.0, 4.0, 0.0, nan]
    """
    found = re.fullmatch(r"(?:stage\s*)?(iv|i{1,3}|0)[abc]?\d?", str(stage).strip().lower())
    return STAGES[found.group(1).upper()] if found else float("nan")
