"""Haematoxylin area against the profile: generators that listen or do not, encoders that lose the genes or do not."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort, load_cohort
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.conditioning.area import at_mpp, follow_area, haematoxylin_area, log_genes, ridge
from rnasynth.evaluation.conditioning.area_report import AreaReport
from rnasynth.evaluation.stats import spearman
from rnasynth.plots import intervals, scatter_against
from tests.evaluation.made_tiles import Store, real_tiles_of

PX, TILES, PATIENTS = 32, 4, 90
PINK, VIOLET = (225, 150, 195), (90, 60, 140)


def painted(share: float, n: int, rng: np.random.Generator, px: int = PX) -> NDArray[np.uint8]:
    """Tiles of eosin pink, of which this share is violet."""
    tiles = np.empty((n, px, px, 3), np.uint8)
    tiles[:] = PINK
    tiles[rng.uniform(size=(n, px, px)) < share] = VIOLET
    return tiles


def area_of(profiles: anndata.AnnData) -> NDArray[np.float64]:
    """Ten genes say, with noise, how much is violet; the others say nothing."""
    logs = np.log1p(1e4 * np.asarray(profiles.X) / np.asarray(profiles.X).sum(axis=1, keepdims=True))
    return np.clip(0.35 + 0.25 * (logs[:, :10].mean(axis=1) - 4.5), 0.02, 0.9)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    rng = np.random.default_rng(0)
    trait = rng.normal(size=PATIENTS)
    x = rng.gamma(2.0, 50.0, size=(PATIENTS, 60))
    x[:, :10] *= np.exp(0.7 * trait[:, None] + rng.normal(0, 0.3, (PATIENTS, 10)))
    names = [f"P{row:03d}" for row in range(PATIENTS)]
    obs = pd.DataFrame({"sample_id": names, "patient_id": names, "split_group": names}, index=pd.Index(names))
    obs["split"] = np.repeat(["train", "val", "test"], PATIENTS // 3)
    obs["tissue"] = np.where(np.arange(PATIENTS) % 2, "lung", "skin")
    profiles = anndata.AnnData(
        X=x.astype(np.float32), obs=obs, var=pd.DataFrame(index=[f"g{g}" for g in range(60)]), uns={"unit": "counts"}
    )
    tiles = np.stack([painted(share, TILES, rng) for share in area_of(profiles)])
    return Cohort("painted", profiles, Store(tiles, names), True, "", (), {}, Path("."))  # type: ignore[arg-type]


class Encoder:
    """Gives the ten genes that matter, or (deaf) ten that do not."""

    def __init__(self, first: int) -> None:
        self.columns = slice(first, first + 10)

    def encode(self, profiles: anndata.AnnData) -> NDArray[np.float32]:
        x = np.asarray(profiles.X)
        return np.log1p(1e4 * x / x.sum(axis=1, keepdims=True))[:, self.columns].astype(np.float32)


class Painter:
    """A perfect generator; `shift` makes it too dark."""

    px, mpp_um = PX, 2.0

    def __init__(self, encoder: Encoder | None = None, shift: float = 0.0) -> None:
        self.shift = shift
        if encoder is not None:
            self.encoder = encoder

    def shares(self, profiles: anndata.AnnData) -> NDArray[np.float64]:
        return area_of(profiles) + self.shift

    def generate(self, profiles: anndata.AnnData, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
        out = []
        for share, name in zip(self.shares(profiles), profiles.obs_names, strict=True):
            out.append(painted(share, n_per_profile, np.random.default_rng([seed, *map(ord, str(name))]), self.px))
        return np.stack(out)


class Deaf(Painter):
    """The broken variant: as much violet as anybody has, whatever the profile says."""

    def shares(self, profiles: anndata.AnnData) -> NDArray[np.float64]:
        return np.array([0.2 + 0.3 * (sum(map(ord, str(name))) * 7919 % 97) / 97 for name in profiles.obs_names])


class Fine(Painter):
    """The same field at a quarter of the um/px."""

    px, mpp_um = 4 * PX, 0.5


class RealTiles(Painter):
    """Real tiles handed over as if they were generated."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort

    def generate(self, profiles: anndata.AnnData, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
        return real_tiles_of(self.cohort, profiles, n_per_profile)


def found(cohort: Cohort, generator: Any, **options: Any) -> AreaReport:
    options = {"tiles_per_profile": 4, "n_boot": 200, "n_permutations": 199} | options
    return follow_area(generator, cohort, **options)


@pytest.fixture(scope="module")
def heard(cohort: Cohort) -> AreaReport:
    return found(cohort, Painter(Encoder(0)))


def test_a_pixel_counts_by_red_and_blue_density_in_natural_log() -> None:
    tiles = np.full((1, 2, 2, 3), 255, np.uint8)
    tiles[0, 0, 0], tiles[0, 0, 1] = (139, 255, 219), (140, 0, 0)  # the last level that counts, and one too bright in red
    tiles[0, 1, 0] = (0, 0, 220)  # too bright in blue
    assert haematoxylin_area(tiles).tolist() == [0.25]
    level = np.arange(256)
    every = np.zeros((256, 1, 1, 3), np.uint8)
    every[:, 0, 0, 0] = level
    np.testing.assert_array_equal(haematoxylin_area(every) == 1, -np.log((level + 1) / 256) > 0.6)
    every = np.roll(every, 2, axis=-1)
    np.testing.assert_array_equal(haematoxylin_area(every) == 1, -np.log((level + 1) / 256) > 0.15)
    with pytest.raises(InputError, match="uint8"):
        haematoxylin_area(tiles.astype(np.float32))


def test_tiles_are_brought_to_one_um_per_px_and_keep_their_field() -> None:
    tiles = np.repeat(np.repeat(painted(0.4, 3, np.random.default_rng(0), 16), 4, axis=1), 4, axis=2)
    np.testing.assert_array_equal(at_mpp(tiles, 0.5, 2.0), tiles[:, ::4, ::4])
    assert at_mpp(tiles, 0.5, 0.5) is tiles and at_mpp(tiles, 0.5, 0.686).shape == (3, 47, 47, 3)
    with pytest.raises(InputError, match="um a pixel"):
        at_mpp(tiles, 0.5, 20.0)


def test_a_generator_that_listens_reaches_the_real_tiles(cohort: Cohort, heard: AreaReport) -> None:
    n = heard.numbers
    assert heard.follows and n["follow"].value > 0.9 and heard.p == pytest.approx(1 / 200)
    assert n["follow_shuffled"].low < 0 < n["follow_shuffled"].high < n["follow"].low
    assert n["follow_within"].value > 0.9 and n["real_halves"].value > 0.9
    assert n["follow_minus_genes"].value == pytest.approx(n["follow"].value - n["ridge_genes"].value)
    assert n["follow"].n == PATIENTS // 3 and heard.unit == "split groups" and heard.strata == "tissue"
    assert "follows the profile" in heard.verdict() and "not measurably different" in heard.verdict()
    real = found(cohort, RealTiles(cohort))
    assert real.numbers["follow"].value == pytest.approx(1) and real.numbers["area_difference"].value == 0


def test_a_deaf_generator_does_not_follow(cohort: Cohort) -> None:
    deaf = found(cohort, Deaf())
    assert not deaf.follows and deaf.numbers["follow"].low < 0.3 and deaf.p > 0.02
    assert "is not shown to follow" in deaf.verdict() and deaf.encoder_is_bottleneck is None
    assert "no encoder" in deaf.encoder_verdict() and "ridge_latent" not in deaf.numbers


def test_a_generator_that_knows_the_tissue_alone_does_not_follow(cohort: Cohort) -> None:
    """The tissues' areas differ, and shuffling within the tissue keeps that: no success."""
    store, obs = cohort.tiles, cohort.profiles.obs
    assert store is not None
    rng = np.random.default_rng(3)
    shares = np.where(obs["tissue"] == "lung", 0.6, 0.15) + 0.1 * rng.uniform(-1, 1, PATIENTS)
    tiles = np.stack([painted(share, TILES, rng) for share in shares])
    two = dataclasses.replace(cohort, tiles=Store(tiles, list(obs["sample_id"])))  # type: ignore[arg-type]

    class TissueOnly(Painter):
        def shares(self, profiles: anndata.AnnData) -> NDArray[np.float64]:
            return np.where(profiles.obs["tissue"] == "lung", 0.6, 0.15)

    report = found(two, TissueOnly())
    assert report.numbers["follow"].value > 0.6 and not report.follows
    assert report.numbers["follow_shuffled"].value > 0.6 and abs(report.numbers["follow_within"].value) < 0.4


def test_too_dark_is_said(cohort: Cohort) -> None:
    dark = found(cohort, Painter(shift=0.1))
    assert dark.follows and dark.numbers["area_difference"].value == pytest.approx(0.1, abs=0.01)
    assert "too dark by more than 0.05" in dark.verdict()
    assert not dark.area_is_right and "measurably darker" in dark.verdict()
    light = found(cohort, Painter(shift=-0.03))
    assert light.area_is_right and "within 0.05, measurably lighter" in light.verdict()


def test_an_encoder_that_loses_the_genes_is_named_the_bottleneck(cohort: Cohort, heard: AreaReport) -> None:
    assert heard.encoder_is_bottleneck is False and "not the bottleneck" in heard.encoder_verdict()
    assert heard.numbers["ridge_genes"].value > 0.8
    broken = found(cohort, Painter(Encoder(30)))
    assert broken.encoder_is_bottleneck and broken.numbers["latent_minus_genes"].high < -0.05
    assert "the encoder is the bottleneck" in broken.encoder_verdict()


def test_ridge_learns_from_training_and_chooses_by_validation_alone(cohort: Cohort) -> None:
    """Shuffled training targets leave nothing: what is read in the test samples was learnt."""
    parts = [cohort.only(split).profiles for split in ("train", "val", "test")]
    x = log_genes(parts, parts[0])
    y = [area_of(part) for part in parts]
    assert spearman(ridge(x[0], y[0], x[1], y[1]).predict(x[2]), y[2]) > 0.9
    order = np.random.default_rng(0).permutation(len(y[0]))
    assert spearman(ridge(x[0], y[0][order], x[1], y[1]).predict(x[2]), y[2]) < 0.7
    chosen = log_genes(parts, parts[0], n_genes=10)[2]
    variances = x[0].var(axis=0)
    np.testing.assert_allclose(chosen, x[2][:, np.sort(np.argsort(-variances)[:10])])


def test_a_finer_generator_is_measured_at_the_stores_pixels(cohort: Cohort) -> None:
    """Averaging sixteen pixels of independent noise to one leaves no pixel as it was; the um/px is the same for both."""
    report = found(cohort, Fine(), max_samples=9)
    assert report.mpp_um == 2.0 and len(report.points) == 9 and report.numbers["follow"].n == 9
    assert report.numbers["ridge_genes"].n == PATIENTS // 3  # costs no tile, so it is judged on all
    assert len(report.table) == PATIENTS // 3
    assert found(cohort, Painter(), mpp_um=4.0).mpp_um == 4.0


def test_samples_of_one_section_are_shuffled_within_it_and_said_to_be_so(cohort: Cohort) -> None:
    profiles = cohort.profiles.copy()
    profiles.obs["split_group"] = "section-" + profiles.obs["split"].astype(str)
    report = found(dataclasses.replace(cohort, profiles=profiles, split_by="section"), Painter())
    assert report.strata == "section" and report.unit == "samples of one split group"
    assert report.verdict().startswith("Within one split group")


def test_numbers_have_labels_and_tables_are_what_plots_take(heard: AreaReport) -> None:
    assert set(heard.numbers) <= set(heard.labels)
    assert all(math.isfinite(value.low) for value in heard.numbers.values())
    assert len(heard.correlations) == 5 and len(heard.areas) == 2 and len(heard.points) == PATIENTS // 3
    intervals(heard.correlations, x_label="Spearman", reference=0.0)
    scatter_against(heard.points, x_label="real", y_label="generated")


def test_training_samples_and_missing_tiles_are_refused(cohort: Cohort) -> None:
    with pytest.raises(SplitError):
        found(cohort, Painter(), split="train")
    with pytest.raises(InputError, match="tiles"):
        found(dataclasses.replace(cohort, tiles=None), Painter())
    with pytest.raises(InputError, match="three samples"):
        found(cohort, Painter(), max_samples=2)


@pytest.mark.real
def test_ridge_from_the_genes_reaches_the_known_mark_on_real_spots(mirror: Path) -> None:
    """0.60 to 0.67 was measured before with one section left out; here two sections train, and the field is 128 um."""
    cohort = load_cohort("her2st", mirror=mirror)

    class Grey(Painter):
        px, mpp_um = 64, 2.0

        def shares(self, profiles: anndata.AnnData) -> NDArray[np.float64]:
            return np.full(profiles.n_obs, 0.4)

    report = follow_area(Grey(), cohort, tiles_per_profile=1, n_boot=100, n_permutations=99)
    assert 0.55 < report.numbers["ridge_genes"].value < 0.70 and not report.follows
    assert 0.3 < report.numbers["area_real"].value < 0.45 and report.strata == "section"
