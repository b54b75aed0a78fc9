"""Cohorts to generate from that the generator was never trained on, with real tiles where there are any.

simulated: another simulated laboratory (new patients, a shift of all genes, 30 % of the genes not measured, its own
stains). her2st: section C1, counts and published proportions without an image, of the same tumour; 30 % of its genes are
hidden here. Other cohorts: the external series of `data.external`, profiles alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort, load_cohort
from rnasynth.data.cohorts.her2st import unpaired_section
from rnasynth.data.external import BATCH_SHIFT, NOT_MEASURED, externals_of, other_laboratory
from rnasynth.data.genes import align
from rnasynth.data.simulate import SimulationConfig, draw_stain, simulate_profiles, transmit, unmix
from rnasynth.data.splits import evenly_spaced
from rnasynth.errors import InputError
from rnasynth.features.networks import RELEASED

SECTION = "C1"  # of her2st, whose counts and proportions are published without an image


@dataclass(frozen=True, eq=False)
class ExternalCohort:
    """Samples from outside, with what a generator and a classifier need.

    Attributes
    ----------
    label : short name for tables and figures.
    profiles : raw, with the genes that this cohort measured (or is let show).
    complete : the same samples with all genes, where they are known: what the missing ones cost can then be told.
    tiles : sample -> real tiles, uint8 (n, H, W, 3), dyed as the cohort's own laboratory does; None where there are none.
    dyed : the same tiles as the external laboratory dyes them; None where there are none.
    note : how it differs, in words.
    """

    label: str
    profiles: AnnData
    complete: AnnData | None
    tiles: dict[str, NDArray[np.uint8]] | None
    dyed: dict[str, NDArray[np.uint8]] | None
    note: str


def external_cohort(
    cohort: Cohort, *, max_samples: int = 60, tiles_per_sample: int = 6, seed: int = 0, mirror: Path | None = None
) -> ExternalCohort:
    """Return samples that stand outside a cohort.

    Parameters
    ----------
    cohort : that the generators were trained on.
    max_samples : of the other laboratory, or at most, evenly spaced, of what is there.
    tiles_per_sample : real tiles of each simulated patient.
    seed : of the other patients, and of the genes that are hidden.
    mirror : as in `load_cohort`.

    Raises
    ------
    InputError : nothing from outside is at hand for this cohort.
    """
    if cohort.name == "simulated":
        return _other_laboratory(cohort, max_samples, tiles_per_sample, seed)
    if cohort.name == "her2st":
        return _other_section(cohort, max_samples, seed)
    found, missing = externals_of(cohort, seed=seed, mirror=mirror)
    for external in found:
        shared = (external.profiles.obs["tissue"].astype(str) != "").to_numpy()
        if shared.any():
            profiles = external.profiles[np.flatnonzero(shared)].copy()
            profiles = profiles[evenly_spaced(profiles.n_obs, max_samples)].copy()
            return ExternalCohort(external.label, profiles, None, None, None, external.note)
    reason = missing[0] if missing else "none that shares a tissue"
    raise InputError(f"cohort {cohort.name}", expected="an external cohort", found=reason, fix="fetch geo")


def _other_laboratory(cohort: Cohort, patients: int, tiles: int, seed: int) -> ExternalCohort:
    config = other_laboratory(cohort, patients, tiles=tiles, seed=seed)
    other = load_cohort("simulated", folder=cohort.folder.parent, **config.to_dict())
    complete, _ = simulate_profiles(replace(config, missing_gene_share=0.0))
    tiles_of, dyed = {}, {}
    for number, name in enumerate(map(str, other.profiles.obs_names)):
        tiles_of[name] = other.tile_store().read_batch(other.tile_ids()[name])
        dyed[name] = _stained_elsewhere(tiles_of[name], config, number)
    note = (
        f"{patients} new simulated patients of another laboratory: each gene shifted (standard deviation {BATCH_SHIFT:g}, "
        f"natural log), {NOT_MEASURED:.0%} of the genes not measured, slides in other dyes."
    )
    return ExternalCohort("other laboratory", _renamed(other.profiles), _renamed(complete), tiles_of, dyed, note)


def _renamed(profiles: AnnData) -> AnnData:
    """Name the external patients by their own cohort: the simulator counts patients anew in each."""
    renamed = profiles.copy()
    renamed.obs["cohort"] = "simulated, other laboratory"
    renamed.obs["split_group"] = "external " + renamed.obs["split_group"].astype(str)
    return renamed


def _stained_elsewhere(tiles: NDArray[np.uint8], config: SimulationConfig, patient: int) -> NDArray[np.uint8]:
    """Dye one patient's tiles as the second renderer's laboratory does; what lies in them, and the light, stays."""
    here, there = draw_stain(config, patient), draw_stain(replace(config, renderer="b"), patient)
    dyed = replace(there, white=here.white)
    light = [transmit(np.clip(unmix(tile, here), 0.0, None).astype(np.float32), dyed) for tile in tiles]
    return np.clip(np.round(light), 0, 255).astype(np.uint8)


def _other_section(cohort: Cohort, most: int, seed: int) -> ExternalCohort:
    folder = cohort.folder.parent / "her2st"
    genes = [str(name) for name in cohort.profiles.var_names]
    # A section's table lists only genes with a count in it: the others were counted zero times, and are not missing.
    complete = align(unpaired_section(folder, SECTION, {}, genes), genes, missing="zero")
    known = (complete.obs["tissue"].astype(str) != "unknown").to_numpy()
    complete = complete[np.flatnonzero(known)].copy()
    complete = complete[evenly_spaced(complete.n_obs, most)].copy()
    complete.uns["unit"] = "counts"
    hidden = np.random.default_rng(seed).permutation(len(genes))[: round(NOT_MEASURED * len(genes))]
    kept = np.setdiff1d(np.arange(len(genes)), hidden)
    note = (
        f"{complete.n_obs} spots of section {SECTION}: counts and published proportions, no image, and of the same tumour, "
        f"so that this is another section and no other patient. {NOT_MEASURED:.0%} of the genes, drawn at random, are "
        "hidden. The sections of other patients have no published proportions and are left out."
    )
    return ExternalCohort(f"section {SECTION}", complete[:, kept].copy(), complete, None, None, note)


def classifier_choice(cohort: Cohort, *, label: str = "auto", start: str = "auto") -> list[str]:
    """Return what is to be named on a cohort, and from which network, as overrides of the classifier's configuration.

    Parameters
    ----------
    label : a column of `obs`; "auto": the fraction of epithelium on her2st, which has one tissue, else "tissue".
    start : a run's name, "" for none; "auto": the released network on her2st, whose tiles are few, else none.
    """
    column = label_of(cohort, label)
    network = start_of(cohort, start)
    return [f"label={column}", *([f"start={network}"] if network else [])]


def label_of(cohort: Cohort, label: str = "auto") -> str:
    """Return the column that is named: "auto" is the fraction of epithelium on her2st (one tissue), else "tissue"."""
    if label != "auto":
        return label
    return "fraction_epithelial" if cohort.name == "her2st" else "tissue"


def start_of(cohort: Cohort, start: str = "auto") -> str:
    """Return the run that a classifier starts from: "auto" is the released one on her2st, whose tiles are few, else none."""
    if start != "auto":
        return start
    return RELEASED if cohort.name == "her2st" else ""


def within_of(cohort: Cohort, within: str = "auto") -> str:
    """Return the column that is named within a tissue: "auto" is the fraction of lymphocytes where tissues are several."""
    if within != "auto":
        return within
    several = cohort.profiles.obs["tissue"].astype(str).nunique() > 1
    return "fraction_lymphocyte" if several and "fraction_lymphocyte" in cohort.profiles.obs else ""


def fitting(generator: Any) -> list[str]:
    """Return pixel size and stain of a generator's tiles as overrides of the classifier's configuration."""
    return [f"tile_px={generator.px}", f"same_stain={str(bool(generator.system.settings.same_stain)).lower()}"]
