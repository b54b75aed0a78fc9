"""There and back: what was put into the tiles survives, what was not does not, and a deaf generator loses everything."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.data.patients import PatientInputs, features_key
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError
from rnasynth.evaluation.profiles import round_trip
from rnasynth.evaluation.profiles.baselines import Baseline, ridge_features
from rnasynth.evaluation.profiles.pairs import pair
from rnasynth.evaluation.profiles.survivors import CEILING, MADE, cell_reader, cosine_agreement, survivors

GENES = tuple(f"ENSG{number:011d}" for number in range(1, 31))
PAINTED = 20  # the first genes move with one of three latents, which colour the tiles; the others do not


class MeanColour:
    name, dim = "mean-colour", 3

    def __call__(self, tiles: np.ndarray, mpp_um: float) -> np.ndarray:
        return np.asarray(tiles.mean(axis=(1, 2)) / 32, dtype=np.float32)


def paint(u: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Tiles (n, 8, 8, 3) whose mean colour is the latent (3,), with noise."""
    noise = np.random.default_rng(seed).normal(size=(n, 8, 8, 3))
    return (128 + 32 * u + 20 * noise).clip(0, 255).astype(np.uint8)


class Painter:
    """Reads the latents off the first genes of raw profiles, and paints them; a deaf one paints grey."""

    px, mpp_um = 8, 2.0

    def __init__(self, transform: Transform, *, deaf: bool = False) -> None:
        self.transform, self.deaf = transform, deaf

    def generate(self, profiles: AnnData, n_per_profile: int, seed: int = 0) -> np.ndarray:
        z = np.asarray(self.transform.apply(profiles, allow_small=True).X)
        u = np.stack([z[:, place:PAINTED:3].mean(axis=1) for place in range(3)], axis=1)
        keys = [zlib.crc32(str(name).encode()) % 1000 for name in profiles.obs_names]
        return np.stack(
            [paint(0 * row if self.deaf else row, n_per_profile, seed + key) for row, key in zip(u, keys, strict=True)]
        )


def cohort() -> tuple[AnnData, PatientInputs, np.ndarray]:
    """All samples, their inputs with real (painted) tiles, and the latents."""
    generator = np.random.default_rng(0)
    n = 150
    u = generator.normal(size=(n, 3))
    log2 = 6 + 0.3 * generator.normal(size=(n, len(GENES)))
    for gene in range(PAINTED):
        log2[:, gene] += u[:, gene % 3]
    log2[:, PAINTED:] += generator.normal(size=(n, len(GENES) - PAINTED))
    names = [f"s{row}" for row in range(n)]
    tissue = [("a", "b")[row % 2] for row in range(n)]
    split = ["train"] * 80 + ["val"] * 30 + ["test"] * 40
    obs = pd.DataFrame({"sample_id": names, "split": split, "split_group": names, "tissue": tissue}, index=names)
    x = (np.exp2(log2) - 1).clip(0).astype(np.float32)
    var = pd.DataFrame({"symbol": [f"G{g}" for g in range(len(GENES))]}, index=list(GENES))
    bags = tuple(MeanColour()(paint(row, 12, 7000 + number), 2.0) for number, row in enumerate(u))
    inputs = PatientInputs(tuple(names), bags, ("a text",) * n, tuple(tissue), features_key("mean-colour", 2.0))
    return AnnData(X=x, obs=obs, var=var, uns={"unit": "tpm"}), inputs, u


def trip(*, deaf: bool = False) -> tuple[round_trip.RoundTrips, round_trip.RoundTripReport, Any]:
    profiles, inputs, u = cohort()
    rows = {split: np.flatnonzero(profiles.obs["split"] == split) for split in ("train", "val", "test")}
    transform = Transform.fit(profiles[rows["train"]].copy(), allow_small=True)
    parts = {split: pair(inputs.take(chosen), profiles, transform) for split, chosen in rows.items()}
    back = ridge_features(parts["train"], parts["val"])
    test = profiles[rows["test"]].copy()
    trips = round_trip.round_trips(
        Painter(transform, deaf=deaf), back, test, parts["test"].inputs, transform, MeanColour(), n_tiles=12
    )
    fractions = {
        split: pd.DataFrame(u[chosen] / 10 + 0.3, columns=["red", "green", "blue"]) for split, chosen in rows.items()
    }
    reader = cell_reader(parts["train"].z, fractions["train"], parts["val"].z, fractions["val"])
    report = round_trip.round_trip_report(
        trips,
        genes=GENES,
        tissues=parts["test"].tissues,
        groups=parts["test"].groups,
        reader=reader,
        fractions=fractions["test"],
        encode=lambda z: z[:, :6],
        latent_centre=parts["train"].z[:, :6].mean(axis=0),
        n_boot=100,
        n_permutations=199,
    )
    return trips, report, parts["test"]


def test_what_was_painted_survives_and_nothing_else() -> None:
    _, report, _ = trip()
    follows = report.genes.table[f"{MADE}, follows"].to_numpy(bool)
    assert follows[:PAINTED].mean() > 0.95 and follows[PAINTED:].mean() < 0.2
    assert report.genes.table[f"{CEILING}, follows"].to_numpy(bool)[:PAINTED].mean() > 0.95
    own, chance = report.numbers["correlation_genes_through_made_tiles"], report.numbers["shuffled_genes_through_made_tiles"]
    assert own.low > chance.high and abs(chance.value) < 0.1
    assert report.cells is not None and report.cells.table[f"{MADE}, follows"].all()
    assert report.numbers["retrieval_cell_types_through_made_tiles"].low > 0.8
    assert report.numbers["cosine_through_made_tiles"].low > report.numbers["cosine_shuffled_through_made_tiles"].high
    assert report.numbers["cosine_gain_through_made_tiles"].low > 0.3
    assert report.latents is not None and report.latents.table[f"{MADE}, follows"].all()
    assert report.numbers["retrieval_tile_features_made_of_the_rna_read_off_them"].low > 0.8
    assert set(report.numbers) == set(report.labels)
    assert "of 30 follow within tissues" in report.genes.summary() and len(report.genes.points()) == 30


def test_through_a_deaf_generator_nothing_survives_but_the_ceiling_stays() -> None:
    _, report, _ = trip(deaf=True)
    own, chance = report.numbers["correlation_genes_through_made_tiles"], report.numbers["shuffled_genes_through_made_tiles"]
    assert (
        chance.low < own.value < chance.high
    )  # genes of one latent fall or follow together: a count of them is a poor test
    assert report.genes.table[f"{CEILING}, follows"].to_numpy(bool)[:PAINTED].mean() > 0.95
    assert report.numbers["cosine_gain_through_made_tiles"].low < 0.05
    assert report.cells is not None and not report.cells.table[f"{MADE}, follows"].any()
    rank = report.numbers["retrieval_tile_features_made_of_the_rna_read_off_them"]
    assert rank.low < 0.5 < rank.high


def test_the_text_is_taken_away_on_the_way_back() -> None:
    profiles, inputs, _ = cohort()
    transform = Transform.fit(profiles[:80].copy(), allow_small=True)
    seen: list[str] = []

    def predict(given: Any) -> np.ndarray:
        seen.extend(given.texts)
        return np.zeros((len(given), len(GENES)), np.float32)

    model = Baseline("listener", GENES, predict, {"": np.zeros((1, len(GENES)), np.float32)})
    part = profiles[110:114].copy()
    round_trip.round_trips(Painter(transform), model, part, inputs.take(slice(110, 114)), transform, MeanColour(), n_tiles=2)
    assert len(seen) == 8 and set(seen) == {""}


def test_raw_profiles_are_those_that_the_scores_came_from() -> None:
    profiles, _, _ = cohort()
    transform = Transform.fit(profiles[:80].copy(), allow_small=True)
    z = np.asarray(transform.apply(profiles).X)
    again = round_trip.raw_profiles(z, transform, profiles.obs)
    np.testing.assert_allclose(again.X, profiles.X, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(transform.apply(again).X, z, atol=1e-3)


def test_tiles_of_another_size_or_sample_are_refused() -> None:
    profiles, inputs, _ = cohort()
    transform = Transform.fit(profiles[:80].copy(), allow_small=True)
    model = Baseline("none", GENES, lambda given: np.zeros((len(given), 30), np.float32), {})
    part, given = profiles[110:114].copy(), inputs.take(slice(110, 114))
    with pytest.raises(InputError, match="the generator's px"):
        other = replace(given, features=features_key("mean-colour", 0.5))
        round_trip.round_trips(Painter(transform), model, part, other, transform, MeanColour())
    with pytest.raises(InputError, match="sample s110"):
        round_trip.round_trips(Painter(transform), model, part, given.without_tiles(), transform, MeanColour())
    with pytest.raises(InputError, match="other samples"):
        round_trip.round_trips(Painter(transform), model, profiles[100:104].copy(), given, transform, MeanColour())
    with pytest.raises(InputError, match="way back"):
        survivors(np.zeros((4, 3)), {}, names=["a"], tissues=["t"] * 4, groups=range(4))
    with pytest.raises(InputError, match="fractions"):
        empty = pd.DataFrame({"cells": [np.nan] * 20})
        cell_reader(np.zeros((20, 3)), empty, np.zeros((20, 3)), empty)


def test_cosines_have_their_closed_form() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 8))
    same = cosine_agreement(x, x, centre=np.zeros(8), tissues=["t"] * 40, groups=np.arange(40), n_boot=50)
    assert same["cosine"].value == pytest.approx(1) and same["cosine_gain"].low > 0.9
    against = cosine_agreement(x, -x, centre=np.zeros(8), tissues=["t"] * 40, groups=np.arange(40), n_boot=50)
    assert against["cosine"].value == pytest.approx(-1)
    alone = cosine_agreement(x, x, centre=np.zeros(8), tissues=np.arange(40), groups=np.arange(40), n_boot=50)
    assert "cosine_gain" not in alone
    moved = cosine_agreement(x + 9, x + 9, centre=np.full(8, 9.0), tissues=["t"] * 40, groups=np.arange(40), n_boot=50)
    assert moved["cosine_shuffled"].value == pytest.approx(same["cosine_shuffled"].value, abs=1e-9)
