"""Survival of every source agrees with an independent one; the text never holds the label or the outcome."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnasynth.data.clinical import LABEL_FIELDS, add_clinical, clinical_text, read_clinical
from rnasynth.errors import InputError

ROW = {
    "age": 61.0,
    "sex": "female",
    "race": "Asian",
    "disease": "lung adenocarcinoma",
    "tissue": "Lung",
    "histology": "Adenocarcinoma of the lung, acinar",
    "stage": "II",
    "grade": "G2",
    "notes": "6 pieces; pulmonary vessels",
    "survival_months": 12.5,
    "event": 1.0,
}


def test_text_holds_neither_label_nor_outcome() -> None:
    text = clinical_text(ROW)
    assert text.startswith("Age 61. Sex female. Race Asian. Histology [...] of the [...], acinar. Stage II. Grade G2.")
    assert text.endswith("Notes: 6 pieces; pulmonary vessels.")
    leaky = clinical_text(ROW, drop=(), hide_words=False)  # the broken variant: as in the published code
    assert "lung adenocarcinoma" in leaky and "adenocarcinoma" not in text.lower() and "12.5" not in leaky


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from([*LABEL_FIELDS, "histology", "notes"]), st.text("abcdef ", max_size=30)))
def test_no_word_of_a_label_is_left(row: dict[str, str]) -> None:
    text = clinical_text(row).lower()
    for name in LABEL_FIELDS:
        for word in row.get(name, "").split():
            assert len(word) < 4 or word not in text.replace("notes:", "").replace("histology", "")


def test_unknown_values_are_left_out() -> None:
    assert clinical_text({"age": np.nan, "sex": "", "stage": "N/A", "race": "[Not Evaluated]", "grade": None}) == ""


def test_porpoise_censorship_is_the_opposite_of_event(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"case_id": ["TCGA-AA-0001"] * 2 + ["TCGA-AA-0002"], "censorship": [1, 1, 0], "survival_months": [9, 9, 4.5]}
    )
    frame["is_female"], frame["TP53_rnaseq"] = [1.0, 1.0, 0.0], 3.0
    frame.to_csv(tmp_path / "t.csv")
    table = read_clinical(tmp_path / "t.csv")
    assert list(table["event"]) == [0, 1] and list(table["sex"]) == ["female", "male"] and len(table) == 2


def test_unknown_table_and_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="clinical table"):
        read_clinical(tmp_path / "t.csv")
    with pytest.raises(InputError, match="columns of a gtex table"):
        read_clinical(tmp_path / "t.csv", kind="gtex")


def test_joining_keeps_every_sample_and_refuses_strangers() -> None:
    obs = pd.DataFrame({"patient_id": ["P1", "P1", "P9"], "age": [1.0, 1.0, 2.0]}, index=["a", "b", "c"])
    table = pd.DataFrame({"patient_id": ["P1", "P2"], "age": [50.0, 60.0], "stage": ["I", "II"], "event": [1.0, 0.0]})
    joined = add_clinical(obs, table)
    assert list(joined.index) == ["a", "b", "c"] and list(joined["stage"]) == ["I", "I", ""]
    assert list(joined["age"]) == [1.0, 1.0, 2.0] and np.isnan(joined["event"].iloc[2])
    with pytest.raises(InputError, match="P1"):
        add_clinical(obs, table.assign(patient_id="X"))


@pytest.mark.real
@pytest.mark.parametrize(
    "name, months_off",
    [
        ("expression/xena/blca_metadata.csv.gz", 0.03),
        ("expression/xena/stad_metadata.csv.gz", 0.03),
        ("expression/porpoise/tcga_kirp_all_clean.csv.zip", 0.03),
        ("clinical/KIRP.clinical.rda", 0.03),
    ],
)
def test_survival_agrees_with_an_independent_table(mirror: Path, name: str, months_off: float) -> None:
    ours = read_clinical(mirror / name)
    other = read_clinical(mirror / "clinical" / "cognoma_complete_samples.tsv.gz")
    both = (
        ours[["survival_months", "event"]].join(other[["survival_months", "event"]], rsuffix="_other", how="inner").dropna()
    )
    assert len(both) > 250
    assert (both["event"] == both["event_other"]).mean() > 0.98
    assert (both["survival_months"] / both["survival_months_other"].clip(lower=0.1) - 1).abs().median() < months_off
    assert set(both["event"]) == {0.0, 1.0}


@pytest.mark.real
def test_gtex_notes_and_stages_are_read(mirror: Path) -> None:
    notes = read_clinical(mirror / "clinical" / "gtex_histology_annotation.csv.gz")
    row = notes.loc["GTEX-1117F-0126"]
    assert row["patient_id"] == "GTEX-1117F" and "squamous epithelium" in clinical_text(row)
    stages = read_clinical(mirror / "expression" / "xena" / "blca_clinical.csv.gz")
    assert set(stages["stage"]) <= {"I", "II", "III", "IV", ""} and (stages["stage"] == "III").sum() > 50
