"""Cohorts from outside: sums, units and tissues are right, and what is not there is said, not raised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.data.cohort import load_cohort
from rnasynth.data.external import externals_of, per_million, pseudo_bulk
from rnasynth.errors import InputError


def counts(values: list[list[float]], unit: str = "counts") -> AnnData:
    names = pd.Index([f"s{i}" for i in range(len(values))], dtype=object)
    genes = pd.Index([f"g{i}" for i in range(len(values[0]))], dtype=object)
    obs = pd.DataFrame({"sample_id": names, "patient_id": names}, index=names)
    return AnnData(X=np.array(values, np.float32), obs=obs, var=pd.DataFrame(index=genes), uns={"unit": unit})


def test_a_pseudo_bulk_is_the_sum_of_its_spots() -> None:
    spots = counts([[1, 2], [10, 20], [3, 4]])
    bulk = pseudo_bulk(spots, pd.Series(["b", "a", "b"]))
    assert list(bulk.obs_names) == ["b", "a"] and bulk.uns["unit"] == "counts"
    np.testing.assert_array_equal(bulk.X, [[4, 6], [10, 20]])
    with pytest.raises(InputError, match="3 samples"):
        pseudo_bulk(spots, pd.Series(["a"]))
    with pytest.raises(InputError, match="counts"):
        pseudo_bulk(counts([[1, 2]], "tpm"), pd.Series(["a"]))


def test_per_million_keeps_ratios_and_refuses_what_has_no_scale() -> None:
    scaled = per_million(counts([[1, 3], [50, 50]]))
    np.testing.assert_allclose(scaled.X, [[250_000, 750_000], [500_000, 500_000]])
    assert scaled.uns["unit"] == "tpm"
    with pytest.raises(InputError, match="z-scores"):
        per_million(counts([[1, -1]], "zscore"))
    with pytest.raises(InputError, match="sample s1"):
        per_million(counts([[1, 3], [0, 0]]))


def test_the_simulated_cohort_has_another_laboratory_that_lacks_genes(tmp_path: Path) -> None:
    cohort = load_cohort("simulated", folder=tmp_path, patients=15, tiles_per_patient=1, tile_px=64)
    found, missing = externals_of(cohort)
    assert [external.label for external in found] == ["other laboratory"] and not missing
    profiles = found[0].profiles
    assert 0.6 < profiles.n_vars / cohort.profiles.n_vars < 0.8
    assert set(profiles.obs["tissue"]) == set(cohort.profiles.obs["tissue"])
    again = externals_of(cohort)[0][0].profiles
    np.testing.assert_array_equal(again.X, profiles.X)


def test_a_cohort_that_is_not_there_is_named(tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = load_cohort("tcga-xena", mirror=mirror, folder=tmp_path)
    monkeypatch.delenv("RNASYNTH_MIRROR", raising=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    found, missing = externals_of(cohort, mirror=empty)
    assert not found and len(missing) == 3 and missing[0].startswith("cognoma")


def test_no_training_patient_stands_among_the_external_tumours(mirror: Path) -> None:
    cohort = load_cohort("tcga-xena", mirror=mirror)
    found, _ = externals_of(cohort, mirror=mirror)
    cognoma = next(external for external in found if external.label == "cognoma").profiles
    assert not set(cognoma.obs["patient_id"]) & set(cohort.only("train").profiles.obs["patient_id"])
    assert set(cognoma.obs["tissue"]) <= {"BLCA", "STAD", "COADREAD"} and cognoma.n_obs >= 3
    sections = next(external for external in found if external.label == "her2st sections").profiles
    assert sections.n_obs >= 24 and np.allclose(np.asarray(sections.X).sum(1), 1e6, rtol=1e-3)


def test_the_papers_series_are_named_where_they_were_never_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RNASYNTH_MIRROR", raising=False)
    cohort = load_cohort("simulated", folder=tmp_path, patients=15, tiles_per_patient=1, tile_px=64)
    found, missing = externals_of(replace(cohort, name="gtex"))
    assert not found and missing[0].startswith("geo is not there") and "rnasynth fetch geo" in missing[0]
    assert externals_of(replace(cohort, name="rtcga")) == ([], [])
