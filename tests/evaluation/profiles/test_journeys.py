"""Round trips of a cohort: what is painted comes back and is said to, a deaf painter's is not."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

from rnasynth.data.cohort import Cohort, load_cohort
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.profiles import journeys
from rnasynth.evaluation.profiles.baselines import ridge_features
from rnasynth.evaluation.profiles.round_trip import RoundTripReport
from rnasynth.evaluation.profiles.survivors import CEILING, MADE

PX = 8


class Shade:
    """How dark a tile is: twice, as features."""

    name, dim = "shade", 2

    def __call__(self, tiles: np.ndarray, mpp_um: float) -> np.ndarray:
        mean = tiles.mean(axis=(1, 2, 3)) / 32
        return np.stack([mean, mean**2], axis=1).astype(np.float32)


class Painter:
    """Paints the first principal component of the training profiles as darkness; a deaf one paints by chance."""

    px = PX

    def __init__(self, transform: Transform, axis: np.ndarray, mpp_um: float, *, deaf: bool = False) -> None:
        self.transform, self.axis, self.mpp_um, self.deaf = transform, axis, mpp_um, deaf

    def generate(self, profiles: AnnData, n_per_profile: int, seed: int = 0) -> np.ndarray:
        u = np.asarray(self.transform.apply(profiles, allow_small=True).X) @ self.axis
        noise = np.random.default_rng(zlib.crc32(" ".join(map(str, profiles.obs_names)).encode()) % 10_000 + seed)
        level = noise.normal(size=len(u)) if self.deaf else u
        shade = 120 + 25 * level[:, None, None, None, None] + noise.normal(size=(len(u), n_per_profile, PX, PX, 3))
        return np.asarray(shade.clip(0, 255).astype(np.uint8))


class Encoder:
    def __init__(self, transform: Transform, axis: np.ndarray) -> None:
        self.transform, self.axis = transform, axis

    def encode(self, z: np.ndarray) -> np.ndarray:
        return np.stack([z @ self.axis, z[:, 0]], axis=1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return load_cohort(
        "simulated",
        folder=tmp_path_factory.mktemp("sim"),
        patients=60,
        tiles_per_patient=2,
        tile_px=32,
        mpp_um=1.0,
        genes=100,
    )


@pytest.fixture(scope="module")
def start(cohort: Cohort) -> journeys.Journey:
    transform = Transform.fit(cohort.only("train").profiles, allow_small=True)
    return journeys.set_out(cohort, transform, Shade(), px=PX, max_samples=12)


@pytest.fixture(scope="module", autouse=True)
def without_stain(request: pytest.FixtureRequest) -> Any:
    """Darkness is what is painted here, and one stain for all would take it away."""
    patch = pytest.MonkeyPatch()
    patch.setattr(journeys, "same_stain", lambda tiles: tiles)
    yield
    patch.undo()


def axis_of(start: journeys.Journey) -> np.ndarray:
    z = start.train.z - start.train.z.mean(axis=0)
    axis = np.linalg.svd(z, full_matrices=False)[2][0]
    return np.asarray(axis / (z @ axis).std())


def travelled(start: journeys.Journey, cohort: Cohort, *, deaf: bool) -> RoundTripReport:
    axis = axis_of(start)
    painter = Painter(start.transform, axis, 4.0, deaf=deaf)
    own = journeys.read_in_made_tiles(start, Painter(start.transform, axis, 4.0), cohort, n_tiles=3, max_samples=30)
    encoder = Encoder(start.transform, axis)
    return start.travel(painter, own, encoder=encoder, n_tiles=3, n_boot=60, n_permutations=99)[1]


def test_journeys_read_what_the_cohort_has(start: journeys.Journey, cohort: Cohort) -> None:
    assert len(start.test) == 12 and start.test.split == "test" and start.test.inputs.dim == 2  # type: ignore[attr-defined]
    assert list(start.profiles.obs["sample_id"]) == list(start.test.inputs.sample_ids)
    assert start.fractions is not None and start.reader is not None
    assert list(start.fractions.columns) == list(start.reader.kinds)
    assert not set(start.train.groups) & set(start.test.groups)
    assert start.test.inputs.features == "shade@4um/px"  # type: ignore[attr-defined]


def test_what_is_painted_comes_back_and_chance_does_not(start: journeys.Journey, cohort: Cohort) -> None:
    reports = {"painter": travelled(start, cohort, deaf=False), "deaf": travelled(start, cohort, deaf=True)}
    key = f"correlation_latents_{key_of(MADE)}"
    assert reports["painter"].numbers[key].value > reports["deaf"].numbers[key].value + 0.1
    assert not journeys.comes_back(reports["deaf"])
    text = journeys.in_words(reports, reports["painter"])
    assert "deaf: the profile is not shown to come back" in text and "off the real tiles" in text
    rows = journeys.side_by_side(reports, "genes", ceilings=("painter",))
    assert sum(CEILING in label for label in rows["label"]) == 2 and set(rows["group"]) == {"own pairs", "shuffled pairs"}
    cells = journeys.side_by_side(reports, "cells", ceilings=("painter",))
    assert sum("own RNA" in label for label in cells["label"]) == 2
    ranks = journeys.retrieval_rows(reports)
    assert list(ranks["label"].unique()) == ["painter", "deaf"] and ranks["value"].between(0, 1).all()
    points = journeys.gene_points(reports["painter"], reports["deaf"])
    assert set(points.columns) == {"x", "y", "group"}


def test_numbers_of_two_journeys_do_not_collide(start: journeys.Journey, cohort: Cohort) -> None:
    way = ridge_features(start.train, start.val)
    report = start.travel(Painter(start.transform, axis_of(start), 4.0), way, n_tiles=1, n_boot=20, n_permutations=19)[1]
    one, other = journeys.named(report, "RNA-GAN"), journeys.named(report, "RNA-CDM")
    assert not set(one.numbers) & set(other.numbers) and set(one.numbers) == set(one.labels)
    assert all(label.startswith("RNA-GAN: ") for label in one.labels.values()) and report.latents is None


def test_an_encoder_of_other_genes_is_refused(start: journeys.Journey) -> None:
    other = Transform.from_dict({**start.transform.to_dict(), "mean": [0.0] * len(start.transform.genes)})
    with pytest.raises(InputError, match="shared latent"):
        journeys.latent_of(Encoder(other, axis_of(start)), start.transform)
