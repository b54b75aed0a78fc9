"""Latent arithmetic has its closed forms on a linear system, and says what is wrong with its input."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from rnasynth.data.transform import Transform
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.latent import arithmetic as latent
from tests.evaluation.linear_system import TISSUES, LinearSystem, profiles, trained


def test_centroids_are_the_means_and_spreads_of_each_tissue() -> None:
    system, train, _ = trained()
    centres = latent.centroids(system, train)
    latents = system.encode(train)
    here = (train.obs["tissue"] == "lung").to_numpy()
    assert centres.tissues == TISSUES and centres.counts == dict.fromkeys(TISSUES, 20)
    np.testing.assert_allclose(centres.mean[1], latents[here].mean(axis=0), atol=1e-5)
    expected, shrinkage = ledoit_wolf(latents[here].astype(np.float64))  # the independent second opinion
    np.testing.assert_allclose(centres.covariance("lung"), expected, atol=1e-5)
    assert centres.shrinkage[1] == pytest.approx(shrinkage, abs=1e-4)


def test_raw_and_transformed_profiles_give_the_same_centroids() -> None:
    system, train, _ = trained()
    again = latent.centroids(system, system.transform.apply(train, allow_small=True))
    np.testing.assert_allclose(latent.centroids(system, train).mean, again.mean, atol=1e-6)


def test_draws_have_the_tissues_mean_and_covariance() -> None:
    system, train, _ = trained()
    centres = latent.centroids(system, train)
    made = system.encode(latent.generate(system, centres, n=4000, seed=0, tissues=["skin"]))
    covariance = centres.covariance("skin")
    np.testing.assert_allclose(made.mean(axis=0), centres.mean[2], atol=5 * np.sqrt(covariance.max() / 4000))
    np.testing.assert_allclose(np.cov(made.T), covariance, atol=0.1 * covariance.max())
    prior = system.encode(latent.generate(system, centres, n=4000, seed=0, draws="prior", tissues=["skin"]))
    np.testing.assert_allclose(np.cov(prior.T), np.eye(12), atol=0.12)


def test_a_tissue_without_spread_gives_its_centroid() -> None:
    system, train, _ = trained()
    first = (train.obs["tissue"] == "brain").to_numpy()
    flat = train[first].copy()
    flat.X = np.broadcast_to(np.asarray(flat.X)[:1], flat.X.shape).copy()
    flat.obs_names = flat.obs["sample_id"] = [f"B{row}" for row in range(flat.n_obs)]
    centres = latent.centroids(system, anndata.concat([flat, train[~first]], merge="same", uns_merge="same"))
    made = latent.generate(system, centres, n=3, seed=0, tissues=["brain"])
    np.testing.assert_allclose(made.X, np.repeat(system.decode(centres.mean[:1]), 3, axis=0), atol=1e-5)


def test_a_draw_depends_on_seed_tissue_and_number_only() -> None:
    system, train, _ = trained()
    centres = latent.centroids(system, train)
    for draws in ("tissue", "prior"):
        few = latent.generate(system, centres, n=2, seed=1, draws=draws)
        many = latent.generate(system, centres, n=9, seed=1, draws=draws, tissues=["skin", "lung"])
        shared = [name for name in few.obs_names if name in set(many.obs_names)]
        assert len(shared) == 4
        np.testing.assert_allclose(few[shared].X, many[shared].X, atol=1e-5)
        other = latent.generate(system, centres, n=2, seed=2, draws=draws)
        assert np.abs(other.X - few.X).min(axis=1).max() > 1e-4


def test_a_shift_moves_by_exactly_the_difference_of_centroids() -> None:
    system, train, test = trained()
    centres = latent.centroids(system, train)
    z = latent.scores(system, test)
    moved = latent.shift(system, test, centres, target="skin")
    own = [centres.place(tissue) for tissue in test.obs["tissue"]]
    np.testing.assert_allclose(moved.X, z + system.decode(centres.mean[2] - centres.mean[own]), atol=1e-4)
    stays = (test.obs["tissue"] == "skin").to_numpy()
    np.testing.assert_allclose(np.asarray(moved.X)[stays], z[stays], atol=1e-4)
    assert set(moved.obs["tissue"]) == {"skin"} and list(moved.obs["source"]) == list(test.obs["tissue"])
    assert list(moved.obs["patient_id"]) == list(test.obs["patient_id"])
    forced = latent.shift(system, test, centres, target="skin", source="lung")
    np.testing.assert_allclose(forced.X, z + system.decode(centres.mean[2:] - centres.mean[1:2]), atol=1e-4)


def test_there_and_back_again_is_the_reconstruction() -> None:
    system, train, test = trained()
    centres = latent.centroids(system, train)
    lungs = test[(test.obs["tissue"] == "lung").to_numpy()].copy()
    back = latent.shift(system, latent.shift(system, lungs, centres, target="skin"), centres, target="lung")
    np.testing.assert_allclose(back.X, latent.reconstructed(system, lungs).X, atol=1e-4)


def test_each_sample_goes_to_each_other_tissue_once_or_to_as_many_as_asked() -> None:
    system, train, test = trained()
    centres = latent.centroids(system, train)
    moved = latent.shift_to_others(system, test, centres)
    assert moved.n_obs == 2 * test.n_obs and moved.obs_names.is_unique and (moved.obs["tissue"] != moved.obs["source"]).all()
    some = latent.shift_to_others(system, test, centres, limit=7, seed=3)
    np.testing.assert_array_equal(some.X, moved[some.obs_names].X)
    assert some.n_obs == 7


def test_a_way_begins_and_ends_with_the_reconstructions_and_is_straight() -> None:
    system, _, test = trained()
    way = np.asarray(latent.interpolate(system, test[[0]], test[[1]], 5).X)
    z = latent.scores(system, test)
    np.testing.assert_allclose(way, z[0] + np.linspace(0, 1, 5)[:, None] * (z[1] - z[0]), atol=1e-4)


def test_made_profiles_cannot_be_taken_for_raw_ones_and_survive_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    system, train, test = trained()
    centres = latent.centroids(system, train)
    for made in (
        latent.generate(system, centres, n=2, seed=0),
        latent.shift_to_others(system, test, centres),
        latent.reconstructed(system, test),
        latent.interpolate(system, test[[0]], test[[1]], 3),
    ):
        with pytest.raises(InputError):
            system.transform.apply(made)
        made.write_h5ad(tmp_path / "made.h5ad")
        again = anndata.read_h5ad(tmp_path / "made.h5ad")
        assert Transform.from_dict(dict(again.uns["transform"])) == system.transform
        np.testing.assert_allclose(system.encode(again), system.encode(made), atol=1e-6)


def test_test_samples_have_no_part_in_a_centroid() -> None:
    system, _, test = trained()
    with pytest.raises(SplitError, match="test-1000"):
        latent.centroids(system, test)


def test_what_cannot_be_done_is_said() -> None:
    system, train, test = trained()
    centres = latent.centroids(system, train)
    with pytest.raises(InputError, match=r"'liver'.*brain, lung, skin"):
        latent.generate(system, centres, n=1, seed=0, tissues=["liver"])
    with pytest.raises(InputError, match="'liver'"):
        latent.shift(system, test, centres, target="liver")
    with pytest.raises(InputError, match="n of 1 or more"):
        latent.generate(system, centres, n=0, seed=0)
    with pytest.raises(InputError, match="one sample at each end"):
        latent.interpolate(system, test, test[[0]], 3)
    with pytest.raises(InputError, match="two or more tissues"):
        one = train[(train.obs["tissue"] == "lung").to_numpy()].copy()
        latent.shift_to_others(system, one, latent.centroids(system, one))
    with pytest.raises(InputError, match="column 'organ'"):
        latent.centroids(system, train, by="organ")
    alone = train[[0, 1, 4]].copy()
    with pytest.raises(InputError, match="at least 2 training samples"):
        latent.generate(system, latent.centroids(system, alone), n=1, seed=0, tissues=["brain"])
    nameless = train.copy()
    nameless.obs.loc["train-3", "tissue"] = None
    with pytest.raises(InputError, match="train-3"):
        latent.centroids(system, nameless)


def test_genes_of_another_species_are_refused_by_name() -> None:
    system, train, _ = trained()
    mouse = train.copy()
    mouse.var_names = [name.replace("ENSG", "ENSMUSG") for name in train.var_names]
    mouse.var["symbol"] = ""
    with pytest.raises(InputError, match="mouse"):
        latent.centroids(system, mouse)
    other = LinearSystem(Transform.fit(profiles(30, seed=5), allow_small=True))
    with pytest.raises(InputError, match="another transform"):
        latent.scores(other, system.transform.apply(train, allow_small=True))
