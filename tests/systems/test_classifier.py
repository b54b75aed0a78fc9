"""The classifier of tiles: what it learns, whom it may see, what it refuses, and the published numbers of its preset."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rnasynth.data.cohort import Cohort
from rnasynth.data.papers import read_hyperparameters
from rnasynth.engine import SYSTEMS, Noise, TrainConfig, seeded
from rnasynth.errors import InputError, RunError
from rnasynth.runs import get_or_train
from rnasynth.systems.classifier import ClassifierSystem, TileClassifier, load_start
from rnasynth.systems.classifier_config import ClassifierConfig, demo, gpu, paper
from rnasynth.systems.simclr import SimCLRConfig
from rnasynth.systems.tile_labels import class_numbers, label_rule, stop_groups


def small(steps: int = 3, **changes: Any) -> ClassifierConfig:
    train = TrainConfig(steps=steps, batch_size=16, checkpoint_every=0, validate_every=max(1, steps), patience=3)
    config = ClassifierConfig(width=4, stem="small", tile_px=32, learning_rate=3e-3, train=train)
    return dataclasses.replace(config, **changes)


def build(cohort: Cohort, config: ClassifierConfig) -> ClassifierSystem:
    with seeded("test", 0):
        return ClassifierSystem.from_cohort(config, cohort)


def accuracy(classifier: TileClassifier, cohort: Cohort, split: str = "test") -> float:
    data = classifier.system.dataset(cohort, split)
    batch = data.fetch(np.arange(len(data)))
    return float((classifier.system.logits(batch["tile"]).argmax(dim=1).numpy() == data.labels()).mean())


def test_a_run_names_tissues_of_held_out_patients_and_of_wrong_labels_it_learns_nothing(
    gan_cohort: Cohort, tmp_path: Path
) -> None:
    config = small(60)
    run = get_or_train("tile-classifier", config, gan_cohort, folder=tmp_path / "right", progress=False)
    classifier = run.load()
    assert SYSTEMS["tile-classifier"] is ClassifierSystem and classifier.classes == tuple(sorted(classifier.classes))
    assert accuracy(classifier, gan_cohort) > 0.45  # chance is 0.2
    wrong = gan_cohort.profiles.copy()  # the deliberately broken variant: tissues exchanged among the training patients
    train = (wrong.obs["split"] == "train").to_numpy()
    tissues = wrong.obs["tissue"].to_numpy(dtype=object)
    tissues[train] = np.random.default_rng(1).permutation(tissues[train])
    wrong.obs["tissue"] = tissues
    broken = get_or_train(
        "tile-classifier", config, dataclasses.replace(gan_cohort, profiles=wrong), folder=tmp_path / "wrong", progress=False
    )
    assert accuracy(broken.load(), gan_cohort) < 0.4


def test_probabilities_add_up_and_do_not_depend_on_batch_mates(gan_cohort: Cohort, tmp_path: Path) -> None:
    classifier = TileClassifier(build(gan_cohort, small()), name="test")
    tiles = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    p = classifier(tiles, 1.0, batch=2)
    assert p.shape == (5, 5) and p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(classifier(tiles[3:4], 1.0), p[3:4], rtol=1e-4, atol=1e-6)
    assert classifier(tiles[:0], 1.0).shape == (0, 5)


def test_tiles_of_another_field_size_or_kind_are_refused(gan_cohort: Cohort) -> None:
    classifier = TileClassifier(build(gan_cohort, small(tile_px=64)), name="test")  # trained on 64 um
    tiles = np.zeros((1, 64, 64, 3), np.uint8)
    for mpp_um in (0.5, 2.0, float("nan")):
        with pytest.raises(InputError, match="um a side"):
            classifier(tiles, mpp_um)
    with pytest.raises(InputError, match="at least 64 px"):
        classifier(tiles[:, ::2, ::2], 2.0)  # the right field, but blurred
    with pytest.raises(InputError, match="uint8"):
        classifier(tiles.astype(np.float32), 1.0)  # type: ignore[arg-type]


def test_early_stopping_looks_at_a_fifth_of_the_training_patients_and_at_no_held_out_one(gan_cohort: Cohort) -> None:
    system = build(gan_cohort, small())
    groups = gan_cohort.profiles.obs["split_group"].astype(str).to_numpy()
    splits = gan_cohort.profiles.obs["split"].astype(str).to_numpy()
    learnt, looked_at = (set(groups[system.dataset(gan_cohort, part).samples]) for part in ("train", "val"))
    assert not learnt & looked_at and learnt | looked_at == set(groups[splits == "train"])
    assert len(looked_at) == round(0.2 * len(learnt | looked_at))
    assert set(groups[system.dataset(gan_cohort, "test").samples]) == set(groups[splits == "test"])
    tissues = gan_cohort.profiles.obs.set_index("split_group")["tissue"]
    assert len(set(tissues[sorted(looked_at)])) == len(looked_at)  # drawn in turn from the tissues


def test_few_training_groups_stop_on_the_validation_split(gan_cohort: Cohort) -> None:
    system = build(gan_cohort, small())
    system.facts["stop_groups"] = []
    splits = gan_cohort.profiles.obs["split"].astype(str).to_numpy()
    assert {*splits[system.dataset(gan_cohort, "train").samples]} == {"train"}
    assert {*splits[system.dataset(gan_cohort, "val").samples]} == {"val"}


def test_numbers_are_cut_at_the_training_median_and_what_is_unknown_is_left_out(gan_cohort: Cohort) -> None:
    profiles = gan_cohort.profiles.copy()
    values = profiles.obs["fraction_endothelial"].to_numpy(float).copy()
    values[::4] = np.nan
    values[(profiles.obs["split"] == "test").to_numpy()] += 10  # the cut may not know of it
    profiles.obs["fraction_endothelial"] = values
    cohort = dataclasses.replace(gan_cohort, profiles=profiles)
    system = build(cohort, small(label="fraction_endothelial"))
    train = (profiles.obs["split"] == "train").to_numpy()
    assert system.facts["cut"] == pytest.approx(float(np.nanmedian(values[train])))
    assert system.facts["classes"] == ["endothelial low", "endothelial high"]
    chosen = system.dataset(cohort, "train")
    assert np.isfinite(values[chosen.samples]).all()
    np.testing.assert_array_equal(chosen.labels(), values[chosen.samples] > system.facts["cut"])
    names = TileClassifier(system, name="test").labels(profiles.obs)
    assert set(names[np.isnan(values)]) == {""} and set(names[np.isfinite(values)]) == set(system.facts["classes"])


def test_rare_classes_weigh_more_and_a_batch_of_either_counts_the_same(gan_cohort: Cohort) -> None:
    profiles = gan_cohort.profiles.copy()
    rare = profiles.obs["tissue"].astype(str).eq("lung-like")
    profiles.obs["kind"] = np.where(rare, "lung", "other").astype(object)
    cohort = dataclasses.replace(gan_cohort, profiles=profiles)
    system = build(cohort, small(label="kind"))
    labels = system.dataset(cohort, "train").labels()
    weights = np.array(system.facts["class_weights"])
    totals = [weights[number] * (labels == number).sum() for number in (0, 1)]
    assert totals[0] == pytest.approx(totals[1]) and weights[0] > weights[1]
    assert build(cohort, small(label="kind", class_weights="none")).facts["class_weights"] == [1.0, 1.0]


def test_labels_that_make_no_two_classes_are_named() -> None:
    obs = pd.DataFrame({"one": ["a", "a", "unknown"], "two": ["a", "b", ""], "number": [1.0, 1.0, np.nan]})
    assert label_rule(obs, "two") == {"classes": ["a", "b"], "cut": None}
    for column, match in (("one", "two or more classes"), ("number", "both sides"), ("none", "a column of obs")):
        with pytest.raises(InputError, match=match):
            label_rule(obs, column)
    rule = {**label_rule(obs, "two"), "label": "two"}
    np.testing.assert_array_equal(class_numbers(obs, rule), [0, 1, -1])


def test_held_out_groups_are_drawn_by_seed_and_in_turn_from_the_classes() -> None:
    obs = pd.DataFrame({"split_group": [f"p{n}" for n in range(20)], "tissue": ["a", "b"] * 10})
    rule = {"classes": ["a", "b"], "cut": None, "label": "tissue"}
    first, again, other = (stop_groups(obs, rule, seed=seed) for seed in (0, 0, 1))
    assert first == again != other and len(first) == 4
    assert sum(int(name[1:]) % 2 for name in first) == 2  # two of each tissue


def test_stain_jitter_and_flips_change_the_training_tiles_alone(gan_cohort: Cohort) -> None:
    plain, moved = build(gan_cohort, small(flips=False)), build(gan_cohort, small(flips=True, stain_jitter=0.3))
    batch = plain.dataset(gan_cohort, "train").fetch(np.arange(8))
    with torch.no_grad():
        losses = [system.eval().loss("train", batch, Noise(0, 0, 0, 8))[0].item() for system in (plain, moved)]
        seen = [system.validate(batch)["loss"].item() for system in (plain, moved)]
    assert losses[0] != pytest.approx(losses[1]) and seen == pytest.approx([losses[0], losses[0]])


def test_training_starts_from_another_runs_network_of_the_same_size(
    gan_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNASYNTH_RUNS", str(tmp_path))
    train = TrainConfig(steps=1, batch_size=8)
    source = get_or_train(
        "simclr", SimCLRConfig(width=4, stem="small", tile_px=64, crop_px=32, train=train), gan_cohort, progress=False
    )
    given = source.networks()["encoder"]["0.stem.0.weight"]
    started = build(gan_cohort, small(start=source.id))
    torch.testing.assert_close(started.encoder.state_dict()["stem.0.weight"], given)
    assert not torch.equal(build(gan_cohort, small()).encoder.state_dict()["stem.0.weight"], given)
    again = get_or_train("tile-classifier", small(1, start=source.id), gan_cohort, progress=False)
    load_start(build(gan_cohort, small()).encoder, again.id)  # a classifier's network, too
    with pytest.raises(InputError, match="same depth, width and stem"):
        build(gan_cohort, small(width=8, start=source.id))
    with pytest.raises(RunError):
        build(gan_cohort, small(start="no-such-run"))


def test_first_loss_is_frozen(gan_cohort: Cohort) -> None:
    system = build(gan_cohort, small())
    batch = {"tile": torch.linspace(-1, 1, 4 * 3 * 32 * 32).view(4, 3, 32, 32), "condition": torch.arange(4.0)[:, None]}
    loss, metrics = system.eval().loss("train", batch, Noise(0, 0, 0, 4))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in system.networks["classifier"].parameters())
    assert loss.item() == pytest.approx(FIRST_LOSS, rel=1e-4) and 0 <= float(metrics["accuracy"]) <= 1


FIRST_LOSS = 1.784893


def test_paper_preset_holds_the_published_numbers() -> None:
    read = read_hyperparameters("classifier/rna-gan").set_index("field")["value"]
    config = paper()
    assert read["network"] == f"resnet{config.depth}" and config.width == 64 and config.stem == "published"
    assert float(read["lr"]) == config.learning_rate and float(read["epochs"]) == config.train.epochs
    assert config.train.patience is not None and config.start == "" and config.schedule == "constant"
    assert not (config.same_stain or config.flips or config.stain_jitter)
    for preset in (demo(), gpu(), config):
        assert ClassifierConfig.from_dict(preset.to_dict()) == preset


@pytest.mark.parametrize(
    ("field", "value"), [("width", 0), ("tile_px", 8), ("label", ""), ("stain_jitter", 1.0), ("learning_rate", 0.0)]
)
def test_values_out_of_range_are_errors(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        small(**{field: value})
