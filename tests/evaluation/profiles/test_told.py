"""Genes that fractions tell and genes that they do not: who survives is told apart, and nothing is where nothing is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rnasynth.errors import InputError
from rnasynth.evaluation.profiles.survivors import MADE
from rnasynth.evaluation.profiles.told import expected_by_fractions, gene_owners, survivors_against_truth

N, GENES, TOLD = 90, 60, 30


def made(*, upside_down: bool = False, deaf: bool = False) -> Any:
    """The first genes follow the fractions; what came back holds the fractions (or the others' noise, or nothing)."""
    generator = np.random.default_rng(1)
    u = generator.normal(size=(N, 1))
    loads = np.where(np.arange(GENES) < TOLD, generator.uniform(0.5, 1.0, GENES), 0.0)
    expected, own = u * loads + 1e-6 * generator.normal(size=(N, GENES)), generator.normal(size=(N, GENES))
    z = expected + np.where(loads > 0, 0.5, 1.0) * own
    back = own if upside_down else generator.normal(size=(N, GENES)) if deaf else u + 0.3 * generator.normal(size=(N, GENES))
    tissues, groups = np.arange(N) % 3, [f"p{row}" for row in range(N)]
    owners = ["glia"] * TOLD + [""] * (GENES - TOLD)
    return survivors_against_truth(z, {MADE: back}, expected, owners=owners, tissues=tissues, groups=groups, n_boot=100)


def test_survivors_are_those_that_the_fractions_tell() -> None:
    report = made()
    assert report.numbers["told_through_made_tiles"].low > 0.4
    told, untold = (report.numbers[f"survive_{name}_through_made_tiles"] for name in ("told", "untold"))
    assert told.low > untold.high
    assert list(report.table.index) == ["glia", "none"] and list(report.table["genes"]) == [TOLD, GENES - TOLD]
    assert "survive better" in report.summary(MADE) and set(report.numbers) == set(report.labels)


def test_what_was_written_in_by_other_means_is_seen() -> None:
    report = made(upside_down=True)
    assert report.numbers["told_through_made_tiles"].high < 0 and "survive worse" in report.summary(MADE)


def test_a_deaf_generator_tells_nothing() -> None:
    report = made(deaf=True)
    found = report.numbers["told_through_made_tiles"]
    assert found.low < 0 < found.high or abs(found.value) < 0.25
    assert abs(report.numbers["survive_told_through_made_tiles"].value) < 0.1


def test_expected_profiles_are_the_mix_of_programmes() -> None:
    share = {("a", "x"): [0.6, 0.4], ("a", "y"): [0.1, 0.9], ("b", "x"): [0.5, 0.5], ("b", "y"): [0.2, 0.8]}
    rows = [
        {"tissue": tissue, "cell_type": kind, "gene": gene, "share": value}
        for (tissue, kind), values in share.items()
        for gene, value in zip(("g1", "g2"), values, strict=True)
    ]
    fractions = pd.DataFrame({"patient_id": ["p", "q"], "tissue": ["b", "a"], "x": [1.0, 0.25], "y": [0.0, 0.75]})
    genes = pd.DataFrame({"gene": ["g1", "g2"], "owner": ["x", ""]})
    cohort: Any = SimpleNamespace(name="c", truth={"programmes": pd.DataFrame(rows), "fractions": fractions, "genes": genes})
    found = expected_by_fractions(cohort, ["q", "p"], ["g2", "g1"])
    wanted = [[0.25 * 0.4 + 0.75 * 0.9, 0.25 * 0.6 + 0.75 * 0.1], [0.5, 0.5]]
    np.testing.assert_allclose(np.exp2(found) - 1, 1e6 * np.array(wanted))
    assert gene_owners(cohort, ["g2", "g1"]) == ["", "x"]
    cohort.truth = {}
    with pytest.raises(InputError, match="truth"):
        expected_by_fractions(cohort, ["q"], ["g1"])
