"""The simulated profiles obey what was planted in them, and the test of that fails where it was not planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import rankdata

from rnasynth.data.simulate import (
    CELL_TYPES,
    MARKERS,
    MEAN_FRACTIONS,
    SURVIVAL_COEFFICIENTS,
    TISSUES,
    SimulationConfig,
    gene_programmes,
    simulate_profiles,
)
from rnasynth.data.simulate.design import LINEAGE_MARKERS, PROLIFERATION_MARKERS, TUMOURS, named_genes
from rnasynth.errors import InputError

MARKER_BAR = 0.6  # within-tissue Spearman, mean over a type's markers


@pytest.fixture(scope="module")
def cohort() -> tuple[AnnData, dict[str, pd.DataFrame]]:
    return simulate_profiles(SimulationConfig())


def within_tissue_spearman(a: np.ndarray, b: np.ndarray, tissue: np.ndarray) -> float:
    """Pool the ranks of each tissue, scaled to it, so that no difference between tissues counts."""
    ra, rb = np.empty(len(a)), np.empty(len(a))
    for name in np.unique(tissue):
        here = tissue == name
        ra[here], rb[here] = (rankdata(v[here]) / here.sum() for v in (a, b))
        ra[here] -= ra[here].mean()
        rb[here] -= rb[here].mean()
    return float((ra * rb).sum() / np.sqrt((ra**2).sum() * (rb**2).sum()))


def marker_correlations(profiles: AnnData) -> dict[str, float]:
    found = {}
    for number, kind in enumerate(CELL_TYPES):
        tissues = [t for t in TISSUES if MEAN_FRACTIONS[t][number] > 0]
        part = profiles[profiles.obs["tissue"].isin(tissues)]
        fraction, tissue = part.obs[f"fraction_{kind}"].to_numpy(), part.obs["tissue"].to_numpy()
        values = [within_tissue_spearman(fraction, np.asarray(part[:, gene].X).ravel(), tissue) for gene in MARKERS[kind]]
        found[kind] = float(np.mean(values))
    return found


def test_marker_genes_follow_their_fraction_within_each_tissue(cohort: tuple[AnnData, dict[str, pd.DataFrame]]) -> None:
    found = marker_correlations(cohort[0])
    assert min(found.values()) > MARKER_BAR, found


def test_the_same_bar_fails_with_rna_shuffled_within_tissue(cohort: tuple[AnnData, dict[str, pd.DataFrame]]) -> None:
    profiles = cohort[0].copy()
    rng = np.random.default_rng(0)
    order = np.arange(profiles.n_obs)
    for tissue in TISSUES:
        here = np.flatnonzero(profiles.obs["tissue"] == tissue)
        order[here] = rng.permutation(here)
    profiles.X = np.asarray(profiles.X)[order]
    found = marker_correlations(profiles)
    assert max(found.values()) < MARKER_BAR / 2, found


def test_fractions_vary_within_a_tissue_as_much_as_between(cohort: tuple[AnnData, dict[str, pd.DataFrame]]) -> None:
    table = cohort[1]["fractions"]
    grouped = table.groupby("tissue")[list(CELL_TYPES)]
    within = grouped.var(ddof=0).mean()
    between = grouped.mean().var(ddof=0)
    assert within.sum() >= between.sum()
    shared = ["fibroblast", "endothelial", "lymphocyte", "macrophage"]  # the types of three tissues and more
    assert (within[shared] > between[shared]).all()


def test_fractions_are_shares_and_absent_types_stay_absent(cohort: tuple[AnnData, dict[str, pd.DataFrame]]) -> None:
    for name in ("fractions", "tile_fractions"):
        table = cohort[1][name]
        values = table[list(CELL_TYPES)].to_numpy()
        np.testing.assert_allclose(values.sum(axis=1), 1.0, atol=1e-12)
        assert (values >= 0).all()
    table = cohort[1]["fractions"]
    for tissue, mean in MEAN_FRACTIONS.items():
        values = table.loc[table["tissue"] == tissue, list(CELL_TYPES)].to_numpy()
        assert ((values > 0) == (np.array(mean) > 0)).all()


def test_tile_fractions_scatter_around_their_patients(cohort: tuple[AnnData, dict[str, pd.DataFrame]]) -> None:
    patients = cohort[1]["fractions"].set_index("patient_id")[list(CELL_TYPES)]
    means = cohort[1]["tile_fractions"].groupby("patient_id")[list(CELL_TYPES)].mean()
    # Dirichlet: variance of a mean of n tiles is f (1 - f) / ((concentration + 1) n); five standard errors.
    bound = 5 * np.sqrt(patients * (1 - patients) / (31 * 24)) + 1e-9
    assert ((means - patients).abs() <= bound).to_numpy().all()


def test_profiles_are_raw_tpm_with_plain_columns(cohort: tuple[AnnData, dict[str, pd.DataFrame]]) -> None:
    profiles = cohort[0]
    x = np.asarray(profiles.X)
    assert profiles.uns["unit"] == "tpm" and "transform" not in profiles.uns
    assert x.dtype == np.float32 and (x >= 0).all()
    np.testing.assert_allclose(x.sum(axis=1), 1e6, rtol=1e-4)
    assert profiles.shape == (200, 1000) and profiles.obs_names.is_unique and profiles.var_names.is_unique
    for column in profiles.obs:
        kinds = {type(value) for value in profiles.obs[column]}
        assert len(kinds) == 1, column
    assert profiles.obs["tissue"].value_counts().tolist() == [40] * 5


def test_programmes_are_distributions_with_markers_in_their_type() -> None:
    config = SimulationConfig()
    programmes = gene_programmes(config)
    np.testing.assert_allclose(programmes.sum(axis=2), 1.0)
    names = [*named_genes()]
    for number, kind in enumerate(CELL_TYPES):
        columns = [names.index(gene) for gene in MARKERS[kind]]
        own = programmes[:, number][:, columns]
        others = np.delete(programmes[:, :, columns], number, axis=1)
        assert (own > 2 * others.max(axis=1)).all(), kind
    proliferation = [names.index(gene) for gene in PROLIFERATION_MARKERS]
    tumour = np.isin(TISSUES, TUMOURS)
    peak = programmes[:, :, proliferation].max(axis=1)
    assert peak[tumour].min() > 3 * peak[~tumour].max()
    assert not set(sum(LINEAGE_MARKERS.values(), ())) & set(sum(MARKERS.values(), ()))


def test_another_seed_keeps_the_biology_and_an_external_cohort_moves_the_data() -> None:
    one, other = SimulationConfig(patients=20), SimulationConfig(patients=20, seed=1)
    np.testing.assert_array_equal(gene_programmes(one), gene_programmes(other))
    assert not np.array_equal(gene_programmes(one), gene_programmes(SimulationConfig(biology_seed=1)))
    plain, truth = simulate_profiles(other)
    moved, moved_truth = simulate_profiles(SimulationConfig(patients=20, seed=1, batch_shift=0.5, missing_gene_share=0.1))
    pd.testing.assert_frame_equal(truth["fractions"], moved_truth["fractions"])
    assert moved.n_vars == 900 and set(moved.var_names) < set(plain.var_names)
    ratio = np.log((np.asarray(moved.X) + 1) / (np.asarray(plain[:, moved.var_names].X) + 1)).mean(axis=0)
    assert 0.35 < ratio.std() < 0.65  # the shift's standard deviation over genes, 0.5


def test_equal_configs_give_equal_profiles_and_a_patient_does_not_depend_on_the_others() -> None:
    first, _ = simulate_profiles(SimulationConfig(patients=10))
    again, _ = simulate_profiles(SimulationConfig(patients=10))
    more, _ = simulate_profiles(SimulationConfig(patients=15))
    np.testing.assert_array_equal(first.X, again.X)
    np.testing.assert_array_equal(first.X, np.asarray(more.X)[:10])
    assert first.obs["clinical_text"].tolist() == more.obs["clinical_text"].tolist()[:10]


def cox(profiles: AnnData, truth: dict[str, pd.DataFrame]) -> pd.DataFrame:
    from lifelines import CoxPHFitter

    obs = profiles.obs
    table = pd.DataFrame(
        {
            "lymphocyte": obs["fraction_lymphocyte"],
            "macrophage": obs["fraction_macrophage"],
            "age_decade": obs["age"] / 10,
            "stage": obs["stage"].map({"I": 0, "II": 1, "III": 2, "IV": 3}).fillna(0).astype(float),
            "months": obs["survival_months"],
            "event": obs["event"],
        }
    )
    return CoxPHFitter().fit(table, "months", "event").summary


def test_survival_gives_the_planted_coefficients_back(cohort: tuple[AnnData, dict[str, pd.DataFrame]]) -> None:
    summary = cox(*cohort)
    for name, planted in SURVIVAL_COEFFICIENTS.items():
        estimate, error = summary.loc[name, "coef"], summary.loc[name, "se(coef)"]
        assert np.sign(estimate) == np.sign(planted) and abs(estimate - planted) < 3 * error, (name, estimate, error)
    assert summary.loc["lymphocyte", "p"] < 0.01 and summary.loc["macrophage", "p"] < 0.01
    assert abs((1 - cohort[0].obs["event"].mean()) - 0.40) < 0.01


def test_survival_shuffled_between_patients_gives_nothing_back(
    cohort: tuple[AnnData, dict[str, pd.DataFrame]],
) -> None:
    profiles = cohort[0].copy()
    order = np.random.default_rng(0).permutation(profiles.n_obs)
    for name in ("survival_months", "event"):
        profiles.obs[name] = profiles.obs[name].to_numpy()[order]
    summary = cox(profiles, cohort[1])
    assert summary.loc["lymphocyte", "p"] > 0.01 and summary.loc["macrophage", "p"] > 0.01


def test_clinical_text_tells_of_the_fractions_but_never_names_the_tissue(
    cohort: tuple[AnnData, dict[str, pd.DataFrame]],
) -> None:
    obs = cohort[0].obs
    text = obs["clinical_text"].str.lower()
    for tissue in TISSUES:
        assert not text.str.contains(tissue.split("-")[0]).any()
    brisk = text.str.contains("brisk lymphocytic")
    assert obs.loc[brisk, "fraction_lymphocyte"].mean() > obs.loc[~brisk, "fraction_lymphocyte"].mean() + 0.1
    assert obs.loc[text.str.contains("stage"), "tissue"].isin(TUMOURS).all()


@pytest.mark.parametrize(
    "field",
    [{"patients": 0}, {"genes": 10}, {"missing_gene_share": 1.0}, {"tile_px": 32}, {"renderer": "c"}, {"colour": 1}],
)
def test_configurations_out_of_range_are_refused(field: dict[str, object]) -> None:
    with pytest.raises(InputError):
        SimulationConfig.from_dict(field)
