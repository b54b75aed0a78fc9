"""The RNA's fractions of a cohort's samples, in the classes that are compared with tiles, and what speaks for them."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from anndata import AnnData

from rnasynth.data.cohort import Cohort
from rnasynth.evaluation.deconvolution.checks import cohort_agreement, fractions_of, join_types
from rnasynth.evaluation.deconvolution.follow import CLASSES
from rnasynth.evaluation.deconvolution.group_mode import signature_from_profiles
from rnasynth.evaluation.deconvolution.methods import deconvolve
from rnasynth.evaluation.deconvolution.mixtures import simulated_rna_content, simulated_signature
from rnasynth.evaluation.deconvolution.readers import with_tiles


@dataclass(frozen=True, eq=False)
class RnaFractions:
    """Fractions that the RNA says, of samples with tiles.

    Attributes
    ----------
    fractions : held-out samples x classes (`follow.CLASSES`), cells or, where their content is unknown, as published.
    training : the same of the training samples, as the cohort knows them: what a reader of tiles learns.
    agreement : rows for a chart, see `checks.cohort_agreement`.
    compared, source : in words: what `agreement` compares, and where `fractions` come from.
    """

    fractions: pd.DataFrame
    training: pd.DataFrame
    agreement: pd.DataFrame
    compared: str
    source: str


def rna_fractions(cohort: Cohort, *, split: str = "test", seed: int = 0, n_boot: int = 1000) -> RnaFractions:
    """Estimate or look up the fractions of a split's profiles.

    Simulated: nu-SVR with the simulator's programmes as signature, divided by the RNA content of a cell; the planted
    fractions are the truth beside it. Other cohorts: the published fractions of `obs`, and, beside them, NNLS with a
    signature learnt on the training samples (`group_mode.signature_from_profiles`).

    Raises
    ------
    InputError : no tiles, or no fractions in `obs`.
    """
    train, test = _known(with_tiles(cohort, "train")), _known(with_tiles(cohort, split))
    known_train, known = fractions_of(train), fractions_of(test)
    training = join_types(known_train, CLASSES)
    groups = test.obs["split_group"].astype(str).to_numpy()
    if cohort.simulated:
        signature = simulated_signature(cohort.truth["programmes"], [str(gene) for gene in test.var_names])
        rna = deconvolve(test, signature)
        cells = rna.to_cells(simulated_rna_content()).fractions
        agreement = pd.concat(
            [
                cohort_agreement(cells, known, groups=groups, method="as cells", seed=seed, n_boot=n_boot),
                cohort_agreement(rna.fractions, known, groups=groups, method="as RNA", seed=seed, n_boot=n_boot),
            ],
            ignore_index=True,
        )
        compared = "estimated by nu-SVR against planted, as shares of cells and as shares of RNA"
        source = f"Fractions by nu-SVR, {len(rna.genes)} signature genes, as shares of cells; the patients are simulated."
        return RnaFractions(join_types(cells, CLASSES), training, agreement, compared, source)
    kinds = [kind for kind in known_train if known_train[kind].std() > 0]
    signature = signature_from_profiles(train, known_train[kinds].div(known_train[kinds].sum(axis=1), axis=0))
    found = deconvolve(test, signature, method="nnls").fractions  # nu-SVR takes minutes for hundreds of shallow spots
    agreement = cohort_agreement(found.fillna(0.0), known[kinds], groups=groups, method="NNLS", seed=seed, n_boot=n_boot)
    compared = "by NNLS with a signature learnt on training samples, against the published ones of the same profiles"
    source = "Fractions as published with the profiles."
    return RnaFractions(join_types(known, CLASSES), training, agreement, compared, source)


def _known(profiles: AnnData) -> AnnData:
    """Profiles whose fractions are all there."""
    names = [column for column in profiles.obs if str(column).startswith("fraction_")]
    return profiles[profiles.obs[names].notna().all(axis=1).to_numpy()].copy()
