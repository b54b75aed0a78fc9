"""Cohorts from outside: other series, platforms and scales, for judging what a model of one cohort makes of another.

Both papers take external series from GEO. What is at hand without one is listed by `externals_of`: another simulated
laboratory for the simulated cohort; for tcga-xena the same cancers by another pipeline, and two hard cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from rnasynth.data.cohort import Cohort, load_cohort
from rnasynth.data.genes import dense
from rnasynth.data.manifests import check_at_hand
from rnasynth.data.simulate import SimulationConfig, simulate_profiles, stored_config
from rnasynth.errors import InputError, PartialFailure

PER_MILLION = 1e6
OTHER_SEED = 1000  # added to the cohort's seed: other patients of the same biology
BATCH_SHIFT = 0.5  # standard deviation over genes, natural log
NOT_MEASURED = 0.3  # share of the genes
TCGA_NAMES = {"COAD": "COADREAD", "READ": "COADREAD"}  # what tcga-xena calls them


@dataclass(frozen=True)
class External:
    """Raw profiles of another cohort.

    Attributes
    ----------
    label : short name for tables and figures.
    profiles : raw AnnData; `obs["tissue"]` in the names of the cohort it is held against, "" where it has no counterpart.
    note : how it differs, one sentence.
    """

    label: str
    profiles: AnnData
    note: str


def per_million(profiles: AnnData, unit: str = "tpm") -> AnnData:
    """Return linear profiles scaled to a sum of one million a sample, labelled with `unit`.

    Counts and RSEM values are not corrected for gene length, so that this makes them comparable in size, not equal in
    kind, to TPM.

    Raises
    ------
    InputError : the profiles are z-scores, or a sample has no counts.
    """
    if profiles.uns.get("unit") == "zscore":
        raise InputError(
            "profiles", expected="linear values", found="z-scores", fix="their scale is gone; use them as they are"
        )
    x = dense(profiles).astype(np.float64)
    total = x.sum(axis=1, keepdims=True)
    if not (total > 0).all():
        empty = str(profiles.obs_names[int(np.flatnonzero(total[:, 0] <= 0)[0])])
        raise InputError(f"sample {empty}", expected="counts above zero", found="none", fix="drop it")
    scaled = AnnData(X=(x * (PER_MILLION / total)).astype(np.float32), obs=profiles.obs.copy(), var=profiles.var.copy())
    scaled.uns["unit"] = unit
    return scaled


def pseudo_bulk(profiles: AnnData, groups: pd.Series) -> AnnData:
    """Return the sums of counts over the samples of each group, one row a group, in order of first appearance.

    Parameters
    ----------
    profiles : raw counts, such as spots.
    groups : one name a sample.

    Raises
    ------
    InputError : values that are not counts, or another number of names than samples.
    """
    if profiles.uns.get("unit") != "counts" or len(groups) != profiles.n_obs:
        raise InputError(
            "pseudo-bulk",
            expected=f"counts, and a group for each of {profiles.n_obs} samples",
            found=f"unit {profiles.uns.get('unit')!r}, {len(groups)} groups",
        )
    numbers, names = pd.factorize(groups.astype(str))
    x = np.zeros((len(names), profiles.n_vars), dtype=np.float64)
    np.add.at(x, numbers, dense(profiles))
    obs = pd.DataFrame({"sample_id": names, "patient_id": names, "tissue": ""}, index=pd.Index(names, dtype=object))
    return AnnData(X=x.astype(np.float32), obs=obs, var=profiles.var.copy(), uns={"unit": "counts"})


def externals_of(cohort: Cohort, *, seed: int = 0, mirror: Path | None = None) -> tuple[list[External], list[str]]:
    """Return the cohorts at hand that stand outside `cohort`, and a sentence for each that could not be had.

    Parameters
    ----------
    cohort : simulated, tcga-xena, gtex or tcga; others have none.
    seed : of the other simulated cohort's patients.
    mirror : as in `load_cohort`.
    """
    found: list[External] = []
    missing: list[str] = []
    for label, read in _READERS.get(cohort.name, {}).items():
        try:
            profiles, note = read(cohort, seed, mirror)
        except (InputError, PartialFailure) as error:
            missing.append(f"{label} is not there: {str(error).splitlines()[0]}")
        else:
            found.append(External(label, profiles, note))
    return found, missing


def other_laboratory(cohort: Cohort, patients: int, *, tiles: int = 1, seed: int = 0) -> SimulationConfig:
    """Return what simulates another laboratory: never the cohort's own patients, genes shifted, some not measured.

    Parameters
    ----------
    cohort : simulated.
    patients, tiles : how many, and tiles of each.
    seed : of the patients, added to the cohort's own.
    """
    own = stored_config(cohort.folder)
    return replace(
        own,
        patients=patients,
        tiles_per_patient=tiles,
        seed=own.seed + OTHER_SEED + seed,
        batch_shift=BATCH_SHIFT,
        missing_gene_share=NOT_MEASURED,
    )


def _other_laboratory(cohort: Cohort, seed: int, mirror: Path | None) -> tuple[AnnData, str]:
    """Another simulated laboratory: new patients, a shift of all genes, and genes that were not measured."""
    profiles, _ = simulate_profiles(other_laboratory(cohort, 60, seed=seed))
    note = (
        f"New simulated patients, each gene shifted (standard deviation {BATCH_SHIFT:g}, natural log), "
        f"{NOT_MEASURED:.0%} of the genes not measured."
    )
    return profiles, note


def _cognoma(cohort: Cohort, seed: int, mirror: Path | None) -> tuple[AnnData, str]:
    """Tumours of the same cancers, RSEM of another pipeline."""
    check_at_hand("cognoma", mirror=mirror)
    profiles = load_cohort("cognoma", mirror=mirror).profiles
    tissue = profiles.obs["tissue"].astype(str).replace(TCGA_NAMES)
    mine = tissue.isin(set(cohort.profiles.obs["tissue"].astype(str))).to_numpy()
    profiles = profiles[mine].copy()
    profiles.obs["tissue"] = tissue[mine].to_numpy(dtype=object)
    known = set(cohort.only("train").profiles.obs["patient_id"].astype(str))
    new = ~profiles.obs["patient_id"].astype(str).isin(known).to_numpy()
    note = (
        f"{int(mine.sum())} tumours of the same cancers by another pipeline (RSEM); those of {int((~new).sum())} training "
    )
    note += "patients were left out."
    if not new.any():
        raise InputError("cognoma", expected="patients that the model was not trained on", found="none")
    return per_million(profiles[new].copy()), note


def _her2st_sections(cohort: Cohort, seed: int, mirror: Path | None) -> tuple[AnnData, str]:
    """Sums over the spots of a section, another technology and a tissue that the model never saw."""
    check_at_hand("her2st", mirror=mirror)
    spots = load_cohort("her2st", mirror=mirror, profiles="all").profiles
    sections = spots.obs["sample_id"].astype(str).str.split("_").str[0]
    bulk = pseudo_bulk(spots, sections)
    note = f"{bulk.n_obs} sections of breast tumours, spot counts summed: another technology, and no cancer of this cohort."
    return per_million(bulk), note


def _porpoise_breast(cohort: Cohort, seed: int, mirror: Path | None) -> tuple[AnnData, str]:
    """Breast cancers, z-scored within their own cohort, which takes away what sets them apart."""
    check_at_hand("porpoise", mirror=mirror)
    profiles = load_cohort("porpoise", mirror=mirror, cancers=["brca"]).profiles
    profiles.obs["tissue"] = ""
    note = f"{profiles.n_obs} breast tumours that come z-scored within their cohort: their scale cannot be had back."
    return profiles, note


def _geo(cohort: Cohort, seed: int, mirror: Path | None) -> tuple[AnnData, str]:
    """The papers' external series, if they were fetched."""
    check_at_hand("geo", mirror=mirror)
    profiles = load_cohort("geo", mirror=mirror).profiles
    tissue = profiles.obs["tissue"].astype(str)
    profiles.obs["tissue"] = tissue.where(tissue.isin(set(cohort.profiles.obs["tissue"].astype(str))), "").to_numpy(object)
    return profiles, "External series as recomputed by NCBI (TPM)."


_Reader = Callable[[Cohort, int, Path | None], tuple[AnnData, str]]
_READERS: dict[str, dict[str, _Reader]] = {
    "simulated": {"other laboratory": _other_laboratory},
    "tcga-xena": {"cognoma": _cognoma, "her2st sections": _her2st_sections, "porpoise BRCA": _porpoise_breast},
    "gtex": {"geo": _geo},
    "tcga": {"geo": _geo},
}
