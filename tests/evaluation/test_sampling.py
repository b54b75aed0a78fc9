"""The map of sampler settings, on a generator whose error at every setting is known."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.sampling import Entry, entries, measure
from rnasynth.evaluation.sampling_map import BEATEN, FRONT, MEASURES, OPEN, SamplingMap, jackknife
from rnasynth.plots.sampling import quality
from rnasynth.systems.cdm_config import PAPER_SAMPLING, Sampling
from tests.evaluation.made_tiles import Store

PX, PATIENTS, TILES = 32, 48, 6


def painted(dots: float, rng: np.random.Generator, blur: float = 0.0) -> NDArray[np.uint8]:
    """A tile with dark dots; `blur` greys it, as too few steps would."""
    tile = np.full((PX, PX, 3), [225, 160, 200], dtype=np.float64)
    for y, x in rng.integers(1, PX - 1, (rng.poisson(dots), 2)):
        tile[y - 1 : y + 2, x - 1 : x + 2] = [70, 40, 120]
    tile = (1 - blur) * tile + blur * tile.mean(axis=(0, 1))
    return np.clip(tile + rng.normal(0, 4, tile.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    rng = np.random.default_rng(0)
    names = [f"P{row:02d}" for row in range(PATIENTS)]
    obs = pd.DataFrame({"sample_id": names, "patient_id": names, "split_group": names}, index=pd.Index(names))
    obs["split"] = np.where(np.arange(PATIENTS) < PATIENTS // 2, "train", "test")
    obs["tissue"] = np.where(np.arange(PATIENTS) % 2, "lung", "skin")
    x = np.column_stack([rng.uniform(4, 30, PATIENTS), rng.uniform(0, 9, (PATIENTS, 3))]).astype(np.float32)
    profiles = anndata.AnnData(X=x, obs=obs, var=pd.DataFrame(index=list("abcd")), uns={"unit": "tpm"})
    tiles = np.stack([np.stack([painted(row[0], rng) for _ in range(TILES)]) for row in x])
    return Cohort("painted", profiles, Store(tiles, names), True, "", (), {}, Path("."))  # type: ignore[arg-type]


class Watched(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


class Fake:
    """The more evaluations, the clearer; "euler" is one and a half times as blurred as "heun" at as many evaluations.

    Churn above 0 and below 50 helps, beyond it hurts; the profile sets the dots.
    """

    px, mpp_um = PX, 2.0

    def __init__(self, sampling: Sampling | None = None, *, deaf: bool = False) -> None:
        self.sampling, self.deaf = sampling or Sampling(), deaf

    def with_sampling(self, sampling: Sampling) -> Fake:
        return type(self)(sampling, deaf=self.deaf)

    @property
    def evaluations(self) -> int:
        return 2 * self.sampling.steps - 1 if self.sampling.method == "heun" else self.sampling.steps

    @property
    def blur(self) -> float:
        blur = min(0.9, {"heun": 2.0, "dpm2m": 0.7, "euler": 3.0}[self.sampling.method] / self.evaluations)
        return blur + {0.0: 0.0, 20.0: 0.0, 80.0: 0.25}[self.sampling.churn]

    def generate(self, profiles: anndata.AnnData, n: int, seed: int = 0, *, batch: int = 64) -> NDArray[np.uint8]:
        out = []
        for dots, name in zip(np.asarray(profiles.X)[:, 0], profiles.obs_names, strict=True):
            rngs = [np.random.default_rng([seed, number, *map(ord, str(name))]) for number in range(n)]
            out.append(np.stack([painted(17.0 if self.deaf else float(dots), rng, self.blur) for rng in rngs]))
        return np.stack(out)


class Blind(Fake):
    """The broken variant: the setting changes what it is said to cost, and not the tiles."""

    blur = 0.1


SETTINGS = {
    "Euler, 4": Sampling(method="euler", steps=4),
    "Euler, 16": Sampling(method="euler", steps=16),
    "DPM, 10": Sampling(method="dpm2m", steps=10),
    "Heun, 32": Sampling(method="heun", steps=32),
    "paper": PAPER_SAMPLING,
}


@pytest.fixture(scope="module")
def found(cohort: Cohort) -> SamplingMap:
    return measure(entries(Fake(), SETTINGS), cohort)


def test_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    without = np.array([np.delete(values, k).mean() for k in range(4)])
    interval = jackknife(values.mean(), without)
    half = 3.182446 * values.std(ddof=1) / 2
    assert (interval.low, interval.high) == pytest.approx((4 - half, 4 + half), rel=1e-5) and interval.n == 4
    assert math.isnan(jackknife(1.0, np.array([])).low)


def test_more_evaluations_lie_nearer_and_every_point_is_counted(found: SamplingMap) -> None:
    table = found.table.set_index("name")
    assert table["evaluations"].to_dict() == {
        "Euler, 4": 4, "Euler, 16": 16, "DPM, 10": 10, "Heun, 32": 63, "paper": 63
    }  # fmt: skip
    value = table["frechet"].map(lambda i: i.value)
    assert value["Heun, 32"] < value["DPM, 10"] < value["Euler, 16"] < value["Euler, 4"]
    assert found.n_tiles == 64 and found.n_profiles == 16 and found.n_seeds == 4
    assert (table["seconds"].map(lambda i: i.value) > 0).all()


def test_front_and_the_papers_place_are_found(found: SamplingMap) -> None:
    front = found.front().set_index("name")
    assert front.loc["Euler, 4", "place"] == FRONT  # the cheapest that there is
    assert front.loc["DPM, 10", "place"] == FRONT and front.loc["Euler, 16", "place"] == BEATEN
    assert front.loc["Euler, 16", "by"] == "DPM, 10"
    assert front.loc["paper", "place"] == BEATEN and front.loc["paper", "by"] == "Heun, 32"
    words = found.where("paper")
    assert words.startswith("The paper's choice (paper: 63 evaluations") and "measurably better, the cheapest" in words
    assert "DPM, 10" in words and "64 tiles a setting" in words
    assert "every setting with fewer evaluations is measurably worse" in found.where("DPM, 10")
    assert "no other setting was tried" in found.where("Euler, 4")


def test_one_seed_gives_values_and_no_interval(cohort: Cohort) -> None:
    lone = measure(entries(Fake(), {name: SETTINGS[name] for name in ("DPM, 10", "Heun, 32")}), cohort, seeds=(0,))
    assert all(math.isfinite(each.value) and math.isnan(each.low) for each in lone.table["frechet"])
    assert set(lone.front()["place"]) == {FRONT, OPEN} and not lone.is_better("Heun, 32", "DPM, 10")
    assert "measurably better" in lone.where("Heun, 32") and "nan" not in lone.shown()["place"].to_string()


def test_settings_that_make_the_same_tiles_are_not_told_apart(cohort: Cohort) -> None:
    same = measure(entries(Blind(), {name: SETTINGS[name] for name in ("DPM, 10", "Heun, 32")}), cohort)
    assert same.difference("DPM, 10", "Heun, 32").value == 0 and not same.is_better("DPM, 10", "Heun, 32")
    front = same.front().set_index("name")["place"]
    assert front["DPM, 10"] == FRONT and front["Heun, 32"] == OPEN
    words = same.where("Heun, 32")
    assert "none of the 1 settings" in words and "cheapest that is not measurably worse is DPM, 10" in words


def test_a_perfect_generator_lies_at_the_ceiling_and_is_heard(cohort: Cohort, found: SamplingMap) -> None:
    class Perfect(Fake):
        blur = 0.0

    best = measure([Entry("perfect", Perfect())], cohort).row("perfect")
    assert best["frechet"].value < 1.5 * found.floor["frechet"].high and abs(best["kid"].value) < 0.3
    assert best["frechet"].value < 3 * found.ceiling["frechet"].value  # of all held-out samples, not of the sixteen alone
    assert best["retrieval"].value > 0.8 and found.ceiling["retrieval"].value > 0.8 and best["area"].value > 0.8
    assert abs(best["area_off"].value) < 0.03
    assert found.row("Euler, 4")["frechet"].low > found.floor["frechet"].high


def test_a_deaf_generator_is_not_retrieved(cohort: Cohort) -> None:
    deaf = measure([Entry("deaf", Fake(SETTINGS["Heun, 32"], deaf=True))], cohort).row("deaf")
    assert abs(deaf["retrieval"].value - 0.5) < 0.15 and abs(deaf["area"].value) < 0.5


def test_evaluations_are_counted_in_the_network_where_it_can_be_watched(cohort: Cohort) -> None:
    """Guidance inside an interval of noise levels doubles only some evaluations: what is told is an upper bound."""

    class System:
        networks = nn.ModuleDict({"unet": Watched()})

        def best(self, key: str) -> nn.Module:
            return self.networks[key]

    class Counted(Fake):
        system = System()

        def generate(self, profiles: anndata.AnnData, n: int, seed: int = 0, *, batch: int = 64) -> NDArray[np.uint8]:
            for _ in range(7):
                self.system.best("unet")(torch.zeros(profiles.n_obs * n, 1))
            return super().generate(profiles, n, seed, batch=batch)

    assert measure([Entry("counted", Counted())], cohort).row("counted")["evaluations"] == 7


def test_lines_and_sweeps_are_what_the_chart_takes(found: SamplingMap, cohort: Cohort) -> None:
    rows = found.rows("frechet")
    assert set(rows["group"]) == {"Euler", "DPM-Solver++(2M)", "Heun", "stochastic Heun"}
    churned = {f"churn {c:g}": Sampling(method="heun", steps=32, churn=c) for c in (0.0, 20.0, 80.0)}
    sweep = measure(entries(Fake(), churned, lines=dict.fromkeys(churned, "Heun, 32 steps")), cohort, n_profiles=8)
    assert sweep.rows("frechet", against="churn")["x"].tolist() == [0.0, 20.0, 80.0]
    assert len(found.only("paper", "DPM, 10").table) == 2
    band = {MEASURES["frechet"]: ("real tiles, other patients", found.floor["frechet"].low, found.floor["frechet"].high)}
    panels = {MEASURES[name]: found.rows(name) for name in ("frechet", "retrieval")}
    figure = quality(panels, x_label="evaluations", bands=band, marked={"paper": "the paper's choice"})
    assert len(figure.axes) == 2 and len(figure.axes[0].containers) == 4
    drawn = quality({"distance": sweep.rows("frechet", against="churn")}, x_label="churn", log_x=False)
    assert drawn.axes[0].get_xscale() == "linear"
    shown = found.shown()
    assert list(shown.index[-2:]) == ["real, other patients", "real, held-out"]
    assert "nan" not in shown.loc["real, other patients"].to_string()


def test_what_cannot_be_compared_is_refused(cohort: Cohort) -> None:
    other = copy.copy(Fake())
    other.px = 64
    for points in ([], [Entry("a", Fake()), Entry("a", Fake())], [Entry("a", Fake()), Entry("b", other)]):
        with pytest.raises(InputError, match="settings"):
            measure(points, cohort)
    with pytest.raises(InputError, match="tiles a setting"):
        measure([Entry("a", Fake())], cohort, n_profiles=3, seeds=(0,))
    with pytest.raises(SplitError):
        measure([Entry("a", Fake())], cohort, split="train")
    with pytest.raises(InputError, match="tiles"):
        measure([Entry("a", Fake())], dataclasses.replace(cohort, tiles=None))


def test_unknown_names_are_refused(found: SamplingMap) -> None:
    with pytest.raises(InputError, match="setting 'no'"):
        found.row("no")
    with pytest.raises(InputError, match="measure"):
        found.front("area_off")
    with pytest.raises(InputError, match="chart against"):
        found.rows("frechet", against="colour")


def test_one_absurd_real_tile_does_not_decide_the_kernel_distance(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    store = cohort.tiles
    assert isinstance(store, Store)
    spoilt = Store(store.tiles.reshape(PATIENTS, TILES, PX, PX, 3).copy(), list(cohort.profiles.obs_names))
    stripes = (np.arange(PX) // 2 % 2 * 255).astype(np.uint8)
    spoilt.tiles[-1] = stripes[:, None, None]
    other = dataclasses.replace(cohort, tiles=spoilt)

    def floor(of: Cohort) -> float:
        return measure([Entry("one", Fake(SETTINGS["Heun, 32"]))], of, seeds=(0,)).floor["kid"].value

    assert abs(floor(other) - floor(cohort)) < 5
    monkeypatch.setattr("rnasynth.evaluation.sampling.CLIP_SD", math.inf)
    assert abs(floor(other) - floor(cohort)) > 50
