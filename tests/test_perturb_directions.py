"""Movements along a direction of the latent: the direction is the planted one, and only a generator that listens follows."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.engine import seeded
from rnasynth.errors import InputError
from rnasynth.perturb import Direction, DirectionReport, fit_direction, move_along_directions, moved_tiles
from rnasynth.perturb.direction_report import OTHERS, TRUTH, Controls, Moved, report_of, slope
from rnasynth.perturb.directions import amounts
from rnasynth.systems.gan import RNAGAN, LabelGAN
from rnasynth.systems.generation import TileGenerator
from tests.systems.gan_cohort import Components, small_cohort, small_config

KIND = "lymphocyte"


def planted(n: int = 4000) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.str_]]:
    """Inputs whose first number is the fraction and a nuisance, the second the nuisance, the third the tissue."""
    rng = np.random.default_rng(0)
    tissues = np.repeat(["a", "b"], n // 2)
    fraction = 0.1 * rng.standard_normal(n) + np.where(tissues == "a", 0.2, 0.6)
    nuisance = rng.standard_normal(n)
    within = fraction - np.where(tissues == "a", 0.2, 0.6)
    inputs = np.stack([10 * within + nuisance, nuisance, np.where(tissues == "a", -3.0, 3.0)], axis=1)
    return inputs, fraction, tissues


def along_fraction(step: NDArray[np.float64]) -> float:
    """Cosine to the first axis: what moves when only the fraction does."""
    return float(step[0] / np.linalg.norm(step))


def test_the_direction_is_how_inputs_move_with_the_fraction_within_tissues() -> None:
    inputs, fraction, tissues = planted()
    found = fit_direction(inputs, fraction, tissues, KIND)
    assert along_fraction(found.step) > 0.999 and np.linalg.norm(found.step) == pytest.approx(1.0, rel=0.05)
    assert found.rise == pytest.approx(0.1, rel=0.05) and found.weights @ found.step == pytest.approx(found.rise)
    # two broken variants: the regression's weights as a direction, and tissues taken for one
    assert along_fraction(found.weights) < 0.8
    assert along_fraction(fit_direction(inputs, fraction, np.full(len(tissues), "one"), KIND).step) < 0.8


def test_tissues_without_the_type_say_nothing() -> None:
    inputs, fraction, tissues = planted()
    absent = np.where(tissues == "b", 0.0, fraction)
    found = fit_direction(inputs, absent, tissues, KIND)
    assert len(found.deviations) == len(tissues) // 2 and along_fraction(found.step) > 0.99
    with pytest.raises(InputError, match="three or more"):
        fit_direction(inputs, np.zeros(len(tissues)), tissues, KIND)
    with pytest.raises(InputError, match="direction of"):
        fit_direction(np.zeros_like(inputs), fraction, tissues, KIND)


def test_other_directions_are_as_long_and_leave_the_reading_alone() -> None:
    found = fit_direction(*planted(), KIND)
    others = found.others(5, seed=1)
    np.testing.assert_allclose(np.linalg.norm(others, axis=1), np.linalg.norm(found.step))
    np.testing.assert_allclose(others @ found.weights, 0, atol=1e-9)
    assert np.array_equal(others, found.others(5, seed=1)) and not np.array_equal(others, found.others(5, seed=2))


# ---------------------------------------------------------------------- with tiles
class Painter:
    """Stands for a generator that is told latents: a dark band as high as what it hears says, and keyed noise."""

    px, mpp_um = 32, 2.0

    def __init__(self, encoder: Components, direction: Direction, gain: float) -> None:
        self.encoder, self.direction, self.gain = encoder, direction, gain
        self.system = SimpleNamespace(uses="latent")

    def conditions(self, profiles: AnnData) -> tuple[NDArray[np.float32], list[str]]:
        return self.encoder.encode(profiles), [str(name) for name in profiles.obs_names]

    def make(self, told: NDArray[np.float32], names: Sequence[str], numbers: Sequence[int], *, seed: int = 0) -> Any:
        heard = np.asarray(told, float) @ self.direction.weights / self.direction.rise
        out = np.full((len(told), 32, 32, 3), (225, 160, 200), np.uint8)
        for row, (name, number) in enumerate(zip(names, numbers, strict=True)):
            noise = np.random.default_rng(zlib.crc32(f"{seed} {name} {number}".encode())).random()
            out[row].reshape(-1, 3)[: int(512 + 32 * (self.gain * np.clip(heard[row], -6, 6) + noise))] = (70, 40, 120)
        return out


def darkness(tiles: NDArray[np.uint8], mpp_um: float) -> pd.DataFrame:
    """A reader of one fraction: how much red is missing, which nuclei take away; 1 where the painter's band is, 0 beside."""
    return pd.DataFrame({KIND: (225 - tiles[..., 0].astype(float)).mean(axis=(1, 2)) / 155})


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return small_cohort(tmp_path_factory.mktemp("directions"), patients=30, tiles=2)


@pytest.fixture(scope="module")
def encoder(cohort: Cohort) -> Components:
    return Components(cohort)


@pytest.fixture(scope="module")
def direction(cohort: Cohort, encoder: Components) -> Direction:
    train = cohort.only("train").profiles
    tissues = train.obs["tissue"].astype(str).to_numpy()
    return fit_direction(encoder.encode(train), amounts(train, [KIND])[KIND].to_numpy(), tissues, KIND)


def moved(cohort: Cohort, painter: Painter) -> DirectionReport:
    return move_along_directions(
        painter,  # type: ignore[arg-type]
        cohort,
        kinds=[KIND],
        reader=darkness,
        tiles_per_profile=2,
        others=3,
        truth_samples=6,
        n_boot=200,
    )


def test_a_generator_that_listens_follows_and_a_deaf_one_does_not(
    cohort: Cohort, encoder: Components, direction: Direction
) -> None:
    report = moved(cohort, Painter(encoder, direction, 1.0))
    assert report.follows == {KIND: True} and "These tiles follow" in report.note()
    rise = report.numbers[f"direction_{KIND}"]
    assert rise.value == pytest.approx(32 / 1024, rel=0.1)  # a row of 32 pixels a step
    low, high = report.others[KIND]
    assert max(abs(low), abs(high)) < 0.1 * rise.value
    truth = report.doses[report.doses["source"] == TRUTH].set_index("dose")["value"]
    assert truth[-2.0] < truth[2.0] and truth[0.0] == 0
    assert set(report.doses["source"]) >= {OTHERS, TRUTH} and report.numbers[f"direction_{KIND}_truth"].value > 0
    assert set(report.numbers) == set(report.labels)
    deaf = moved(cohort, Painter(encoder, direction, 0.0))  # the broken variant
    assert deaf.follows == {KIND: False} and deaf.numbers[f"direction_{KIND}"].value == 0
    assert "not shown" in deaf.note()


def test_a_rise_that_other_movements_make_as_well_is_no_success() -> None:
    rng = np.random.default_rng(0)
    rise = 0.1 + 0.01 * rng.standard_normal(20)
    steps = {step: step * rise for step in (-1.0, 1.0)}
    np.testing.assert_allclose(slope(steps), rise)
    known = rng.standard_normal(20)
    groups = np.arange(20).astype(str)
    controls = Controls(known, known, known, groups)

    def follows(others: float) -> bool:
        drawn = [{step: step * others * rise for step in steps}] * 2
        part = Moved("x", 0.1, groups, steps, drawn, (np.zeros(0, dtype=np.int64), {}), controls)
        report = report_of([part], n_tiles=1, n_boot=200)
        assert report.numbers["direction_x_real"].value == pytest.approx(0.1)
        assert report.numbers["direction_x_inputs"].value == pytest.approx(1.0)
        return report.follows["x"]

    assert follows(0.0) and not follows(1.0)


def test_a_note_says_where_single_other_movements_do_as_much() -> None:
    groups = np.arange(12).astype(str)
    known = np.linspace(-1, 1, 12)
    steps = {step: np.full(12, 0.1 * step) for step in (-1.0, 1.0)}

    def note(*others: float) -> str:
        drawn = [{step: np.full(12, other * step) for step in steps} for other in others]
        part = Moved(
            "x", 0.1, groups, steps, drawn, (np.zeros(0, dtype=np.int64), {}), Controls(known, known, known, groups)
        )
        return report_of([part], n_tiles=1, n_boot=200).note()

    assert "These tiles follow the direction." in note(0.02, -0.02)
    assert "not this direction's alone" in note(0.02, -0.2)


def test_rows_to_look_at_hold_the_unmoved_tile_and_its_noise(cohort: Cohort, encoder: Components) -> None:
    with seeded("directions", 0):
        system = RNAGAN.from_cohort(small_config(), cohort, (encoder,))
    generator = TileGenerator(system, encoder=encoder)
    rows = moved_tiles(generator, cohort, KIND, steps=(-2.0, 0.0, 2.0), count=4, seed=3)
    assert list(rows) == ["-2 sd", "own profile", "+2 sd"] and {part.shape for part in rows.values()} == {(4, 32, 32, 3)}
    assert not np.array_equal(rows["-2 sd"], rows["+2 sd"])
    again = moved_tiles(generator, cohort, KIND, steps=(0.0,), count=4, seed=3)
    assert np.array_equal(rows["own profile"], again["own profile"])


def test_wrong_calls_are_errors(cohort: Cohort, encoder: Components, direction: Direction) -> None:
    with seeded("directions", 0):
        label = TileGenerator(LabelGAN.from_cohort(small_config(), cohort, ()))
    with pytest.raises(InputError, match="told latents"):
        move_along_directions(label, cohort)
    painter: Any = Painter(encoder, direction, 1.0)
    with pytest.raises(InputError, match="a step other than 0"):
        move_along_directions(painter, cohort, steps=[0.0])
    with pytest.raises(InputError, match="'hair'"):
        move_along_directions(painter, cohort, kinds=["hair"])
