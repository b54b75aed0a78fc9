"""Patients of the simulated cohort: fractions, expression, survival and clinical text, with everything known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anndata
import numpy as np
import pandas as pd

from rnasynth.data.simulate.design import (
    BATCHES,
    CELL_TYPES,
    CENSORED_SHARE,
    FRACTION_FLOOR,
    HOUSEKEEPING,
    LINEAGE_MARKERS,
    LYMPHOCYTE,
    MACROPHAGE,
    MALIGNANT_TYPE,
    MARKERS,
    MEAN_FRACTIONS,
    N_TYPES,
    NEURON,
    PATIENT_CONCENTRATION,
    PROLIFERATION_MARKERS,
    RNA_CONTENT,
    SURVIVAL_COEFFICIENTS,
    SURVIVAL_MEDIAN_MONTHS,
    SURVIVAL_SHAPE,
    TISSUES,
    TUMOURS,
    SimulationConfig,
    named_genes,
    patient_name,
    stream,
)

STAGES = ("I", "II", "III", "IV")
MARKER_FOLD = 30.0  # a marker in its own type over its background, median
NOISE_NOTES = (
    "Specimen received fresh",
    "Specimen received in formalin",
    "Sections cut at 4 um",
    "Block stored for two years",
    "Outside consultation requested",
    "Measured in three planes",
)


@dataclass(frozen=True)
class Patient:
    """One simulated patient; `fractions` has shape (7,), order of CELL_TYPES, sum 1."""

    number: int
    tissue: str
    fractions: np.ndarray
    age: float
    sex: str
    stage: str
    grade: str
    batch: str


def make_patient(config: SimulationConfig, patient: int) -> Patient:
    """Draw one patient from its own random stream, independent of all others."""
    rng = stream("patient", config.seed, patient)
    tissue = TISSUES[patient % len(TISSUES)]
    mean = np.array(MEAN_FRACTIONS[tissue])
    present = mean > 0
    fractions = np.zeros(N_TYPES)
    fractions[present] = rng.dirichlet(PATIENT_CONCENTRATION * mean[present]) + FRACTION_FLOOR
    fractions /= fractions.sum()
    tumour = tissue in TUMOURS
    return Patient(
        number=patient,
        tissue=tissue,
        fractions=fractions,
        age=float(np.clip(np.round(rng.normal(61, 11)), 22, 90)),
        sex=("female", "male")[int(rng.integers(2))],
        stage=STAGES[int(rng.choice(4, p=(0.3, 0.3, 0.25, 0.15)))] if tumour else "not applicable",
        grade=f"G{int(rng.integers(1, 4))}" if tumour else "not applicable",
        batch=BATCHES[int(rng.integers(config.batches))],
    )


def tile_fractions(config: SimulationConfig, patient: Patient, tile: int) -> np.ndarray:
    """Draw one tile's cell fractions around its patient's; shape (7,), sum 1, zero where the patient has zero."""
    rng = stream("tile_fractions", config.seed, patient.number, tile)
    present = patient.fractions > 0
    fractions = np.zeros(N_TYPES)
    fractions[present] = rng.dirichlet(config.tile_concentration * patient.fractions[present])
    return fractions


def gene_names(config: SimulationConfig) -> list[str]:
    """Return the names of all simulated genes, the named markers first."""
    named = list(named_genes())
    return named + [f"GENE{number:04d}" for number in range(1, config.genes - len(named) + 1)]


def gene_programmes(config: SimulationConfig) -> np.ndarray:
    """Return the mean expression of each gene in one cell of each tissue and type.

    Shape (5, 7, genes), float64, each (tissue, type) adds up to 1. Sparse (a type expresses about 45 % of the unnamed
    genes and leaks a hundredth of the others) and log-normal. A marker is `MARKER_FOLD` times its background in its type;
    half of the unnamed genes have one type that raises them two- to eightfold; lineage genes are raised in the
    parenchymal type of their tissue only, proliferation genes in the malignant ones, whose other genes are perturbed too.
    """
    rng = stream("genes", config.biology_seed, config.genes)
    names = gene_names(config)
    place = {name: number for number, name in enumerate(names)}
    base = rng.lognormal(0.0, 1.2, config.genes)
    shape = base * rng.lognormal(0.0, 0.4, (N_TYPES, config.genes))
    shape *= np.where(rng.random((N_TYPES, config.genes)) < 0.45, 1.0, 0.01)
    raised = rng.random(config.genes) < 0.5
    owner = rng.integers(0, N_TYPES, config.genes)
    shape[owner[raised], np.flatnonzero(raised)] = base[raised] * rng.uniform(2.0, 8.0, int(raised.sum()))
    for number, kind in enumerate(CELL_TYPES):
        markers = [place[gene] for gene in MARKERS[kind]]
        shape[:, markers] = 0.1 * rng.lognormal(0.0, 0.3, (N_TYPES, len(markers)))
        shape[number, markers] = 0.1 * MARKER_FOLD * rng.lognormal(0.0, 0.4, len(markers))
    houses = [place[gene] for gene in HOUSEKEEPING]
    shape[:, houses] = 6.0 * rng.lognormal(0.0, 0.1, (N_TYPES, len(houses)))
    tissue_only = [place[gene] for group in LINEAGE_MARKERS.values() for gene in group]
    tissue_only += [place[gene] for gene in PROLIFERATION_MARKERS]
    shape[:, tissue_only] = 0.05 * rng.lognormal(0.0, 0.3, (N_TYPES, len(tissue_only)))
    programmes = np.repeat(shape[None], len(TISSUES), axis=0)
    for number, tissue in enumerate(TISSUES):
        parenchyma = MALIGNANT_TYPE.get(tissue, NEURON if tissue == "cortex-like" else 0)
        programmes[number, parenchyma, [place[gene] for gene in LINEAGE_MARKERS[tissue]]] *= 60.0
        if tissue in TUMOURS:
            programmes[number, parenchyma, [place[gene] for gene in PROLIFERATION_MARKERS]] *= 40.0
            programmes[number, parenchyma] *= rng.lognormal(0.0, 0.3, config.genes)
    return programmes / programmes.sum(axis=2, keepdims=True)


def expression(config: SimulationConfig, patients: list[Patient], programmes: np.ndarray) -> np.ndarray:
    """Return TPM, shape (patients, genes): mixed programmes, noise, batch, overdispersed counts over gene length."""
    rng = stream("genes", config.biology_seed, config.genes, 1)
    length_kb = rng.lognormal(0.6, 0.5, config.genes)
    batch_effect = rng.normal(0.0, config.batch_sd, (len(BATCHES), config.genes))
    shift = stream("cohort", config.seed, 1).normal(0.0, config.batch_shift, config.genes)
    tpm = np.empty((len(patients), config.genes))
    for row, patient in enumerate(patients):
        rng = stream("expression", config.seed, patient.number)
        weights = patient.fractions * RNA_CONTENT
        mean = (weights / weights.sum()) @ programmes[TISSUES.index(patient.tissue)]
        noise = rng.normal(0.0, config.biological_sd, config.genes)
        mean = mean * np.exp(noise + batch_effect[BATCHES.index(patient.batch)] + shift) * length_kb
        depth = config.library_counts * rng.lognormal(0.0, 0.3)
        dispersion = 0.05  # of the negative binomial: technical variance beyond Poisson
        rate = depth * mean / mean.sum()
        counts = rng.poisson(rate * rng.gamma(1 / dispersion, dispersion, config.genes))
        per_kb = counts / length_kb
        tpm[row] = 1e6 * per_kb / max(per_kb.sum(), 1e-12)
    return tpm


def _survival(config: SimulationConfig, patients: list[Patient]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return months, event (1 died) and each patient's log hazard (relative to the mean patient of the design)."""
    covariates = {
        "lymphocyte": [p.fractions[LYMPHOCYTE] - 0.12 for p in patients],
        "macrophage": [p.fractions[MACROPHAGE] - 0.11 for p in patients],
        "age_decade": [(p.age - 61.0) / 10.0 for p in patients],
        "stage": [float(STAGES.index(p.stage)) if p.stage in STAGES else 0.0 for p in patients],
    }
    log_hazard = sum(SURVIVAL_COEFFICIENTS[name] * np.array(column) for name, column in covariates.items())
    assert isinstance(log_hazard, np.ndarray)
    draws = np.array([stream("patient", config.seed, p.number, 1).random(2) for p in patients])
    scale = SURVIVAL_MEDIAN_MONTHS / np.log(2.0) ** (1 / SURVIVAL_SHAPE)
    died = scale * (-np.log1p(-draws[:, 0]) * np.exp(-log_hazard)) ** (1 / SURVIVAL_SHAPE)
    # Uniform follow-up up to the horizon at which the wanted share is censored, independent of the time to death.
    ratio = np.sort(died / np.maximum(draws[:, 1], 1e-9))
    horizon = ratio[min(round((1 - CENSORED_SHARE) * len(ratio)), len(ratio) - 1)]
    censored = horizon * draws[:, 1]
    return np.maximum(np.minimum(died, censored), 0.05), (died < censored).astype(int), log_hazard


def clinical_text(config: SimulationConfig, patient: Patient) -> str:
    """Return a short clinical paragraph: facts, noise, and notes that are true of the tissue 85 % of the time.

    It never names the tissue or the diagnosis, but stage and grade tell a tumour from healthy tissue, as they do in life.
    """
    rng = stream("patient", config.seed, patient.number, 2)
    fractions = patient.fractions
    notes = [
        (fractions[LYMPHOCYTE] > 0.2, "Brisk lymphocytic infiltrate", "Few lymphocytes"),
        (fractions[1] > 0.25, "Dense fibrous stroma", "Scant fibrous stroma"),
        (fractions[MACROPHAGE] > 0.2, "Numerous macrophages", "Occasional macrophages"),
        (fractions[2] > 0.18, "Prominent vessels", "Vessels unremarkable"),
    ]
    told = [(yes if bool(truth) != bool(rng.random() < 0.15) else no) for truth, yes, no in notes if rng.random() < 0.8]
    noise = [NOISE_NOTES[number] for number in rng.choice(len(NOISE_NOTES), 2, replace=False)]
    facts = [f"{patient.age:.0f}-year-old {'woman' if patient.sex == 'female' else 'man'}"]
    if patient.stage in STAGES:
        facts.append(f"Stage {patient.stage}, grade {patient.grade[1:]}")
    facts.append(f"Body mass index {rng.normal(26, 4):.1f}")
    facts.append(("Never smoked", "Former smoker", "Current smoker")[int(rng.integers(3))])
    return ". ".join([*facts, *told, *noise]) + "."


def simulate_profiles(config: SimulationConfig) -> tuple[anndata.AnnData, dict[str, pd.DataFrame]]:
    """Simulate the profiles and everything known about them.

    Returns
    -------
    profiles : raw AnnData (`uns["unit"] == "tpm"`), X float32 (patients, measured genes), each row of all genes adds up
        to 1e6 before the unmeasured ones are taken out; obs: sample_id, patient_id, split_group, slide_id, cohort, tissue,
        batch, age, sex, stage, grade, survival_months, event (1 died), clinical_text, fraction_<type>.
    truth : tables "fractions" (one row a patient), "tile_fractions" (one row a tile), "programmes" (tissue, type, gene,
        share; non-zero means of one cell), "genes" (gene, owner: the type or group it marks, or ""), "survival"
        (covariate, coefficient) and "hazard" (patient, log_hazard).
    """
    patients = [make_patient(config, number) for number in range(config.patients)]
    programmes = gene_programmes(config)
    names = gene_names(config)
    tpm = expression(config, patients, programmes)
    months, event, log_hazard = _survival(config, patients)
    ids = [patient_name(p.number) for p in patients]
    columns: dict[str, Any] = {
        "sample_id": ids,
        "patient_id": ids,
        "split_group": ids,
        "slide_id": ids,
        "cohort": "simulated",
        "tissue": [p.tissue for p in patients],
        "batch": [p.batch for p in patients],
        "age": [p.age for p in patients],
        "sex": [p.sex for p in patients],
        "stage": [p.stage for p in patients],
        "grade": [p.grade for p in patients],
        "survival_months": months,
        "event": event,
        "clinical_text": [clinical_text(config, p) for p in patients],
    }
    fractions = np.array([p.fractions for p in patients])
    columns |= {f"fraction_{kind}": fractions[:, number] for number, kind in enumerate(CELL_TYPES)}
    obs = pd.DataFrame(columns, index=pd.Index(ids, name=None))
    measured = np.ones(config.genes, dtype=bool)
    n_missing = round(config.missing_gene_share * config.genes)
    measured[stream("cohort", config.seed, 2).permutation(config.genes)[:n_missing]] = False
    kept = [name for name, is_measured in zip(names, measured, strict=True) if is_measured]
    profiles = anndata.AnnData(
        X=tpm[:, measured].astype(np.float32), obs=obs, var=pd.DataFrame({"symbol": kept}, index=pd.Index(kept))
    )
    profiles.uns["unit"] = "tpm"
    return profiles, _truth(config, patients, programmes, names, log_hazard)


def _truth(
    config: SimulationConfig, patients: list[Patient], programmes: np.ndarray, names: list[str], log_hazard: np.ndarray
) -> dict[str, pd.DataFrame]:
    ids = [patient_name(p.number) for p in patients]
    kinds = list(CELL_TYPES)
    per_patient = pd.DataFrame(np.array([p.fractions for p in patients]), columns=kinds)
    per_patient.insert(0, "tissue", [p.tissue for p in patients])
    per_patient.insert(0, "patient_id", ids)
    numbers = range(config.tiles_per_patient)
    per_tile = pd.DataFrame(np.array([tile_fractions(config, p, tile) for p in patients for tile in numbers]), columns=kinds)
    per_tile.insert(0, "tile", np.tile(np.arange(config.tiles_per_patient), len(patients)))
    per_tile.insert(0, "patient_id", np.repeat(ids, config.tiles_per_patient))
    owner = dict.fromkeys(names, "")
    for group in (MARKERS, LINEAGE_MARKERS):
        owner |= {gene: name for name, genes in group.items() for gene in genes}
    owner |= dict.fromkeys(PROLIFERATION_MARKERS, "proliferation") | dict.fromkeys(HOUSEKEEPING, "housekeeping")
    grid = pd.MultiIndex.from_product([TISSUES, CELL_TYPES, names], names=["tissue", "cell_type", "gene"])
    shares = pd.DataFrame({"share": programmes.reshape(-1).astype(np.float32)}, index=grid).reset_index()
    return {
        "fractions": per_patient,
        "tile_fractions": per_tile,
        "programmes": shares,
        "genes": pd.DataFrame({"gene": names, "owner": [owner[name] for name in names]}),
        "survival": pd.DataFrame(
            {"covariate": list(SURVIVAL_COEFFICIENTS), "coefficient": list(SURVIVAL_COEFFICIENTS.values())}
        ),
        "hazard": pd.DataFrame({"patient_id": ids, "log_hazard": log_hazard}),
    }
