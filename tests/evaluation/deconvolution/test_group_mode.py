"""Profiles of cell types from mixtures: found, with honest errors, imported, and given to a generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnasynth.data.genes import dense
from rnasynth.data.simulate import CELL_TYPES, SimulationConfig, simulate_profiles
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.deconvolution.group_mode import cell_type_profiles, read_group_mode, truth_table
from rnasynth.evaluation.deconvolution.mixtures import simulated_rna_content
from tests.evaluation.deconvolution.test_methods import exact

MILLION = 1e6


def test_group_mode_finds_the_profiles_of_the_types() -> None:
    profiles, shares, signature = exact()
    found = cell_type_profiles(profiles, shares)
    np.testing.assert_allclose(found.means, signature, rtol=1e-3, atol=1e-2)
    assert (found.errors.to_numpy() < 1e-3 * signature.to_numpy().mean()).all()  # noise-free: nothing is unsure
    np.testing.assert_allclose(found.shares, shares.mean())
    content = {"a": 1.0, "b": 2.0, "c": 4.0}
    cells = shares / [1.0, 2.0, 4.0]
    cells = cells.div(cells.sum(axis=1), axis=0)
    scaled = cell_type_profiles(profiles, cells, rna_content=content).means
    np.testing.assert_allclose(scaled, signature, rtol=1e-3, atol=1e-2)
    wrong = np.abs(cell_type_profiles(profiles, cells).means - signature).to_numpy().mean()
    assert wrong > 100  # cells taken for RNA: the profiles are off


def test_group_mode_asks_for_training_samples_and_whole_fractions() -> None:
    profiles, shares, _ = exact()
    with pytest.raises(InputError, match="sample s11"):
        cell_type_profiles(profiles, shares.iloc[:-1])
    with pytest.raises(InputError, match="adding up to 1"):
        cell_type_profiles(profiles, 0.5 * shares)
    with pytest.raises(InputError, match="vary on their own"):
        cell_type_profiles(profiles, shares.assign(d=0.0))
    profiles.obs["split"] = ["train"] * 11 + ["test"]
    with pytest.raises(SplitError, match="s11"):
        cell_type_profiles(profiles, shares)


def covered(shrink: float = 1.0) -> float:
    """Share of true values within two standard errors, where noise grows with the mean; `shrink` spoils the errors."""
    profiles, shares, signature = exact(n=60, genes=200, seed=1)
    rng = np.random.default_rng(2)
    inside = []
    for _ in range(10):
        noisy = profiles.copy()
        noisy.X = (dense(profiles) * (1 + 0.2 * rng.standard_normal(profiles.shape))).clip(0).astype(np.float32)
        found = cell_type_profiles(noisy, shares)
        bulk = (signature * shares.mean()).sum(axis=1)
        own = signature.gt(0.2 * bulk, axis=0).to_numpy()  # away from the bound at zero
        inside.append((np.abs(found.means - signature) < 2 * shrink * found.errors).to_numpy()[own].mean())
    return float(np.mean(inside))


def test_standard_errors_cover_the_truth() -> None:
    assert 0.90 < covered() < 0.99
    assert covered(0.5) < 0.8  # errors of half the size would be seen


def test_simulated_programmes_are_found_and_shuffled_fractions_are_not_enough() -> None:
    profiles, truth = simulate_profiles(SimulationConfig(patients=120, tiles_per_patient=1))
    fractions = truth["fractions"].set_index("patient_id")[list(CELL_TYPES)]
    means = truth["programmes"].groupby(["gene", "cell_type"], observed=True)["share"].mean().unstack() * MILLION
    table = truth_table(profiles, fractions, means, rna_content=simulated_rna_content()).set_index("type")
    assert set(table.index) == set(CELL_TYPES)
    assert table["r"].min() > 0.6 and table["r"].mean() > 0.75, table
    assert table["r (fractions shuffled)"].abs().max() < 0.4 and (table["r"] > table["r (fractions shuffled)"] + 0.3).all()
    assert (table["error"] < 1).all()


def test_types_are_joined_by_their_shares_of_rna() -> None:
    profiles, shares, signature = exact()
    joined = cell_type_profiles(profiles, shares).joined({"ab": ("a", "b", "unknown"), "c": ("c",), "none": ("x",)})
    weight = shares.mean()
    expected = (signature["a"] * weight["a"] + signature["b"] * weight["b"]) / (weight["a"] + weight["b"])
    assert list(joined.means) == ["ab", "c"]
    np.testing.assert_allclose(joined.means["ab"], expected, rtol=1e-3, atol=1e-2)
    assert joined.shares["ab"] == pytest.approx(weight["a"] + weight["b"])


def test_a_types_profile_keeps_sample_ids_and_totals() -> None:
    profiles, shares, signature = exact()
    profiles.X = dense(profiles) * np.linspace(0.5, 2, profiles.n_obs)[:, None].astype(np.float32)
    given = cell_type_profiles(profiles, shares).given_to(profiles, "b")
    assert list(given.obs_names) == list(profiles.obs_names)
    np.testing.assert_allclose(dense(given).sum(axis=1), dense(profiles).sum(axis=1), rtol=1e-5)
    for row in dense(given):
        assert np.corrcoef(row, signature["b"])[0, 1] > 0.9999
    assert not np.allclose(dense(given), dense(profiles))
    with pytest.raises(InputError, match="type 'z'"):
        cell_type_profiles(profiles, shares).given_to(profiles, "z")


def test_group_mode_of_cibersortx_is_imported(tmp_path: Path) -> None:
    profiles, _, signature = exact()
    path, errors = tmp_path / "job_GEPs_Filtered.txt", tmp_path / "job_GEPs_StdErrs.txt"
    table = signature.astype(object).rename_axis("NAME")
    table.iloc[3, 1] = "NA"
    table.to_csv(path, sep="\t")
    (signature * 0.1).rename_axis("NAME").to_csv(errors, sep="\t")
    found = read_group_mode(path, errors=errors)
    assert found.n == 0 and "CIBERSORTx" in found.method and np.isnan(found.means.iloc[3, 1])
    np.testing.assert_allclose(found.errors, signature * 0.1)
    given = found.given_to(profiles, "b")
    assert (dense(given)[:, 3] == 0).all() and np.isfinite(dense(given)).all()
    for broken, words in (
        (table.assign(a="x"), "text or negative"),
        (table.assign(c=-1.0), "text or negative"),
        (pd.concat([table, table.iloc[:1]]).rename_axis("NAME"), "several times"),
        (table[[]], "one column"),
    ):
        broken.to_csv(path, sep="\t")
        with pytest.raises(InputError, match=words):
            read_group_mode(path)
    table.to_csv(path, sep="\t")
    (signature[["a", "b"]]).rename_axis("NAME").to_csv(errors, sep="\t")
    with pytest.raises(InputError, match="genes and types"):
        read_group_mode(path, errors=errors)
