"""Clinical tables of several sources -> the same columns; and the text that a network may read, without the label.

Columns (those a table knows): patient_id, age (years), sex ("female" | "male"), race, stage ("I".."IV"), grade, histology,
disease, subtype, site, notes; survival_months (float, NaN where unknown) and event (1.0 died, 0.0 alive at last contact).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from rnasynth.data.genes import few
from rnasynth.data.profiles import patient_of
from rnasynth.data.public_forms import read_r_frame
from rnasynth.data.streams import open_stream
from rnasynth.errors import InputError

ClinicalKind = Literal["auto", "xena", "porpoise", "rtcga", "cognoma", "gtex"]
DAYS_A_MONTH = 365.25 / 12
LABEL_FIELDS = ("disease", "cohort", "tissue", "oncotree_code", "subtype", "acronym", "site")
OUTCOME_FIELDS = ("survival_months", "event")  # never text: they are what survival models predict
HIDDEN = "[...]"
_UNKNOWN = {"", "nan", "none", "n/a", "na", "null"}
_PHRASES = {  # in the order of the text
    "age": "Age {}.",
    "sex": "Sex {}.",
    "race": "Race {}.",
    "disease": "Diagnosis {}.",
    "subtype": "Subtype {}.",
    "tissue": "Tissue {}.",
    "site": "Site {}.",
    "histology": "Histology {}.",
    "stage": "Stage {}.",
    "grade": "Grade {}.",
    "categories": "Findings: {}.",
    "notes": "Notes: {}.",
}
_SIMPLE = {
    "porpoise": {"case_id": "patient_id", "site": "source_site", "oncotree_code": "oncotree_code", "age": "age"},
    "cognoma": {
        "patient_id": "patient_id",
        "acronym": "acronym",
        "disease": "disease",
        "age_diagnosed": "age",
        "gender": "sex",
        "race": "race",
        "ajcc_stage": "stage",
        "histological_type": "histology",
        "histological_grade": "grade",
    },
    "rtcga": {
        "patient.bcr_patient_barcode": "patient_id",
        "admin.disease_code": "acronym",
        "patient.age_at_initial_pathologic_diagnosis": "age",
        "patient.gender": "sex",
        "patient.race": "race",
        "patient.stage_event.pathologic_stage": "stage",
        "patient.histological_type": "histology",
        "patient.neoplasm_histologic_grade": "grade",
    },
    "gtex": {
        "Subject ID": "patient_id",
        "Tissue Sample ID": "sample_id",
        "Tissue": "tissue",
        "Sex": "sex",
        "Age Bracket": "age_bracket",
        "Hardy Scale": "hardy_scale",
        "Pathology Categories": "categories",
        "Pathology Notes": "notes",
    },
}
_SIMPLE["xena"] = {**_SIMPLE["porpoise"], "stage": "stage", "grade": "grade", "subtype": "subtype"}


def read_clinical(path: str | Path, *, kind: ClinicalKind = "auto") -> pd.DataFrame:
    """Read a clinical table.

    Parameters
    ----------
    path : a csv, tsv (plain, gzip, zip) or R data file.
    kind : "xena" (metadata with survival, or the table of stages), "porpoise", "rtcga" (R data, survival over all
        follow-ups), "cognoma", "gtex" (pathology notes, a row a sample); "auto" tells by the columns.

    Returns
    -------
    A row a patient (a row a sample for "gtex"), index = patient_id (sample_id), the columns of this module's first lines,
    texts "" where unknown, numbers NaN.

    Raises
    ------
    InputError : no such file, or columns of none of these.

    Source: `censorship` of the xena and porpoise tables is 1 where the patient was alive; months of 30 and of 30.44 days.
    """
    path = Path(path)
    if kind not in get_args(ClinicalKind):
        raise InputError(f"kind {kind!r}", expected=f"one of {get_args(ClinicalKind)}", found="another")
    if path.suffix.lower() in (".rda", ".rdata", ".rds"):
        raw = read_r_frame(path)
    else:
        separator = "\t" if ".tsv" in path.name else ","
        with open_stream(path) as handle:
            raw = pd.read_csv(
                handle,
                sep=separator,
                dtype=str,
                keep_default_na=False,
                usecols=lambda name: not name.endswith(("_rnaseq", "_cnv", "_mut")),
            )
    known = _kind_of(raw, path) if kind == "auto" else kind
    columns = {source: name for source, name in _SIMPLE[known].items() if source in raw}
    if "patient_id" not in columns.values():
        raise InputError(str(path), expected=f"columns of a {known} table", found=few(raw.columns, 6), fix="check kind=")
    table = raw[list(columns)].rename(columns=columns).apply(lambda column: column.map(_clean))
    table["patient_id"] = table["patient_id"].str.upper().map(patient_of)
    for name, change in (("sex", str.lower), ("stage", _stage), ("acronym", str.upper)):
        if name in table:
            table[name] = table[name].map(change)
    if "age" in table:
        table["age"] = pd.to_numeric(table["age"], errors="coerce")
    if "is_female" in raw:
        table["sex"] = pd.to_numeric(raw["is_female"], errors="coerce").map({1.0: "female", 0.0: "male"}).fillna("")
    months, event = _survival(raw, known)
    if months is not None:
        table["survival_months"], table["event"] = months.to_numpy(), event.to_numpy()
    key = "sample_id" if "sample_id" in table else "patient_id"
    table = table[table[key] != ""].drop_duplicates(key)
    return table.set_index(key, drop=False).rename_axis(None)


def add_clinical(obs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return `obs` with the columns of a clinical table joined by `patient_id`; columns that `obs` has are kept.

    Raises
    ------
    InputError : no patient is in both.
    """
    known = obs["patient_id"].isin(table["patient_id"])
    if not known.any():
        raise InputError(
            "clinical table",
            expected=f"patients such as {few(obs['patient_id'])}",
            found=few(table["patient_id"]),
            fix="compare how the ids are written",
        )
    new = table.drop_duplicates("patient_id").set_index("patient_id")
    new = new[[column for column in new if column not in obs]]
    joined = new.reindex(obs["patient_id"]).set_axis(obs.index)
    for column in joined:
        if not pd.api.types.is_numeric_dtype(new[column]):
            joined[column] = joined[column].fillna("")
    return pd.concat([obs, joined], axis=1)


def clinical_text(row: Mapping[str, Any], *, drop: Iterable[str] = LABEL_FIELDS, hide_words: bool = True) -> str:
    """Return what is known of a patient as text, without the label of the task.

    Parameters
    ----------
    row : a row of `read_clinical` or of a cohort's `obs` (any mapping); unknown values are left out.
    drop : fields that are or give away the label; survival is always left out.
    hide_words : also replace the words of dropped values ("lung", "adenocarcinoma") wherever they stand in the rest, as
        histology and pathology notes often repeat the diagnosis.

    Returns
    -------
    Sentences in a fixed order; "" where nothing is known.

    Source: GeMM-GAN's released code put the label into the text (facts of the papers); a probe on the text alone must
    accompany every accuracy.

    Examples
    --------
    >>> clinical_text({"age": 61.0, "sex": "male", "disease": "lung adenocarcinoma", "histology": "Lung, acinar"})
    'Age 61. Sex male. Histology [...], acinar.'
    """
    dropped = set(drop) | set(OUTCOME_FIELDS)
    parts = []
    for name, phrase in _PHRASES.items():
        value = _clean(row[name]) if name in row and name not in dropped else ""
        if value:
            parts.append(phrase.format(f"{float(value):g}" if name == "age" else value.rstrip(".")))
    text = " ".join(parts)
    if hide_words:
        words = {
            word
            for name in dropped
            if name in row and name not in OUTCOME_FIELDS
            for word in re.findall(r"[a-z]{4,}", _clean(row[name]).lower())
        }
        for word in sorted(words, key=len, reverse=True):
            text = re.sub(rf"\b\w*{re.escape(word)}\w*", HIDDEN, text, flags=re.IGNORECASE)
    return text


def _kind_of(raw: pd.DataFrame, path: Path) -> ClinicalKind:
    columns = set(raw.columns)
    if "patient.bcr_patient_barcode" in columns:
        return "rtcga"
    if {"patient_id", "days_survived", "dead"} <= columns:
        return "cognoma"
    if {"Tissue Sample ID", "Pathology Notes"} <= columns:
        return "gtex"
    if "case_id" in columns and {"survival_months_dss", "stage"} & columns:
        return "xena"
    if {"case_id", "censorship"} <= columns:
        return "porpoise"
    raise InputError(
        str(path),
        expected="a clinical table of xena, porpoise, rtcga, cognoma or gtex",
        found=few(raw.columns, 6),
        fix="kind=",
    )


def _survival(raw: pd.DataFrame, kind: str) -> tuple[pd.Series | None, pd.Series]:
    """Months and event (1.0 died), NaN where either is unknown; None where the table has no survival."""
    if kind in ("xena", "porpoise") and "censorship" in raw:
        months, event = _number(raw["survival_months"]), 1 - _number(raw["censorship"])
    elif kind == "cognoma":
        months, event = _number(raw["days_survived"]) / DAYS_A_MONTH, _number(raw["dead"])
    elif kind == "rtcga":
        statuses, deaths = _ending(raw, "vital_status"), _ending(raw, ".days_to_death").apply(_number)
        last = _ending(raw, ".days_to_last_followup", ".days_to_last_known_alive").apply(_number)
        dead = (statuses == "dead").any(axis=1)
        days = deaths.max(axis=1).where(dead, last.max(axis=1))
        months, event = days / DAYS_A_MONTH, dead.astype(float)
    else:
        return None, pd.Series(dtype=float)
    known = months.notna() & event.isin([0, 1]) & (months >= 0)
    return months.where(known).astype(float), event.where(known).astype(float)


def _ending(raw: pd.DataFrame, *endings: str) -> pd.DataFrame:
    return raw[[name for name in raw.columns if str(name).endswith(endings)]]


def _number(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column, errors="coerce")


def _clean(value: Any) -> str:
    """Text of a value; "" for NaN, N/A and the bracketed codes of TCGA ("[Not Evaluated]")."""
    if value is None or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return ""
    text = str(value).strip()
    return "" if text.lower() in _UNKNOWN or (text.startswith("[") and text != HIDDEN) else text


def _stage(text: str) -> str:
    """AJCC stage without its letter: "Stage IIIA" -> "III"; "" where it is none of I to IV."""
    found = re.fullmatch(r"(?:stage\s+)?(iv|i{1,3})[abc]?\d?", text.strip().lower())
    return found.group(1).upper() if found else ""
