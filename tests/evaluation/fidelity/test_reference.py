"""Feature networks by name, and reference statistics that two studies can share."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rnasynth.errors import InputError, RnasynthError, RunError
from rnasynth.evaluation.fidelity.manifold import inception_score
from rnasynth.evaluation.fidelity.reference import Reference
from rnasynth.features import FeatureNetwork, StainTexture, extract
from rnasynth.features.networks import (
    RELEASED,
    InceptionFeatures,
    feature_network,
    preprocessing_of,
    save_inception,
)
from rnasynth.nets.inception import InceptionV3

FACTS = {"tile_px": 32, "mpp_um": 2.0, "cohort": "simulated", "split": "test", "store": "abc"}


def reference(seed: int = 0, **changes: object) -> Reference:
    features = np.random.default_rng(seed).normal(seed, 1, size=(100, 60)).astype(np.float32)
    return Reference.of(features, StainTexture(), **{**FACTS, **changes})  # type: ignore[arg-type]


def test_a_reference_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    saved = reference()
    saved.save(tmp_path / "ref.safetensors")
    loaded = Reference.load(tmp_path / "ref.safetensors")
    assert loaded.facts == saved.facts and loaded.id == saved.id
    np.testing.assert_array_equal(loaded.mean, saved.mean)
    np.testing.assert_array_equal(loaded.cov, saved.cov)
    assert loaded.distance(saved) == pytest.approx(0, abs=1e-9)
    assert loaded.distance(reference(1)) > 10


@pytest.mark.parametrize("change", [{"tile_px": 64}, {"mpp_um": 1.0}, {"restained": True}])
def test_sets_measured_in_another_way_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        reference().distance(reference(1, **change))
    other = reference(1)
    for name in ("network", "preprocessing"):
        facts = dataclasses.replace(other.facts, **{name: "another"})
        with pytest.raises(InputError, match=name):
            reference().distance(Reference(facts, other.mean, other.cov))
    assert reference().distance(reference(1, cohort="her2st", store="def")) > 0  # other tiles are what is compared


def test_damaged_or_changed_references_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ref.safetensors"
    reference().save(path)
    header = json.loads(path.with_suffix(".json").read_text())
    header["facts"]["mpp_um"] = 1.0
    path.with_suffix(".json").write_text(json.dumps(header))
    with pytest.raises(InputError, match="facts of id"):
        Reference.load(path)
    reference().save(path)
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
    with pytest.raises(InputError, match="sha256"):
        Reference.load(path)
    path.unlink()
    with pytest.raises(InputError, match="none"):
        Reference.load(path)
    with pytest.raises(InputError, match="ending"):
        reference().save(tmp_path / "ref.npz")


def test_inception_goes_from_published_names_to_features_and_score(tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = InceptionV3().state_dict()
    save_inception(published, tmp_path / "inception.safetensors")
    network = feature_network(tmp_path / "inception.safetensors")
    assert isinstance(network, InceptionFeatures) and isinstance(network, FeatureNetwork)
    tiles = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    features = extract(tiles, network, mpp_um=2.0)
    assert features.shape == (3, 2048) and features.std() > 0
    score = inception_score(network.probabilities(features), n_boot=5)
    assert 1 - 1e-9 <= score.value <= 3
    assert "299" in preprocessing_of(network) and "not antialiased" in preprocessing_of(network)
    published["fc.weight"] = published["fc.weight"] + 1
    save_inception(published, tmp_path / "other.safetensors")
    assert feature_network(tmp_path / "other.safetensors").name != network.name  # other weights, another name


def test_files_that_are_no_inception_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        save_inception({"fc.weight": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "pickle.safetensors")  # a pickle under another name
    with pytest.raises(RnasynthError):
        feature_network(tmp_path / "pickle.safetensors")


def test_networks_are_found_by_name() -> None:
    assert isinstance(feature_network("stain-texture"), StainTexture)
    with pytest.raises(RunError, match="released"):
        feature_network("no-such-network")


def test_the_released_network_loads_and_tells_tiles_apart() -> None:
    network = feature_network(RELEASED)
    assert isinstance(network, FeatureNetwork) and network.dim == 128 and network.name.startswith("simclr-")
    tiles = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    tiles[1] = 255
    features = extract(tiles, network, mpp_um=4.0)
    np.testing.assert_allclose(extract(tiles[:1], network, mpp_um=4.0), features[:1], rtol=1e-4, atol=1e-5)
    assert np.linalg.norm(features[0] - features[1]) > 0.1
    with pytest.raises(InputError, match="um a side"):
        extract(tiles, network, mpp_um=0.5)  # 16 um: another magnification than it was trained on


def test_the_released_network_never_saw_a_test_section_and_its_card_says_what_it_is() -> None:
    from rnasynth.data.cohorts.her2st import ONE_TUMOUR_SPLIT
    from rnasynth.data.cohorts.sections import SECTIONS
    from rnasynth.runs import released_folder

    assert {section for section, split in ONE_TUMOUR_SPLIT.items() if split == "test"}.isdisjoint(SECTIONS)
    folder = released_folder() / RELEASED
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    for word in ("C5", "CC0", "CC BY 4.0", "random weights", "does not beat", "Limits"):
        assert word in card
    assert (folder / "model.safetensors").stat().st_size < 4e6
