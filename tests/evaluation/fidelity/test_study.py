"""The comparison of tile sets on planted features: floor, equal sizes, sizes' curve, copies, and where it must refuse."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.fidelity import map as fidelity_map
from rnasynth.evaluation.fidelity import sets as fidelity_sets
from rnasynth.evaluation.fidelity import study as fidelity_study
from rnasynth.evaluation.fidelity.distances import frechet, kid
from rnasynth.evaluation.fidelity.memorisation import pixels
from rnasynth.evaluation.fidelity.probe import linear_probe
from rnasynth.evaluation.fidelity.sets import TileSet
from rnasynth.features import FeatureStats, StainTexture
from tests.systems.gan_cohort import small_cohort

D = 6
TISSUES = ("brain", "lung")


def tile_set(
    name: str, seed: int, *, patients: int = 10, each: int = 12, shift: float = 0.0, spread: float = 1.0
) -> TileSet:
    """Tiles of patients of two tissues, five units apart; `shift` moves them all."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), each)
    x = spread * (0.5 * rng.normal(size=(patients, D))[owner] + rng.normal(size=(len(owner), D))) + shift
    x[:, 0] += 5 * (owner % 2)
    small = np.clip(0.5 + 0.1 * rng.normal(size=(len(owner), 768)), 0, 1).astype(np.float32)
    names = np.array([f"{name}{number}" for number in owner])
    tissues = np.array(TISSUES)[owner % 2]
    return TileSet(name, {"net": x.astype(np.float32)}, small, tissues, names, names, np.arange(len(owner)))


TRAIN, TEST = tile_set("train", 0, patients=20), tile_set("test", 1)
GOOD = [tile_set("good", seed) for seed in (2, 3, 4)]
SHIFTED = [tile_set("shifted", seed, shift=1.5) for seed in (5, 6, 7)]


def copied(seed: int) -> TileSet:
    """A generator that repeats training tiles."""
    rows = np.random.default_rng(seed).permutation(len(TRAIN))[: len(TEST)]
    features = {"net": TRAIN.features["net"][rows] + np.float32(1e-3)}
    mine = {"tissues": TRAIN.tissues[rows], "patients": TEST.patients, "samples": TEST.samples, "tile_ids": TEST.tile_ids}
    return TileSet("copied", features, TRAIN.small[rows], **mine)


def test_the_floor_is_there_a_good_generator_reaches_it_and_a_shifted_one_does_not() -> None:
    report = fidelity_study.compare(TRAIN, TEST, {"good": GOOD, "shifted": SHIFTED}, "net", n_subsets=20)
    numbers = report.numbers
    assert set(report.table["tissue"]) == {fidelity_study.ALL, *TISSUES}
    assert set(report.table["set"]) == {fidelity_study.FLOOR, "good", "shifted"}
    assert numbers["frechet_test_good"].value < 2 * numbers["frechet_test_floor"].value
    assert numbers["frechet_test_shifted"].low > 2 * numbers["frechet_test_floor"].high
    assert numbers["kid_test_shifted"].low > 0
    assert all(interval.low <= interval.value <= interval.high for interval in numbers.values())
    assert set(numbers) == set(report.labels) and numbers["frechet_test_good"].n == 3
    text = report.summary()
    assert "above its range" in text and len(report.shown()) == len(report.table) == 9


def test_a_generator_that_repeats_training_tiles_is_nearer_to_them_and_is_caught() -> None:
    sets = {"good": GOOD, "copied": [copied(seed) for seed in range(3)]}
    numbers = fidelity_study.compare(TRAIN, TEST, sets, "net", n_subsets=5).numbers
    assert numbers["frechet_train_copied"].high < numbers["frechet_test_copied"].low
    for space in ("", "net"):
        found = fidelity_study.copies(TRAIN, TEST, sets, space, n_boot=20)
        assert found.numbers["copies_copied"].value > 0.7 and found.numbers["copies_good"].value < 0.1


def test_sets_of_a_comparison_are_drawn_to_one_size() -> None:
    few = [dataclasses.replace(tile_set("few", 9, each=5)) for _ in range(3)]
    table = fidelity_study.compare(TRAIN, TEST, {"few": few}, "net", n_subsets=5).table
    assert set(table["n"][table["tissue"] == fidelity_study.ALL]) == {50} and set(table["n"]) == {50, 25}
    none = [tile_set("none", 9, patients=2, each=3)] * 3
    with pytest.raises(InputError, match="20 or more"):
        fidelity_study.compare(TRAIN, TEST, {"none": none}, "net")
    with pytest.raises(InputError, match="disjoint"):
        fidelity_study.compare(TRAIN, TRAIN, {"good": GOOD}, "net")


def test_the_distance_falls_with_the_number_of_tiles_and_the_limit_lies_below() -> None:
    curve = fidelity_study.size_curve(TRAIN, TEST, {"good": GOOD, "shifted": SHIFTED}, "net")
    sizes, floor = curve.lines[fidelity_study.FLOOR]
    assert floor[0] > floor[-1] and sizes[-1] == len(TEST)
    assert curve.limits["good"] < curve.lines["good"][1][-1]
    assert curve.limits["shifted"] > curve.limits["good"] + 1
    named = {name: (label, limit) for name, label, limit in fidelity_study.limits({"net": curve})}
    assert named["limit_shifted_1"] == ("limit of the Frechet distance at infinitely many tiles, shifted (net)",
                                        curve.limits["shifted"])  # fmt: skip


def test_coverage_is_lost_with_a_tissue() -> None:
    brain = [dataclasses.replace(each, features={"net": each.features["net"] * 1}) for each in GOOD]
    for each in brain:
        each.features["net"][:, 0] -= 5 * (each.tissues == "lung")
    table = fidelity_study.cover(TRAIN, TEST, {"good": GOOD, "one tissue": brain}, "net").set_index(["label", "group"])
    assert list(table.index.get_level_values("label")[:3]) == ["precision"] * 3
    assert table.loc[("coverage", "one tissue"), "value"] < 0.85 * table.loc[("coverage", "good"), "value"]
    assert table.loc[("precision", "one tissue"), "value"] > 0.8
    named = {name: (label, row) for name, label, row in fidelity_study.keyed(table.reset_index())}
    label, row = named["recall_one_tissue"]
    assert label == "recall, one tissue" and row["low"] <= row["value"] <= row["high"] and len(named) == len(table)


def test_second_opinion_of_torchmetrics_with_an_identity_network() -> None:
    left, right = (torch.from_numpy(each.features["net"]) for each in (TEST, SHIFTED[0]))

    class Identity(torch.nn.Module):
        num_features = D

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    with warnings.catch_warnings(action="ignore"):  # torchmetrics warns that it keeps the features
        kernel = KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=len(left))
    distance = FrechetInceptionDistance(feature=Identity()).set_dtype(torch.float64)
    assert "torchvision" not in sys.modules
    for metric in (distance, kernel):
        metric.update(left, real=True)
        metric.update(right, real=False)
    ours = frechet(FeatureStats.of(left.numpy(), "net"), FeatureStats.of(right.numpy(), "net"))
    assert ours == pytest.approx(float(distance.compute()), rel=1e-4)
    mine = kid(left.numpy(), right.numpy(), subset_size=len(left), n_subsets=1).value
    assert mine == pytest.approx(float(kernel.compute()[0]), rel=1e-4)


def test_a_map_is_fitted_on_training_tiles_alone_and_places_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[Any] = []

    def first_two(train: Any, *, seed: int) -> Any:
        fitted.append(train)
        return SimpleNamespace(place=lambda z: z[:, :2], fitted=train.X[:, :2])

    monkeypatch.setattr(fidelity_map, "fit_umap", first_two)
    projection, scale = fidelity_map.feature_map(TRAIN, "net", limit=100)
    assert fitted[0].shape == (100, D) and set(fitted[0].obs["split"]) == {"train"}
    wanted = (TRAIN.features["net"] - TRAIN.features["net"].mean(0)) / TRAIN.features["net"].std(0, ddof=1)
    assert all((np.abs(wanted - row).max(axis=1) < 1e-3).any() for row in fitted[0].X)
    points, tissues = fidelity_map.placed(projection, scale, TEST)
    assert points.shape == (len(TEST), 2) and set(tissues) == set(TISSUES)
    patients = fidelity_map.first_patients(TEST, 3)
    points, owners = fidelity_map.placed(projection, scale, TEST, by="patient", groups=patients)
    assert len(points) == 36 and set(owners) == set(patients)
    by_tissue, by_patient = fidelity_map.maps(TRAIN, {"real": TEST, "good": GOOD[0]}, "net")
    assert by_tissue[0] == "tissue" and len(by_tissue[1]["good"][0]) == len(GOOD[0])
    assert by_patient[0] == "patient" and set(by_patient[1]["real"][1]) == set(fidelity_map.first_patients(TEST))


def test_inceptions_features_are_compared_as_they_are_and_others_standardised() -> None:
    scale = fidelity_study.scaler(TRAIN, "net")
    assert scale.scaled(TRAIN.features["net"]).std() == pytest.approx(1, abs=0.05)
    named = dataclasses.replace(TRAIN, features={"inception-fid-0": TRAIN.features["net"]})
    raw = fidelity_study.scaler(named, "inception-fid-0").scaled(TRAIN.features["net"])
    np.testing.assert_allclose(raw, TRAIN.features["net"])


def test_published_rows_are_all_answered() -> None:
    assert {"fid50k_rna_cdm", "kid50k_rna_cdm", "is50k_rna_cdm"} <= set(fidelity_study.not_attempted())


def test_the_probe_reads_planted_tissues_and_nothing_from_noise() -> None:
    parts = [tile_set(name, seed) for name, seed in (("a", 20), ("b", 21), ("c", 22))]
    for number, part in enumerate(parts):
        part.features["noise"] = np.random.default_rng(number).normal(size=(len(part), 5)).astype(np.float32)
    report = linear_probe(*parts, ["net", "noise"], n_boot=100)
    assert report.accuracy["net"].value > 0.9 and report.chance == 0.5
    assert report.accuracy["noise"].value < 0.65 and report.gain["noise"].high < 0
    assert list(report.table().index) == ["net", "noise"]
    with pytest.raises(InputError, match="disjoint"):
        linear_probe(parts[0], parts[1], parts[0], ["net", "noise"])
    with pytest.raises(InputError, match="tissues"):
        linear_probe(*parts, ["net"], tissues=("brain", "liver"))


class Painter:
    """A generator that paints each sample's number, so that a tile can be told."""

    px, mpp_um = 32, 2.0

    def generate(self, profiles, n, seed=0):  # type: ignore[no-untyped-def]
        names = profiles.obs["sample_id"].astype(str)
        values = [[(hash((name, seed)) + 40 * number) % 200 for number in range(n)] for name in names]
        return np.broadcast_to(np.array(values, np.uint8)[:, :, None, None, None], (len(names), n, 32, 32, 3)).copy()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return small_cohort(tmp_path_factory.mktemp("fidelity"), patients=25, tiles=3)


def test_real_tiles_are_those_of_the_split_and_no_others(cohort: Cohort) -> None:
    network = StainTexture()
    test = fidelity_sets.real_tiles(cohort, "test", [network], px=32, restained=False)
    obs = cohort.profiles.obs
    assert set(test.samples) == set(obs["sample_id"][obs["split"] == "test"]) and test.name == "real (test)"
    assert cohort.tiles is not None
    tiles = cohort.tiles.read_batch(test.tile_ids, px=32)
    np.testing.assert_allclose(test.features[network.name], network(tiles, 2.0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(test.small, pixels(tiles), atol=1e-6)
    np.testing.assert_array_equal(fidelity_sets.real_pictures(cohort, test, [4, 0], px=32, restained=False), tiles[[4, 0]])
    restained = fidelity_sets.real_tiles(cohort, "test", [network], px=32, restained=True, per_sample=2)
    assert len(restained) == 2 * len(set(test.samples))
    first = fidelity_sets.real_pictures(cohort, restained, [0], px=32, restained=True)
    np.testing.assert_allclose(pixels(first), restained.small[:1], atol=1e-6)
    with pytest.raises(SplitError):
        fidelity_sets.real_tiles(cohort, "none", [network], px=32, restained=False)


def test_generated_tiles_keep_their_sample_and_can_be_made_again(cohort: Cohort) -> None:
    profiles, network = cohort.only("test").profiles, StainTexture()
    made = fidelity_sets.generated_tiles(
        Painter(), profiles, [network], tiles_per_profile=3, restained=False, seed=5, name="painter"
    )
    assert len(made) == 3 * profiles.n_obs and set(made.patients) == set(profiles.obs["split_group"].astype(str))
    rows = [4, 7, 2]
    again = fidelity_sets.generated_pictures(Painter(), profiles, made, rows, restained=False, seed=5)
    np.testing.assert_allclose(pixels(again), made.small[rows], atol=1e-6)
    other = fidelity_sets.generated_pictures(Painter(), profiles, made, rows, restained=False, seed=6)
    assert np.abs(pixels(other) - made.small[rows]).max() > 1e-3
