"""Deconvolution finds planted, published and measured fractions, and refuses what is no mixture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.data.simulate import CELL_TYPES, MARKERS, SimulationConfig, simulate_profiles
from rnasynth.errors import InputError
from rnasynth.evaluation.deconvolution import checks, inputs
from rnasynth.evaluation.deconvolution import mixtures as known_mixtures
from rnasynth.evaluation.deconvolution.group_mode import signature_from_profiles
from rnasynth.evaluation.deconvolution.methods import deconvolve, marker_scores
from rnasynth.evaluation.deconvolution.signatures import check_signature, signature_genes

KINDS = ["a", "b", "c"]


def profiles_of(values: np.ndarray, genes: list[str], unit: str = "tpm") -> AnnData:
    obs = pd.DataFrame(index=pd.Index([f"s{number}" for number in range(len(values))]))
    var = pd.DataFrame(index=pd.Index(genes))
    return AnnData(X=values.astype(np.float32), obs=obs, var=var, uns={"unit": unit})


def exact(n: int = 12, genes: int = 60, seed: int = 0) -> tuple[AnnData, pd.DataFrame, pd.DataFrame]:
    """Noise-free mixtures of three types: profiles, shares of RNA, signature (columns add up to a million)."""
    rng = np.random.default_rng(seed)
    basis = rng.lognormal(0, 1.5, (genes, 3))
    basis *= 1e6 / basis.sum(axis=0)
    names = [f"G{number}" for number in range(genes)]
    shares = rng.dirichlet(np.ones(3), n)
    profiles = profiles_of(shares @ basis.T, names)
    return profiles, pd.DataFrame(shares, profiles.obs_names, KINDS), pd.DataFrame(basis, names, KINDS)


@pytest.mark.parametrize(("method", "tolerance"), [("nu-svr", 0.01), ("nnls", 1e-5)])
def test_exact_mixtures_give_their_shares_back(method: str, tolerance: float) -> None:
    profiles, shares, signature = exact()
    found = deconvolve(profiles, signature, method=method)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.fractions, shares, atol=tolerance)
    np.testing.assert_allclose(found.fractions.sum(axis=1), 1)
    assert (found.quality["correlation"] > 0.999).all()
    assert len(found.genes) == 60 and not found.missing and not found.failed and found.condition > 1


@pytest.mark.parametrize("method", ["nu-svr", "nnls"])
def test_scale_order_and_extra_genes_of_the_profiles_do_not_matter(method: str) -> None:
    profiles, _, signature = exact()
    plain = deconvolve(profiles, signature, method=method).fractions  # type: ignore[arg-type]
    turned = profiles[:, ::-1].copy()
    turned.X = np.asarray(turned.X) * np.linspace(0.1, 3, turned.n_obs)[:, None].astype(np.float32)
    wider = profiles_of(np.c_[np.asarray(turned.X), np.full(12, 500.0)], [*turned.var_names, "EXTRA"])
    np.testing.assert_allclose(deconvolve(wider, signature, method=method).fractions, plain, atol=2e-3)  # type: ignore[arg-type]


def test_signature_of_shuffled_genes_finds_nothing() -> None:
    profiles, shares, signature = exact(40)
    broken = signature.copy()
    broken.index = np.random.default_rng(1).permutation(broken.index)
    for method in ("nu-svr", "nnls"):
        right = deconvolve(profiles, signature, method=method)  # type: ignore[arg-type]
        wrong = deconvolve(profiles, broken, method=method)  # type: ignore[arg-type]
        assert checks.rmse(right.fractions, shares) < 0.01
        assert checks.rmse(np.nan_to_num(wrong.fractions.to_numpy()), shares) > 0.2
        assert wrong.quality["correlation"].mean() < 0.5 < right.quality["correlation"].min()


def test_cells_of_no_type_are_called_other() -> None:
    profiles, shares, signature = exact()
    genes = [*profiles.var_names, "TUMOUR1", "TUMOUR2"]
    mixed = profiles_of(np.c_[0.4 * np.asarray(profiles.X), np.full((12, 2), 3e5)], genes)
    found = deconvolve(mixed, signature, method="nnls", other=True)
    assert found.other is not None
    np.testing.assert_allclose(found.other, 0.6, atol=1e-4)
    np.testing.assert_allclose(found.fractions, 0.4 * shares, atol=1e-4)
    with pytest.raises(InputError, match="nnls"):
        deconvolve(mixed, signature, method="nu-svr", other=True)


def test_rna_content_turns_rna_into_cells_and_only_once() -> None:
    profiles, shares, signature = exact()
    content = {"a": 1.0, "b": 2.0, "c": 4.0}
    cells = deconvolve(profiles, signature, method="nnls").to_cells(content)
    expected = shares / [1.0, 2.0, 4.0]
    np.testing.assert_allclose(cells.fractions, expected.div(expected.sum(axis=1), axis=0), atol=1e-4)
    assert cells.counts == "cells"
    with pytest.raises(InputError, match="already"):
        cells.to_cells(content)
    with pytest.raises(InputError, match="RNA content of c"):
        deconvolve(profiles, signature, method="nnls").to_cells({"a": 1.0, "b": 1.0})


def test_ensembl_signature_meets_profiles_with_symbols_beside_their_ids() -> None:
    profiles, shares, signature = exact()
    by_id = profiles.copy()
    by_id.var_names = [f"ENSG{number:011d}" for number in range(60)]
    by_id.var["symbol"] = list(profiles.var_names)
    np.testing.assert_allclose(deconvolve(by_id, signature, method="nnls").fractions, shares, atol=1e-4)
    versions = signature.set_axis([f"ENSG{number:011d}.7" for number in range(60)])
    np.testing.assert_allclose(deconvolve(by_id, versions, method="nnls").fractions, shares, atol=1e-4)


def test_what_is_no_mixture_is_refused() -> None:
    profiles, _, signature = exact()
    values, genes = np.asarray(profiles.X), list(profiles.var_names)
    with pytest.raises(InputError, match="log scale"):
        deconvolve(profiles_of(np.log2(values + 1), genes), signature)
    with pytest.raises(InputError, match="z-scores"):
        deconvolve(profiles_of((values - values.mean(0)) / values.std(0), genes, "zscore"), signature)
    with pytest.raises(InputError, match="log scale"):
        deconvolve(profiles, np.log2(signature + 1.5))
    with pytest.raises(InputError, match="min_share"):
        deconvolve(profiles_of(values, [*genes[:20], *(f"X{n}" for n in range(40))]), signature)
    with pytest.raises(InputError, match="6 or more for 3 types"):
        deconvolve(profiles_of(values, [*genes[:5], *(f"X{n}" for n in range(55))]), signature, min_share=0.01)
    with pytest.raises(InputError, match="sum of others"):
        deconvolve(profiles, signature.assign(d=signature["a"] + signature["b"]))
    with pytest.raises(InputError, match="sample s3"):
        silent = values.copy()
        silent[3] = 0
        deconvolve(profiles_of(silent, genes), signature)


def test_another_species_is_named() -> None:
    human = ["EPCAM", "COL1A1", "PECAM1", "CD3D", "CD68", "GFAP", "SNAP25", "VWF"] + [f"ABC{n}" for n in range(52)]
    profiles, _, signature = exact()
    mouse = profiles_of(np.asarray(profiles.X), [name.capitalize() for name in human])
    with pytest.raises(InputError, match="mouse"):
        deconvolve(mouse, signature.set_axis(human))
    by_id = profiles_of(np.asarray(profiles.X), [f"ENSMUSG{n:011d}" for n in range(60)])
    with pytest.raises(InputError, match=r"human.*mouse"):
        deconvolve(by_id, signature.set_axis([f"ENSG{n:011d}" for n in range(60)]))


def test_signatures_that_are_none_are_refused() -> None:
    _, _, signature = exact()
    for broken, words in (
        (signature[["a"]], "two types"),
        (signature.T, "transpose"),
        (pd.concat([signature, signature.iloc[:1]]), "G0"),
        (signature.assign(a=-1.0), "negative"),
        (signature.assign(a=np.nan), "NaN"),
        (signature.astype({"a": str}), "text"),
    ):
        with pytest.raises(InputError, match=words):
            check_signature(broken)


def test_markers_follow_planted_fractions_and_say_what_is_absent() -> None:
    profiles, truth = simulate_profiles(SimulationConfig(patients=60, tiles_per_patient=1))
    found = marker_scores(profiles, {**MARKERS, "unknown": ("NOSUCHGENE",)})
    assert found.absent == ("unknown",) and list(found.scores) == list(MARKERS)
    fractions = truth["fractions"].set_index("patient_id")
    for kind in CELL_TYPES:
        assert np.corrcoef(found.scores[kind], fractions[kind])[0, 1] > 0.6
    one = marker_scores(profiles, {"x": ("CD3D", "CD8A")}).scores["x"]
    expected = np.log2(np.asarray(profiles[:, ["CD3D", "CD8A"]].X, dtype=np.float64) + 1).mean(axis=1)
    np.testing.assert_allclose(one, expected)
    with pytest.raises(InputError, match="marker genes"):
        marker_scores(profiles, {"x": ("NOSUCHGENE",)})


def test_signature_learnt_on_training_patients_deconvolves_new_ones() -> None:
    profiles, truth = simulate_profiles(SimulationConfig(patients=85, tiles_per_patient=1))
    fractions = truth["fractions"].set_index("patient_id")[list(CELL_TYPES)]
    content = known_mixtures.simulated_rna_content()
    train, test = profiles[:70].copy(), profiles[70:].copy()
    signature = signature_from_profiles(train, fractions, rna_content=content)
    known = fractions.iloc[70:]
    found = deconvolve(test, signature).to_cells(content).fractions
    assert checks.rmse(found, known) < 0.055
    assert min(np.corrcoef(found[kind], known[kind])[0, 1] for kind in CELL_TYPES) > 0.85
    shuffled = fractions.set_axis(np.random.default_rng(0).permutation(fractions.index))  # the deliberately broken variant
    broken = deconvolve(test, signature_from_profiles(train, shuffled, rna_content=content), method="nnls").fractions
    assert checks.rmse(np.nan_to_num(broken.to_numpy()), known) > 0.12


def test_signature_genes_are_specific() -> None:
    _, _, signature = exact()
    chosen = signature_genes(signature, per_type=5)
    values = np.sort(chosen.to_numpy(), axis=1)
    assert len(chosen) == 15 and (values[:, -1] > values[:, -2]).all()


def test_simulated_truth_is_found_and_rna_is_not_cells() -> None:
    report = checks.validate([known_mixtures.simulated_mixture(patients=20)], n_boot=100)
    assert report.numbers["correlation_simulated_patients_nu_svr"].low > 0.97
    assert report.numbers["rmse_simulated_patients_nu_svr"].value < 0.04
    row = report.table.iloc[0]
    assert row["RMSE, RNA taken for cells"] > 1.5 * report.numbers["rmse_simulated_patients_nu_svr"].value
    assert set(report.numbers) == set(report.labels) and len(report.of("simulated patients", "NNLS")) == 20 * 7


def test_fractions_of_a_cohort_are_read_and_joined() -> None:
    profiles, _ = simulate_profiles(SimulationConfig(patients=5, tiles_per_patient=1))
    table = checks.fractions_of(profiles)
    joined = checks.join_types(table, {"blood": ("lymphocyte", "macrophage", "b_cells"), "none": ("x",)})
    assert list(table) == list(CELL_TYPES) and list(joined) == ["blood"]
    np.testing.assert_allclose(joined["blood"], table["lymphocyte"] + table["macrophage"])
    profiles.obs.loc["SIM-0002", "fraction_glia"] = np.nan
    with pytest.raises(InputError, match="SIM-0002"):
        checks.fractions_of(profiles)
    agreement = checks.cohort_agreement(table, table, groups=list(table.index), method="same")
    np.testing.assert_allclose(agreement["value"], 1)


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_cibersortx_result_is_read(tmp_path: Path, separator: str) -> None:
    table = pd.DataFrame({"Mixture": ["p1", "p2"], "B": [0.25, 1.0], "T cells": [0.75, 0.0], "P-value": [0.01, 0.9]})
    table = table.assign(Correlation=[0.9, 0.1], RMSE=[0.5, 1.1])
    path = tmp_path / ("result.csv" if separator == "," else "result.txt")
    table.to_csv(path, sep=separator, index=False)
    found = inputs.read_cibersortx(path)
    assert found.fractions.loc["p1", "T cells"] == 0.75 and list(found.quality) == ["correlation", "rmse", "p"]
    scores = table.assign(B=[1.0, 2.0], **{"T cells": [3.0, 0.0]}).assign(**{"Absolute score (sig.score)": [4.0, 2.0]})
    scores.to_csv(path, sep=separator, index=False)
    assert inputs.read_cibersortx(path).fractions.loc["p1", "T cells"] == 0.75


def test_a_file_that_is_no_cibersortx_result_is_refused(tmp_path: Path) -> None:
    good = pd.DataFrame({"Mixture": ["p1", "p2"], "B": [0.4, 1.0], "T": [0.6, 0.0], "P-value": 0.1, "Correlation": 0.9})
    good["RMSE"] = 1.0
    path = tmp_path / "result.csv"
    for table, words in (
        (good.drop(columns="RMSE"), "no RMSE"),
        (good.drop(columns=["B", "T"]), "cell type"),
        (good.assign(Mixture="p1"), "several times"),
        (good.assign(B=[0.4, np.nan]), "p2"),
        (good.assign(B=[-0.4, 1.0]), "negative"),
        (good.assign(T=[5.0, 0.0]), "add up to 1"),
    ):
        table.to_csv(path, index=False)
        with pytest.raises(InputError, match=words):
            inputs.read_cibersortx(path)
    good.to_csv(tmp_path / "result.txt", index=False)
    with pytest.raises(InputError, match="separated by tabs"):
        inputs.read_cibersortx(tmp_path / "result.txt")
    with pytest.raises(InputError, match="none there"):
        inputs.read_cibersortx(tmp_path / "no.csv")


def test_a_measured_mixture_without_its_reader_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dataset_racle.rda"
    with pytest.raises(InputError, match="fetch"):
        known_mixtures.read_racle(path)
    path.write_bytes(b"")
    monkeypatch.setattr(known_mixtures.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="install the package rdata"):
        known_mixtures.read_racle(path)


@pytest.mark.real
def test_published_test_mixture_gives_the_published_fractions(mirror: Path) -> None:
    mixture = known_mixtures.til10_mixture(mirror / "signatures")
    found = deconvolve(mixture.profiles, mixture.signature, method="nnls", other=True, symbols=mixture.symbols)
    cells = found.to_cells(mixture.rna_content)
    np.testing.assert_allclose(cells.fractions, mixture.fractions, atol=1e-4)
    wrong = found.fractions.to_numpy()  # shares of RNA are not the published shares of cells
    assert np.abs(wrong - mixture.fractions.to_numpy()).max() > 0.01


@pytest.mark.real
def test_marker_lists_and_labelled_nuclei_are_read(mirror: Path, tmp_path: Path) -> None:
    folder = mirror / "signatures"
    lists = inputs.read_marker_lists(folder / "MCPcounter_genes.txt")
    assert len(lists) == 10 and "CD3D" in lists["T cells"]
    assert "ENSG00000167286" in inputs.read_marker_lists(folder / "MCPcounter_genes.txt", ids="ensembl")["T cells"]
    panglao = inputs.read_panglao(folder / "PanglaoDB_markers_27_Mar_2020.tsv.gz", ["Fibroblasts", "T cells"])
    assert set(panglao) == {"Fibroblasts", "T cells"} and "CD3E" in panglao["T cells"]
    with pytest.raises(InputError, match="No such type"):
        inputs.read_panglao(folder / "PanglaoDB_markers_27_Mar_2020.tsv.gz", ["No such type"])
    nuclei = inputs.nucls_fractions(folder / "nucls_v4_FINAL_CORE.sqlite.gz")
    np.testing.assert_allclose(nuclei.drop(columns="n_nuclei").sum(axis=1), 1)
    assert len(nuclei) > 100 and nuclei.index.str.fullmatch(r"TCGA-\w\w-\w{4}").all()
    (tmp_path / "x.sqlite").write_bytes(b"no database, only text that is long enough to be read as one" * 20)
    with pytest.raises(InputError, match="NuCLS"):
        inputs.nucls_fractions(tmp_path / "x.sqlite")


@pytest.mark.real
def test_measured_fractions_are_read_and_followed(mirror: Path) -> None:
    pytest.importorskip("rdata", reason="an optional reader of R environments")
    mixture = known_mixtures.racle_mixture(mirror / "signatures")
    assert mixture.profiles.n_obs == 4 and mixture.fractions.loc["LAU1314", "B cell"] == 0.4667
    report = checks.validate([mixture], n_boot=50)
    assert report.numbers["correlation_melanoma_lymph_nodes_nnls"].value > 0.6


def test_without_the_published_files_the_planted_mixture_is_left_and_the_others_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RNASYNTH_MIRROR", raising=False)
    found, missing = checks.known_mixtures()
    assert [mixture.simulated for mixture in found] == [True]
    assert len(missing) == 1 and "rnasynth fetch signatures" in missing[0]
