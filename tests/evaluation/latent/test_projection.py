"""The map is fitted on training samples, is the same each time, and places a sample whatever its company."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.latent.projection import fit_umap
from tests.evaluation.linear_system import profiles, trained


def test_tissues_lie_apart_and_new_samples_among_their_own() -> None:
    system, train, test = trained(90)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        umap = fit_umap(system.transform.apply(train), seed=0)
        placed = umap.place(system.transform.apply(test))
    assert not said and placed.shape == (test.n_obs, 2) and placed.dtype == np.float32
    centre = {t: umap.fitted[(train.obs["tissue"] == t).to_numpy()].mean(axis=0) for t in set(train.obs["tissue"])}
    nearest = [min(centre, key=lambda t: float(np.linalg.norm(point - centre[t]))) for point in placed]
    assert nearest == list(test.obs["tissue"])


def test_a_place_is_the_same_each_time_alone_and_for_a_training_sample() -> None:
    system, train, test = trained(90)
    z = system.transform.apply(train)
    umap, again = fit_umap(z, seed=0), fit_umap(z, seed=0)
    np.testing.assert_array_equal(umap.fitted, again.fitted)
    np.testing.assert_allclose(umap.place(z), umap.fitted, atol=1e-3)
    every = umap.place(system.transform.apply(test))
    np.testing.assert_allclose(umap.place(system.transform.apply(test[[4]].copy())), every[[4]], atol=1e-5)
    np.testing.assert_allclose(umap.place(np.asarray(system.transform.apply(test).X)), every, atol=1e-5)


def test_wide_profiles_go_through_components_of_the_training_samples() -> None:
    system, train, test = trained(90)
    umap = fit_umap(system.transform.apply(train), seed=0, components=3)
    assert umap.place(system.transform.apply(test)).shape == (test.n_obs, 2)


def test_test_samples_raw_profiles_and_too_few_are_refused() -> None:
    system, train, test = trained(90)
    z = system.transform.apply(train)
    with pytest.raises(SplitError):
        fit_umap(system.transform.apply(test), seed=0)
    with pytest.raises(InputError, match="raw matrix"):
        fit_umap(train, seed=0)
    with pytest.raises(InputError, match="at least 10"):
        fit_umap(system.transform.apply(profiles(9)), seed=0)
    umap = fit_umap(z, seed=0)
    with pytest.raises(InputError, match="raw matrix"):
        umap.place(test)
    with pytest.raises(InputError, match="the map's genes"):
        umap.place(z[:, 1:].copy())
    for bad in (np.zeros((2, 3)), np.zeros((0, 12)), np.full((2, 12), np.nan)):
        with pytest.raises(InputError, match="finite"):
            umap.place(bad)
