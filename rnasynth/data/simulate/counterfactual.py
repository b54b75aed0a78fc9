"""What a simulated patient would be in another tissue, or with more cells of a type: the truth for shifts and changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from rnasynth import files
from rnasynth.data.simulate.design import CELL_TYPES, FRACTION_FLOOR, MEAN_FRACTIONS, TISSUES, SimulationConfig, patient_name
from rnasynth.data.simulate.profiles import (
    Patient,
    expression,
    gene_names,
    gene_programmes,
    make_patient,
    tile_fractions,
)
from rnasynth.data.simulate.render import render_tile
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


def with_more(fractions: np.ndarray, kind: str, log2_fold: float) -> np.ndarray:
    """Return cell fractions (..., 7) with 2**log2_fold times as many cells of one type, divided by their sum.

    Raises
    ------
    InputError : no such type.
    """
    if kind not in CELL_TYPES:
        raise InputError(f"cell type {kind!r}", expected=f"one of {', '.join(CELL_TYPES)}", found="unknown")
    made = np.array(fractions, dtype=np.float64)
    made[..., CELL_TYPES.index(kind)] *= 2.0**log2_fold
    return np.asarray(made / made.sum(axis=-1, keepdims=True))


def tiles_with_more(config: SimulationConfig, patient_id: str, kind: str, log2_fold: float, tiles: int) -> np.ndarray:
    """Render a patient's first tiles as they would be with more, or fewer, cells of one type.

    Each tile's own fractions are changed by `with_more`; all that is random in it (the scene's layout, the stain, the
    camera's noise) is drawn from the same streams, so that a tile is compared with itself. At 0 it is the cohort's tile.

    Returns
    -------
    Shape (tiles, tile_px, tile_px, 3), uint8.

    Raises
    ------
    InputError : no such patient or type.
    """
    numbers = {patient_name(number): number for number in range(config.patients)}
    if patient_id not in numbers:
        raise InputError(f"patient {patient_id!r}", expected=f"one of the cohort's {config.patients}", found="unknown")
    number = numbers[patient_id]
    person = make_patient(config, number)
    shares = [with_more(tile_fractions(config, person, tile), kind, log2_fold) for tile in range(tiles)]
    drawn = [render_tile(config, number, tile, fractions=share).image for tile, share in enumerate(shares)]
    return np.stack(drawn)
