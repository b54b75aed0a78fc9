"""The published ratings: which p values come out, and that they hang on the scores."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from rnasynth.config import manifests_folder
from rnasynth.data.papers import read_papers
from rnasynth.errors import InputError
from rnasynth.evaluation.ratings import published as rating_published
from rnasynth.evaluation.ratings import scores as ratings
from rnasynth.evaluation.ratings import trials as rating_trials
from rnasynth.evaluation.ratings.study import figure_6, figure_6_numbers, study_of
from rnasynth.evaluation.stats import bootstrap

CSV = manifests_folder() / "papers" / "expert_ratings.csv"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return ratings.read_ratings()


@pytest.fixture(scope="module")
def found(table: pd.DataFrame) -> pd.DataFrame:
    return rating_trials.explain(rating_trials.published_tests(table)).set_index(["tissue", "group", "against"])


def changed(folder: Path, **cells: str) -> Path:
    """Copy of the csv with the first quality score changed."""
    raw = pd.read_csv(CSV, dtype=str, keep_default_na=False)
    for column, value in cells.items():
        raw.loc[0, column] = value
    raw.to_csv(folder / "scores.csv", index=False)
    return folder / "scores.csv"


def test_every_score_stands_in_its_quote_at_its_raters_place() -> None:
    raw = pd.read_csv(CSV, dtype=str, keep_default_na=False)
    scores = raw[raw["question"] == "quality"]
    assert len(scores) == 36
    for (tissue, group), rows in scores.groupby(["tissue", "group"]):
        listed = ",".join(rows.sort_values("rater")["printed"])
        assert f"[{listed}]" in rows["sentence"].iloc[0] or f"({listed})" in rows["sentence"].iloc[0], (tissue, group)
    others = raw[(raw["question"] != "quality") & (raw["printed"] != "")]
    assert all(row.printed in row.sentence for row in others.itertuples())


def test_printed_numbers_agree_with_the_rows_that_verdicts_use(table: pd.DataFrame) -> None:
    rows = read_papers("14_expert_ratings").set_index("id")
    for (tissue, group, against), name in rating_published.IDS.items():
        mine = table[(table["question"] == "test") & (table["tissue"] == tissue) & (table["group"] == group)]
        assert mine.set_index("against").loc[against, "printed"] == rows.loc[name, "value"]
    means = table[table["question"] == "mean quality"]
    for row in means.itertuples():
        published = rows.loc[f"rating_{rating_published.slug(row.group, row.tissue)}"]
        assert (row.printed, row.spread) == (published["value"], published["low_or_sd"])


def test_two_published_p_values_are_one_sided_paired_t_tests(found: pd.DataFrame) -> None:
    assert found.loc[("lung", "RNA-GAN", "GAN"), "one_sided"] == pytest.approx(0.0252, abs=5e-5)
    assert found.loc[("brain", "RNA-GAN", "GAN"), "one_sided"] == pytest.approx(0.3054, abs=5e-5)
    plain = found[found["giving_it"] > 0]
    assert set(plain["published"]) == {0.025, 0.305}
    assert plain["way"].str.startswith("one-sided paired t, all raters, exact scores").all()


def test_the_other_three_come_out_only_without_the_sixth_rater(found: pd.DataFrame) -> None:
    others = found[found["giving_it"] == 0]
    assert set(others["published"]) == {0.052, 0.043, 0.038}
    assert set(others["way"]) == {"one-sided paired t, without rater 6, exact scores, cut"}
    np.testing.assert_allclose(sorted(others["way_p"]), [0.038871, 0.043823, 0.052912], atol=1e-6)


def test_unrounded_thirds_are_needed_for_brain(table: pd.DataFrame) -> None:
    printed = ratings.wide(ratings.scores_of(table, "printed"), "brain")
    p = scipy.stats.ttest_rel(printed["RNA-GAN"], printed["GAN"], alternative="greater").pvalue
    assert not rating_trials.printed_as(p, 0.305)


def test_printed_means_and_sds_are_the_exact_ones_cut(table: pd.DataFrame) -> None:
    _, note = rating_published.means_table(table, ratings.describe(ratings.scores_of(table)))
    assert note.startswith("Of the 12 printed means and SDs 12 are these with the further digits cut off, and 6")


def test_one_changed_score_changes_the_p_values(tmp_path: Path, found: pd.DataFrame) -> None:
    other = ratings.read_ratings(changed(tmp_path, printed="3", exact="3"))
    again = rating_trials.explain(rating_trials.published_tests(other)).set_index(["tissue", "group", "against"])
    before, after = found["one_sided"], again["one_sided"]
    assert before[("lung", "real", "RNA-GAN")] != after[("lung", "real", "RNA-GAN")]
    assert (before.drop(("lung", "real", "RNA-GAN")) == after.drop(("lung", "real", "RNA-GAN"))).all()
    whole, part = study_of(ratings.scores_of(ratings.read_ratings())), study_of(ratings.scores_of(other))
    assert (whole.tests["t_p"] != part.tests["t_p"]).sum() == 2  # both comparisons with real lung tiles


@pytest.mark.parametrize(
    "cells",
    [
        {"printed": "3"},
        {"exact": "4/0"},
        {"exact": "four"},
        {"printed": ""},
        {"rater": "2"},
        {"question": "charm"},
        {"sentence": ""},
    ],
)
def test_a_broken_table_is_an_error(tmp_path: Path, cells: dict[str, str]) -> None:
    with pytest.raises(InputError):
        ratings.read_ratings(changed(tmp_path, **cells))


def test_missing_file_and_other_columns_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        ratings.read_ratings(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="question"):
        ratings.read_ratings(tmp_path / "a.csv")


def test_nothing_is_significant_after_holm(table: pd.DataFrame) -> None:
    tests = ratings.corrected_tests(ratings.scores_of(table))
    assert len(tests) == 6 and (tests["t_p"] < 0.05).sum() == 4
    assert tests["t_p_holm"].min() == pytest.approx(6 * tests["t_p"].min()) and tests["t_p_holm"].min() > 0.15
    assert (tests["wilcoxon_p_holm"] >= tests["wilcoxon_p"]).all() and tests["wilcoxon_p"].min() == 2 / 64


def test_exact_wilcoxon_agrees_with_scipy_where_there_are_no_ties_and_zeros() -> None:
    generator = np.random.default_rng(3)
    for n in (5, 8, 12, 20):
        a, b = generator.normal(size=n), generator.normal(0.7, size=n)
        method = "exact" if n <= ratings.EXACT_RATERS else "asymptotic"
        expected = scipy.stats.wilcoxon(a, b, method=method, correction=method == "asymptotic").pvalue
        assert ratings.wilcoxon(a, b) == pytest.approx(expected, rel=1e-9)


def test_equal_scores_have_p_one_and_equal_differences_none() -> None:
    a = np.array([1.0, 2.0, 3.0])
    assert ratings.paired_t(a, a) == 1.0 and ratings.wilcoxon(a, a) == 1.0
    assert np.isnan(ratings.paired_t(a + 1, a))


def test_hedges_g_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        interval = ratings.hedges_g(generator.normal(0.8, 1.0, 8), np.zeros(8))
        hits += interval.low <= 0.8 * 0.8882 <= interval.high  # J(7) = 0.8882
    assert 0.92 <= hits / 300 <= 0.98


def test_hedges_g_interval_solves_the_noncentral_t_and_is_finite_for_huge_effects() -> None:
    a = np.array([2.0, 4.0, 3.0, 7.0, 5.0, 1.0])
    interval, scale = ratings.hedges_g(a, np.zeros(6)), 0.8408 / np.sqrt(6)  # J(5)
    t = a.mean() / a.std(ddof=1) * np.sqrt(6)
    assert scipy.stats.nct.cdf(t, 5, interval.low / scale) == pytest.approx(0.975, abs=1e-3)
    assert scipy.stats.nct.cdf(t, 5, interval.high / scale) == pytest.approx(0.025, abs=1e-3)
    huge = ratings.hedges_g(a * 1e-6 + 100, np.zeros(6))
    assert 0 < huge.low < huge.value < huge.high < np.inf


def test_hedges_g_against_a_published_correction() -> None:
    a = np.array([2.0, 4.0, 3.0, 7.0, 5.0])
    d = a.mean() / a.std(ddof=1)
    assert ratings.hedges_g(a, np.zeros(5)).value == pytest.approx(d * 0.7979, rel=1e-3)  # J(4), Hedges 1981, table 1


def test_cliffs_delta_is_twice_the_auc_minus_one() -> None:
    a, b = np.array([1.0, 2.0, 2.0, 5.0]), np.array([0.0, 2.0, 3.0])
    u = scipy.stats.mannwhitneyu(a, b).statistic
    assert ratings.cliffs_delta(a, b) == pytest.approx(2 * u / 12 - 1)


def test_figure_6_panels_make_one_claim(table: pd.DataFrame) -> None:
    scores = ratings.scores_of(table)
    claims = figure_6_numbers(scores)
    assert claims["gap_larger_for_gan"].value == pytest.approx(claims["rna_gan_over_gan"].value)
    assert claims["rna_gan_over_gan"].low > 0
    panels = figure_6(scores)
    assert len(panels["A"]) == 24 and len(panels["B"]) == 12
    assert panels["B"]["value"].mean() == pytest.approx(claims["rna_gan_over_gan"].value)


def test_tissue_question_fits_six_tiles_a_rater_and_not_the_eight_of_the_scores(table: pd.DataFrame) -> None:
    checks = rating_published.check_arithmetic(table)
    assert checks.tissue_pattern == (3, 3, 5, 5, 5, 6) and checks.tissue_tiles == 6
    assert "4 of the 36 printed means" in checks.scale_note
    fits = checks.counts.set_index(["printed", "tiles a group, both tissues"])["fits"]
    assert fits["artefacts, GAN: 70 %", 6] == "no" and fits["artefacts, GAN: 70 %", 10] == "rounded"
    assert rating_published.artefacts_p(checks)["p"].min() > 0.1


def test_fitting_counts_by_hand() -> None:
    assert list(rating_trials.fitting_counts(33, [3, 4])["fits"]) == ["rounded", ""]
    expected = {c for c in itertools.combinations_with_replacement(range(3), 2) if sum(c) == 2 and np.ptp(c) == 2}
    assert set(rating_trials.fitting_accuracies(50, 70.71, raters=2, tiles=2)) == expected == {(0, 2)}


def test_delta_interval_resamples_raters(table: pd.DataFrame) -> None:
    scores = ratings.scores_of(table)
    effect = ratings.effect_sizes(scores).iloc[0]
    lung = ratings.wide(scores, "lung")
    expected = bootstrap(ratings.cliffs_delta, lung["real"], lung["RNA-GAN"])
    assert effect["delta"] == expected and effect["delta"].n == 6


def test_a_rater_without_a_group_is_an_error(table: pd.DataFrame) -> None:
    scores = ratings.scores_of(table)
    with pytest.raises(InputError):
        study_of(scores.drop(index=3))
    with pytest.raises(InputError):
        study_of(scores[scores["rater"] == "1"])
