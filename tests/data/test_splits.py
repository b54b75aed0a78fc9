"""Splits: groups stay whole, the table's order plays no part, what is stored is what is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnasynth.data.splits import SPLITS, check_splits, make_splits, stored_splits
from rnasynth.errors import InputError, SplitError


def table(patients: int = 50, per_patient: int = 2, tissues: int = 3) -> pd.DataFrame:
    number = np.repeat(np.arange(patients), per_patient)
    ids = [f"s{i}" for i in range(len(number))]
    obs = pd.DataFrame({"sample_id": ids, "patient_id": [f"p{i}" for i in number]}, index=ids)
    obs["split_group"] = obs["patient_id"]
    obs["tissue"] = [f"t{i % tissues}" for i in number]
    return obs


def with_splits(obs: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    return obs.assign(split=obs["split_group"].map(make_splits(obs, seed=seed)).to_numpy())


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 120), st.integers(1, 4), st.integers(1, 12), st.integers(0, 5))
def test_patients_never_cross_and_no_split_is_empty(patients: int, samples: int, tissues: int, seed: int) -> None:
    obs = with_splits(table(patients, samples, tissues), seed)
    assert obs.groupby("patient_id")["split"].nunique().max() == 1
    assert set(obs["split"]) == set(SPLITS)
    check_splits(obs)


@settings(max_examples=20, deadline=None)
@given(st.integers(30, 200), st.integers(1, 5))
def test_fractions_hold_in_total_and_within_each_tissue(patients: int, tissues: int) -> None:
    groups = with_splits(table(patients, 1, tissues))
    shares = groups["split"].value_counts(normalize=True)
    for split, fraction in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
        assert abs(shares[split] - fraction) * patients <= 1.5
        for _, rows in groups.groupby("tissue"):
            assert abs((rows["split"] == split).mean() - fraction) * len(rows) <= 1.5


def test_shuffled_table_gives_the_same_split() -> None:
    obs = table(61, 3, 4)
    shuffled = obs.sample(frac=1, random_state=7)
    pd.testing.assert_series_equal(make_splits(obs, seed=3), make_splits(shuffled, seed=3))
    assert not make_splits(obs, seed=3).equals(make_splits(obs, seed=4))


def test_patient_with_two_tissues_counts_once() -> None:
    obs = table(20, 3, 1)
    obs.loc[obs.index[::3], "tissue"] = "other"
    splits = make_splits(obs, seed=0)
    assert len(splits) == 20 and splits.value_counts().to_dict() == {"train": 12, "val": 4, "test": 4}


@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.3), (1.0, 0.0, 0.0), (0.5, 0.5)])
def test_fractions_that_are_none_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(InputError):
        make_splits(table(), seed=0, fractions=fractions)  # type: ignore[arg-type]


def test_too_few_groups_or_an_empty_one_is_an_error() -> None:
    with pytest.raises(SplitError, match="three"):
        make_splits(table(2), seed=0)
    obs = table()
    obs.loc["s0", "split_group"] = ""
    with pytest.raises(SplitError, match="group"):
        make_splits(obs, seed=0)


def test_injected_overlap_is_found() -> None:
    """One sample of a training patient moved to the test set: the leak that every metric would hide."""
    obs = with_splits(table())
    check_splits(obs)
    leaked = obs.copy()
    victim = obs.index[(obs["split"] == "train").to_numpy()][0]
    leaked.loc[victim, "split"] = "test"
    with pytest.raises(SplitError, match=str(obs.loc[victim, "split_group"])):
        check_splits(leaked)


def test_patient_divided_into_groups_is_found_unless_split_by_section() -> None:
    obs = with_splits(table(10, 2, 1))
    obs["split_group"] = obs["sample_id"]
    obs["split"] = ["train", "test"] * 10
    with pytest.raises(SplitError, match="patient p"):
        check_splits(obs)
    check_splits(obs, split_by="section")


def test_doubled_sample_unknown_split_or_no_training_set_is_found() -> None:
    obs = with_splits(table())
    for broken in (
        obs.assign(sample_id="s0"),
        obs.assign(split="holdout"),
        obs[obs["split"] != "train"],
    ):
        with pytest.raises(SplitError):
            check_splits(broken)


def test_stored_splits_win_and_are_checked(tmp_path: Path) -> None:
    obs = table()
    made = make_splits(obs, seed=0)
    path = tmp_path / "splits.csv"
    assert stored_splits(path, obs, made).to_dict() == made.to_dict()
    assert stored_splits(path, obs, make_splits(obs, seed=1)).to_dict() == made.to_dict()
    with pytest.raises(SplitError, match="as stored"):
        check_splits(with_splits(obs, seed=1), stored=made.to_dict())
    lines = path.read_text(encoding="utf-8").splitlines()
    for broken in (
        lines[:-1],
        [*lines, "stranger,train"],
        [*lines, lines[1]],
        [*lines[:-1], lines[-1].split(",")[0] + ",x"],
    ):
        path.write_text("\n".join(broken) + "\n", encoding="utf-8")
        with pytest.raises(SplitError):
            stored_splits(path, obs, made)
