"""Percentages, empty tiles, equivalence: closed cases, and what a small study may not claim."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.weightstats import ttost_paired

from rnasynth.errors import InputError
from rnasynth.evaluation.cells.composition import Composition, compare, composition, equivalence

CLASSES = ("a", "b")


def made(counts: list[list[int]], patients: list[str], tissues: list[str], empty: str) -> Composition:
    table = pd.DataFrame(counts, columns=list(CLASSES))
    return composition(table, classes=CLASSES, patients=patients, tissues=tissues, empty=empty)  # type: ignore[arg-type]


def test_empty_tiles_count_as_said() -> None:
    counts, who = [[1, 3], [0, 0]], ["p", "p"]
    zero, out = (made(counts, who, ["t", "t"], way) for way in ("count as zero share", "left out"))
    assert zero.patients.loc[0, ["a", "b"]].tolist() == [12.5, 37.5]
    assert out.patients.loc[0, ["a", "b"]].tolist() == [25.0, 75.0]
    assert zero.empty_share == out.empty_share == 0.5 and zero.patients.loc[0, "empty"] == 1


def test_there_is_no_silent_way_with_empty_tiles() -> None:
    with pytest.raises(InputError, match="empty"):
        made([[1, 1]], ["p"], ["t"], "ignore")
    with pytest.raises(InputError, match="one tissue"):
        made([[1, 1], [1, 1]], ["p", "p"], ["t", "u"], "left out")
    with pytest.raises(InputError, match="no b"):
        composition(pd.DataFrame({"a": [1]}), classes=CLASSES, patients=["p"], tissues=["t"], empty="left out")


def test_equivalence_agrees_with_statsmodels() -> None:
    generator = np.random.default_rng(1)
    a = generator.normal(40, 8, 25)
    b = a + generator.normal(1.5, 4, 25)
    found = equivalence(a, b, margin=5.0)
    assert found.p == pytest.approx(float(ttost_paired(b, a, -5.0, 5.0)[0]))
    assert found.equivalent and (found.difference.low > -5) and (found.difference.high < 5)


def test_no_significant_difference_is_not_equivalence() -> None:
    found = equivalence([10.0, 50.0, 90.0], [60.0, 20.0, 80.0], margin=5.0)
    assert not found.differs and not found.equivalent and found.verdict == "undecided"


def test_a_small_real_difference_may_be_equivalent_all_the_same() -> None:
    a = np.arange(40.0)
    found = equivalence(a, a + 1 + 0.1 * (-1.0) ** np.arange(40), margin=5.0)
    assert found.differs and found.equivalent and found.verdict == "equivalent, though not equal"
    assert equivalence(a, a, margin=5.0).verdict == "equivalent" and equivalence(a, a + 9, margin=5.0).verdict == "different"
    assert equivalence(a[:2], a[:2], margin=5.0).verdict == "too few patients to say"


def cohort(*, shuffled: bool = False, seed: int = 0) -> tuple[Composition, Composition]:
    generator = np.random.default_rng(seed)
    patients, tissues, real, other = [], [], [], []
    share = {"t": 0.2, "u": 0.8}
    for tissue, mean in share.items():
        own = np.clip(generator.normal(mean, 0.1, 15), 0.02, 0.98)
        again = generator.permutation(own) if shuffled else own
        for number, (p, q) in enumerate(zip(own, again, strict=True)):
            for _ in range(3):
                patients.append(f"{tissue}{number}")
                tissues.append(tissue)
                for counts, chance in ((real, p), (other, q)):
                    first = int(generator.binomial(60, chance))
                    counts.append([first, 60 - first])
    return made(real, patients, tissues, "left out"), made(other, patients, tissues, "left out")


def test_same_cells_are_equivalent_and_correlate_within_tissues() -> None:
    found = compare(*cohort(), n_boot=100)
    assert found.equivalent == 1.0 and found.correlation.value > 0.99 and found.within.low > 0.7


def test_cells_of_other_patients_keep_the_tissue_and_lose_the_patient() -> None:
    found = compare(*cohort(shuffled=True), n_boot=100)
    assert found.correlation.value > 0.99 and found.within.low < 0.3 and found.within.value < 0.5


def test_exchanged_classes_are_different() -> None:
    real, other = cohort()
    swapped = Composition(other.tiles, other.patients.rename(columns={"a": "b", "b": "a"}), other.classes, other.empty)
    found = compare(real, swapped, n_boot=100)
    assert set(found.table["verdict"]) == {"different"} and found.correlation.value < -0.9


def test_compositions_that_count_empty_tiles_in_two_ways_are_not_compared() -> None:
    one, two = (made([[1, 1], [0, 0]], ["p", "q"], ["t", "t"], way) for way in ("left out", "count as zero share"))
    with pytest.raises(InputError, match="empty"):
        compare(one, two)
    assert math.isnan(compare(one, one, n_boot=20).within.low)
