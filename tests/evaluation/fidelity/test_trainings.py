"""Several trainings of one generator: what a record keeps, which records belong together, and what is said of them."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rnasynth.evaluation.fidelity import study as fidelity_study
from rnasynth.evaluation.fidelity import trainings
from rnasynth.evaluation.fidelity.sets import TileSet
from rnasynth.systems.gan_config import demo
from tests.evaluation.fidelity.planted import tile_set

FEW: Any = {"between": 0.3, "tissues": ("brain", "liver"), "patients": 4, "tiles": 10}
TRAIN, TEST = tile_set("train", prefix="t", **FEW), tile_set("test", prefix="q", seed=1, **FEW)
NETWORKS = ["toy"]


def made(shift: float, seed: int, *, name: str = "gan", tiles: TileSet | None = None) -> list[TileSet]:
    """Three sets of a training that lies `shift` away from real tiles, in the feature that tells no tissue."""
    several = [tiles or tile_set(name, seed=100 * seed + number, **FEW) for number in range(3)]
    moved = [each.features["toy"] + np.float32(shift) * np.eye(4, dtype=np.float32)[3] for each in several]
    return [
        dataclasses.replace(each, name=name, features={"toy": values}) for each, values in zip(several, moved, strict=True)
    ]


def run_of(seed: int, *, system: str = "gan", fingerprint: str = "f00", **changes: Any) -> Any:
    config = dataclasses.replace(demo(), **changes)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))
    facts = {"cohort": {"name": "toy", "fingerprint": fingerprint}}
    name = f"{system}-{seed}-{fingerprint}-{config.lr_generator}"
    return SimpleNamespace(id=name, system_name=system, config=config, description=facts)


def record(run: Any, shift: float, *, px: int = 32, restained: bool = True, name: str = "gan") -> Any:
    rows = trainings.table_of(TRAIN, TEST, made(shift, run.config.train.seed, name=name), NETWORKS)
    lines = rows.assign(kind="test", tile_px=px, restained=restained).to_dict("records")
    facts = {
        "system": run.system_name,
        "cohort": run.description["cohort"]["name"],
        "cohort_fingerprint": run.description["cohort"]["fingerprint"],
        "config": run.config.to_dict(),
        "run": run.id,
    }
    return SimpleNamespace(facts=facts, lines=[{"kind": "train", "step": 1}, *lines])


def gathered(records: list[Any], runs: dict[str, Any]) -> trainings.TrainingsReport:
    return trainings.over_trainings(records, runs, NETWORKS, px=32, restained=True)


SHIFTS = (2.0, 2.5, 3.5)
RECORDS = [record(run_of(seed), shift) for seed, shift in enumerate(SHIFTS)]


def test_a_record_says_what_the_page_says_of_the_same_tiles() -> None:
    several = made(2.0, 0)
    rows = trainings.table_of(TRAIN, TEST, several, NETWORKS, seed=5)
    page = fidelity_study.compare(TRAIN, TEST, {"gan": several}, "toy", seed=5).numbers
    assert rows["mean_frechet_toy"].mean() == pytest.approx(page["frechet_test_gan"].value)
    assert rows["mean_frechet_toy"].max() == pytest.approx(page["frechet_test_gan"].high)
    assert rows["mean_floor_frechet_toy"].mean() == pytest.approx(page["frechet_test_floor"].value)
    assert rows["mean_kernel_toy"][0] == pytest.approx(page["kid_test_gan"].value)
    covered = fidelity_study.cover(TRAIN, TEST, {"gan": several}, "toy", seed=5).set_index(["label", "group"])["value"]
    for measure in ("precision", "recall"):
        assert rows[f"mean_{measure}_toy"][0] == covered[(measure, "gan")]
        assert rows[f"mean_floor_{measure}_toy"][0] == covered[(measure, fidelity_study.FLOOR)]
    assert list(rows["sampling_seed"]) == [5, 6, 7] and set(rows["tiles"]) == {len(TEST)}
    assert set(trainings.headings(NETWORKS)) <= set(rows.columns)


def test_trainings_that_differ_differ_and_sampling_seeds_alone_would_hide_it() -> None:
    found = gathered(RECORDS, {"gan": run_of(0)})
    distance = found.numbers["frechet_trainings_gan_1"]
    first = found.table[(found.table["measure"] == "frechet") & (found.table["training"] == 0)].iloc[0]
    assert distance.n == 3 and found.missing == [] and set(found.numbers) == set(found.labels)
    assert distance.high - distance.low > 3 * (first["high"] - first["low"])
    assert distance.low == pytest.approx(SHIFTS[0] ** 2, rel=0.5) and distance.high == pytest.approx(SHIFTS[2] ** 2, rel=0.5)
    # Broken: one training, sampled again for each "seed". It must not look like three trainings do.
    again = [record(run_of(seed), SHIFTS[0]) for seed in range(3)]
    same = gathered(again, {"gan": run_of(0)}).numbers["frechet_trainings_gan_1"]
    assert same.high - same.low < 0.25 * (distance.high - distance.low)


def test_all_above_the_floor_is_said_and_a_training_that_reaches_it_is_not_counted() -> None:
    found = gathered(RECORDS, {"gan": run_of(0)})
    assert "3 trainings of gan" in found.summary() and "3 of them above its range" in found.summary()
    reached = [*RECORDS[:2], record(run_of(2), 0.0)]
    assert "2 of them above its range" in gathered(reached, {"gan": run_of(0)}).summary()
    rows = found.rows()
    assert rows["label"].tolist() == [fidelity_study.FLOOR, *(f"gan, training {seed}" for seed in range(3))]
    assert rows["value"].iloc[0] == 1 and (rows["low"].iloc[1:] > 1).all()
    trained = replace(found, table=found.table.assign(network="simclr-bc6e66e544b5"))
    assert set(trained.rows()["group"]) == {"self-supervised (SimCLR)"}  # in the legend; the table keeps the run
    assert trained.shown().index[1] == "simclr-bc6e66e544b5, gan, 3 trainings"
    shown = found.shown()
    assert list(shown.columns) == list(trainings.MEASURES.values()) and shown.index[1] == "toy, gan, 3 trainings"


def test_an_order_of_two_generators_holds_only_if_it_holds_for_all_trainings() -> None:
    runs = {"gan": run_of(0), "cdm": run_of(0, system="cdm")}
    far = [record(run_of(seed, system="cdm"), 6.0 + seed, name="cdm") for seed in range(2)]
    said = gathered([*RECORDS, *far], runs).summary()
    assert "Every training of gan is nearer than every one of cdm" in said and "hardly a range" in said
    mixed = [record(run_of(seed, system="cdm"), shift, name="cdm") for seed, shift in enumerate((0.5, 3.0))]
    assert "nearer depends on the training" in gathered([*RECORDS, *mixed], runs).summary()


@pytest.mark.parametrize(
    "other",
    [
        record(run_of(9, fingerprint="another"), 9.0),
        record(run_of(9, system="label-gan"), 9.0),
        record(run_of(9, lr_generator=5e-3), 9.0),
        record(run_of(9), 9.0, px=64),
        record(run_of(9), 9.0, restained=False),
    ],
    ids=["cohort", "system", "setting", "pixels", "stain"],
)
def test_records_of_anything_else_are_left_out(other: Any) -> None:
    found = gathered([*RECORDS, other], {"gan": run_of(0)})
    assert (
        found.numbers["frechet_trainings_gan_1"] == gathered(RECORDS, {"gan": run_of(0)}).numbers["frechet_trainings_gan_1"]
    )
    counted = gathered([*RECORDS, record(run_of(9), 9.0)], {"gan": run_of(0)})  # the same, and of this configuration
    assert counted.numbers["frechet_trainings_gan_1"].n == 4


def test_records_without_the_run_itself_are_of_something_else() -> None:
    """Same settings and cohort, but another encoder or another version of the step: its name is another."""
    other = SimpleNamespace(**{**vars(run_of(0)), "id": "gan-trained-by-other-code"})
    found = gathered(RECORDS, {"gan": other})
    assert found.numbers == {} and found.missing == ["gan"] and "not known" in found.summary()
    assert len(found.rows()) == 0 and len(found.shown()) == 0


def test_records_of_another_build_of_the_cohort_are_shown_and_called_so() -> None:
    found = gathered(RECORDS, {"gan": run_of(0, fingerprint="built anew")})
    assert found.numbers == gathered(RECORDS, {"gan": run_of(0)}).numbers and found.rebuilt == ["gan"]
    assert "another build of the cohort" in found.summary() and "not known" not in found.summary()
    other_split = gathered(RECORDS, {"gan": run_of(1, fingerprint="split by seed 1")})
    assert other_split.missing == ["gan"] and other_split.rebuilt == []


def test_a_record_from_before_a_field_was_added_still_counts() -> None:
    older = [
        SimpleNamespace(facts={**each.facts, "config": dict(each.facts["config"])}, lines=each.lines) for each in RECORDS
    ]
    for each in older:
        del each.facts["config"]["augment_critic"]
    assert gathered(older, {"gan": run_of(0)}).numbers["frechet_trainings_gan_1"].n == 3


def test_every_system_is_trained_with_every_seed_and_measured_with_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    noise: list[tuple[str, int, int]] = []

    def train(system: str, cohort: Any, preset: str, *, overrides: list[str]) -> Any:
        asked.append((system, overrides[0]))
        return SimpleNamespace(load=lambda: f"{system}'s model")

    def draw(models: Any, cohort: Any, test: Any, networks: Any, *, seeds: int, seed: int, **how: Any) -> Any:
        noise.extend((model, seeds, seed) for model in models.values())
        return None, {name: made(2.0, 0, name=name) for name in models}

    monkeypatch.setattr(trainings, "train_preset", train)
    monkeypatch.setattr(trainings, "generated_sets", draw)
    how: dict[str, Any] = {"trainings": 2, "most": 8, "seeds": 3, "restained": True, "px": 32, "seed": 4}
    judge: Any = SimpleNamespace(name="toy")
    found = list(trainings.trained(["gan", "cdm"], None, "demo", TRAIN, TEST, [judge], **how))  # type: ignore[arg-type]
    assert asked == [(system, f"train.seed={seed}") for system in ("gan", "cdm") for seed in (4, 5)]
    assert set(noise) == {("gan's model", 3, 4), ("cdm's model", 3, 4)}
    assert [title for title, _, _ in found][:2] == ["gan, training seed 4", "gan, training seed 5"]
    assert set(found[0][2]["tile_px"]) == {32}
    assert not list(trainings.trained(["gan"], None, "demo", TRAIN, TEST, [judge], **{**how, "trainings": 1}))  # type: ignore[arg-type]
    assert len(asked) == 4
