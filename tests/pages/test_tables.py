"""Verdicts: who may say "reproduced", and what a direction is judged by."""

from __future__ import annotations

import html
import math
import re
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnasynth.data.papers import PAPER_COLUMNS
from rnasynth.errors import InputError
from rnasynth.pages.tables import Number, html_table, markdown_table, published, short, verdicts


def row(**changes: Any) -> dict[str, Any]:
    base = {
        "id": "rmse", "paper": "rna-cdm", "page": "04_beta_vae", "quantity": "RMSE", "value": 0.2475, "low_or_sd": math.nan,
        "unit": "", "cohort": "tcga", "metric": "RMSE of z-scores", "direction": "lower", "tolerance": 0.01,
        "place": "Table 1", "sentence": "the RMSE was 0.2475",
    }  # fmt: skip
    return {**base, **changes}


def judge(number: Number | None, cohort: str = "tcga", because: dict[str, str] | None = None, **changes: Any) -> Any:
    rows = pd.DataFrame([row(**changes)], columns=list(PAPER_COLUMNS))
    return verdicts({} if number is None else {"rmse": number}, rows, cohort=cohort, preset="demo", because=because)[0]


def test_reproduced_needs_the_papers_own_cohort_and_metric_and_tolerance() -> None:
    own = Number(value=0.25, metric="RMSE of z-scores", against=1.0)
    assert judge(own).verdict == "reproduced"
    assert judge(own, cohort="simulated").verdict == "direction holds on simulated"
    assert judge(Number(value=0.25, against=1.0)).verdict == "direction holds on tcga"  # the metric was not said
    assert judge(own, metric="another metric").kind == "holds"
    far = Number(value=0.9, metric="RMSE of z-scores", against=1.0)
    assert judge(far).verdict == "differs, because of a reason not found yet"
    assert judge(far, because={"rmse": "the preset is demo"}).verdict == "differs, because the preset is demo"


def test_without_a_tolerance_the_papers_spread_counts_and_without_both_nothing_is_reproduced() -> None:
    number = Number(value=0.30, metric="RMSE of z-scores")
    assert judge(number, tolerance=math.nan, low_or_sd=0.06).kind == "reproduced"
    assert judge(number, tolerance=math.nan, low_or_sd=0.04).kind == "differs"
    assert judge(Number(value=0.2475, metric="RMSE of z-scores"), tolerance=math.nan).kind == "differs"


def test_a_direction_holds_only_with_its_whole_interval() -> None:
    def kind(low: float, value: float, high: float, direction: str) -> str:
        return str(judge(Number(value=value, low=low, high=high, against=0.5), "simulated", direction=direction).kind)

    assert kind(0.6, 0.7, 0.8, "higher") == "holds" and kind(0.6, 0.7, 0.8, "lower") == "fails"
    assert kind(0.4, 0.7, 0.8, "higher") == "undecided"
    assert kind(0.1, 0.2, 0.3, "higher") == "fails" and kind(0.1, 0.2, 0.3, "lower") == "holds"
    assert kind(0.1, 0.2, 0.3, "none") == "shown"


def test_equal_on_another_cohort_is_judged_by_the_published_value() -> None:
    assert judge(Number(value=0.25), "simulated", direction="equal").kind == "holds"
    assert judge(Number(value=0.35), "simulated", direction="equal").kind == "fails"
    assert judge(Number(value=0.25, low=0.1, high=0.4), "simulated", direction="equal").kind == "undecided"


def test_a_number_that_is_not_there_is_not_attempted_with_its_reason() -> None:
    assert (
        judge(None, "simulated").verdict == "not attempted, because it needs tcga; this page ran on simulated, preset demo"
    )
    assert judge(None, because={"rmse": "it takes a GPU"}).verdict == "not attempted, because it takes a GPU"


def test_a_number_may_answer_a_row_by_another_name_and_only_a_row_that_exists() -> None:
    rows = pd.DataFrame([row()], columns=list(PAPER_COLUMNS))
    answer = {"rmse_test": Number(value=0.2, paper="rmse", against=1.0)}
    assert verdicts(answer, rows, cohort="simulated", preset="demo")[0].kind == "holds"
    with pytest.raises(InputError, match="rmze"):
        verdicts({"x": Number(value=0.2, paper="rmze")}, rows, cohort="simulated", preset="demo")
    with pytest.raises(InputError, match="nobody"):
        verdicts({}, rows, cohort="simulated", preset="demo", because={"nobody": "x"})


def test_published_rows_belong_to_their_page() -> None:
    rows = published("04_beta_vae")
    assert list(rows.columns) == list(PAPER_COLUMNS)
    assert set(rows["page"]) == {"04_beta_vae"} and rows["sentence"].str.len().min() > 10
    assert published("99_nothing").empty


@given(st.text(max_size=40))
def test_no_text_breaks_a_table(text: str) -> None:
    table = markdown_table(pd.DataFrame({"a": [text], "b": [1.5]}))
    lines = table.split("\n")
    assert len(lines) == 3
    unescaped = lines[2].replace("\\\\", "").replace("\\|", "")
    assert unescaped.count("|") == 3


def test_a_table_rounds_to_four_digits_and_says_what_it_leaves_out() -> None:
    table = markdown_table(pd.DataFrame({"n": [1234567], "x": [0.123456], "gone": [math.nan]}))
    assert table.split("\n")[2] == "| 1,234,567 | 0.1235 |  |"
    assert "(5 more rows)" in markdown_table(pd.DataFrame({"n": range(25)}), max_rows=20)
    named = pd.DataFrame({"x": [1]}, index=pd.Index(["lung"], name="tissue"))
    assert markdown_table(named).startswith("| tissue | x |")


def test_a_notebooks_table_says_what_the_books_says_and_cuts_no_text() -> None:
    long = "a claim of more than fifty characters, & of more than a column's width"
    table = pd.DataFrame(
        {"x": [0.123456, math.nan], "claim": [long, None]}, index=pd.Index(["lung", "liver"], name="tissue")
    )
    text = html_table(table)
    assert html.unescape(text).count(long) == 1 and "..." not in text and "0.1235" in text and "0.123456" not in text
    assert re.findall("<th>([^<]+)</th>", text) == ["tissue", "x", "claim"] and "NaN" not in text and "None" not in text
    assert "(5 more rows)" in html_table(pd.DataFrame({"n": range(25)}), max_rows=20)
    assert "0.123456" in table.to_html() and "NaN" in table.to_html()  # what pandas would show


@given(st.floats(min_value=-1e12, max_value=1e12, allow_nan=False))
def test_a_short_number_is_near_the_number(value: float) -> None:
    assert float(short(value).replace(",", "")) == pytest.approx(value, rel=6e-4, abs=1e-300)
