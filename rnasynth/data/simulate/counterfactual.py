"""What a simulated patient's profile would be in another tissue: the truth that a shift in a latent is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from rnasynth import files
from rnasynth.data.simulate.design import FRACTION_FLOOR, MEAN_FRACTIONS, TISSUES, SimulationConfig, patient_name
from rnasynth.data.simulate.profiles import Patient, expression, gene_names, gene_programmes, make_patient
from rnasynth.errors import InputError


def in_tissue(patient: Patient, tissue: str) -> Patient:
    """Return the same patient in another tissue.

    The fractions move by the difference of the two tissues' mean fractions; a type that the new tissue lacks is set to
    zero, any other to at least 0.01, as in every patient, and all are divided by their sum. A patient richer in
    lymphocytes than its tissue so stays richer, as far as the types allow; of a type that the new tissue lacks nothing is
    left. In its own tissue it is unchanged. Age, sex, stage, grade and batch stay.

    Raises
    ------
    InputError : no such tissue.
    """
    if tissue not in TISSUES:
        raise InputError(f"tissue {tissue!r}", expected=f"one of {', '.join(TISSUES)}", found="unknown")
    if tissue == patient.tissue:
        return patient
    mean = np.array(MEAN_FRACTIONS[tissue])
    moved = patient.fractions + mean - np.array(MEAN_FRACTIONS[patient.tissue])
    fractions = np.where(mean > 0, np.maximum(moved, FRACTION_FLOOR), 0.0)
    return replace(patient, tissue=tissue, fractions=fractions / fractions.sum())


def counterfactual_profiles(config: SimulationConfig, wanted: Sequence[tuple[str, str]]) -> anndata.AnnData:
    """Simulate patients of a cohort as they would be in other tissues.

    Parameters
    ----------
    config : of the cohort.
    wanted : (patient_id, tissue) of each profile.

    Returns
    -------
    Raw AnnData like that of `simulate_profiles`, all genes; obs: sample_id, patient_id, split_group, tissue, source. The
    patient's own noise, batch, depth and dispersion are those of its real profile, drawn from the same streams; the counts
    are drawn anew around the new means. In its own tissue a patient has exactly its own profile.

    Raises
    ------
    InputError : no such patient or tissue.
    """
    numbers = {patient_name(number): number for number in range(config.patients)}
    if unknown := [name for name, _ in wanted if name not in numbers]:
        raise InputError(f"patient {unknown[0]!r}", expected=f"one of the cohort's {config.patients}", found="unknown")
    own = [make_patient(config, numbers[name]) for name, _ in wanted]
    moved = [in_tissue(patient, tissue) for patient, (_, tissue) in zip(own, wanted, strict=True)]
    tpm = expression(config, moved, gene_programmes(config)).astype(np.float32)
    names = [name for name, _ in wanted]
    obs = pd.DataFrame({"sample_id": [f"{name} in {tissue}" for name, tissue in wanted], "patient_id": names})
    obs["split_group"] = names
    obs["tissue"], obs["source"] = [patient.tissue for patient in moved], [patient.tissue for patient in own]
    obs.index = pd.Index(obs["sample_id"].to_numpy(dtype=object))
    genes = gene_names(config)
    profiles = anndata.AnnData(X=tpm, obs=obs, var=pd.DataFrame({"symbol": genes}, index=pd.Index(genes)))
    profiles.uns["unit"] = "tpm"
    return profiles


def stored_config(folder: Path) -> SimulationConfig:
    """Return the configuration that a simulated cohort's folder was built from.

    Raises
    ------
    InputError : no simulated cohort lies there.
    """
    path = Path(folder) / "simulated.json"
    if not path.is_file():
        raise InputError(str(folder), expected="the folder of a simulated cohort", found="no simulated.json")
    return SimulationConfig.from_dict(files.read_json(path)["config"])
