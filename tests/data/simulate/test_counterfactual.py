"""A patient in another tissue: the same noise, other means, and in its own tissue nothing changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnasynth import files
from rnasynth.data.simulate import (
    CELL_TYPES,
    MEAN_FRACTIONS,
    TISSUES,
    SimulationConfig,
    counterfactual_profiles,
    in_tissue,
    make_patient,
    simulate_profiles,
    stored_config,
)
from rnasynth.errors import InputError

CONFIG = SimulationConfig(patients=30, genes=200, tiles_per_patient=1, missing_gene_share=0.1)


def test_in_its_own_tissue_a_patient_has_its_own_profile_to_the_bit() -> None:
    profiles, _ = simulate_profiles(CONFIG)
    own = counterfactual_profiles(CONFIG, list(zip(profiles.obs["patient_id"], profiles.obs["tissue"], strict=True)))
    np.testing.assert_array_equal(own[:, list(profiles.var_names)].X, profiles.X)
    assert own.uns["unit"] == "tpm" and own.n_vars == CONFIG.genes


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("tissue", TISSUES)
def test_fractions_are_a_patients_of_the_new_tissue(number: int, tissue: str) -> None:
    patient = make_patient(CONFIG, number)
    moved = in_tissue(patient, tissue)
    assert moved.fractions.sum() == pytest.approx(1) and moved.tissue == tissue
    assert np.array_equal(moved.fractions > 0, np.array(MEAN_FRACTIONS[tissue]) > 0)
    assert replace(moved, tissue=patient.tissue, fractions=patient.fractions) == patient


def test_an_average_patient_becomes_an_average_one_and_a_rich_one_stays_rich() -> None:
    average = replace(make_patient(CONFIG, 2), fractions=np.array(MEAN_FRACTIONS[TISSUES[2]]))
    np.testing.assert_allclose(in_tissue(average, TISSUES[3]).fractions, MEAN_FRACTIONS[TISSUES[3]], atol=1e-12)
    lymphocyte = CELL_TYPES.index("lymphocyte")
    more = average.fractions.copy()
    more[[0, lymphocyte]] += (-0.1, 0.1)
    moved = in_tissue(replace(average, fractions=more), TISSUES[3]).fractions
    assert moved[lymphocyte] == pytest.approx(MEAN_FRACTIONS[TISSUES[3]][lymphocyte] + 0.1)


def test_the_patients_own_noise_comes_along() -> None:
    """The log ratio to the mean of the tissue correlates between the two tissues, patient by patient; mixed up, not."""
    names = [f"SIM-{number:04d}" for number in range(2, 30, 5)]
    own = np.log(np.asarray(counterfactual_profiles(CONFIG, [(name, TISSUES[2]) for name in names]).X) + 1)
    moved = np.log(np.asarray(counterfactual_profiles(CONFIG, [(name, TISSUES[3]) for name in names]).X) + 1)
    own, moved = own - own.mean(axis=0), moved - moved.mean(axis=0)
    assert np.corrcoef(own.ravel(), moved.ravel())[0, 1] > 0.5
    assert np.corrcoef(own.ravel(), np.roll(moved, 1, axis=0).ravel())[0, 1] < 0.3


def test_unknown_patients_tissues_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SIM-0030"):
        counterfactual_profiles(CONFIG, [("SIM-0030", TISSUES[0])])
    with pytest.raises(InputError, match="liver"):
        in_tissue(make_patient(CONFIG, 0), "liver")
    with pytest.raises(InputError, match=r"no simulated\.json"):
        stored_config(tmp_path)
    files.write_json(tmp_path / "simulated.json", {"config": CONFIG.to_dict(), "version": 1})
    assert stored_config(tmp_path) == CONFIG
