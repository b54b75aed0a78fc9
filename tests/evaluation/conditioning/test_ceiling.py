"""The control finds what the latent says of the tiles, and finds nothing where the latent says nothing."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError
from rnasynth.evaluation.conditioning.ceiling import ridge_retrieval
from tests.evaluation.conditioning.test_experiment import PX, cohort

__all__ = ["cohort"]  # the fixture


class Told:
    """Stands for a generator: what it is told of a sample, and its pixel size."""

    px = PX

    def __init__(self, *, deaf: bool) -> None:
        self.deaf = deaf

    def conditions(self, profiles: anndata.AnnData) -> tuple[NDArray[np.float64], list[str]]:
        told = np.log(np.asarray(profiles.X, np.float64) + 1)
        if self.deaf:  # broken variant: the RNA of other samples
            told = np.random.default_rng(len(told)).permutation(told)
        return told, list(profiles.obs_names)


def test_ridge_finds_the_patient_where_the_latent_knows_the_tiles(cohort: Cohort) -> None:
    found = ridge_retrieval(Told(deaf=False), cohort, n_boot=200)
    assert found.value > 0.8 and found.low > 0.6


def test_ridge_is_at_chance_where_the_rna_is_shuffled(cohort: Cohort) -> None:
    found = ridge_retrieval(Told(deaf=True), cohort, n_boot=200)
    assert found.low < 0.5 < found.high


def test_a_cohort_without_tiles_is_refused(cohort: Cohort) -> None:
    import dataclasses

    with pytest.raises(InputError, match="tiles"):
        ridge_retrieval(Told(deaf=False), dataclasses.replace(cohort, tiles=None))
