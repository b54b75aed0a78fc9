"""Agreement of raters against the textbooks' examples, and the mixed model against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from rnasynth.errors import InputError
from rnasynth.evaluation.ratings import agreement
from rnasynth.evaluation.ratings import model as ratings_model
from rnasynth.evaluation.ratings import scores as ratings

SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
N = math.nan
KRIPPENDORFF = [  # 4 observers x 12 units, "Computing Krippendorff's alpha-reliability", 2011, section C
    [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
    [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
]


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    return ratings.scores_of(ratings.read_ratings())


def test_intraclass_on_shrout_and_fleiss() -> None:
    single, average = agreement.intraclass(SHROUT_FLEISS)
    assert (round(single.value, 2), round(average.value, 2)) == (0.29, 0.62)  # their table 4
    assert (round(single.low, 3), round(single.high, 3)) == (0.019, 0.761)  # as R's psych::ICC prints for this table
    assert average.low < average.value < average.high


def test_alpha_on_krippendorffs_example() -> None:
    assert agreement.krippendorff_alpha(np.array(KRIPPENDORFF).T) == pytest.approx(0.849, abs=5e-4)


def test_alpha_is_one_for_equal_raters_and_negative_for_opposite_ones() -> None:
    scale = np.arange(1.0, 6.0)
    assert agreement.krippendorff_alpha(np.c_[scale, scale]) == 1.0
    assert agreement.krippendorff_alpha(np.c_[scale, scale[::-1]]) < 0
    assert math.isnan(agreement.krippendorff_alpha(np.ones((4, 2))))


def test_kendall_w_is_one_without_dissent_and_follows_friedman() -> None:
    scale = np.arange(5.0)
    assert agreement.kendall_w(np.c_[scale, scale * 2, scale + 1])[0] == pytest.approx(1.0)
    table = np.round(np.random.default_rng(0).normal(size=(6, 4)), 1)
    w, p = agreement.kendall_w(table)
    friedman = scipy.stats.friedmanchisquare(*table)
    assert w == pytest.approx(friedman.statistic / (4 * 5)) and p == pytest.approx(friedman.pvalue)


def test_kendall_w_with_ties_follows_friedman(scores: pd.DataFrame) -> None:
    table = np.round(agreement.targets_by_raters(scores).to_numpy(float), 9)
    w, p = agreement.kendall_w(table)
    friedman = scipy.stats.friedmanchisquare(*table)
    assert w == pytest.approx(friedman.statistic / (6 * 5)) and p == pytest.approx(friedman.pvalue)


def test_incomplete_ratings_are_an_error() -> None:
    for table in ([[1.0, 2.0]], [[1.0], [2.0]], [[1.0, N], [2.0, 3.0]]):
        with pytest.raises(InputError):
            agreement.intraclass(table)
        with pytest.raises(InputError):
            agreement.kendall_w(table)
    with pytest.raises(InputError):
        agreement.krippendorff_alpha([[1.0, N]])


def test_shifted_raters_lower_absolute_agreement_but_not_concordance(scores: pd.DataFrame) -> None:
    shifted = scores.assign(score=scores["score"] + scores["rater"].astype(float))
    before, after = agreement.agreement(scores, n_boot=20), agreement.agreement(shifted, n_boot=20)
    assert after["icc_single"].value < before["icc_single"].value and after["alpha"].value < before["alpha"].value
    assert after["kendall_w"].value == pytest.approx(before["kendall_w"].value)


def test_mixed_model_equals_analysis_of_variance_of_a_balanced_table(scores: pd.DataFrame) -> None:
    model = ratings_model.mixed_model(scores)
    means = scores.groupby("group")["score"].mean()
    effects = model.effects.set_index("effect")["value"]
    assert effects["RNA-GAN - real"] == pytest.approx(means["RNA-GAN"] - means["real"])
    assert effects["GAN - real"] == pytest.approx(means["GAN"] - means["real"])
    y = scores.assign(
        fixed=scores["group"].map(means)
        + scores["tissue"].map(scores.groupby("tissue")["score"].mean())
        - scores["score"].mean()
    )
    left = y["score"] - y["fixed"]
    by_rater = left.groupby(y["rater"]).transform("mean")
    residual = float(((left - by_rater) ** 2).sum()) / (36 - 1 - 2 - 1 - 5)
    between = 6 * float(left.groupby(y["rater"]).mean().var(ddof=1))
    assert model.sd_residual == pytest.approx(math.sqrt(residual), rel=1e-3)
    assert model.sd_rater == pytest.approx(math.sqrt((between - residual) / 6), rel=1e-2)
    assert model.note == ""


def test_a_raters_variance_at_zero_is_said_and_warns_nobody() -> None:
    generator = np.random.default_rng(1)
    rows = [(t, g, r, generator.normal()) for t in "ab" for g in ("real", "x") for r in "123"]
    table = pd.DataFrame(rows, columns=["tissue", "group", "rater", "score"])
    table["score"] -= table.groupby("rater")["score"].transform("mean")
    model = ratings_model.mixed_model(table)
    assert model.sd_rater == pytest.approx(0, abs=1e-3) and model.note


def test_mixed_model_of_one_group_is_an_error(scores: pd.DataFrame) -> None:
    with pytest.raises(InputError):
        ratings_model.mixed_model(scores[scores["group"] == "real"])


def test_power_by_formula_equals_power_by_simulation(scores: pd.DataFrame) -> None:
    model = ratings_model.mixed_model(scores)
    table = ratings_model.power_table(model, differences=(0.5, 1.0), tiles=(3, 10))
    assert ((table["simulated_power"] > 0.77) & (table["simulated_power"] < 0.9)).all()
    for row in table.itertuples():
        fewer = ratings_model.simulated_power(
            row.difference, raters=row.raters // 2, tiles=row.tiles, model=model, tile_share=0.5, tiles_behind=4.0
        )
        assert fewer < row.simulated_power - 0.1


def test_more_tiles_help_only_where_tiles_are_the_noise() -> None:
    def spread(tiles: int, share: float) -> float:
        return ratings_model.sd_of_difference(1.0, tiles=tiles, tiles_behind=4, tile_share=share)

    assert spread(3, 0.0) == spread(100, 0.0) == pytest.approx(math.sqrt(2))
    assert spread(16, 1.0) == pytest.approx(spread(4, 1.0) / 2)
    with pytest.raises(InputError):
        spread(3, 1.5)
    with pytest.raises(InputError):
        ratings_model.raters_needed(0.0, 1.0)
    with pytest.raises(InputError, match="1000"):
        ratings_model.raters_needed(0.001, 1.0)
