"""Training, validation and test sets, by split group: made once, stored, reloaded and asserted.

A split group is what must not be divided: the patient, or, where all images come from one tumour, the section.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth import files
from rnasynth.errors import InputError, SplitError

SPLITS = ("train", "val", "test")
FRACTIONS = (0.6, 0.2, 0.2)  # both papers
ENOUGH = 5  # groups of a stratum from which on each split gets one at least


def make_splits(
    obs: pd.DataFrame,
    *,
    seed: int,
    fractions: tuple[float, float, float] = FRACTIONS,
    stratify: str | None = "tissue",
) -> pd.Series:
    """Assign each split group to train, val or test, stratified; the order of the table plays no part.

    Within a stratum the groups are ordered by a hash of (seed, group) and cut at the fractions; what rounding leaves over
    is carried to the next stratum, so that the totals are right to one group.

    Parameters
    ----------
    obs : one row a sample, with the columns `split_group` and `stratify`.
    seed : another seed gives another split.
    fractions : of train, val and test; they add up to 1.
    stratify : column whose most frequent value in a group is the group's stratum; None: one stratum.

    Returns
    -------
    split by split_group, sorted by group.

    Raises
    ------
    InputError : fractions that are none.
    SplitError : fewer than three groups, or a sample without a group.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise InputError("fractions", expected="three positive numbers that add up to 1", found=str(fractions))
    counts = _ordered_groups(obs, seed, stratify)
    if len(counts) < 3:
        raise SplitError(
            "split groups", expected="three or more", found=str(len(counts)), fix="bring more patients, or split by section"
        )
    assigned: dict[str, str] = {}
    carried = np.zeros(3)
    for _, rows in counts.groupby("stratum", sort=True):
        wanted = len(rows) * np.array(fractions) + carried
        numbers = _whole(wanted, len(rows))
        carried = wanted - numbers
        names = np.repeat(SPLITS, numbers)
        assigned |= dict(zip(rows["group"], map(str, names), strict=True))
    result = pd.Series(assigned, name="split").sort_index().rename_axis("split_group")
    for split in SPLITS:  # few groups in many strata: rounding may leave a split empty
        if split not in set(result):
            largest = result.value_counts().idxmax()
            result[counts.sort_values("order")["group"][counts["group"].map(result) == largest].iloc[0]] = split
    return result


def make_folds(obs: pd.DataFrame, n: int, *, seed: int, stratify: str | None = "tissue") -> list[pd.Series]:
    """Divide the split groups into `n` folds for cross-validation; each group is tested exactly once.

    In part k fold k is "test", fold k + 1 "val", and the others are "train": with five folds the fractions of
    `make_splits`. Strata and their order are those of `make_splits` too.

    Returns
    -------
    `n` series: split by split_group, sorted by group.

    Raises
    ------
    InputError : fewer than three folds.
    SplitError : fewer groups than folds, or a sample without a group.
    """
    if n < 3:
        raise InputError("folds", expected="3 or more (one to test, one to validate, the others to train)", found=str(n))
    counts = _ordered_groups(obs, seed, stratify)
    if len(counts) < n:
        raise SplitError(
            "split groups", expected=f"at least as many as folds, {n}", found=str(len(counts)), fix="use fewer folds"
        )
    place = np.arange(len(counts)) % n  # strata one after the other, so that each is spread over all folds
    parts = []
    for fold in range(n):
        names = np.where(place == fold, "test", np.where(place == (fold + 1) % n, "val", "train"))
        part = pd.Series(names.astype(object), index=counts["group"], name="split")
        parts.append(part.sort_index().rename_axis("split_group"))
    return parts


def _ordered_groups(obs: pd.DataFrame, seed: int, stratify: str | None) -> pd.DataFrame:
    """Rows (group, stratum), by stratum and within it by a hash of (seed, group)."""
    groups = obs["split_group"].astype(str)
    if (groups == "").any() or obs["split_group"].isna().any():
        raise SplitError("samples", expected="a split group each", found="an empty one", fix="fill patient_id")
    strata = pd.Series("", index=groups.index) if stratify is None else obs[stratify].astype(str)
    counts = pd.DataFrame({"group": groups, "stratum": strata}).value_counts().reset_index(name="n")
    counts = counts.sort_values(["group", "n", "stratum"], ascending=[True, False, True]).drop_duplicates("group")
    counts["order"] = [hashlib.sha256(f"{seed}|{group}".encode()).hexdigest() for group in counts["group"]]
    return counts.sort_values(["stratum", "order"]).reset_index(drop=True)


def _whole(wanted: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers near `wanted` that add up to `total`: largest remainders, none negative, one each where enough."""
    numbers = np.maximum(np.floor(wanted), 1 if total >= ENOUGH else 0).astype(int)
    while numbers.sum() < total:
        numbers[int(np.argmax(np.round(wanted - numbers, 9)))] += 1
    while numbers.sum() > total:
        numbers[int(np.argmax(np.where(numbers > 0, np.round(numbers - wanted, 9), -np.inf)))] -= 1
    return numbers


def check_splits(
    obs: pd.DataFrame,
    *,
    subject: str = "cohort",
    split_by: str = "patient",
    stored: Mapping[str, str] | None = None,
) -> None:
    """Raise unless the splits of `obs` keep every group whole.

    Parameters
    ----------
    obs : one row a sample, columns sample_id, patient_id, split_group, split.
    split_by : "patient": no patient may cross splits; "section": parts of one patient may, and a banner says so.
    stored : split by group as stored beside the cohort; the table must say the same.

    Raises
    ------
    SplitError : an unknown split, a sample twice, a group (or patient) in several splits, no training group, or a table
        that differs from the stored splits.
    """
    table = obs[["sample_id", "patient_id", "split_group", "split"]].astype(str)
    if unknown := sorted(set(table["split"]) - set(SPLITS)):
        raise SplitError(subject, expected=f"splits among {', '.join(SPLITS)}", found=", ".join(unknown))
    if twice := sorted(table["sample_id"][table["sample_id"].duplicated()]):
        raise SplitError(f"{subject}, sample {twice[0]}", expected="each sample once", found="several")
    per_group = table.groupby("split_group")["split"].nunique()
    if crossing := sorted(per_group.index[per_group > 1]):
        rows = table[table["split_group"] == crossing[0]]
        raise SplitError(
            f"{subject}, split group {crossing[0]}",
            expected="one split",
            found=" and ".join(sorted(set(rows["split"]))) + f" ({len(crossing)} such groups)",
            fix="remove the stored splits and load the cohort anew; never train on it",
        )
    per_patient = table.groupby("patient_id")["split"].nunique()
    if split_by == "patient" and (crossing := sorted(per_patient.index[per_patient > 1])):
        raise SplitError(
            f"{subject}, patient {crossing[0]}",
            expected="one split",
            found=f"several ({len(crossing)} such patients)",
            fix="make the patient the split group",
        )
    if "train" not in set(table["split"]):
        raise SplitError(subject, expected="training groups", found="none")
    if stored is not None:
        said = table.drop_duplicates("split_group").set_index("split_group")["split"]
        for group, split in said.items():
            if stored.get(str(group)) != split:
                raise SplitError(
                    f"{subject}, split group {group}",
                    expected=f"{stored.get(str(group), 'a stored split')} as stored",
                    found=str(split),
                )


def stored_splits(path: Path, obs: pd.DataFrame, make: pd.Series) -> pd.Series:
    """Return the splits stored at `path`; where there are none, store `make` first. What is returned is what was read.

    Raises
    ------
    SplitError : the file names other groups than `obs`, a group twice, or an unknown split.
    """
    if not path.exists():
        files.write_text(path, make.rename_axis("split_group").rename("split").to_csv())
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        splits = table.set_index("split_group")["split"]
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise SplitError(str(path), expected="columns split_group and split", found=str(error)) from None
    groups = set(obs["split_group"].astype(str))
    if splits.index.has_duplicates or set(splits.index) != groups or not set(splits) <= set(SPLITS):
        different = sorted(set(splits.index) ^ groups)
        raise SplitError(
            str(path),
            expected=f"each of the cohort's {len(groups)} groups once, in {', '.join(SPLITS)}",
            found=f"{len(splits)} rows" + (f"; only on one side: {', '.join(different[:3])}" if different else ""),
            fix="remove the file to split anew; runs trained before are then of another cohort",
        )
    return splits


def evenly_spaced(total: int, limit: int) -> NDArray[np.int64]:
    """Return at most `limit` (1 or more) of the rows 0 to `total` - 1, evenly spaced and in order, shape (n,).

    Examples
    --------
    >>> evenly_spaced(9, 3).tolist(), evenly_spaced(2, 3).tolist(), evenly_spaced(0, 3).tolist()
    ([0, 4, 8], [0, 1], [])
    """
    if total < 1:
        return np.zeros(0, dtype=np.int64)
    return np.unique(np.linspace(0, total - 1, max(1, min(limit, total))).round().astype(np.int64))
