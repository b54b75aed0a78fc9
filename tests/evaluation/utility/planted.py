"""A bench whose real tiles are planted: brightness says the class, and a generator that paints as told to."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.engine import TrainConfig
from rnasynth.evaluation.utility.bench import Bench, prepare
from rnasynth.evaluation.utility.piles import Pile
from rnasynth.evaluation.utility.protocols import Protocol
from rnasynth.systems.classifier_config import ClassifierConfig
from rnasynth.systems.simclr import SimCLRConfig

PX = 32
STEP, SPREAD = 40, 10  # grey levels between classes, and standard deviation of a tile's own level unless told otherwise
CLEAR = 4.0  # a spread at which no tile lies between two classes: half a step is five of them, not two as of SPREAD


def protocol(**changes: Any) -> Protocol:
    """A network of some thousand weights, two dozen steps."""
    train = TrainConfig(steps=30, batch_size=16, checkpoint_every=0, validate_every=0)
    scratch = ClassifierConfig(
        width=4, tile_px=PX, learning_rate=1e-2, class_weights="none", flips=False, schedule="cosine", train=train
    )
    simclr = SimCLRConfig(width=4, tile_px=PX, crop_px=PX, train=replace(train, steps=3))
    values: dict[str, Any] = {
        "folds": 1,
        "shares": (0.0, 0.5, 1.0),
        "left_out": (0.5,),
        "tiles": 100,
        "margin": 0.1,
        "per_sample": 4,
        "sizes": (5, 40),
        "pretraining_tiles": 80,
        "pretraining_shares": (0.5, 1.0),
        "scratch": scratch,
        "supervised": scratch,
        "simclr": simclr,
    }
    return Protocol(**values | changes)


def paint(numbers: NDArray[np.int64], seed: int, spread: float = SPREAD) -> NDArray[np.uint8]:
    """Tiles of one grey each, (n, PX, PX, 3): the class, and a spread of its own."""
    random = np.random.default_rng(seed)
    level = 40 + STEP * numbers + spread * random.standard_normal(len(numbers))
    grain = random.normal(0, 6, (len(numbers), PX, PX, 1))
    return np.clip(level[:, None, None, None] + grain + np.zeros(3), 0, 255).astype(np.uint8)


class Painter:
    """Stands for a generator: paints the tissue of a profile's sample, another tissue, or one whatever it is told."""

    px = PX
    system = SimpleNamespace(settings=SimpleNamespace(same_stain=False))

    def __init__(self, tissues: list[str], kind: str = "perfect", spread: float = SPREAD) -> None:
        self.tissues, self.kind, self.spread = tissues, kind, spread
        self.told: list[str] = []

    def generate(self, profiles: AnnData, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
        """Return uint8 tiles (N, n_per_profile, PX, PX, 3)."""
        self.told += [str(name) for name in profiles.obs_names]
        numbers = np.array([self.tissues.index(str(name)) for name in profiles.obs["tissue"]], dtype=np.int64)
        if self.kind == "swapped":
            numbers = (numbers + 2) % len(self.tissues)
        if self.kind == "noise":
            numbers = np.random.default_rng(seed).integers(0, len(self.tissues), len(numbers))
        tiles = paint(np.repeat(numbers, n_per_profile), seed + 7, self.spread)
        return tiles.reshape(len(numbers), n_per_profile, PX, PX, 3)


def run_of(cohort: Cohort, *, fingerprint: str = "", upstream: tuple[Any, ...] = ()) -> Any:
    """Stand-in for a generator's run."""
    described = {"cohort": {"fingerprint": fingerprint or cohort.fingerprint(), "name": cohort.name}}
    return SimpleNamespace(id="painter", description=described, seen=None, upstream=lambda: upstream)


def learned_well() -> ClassifierConfig:
    """Twice the steps at half the rate: with a spread of `CLEAR` every seed and rounding names all tiles rightly."""
    config = protocol().scratch
    return replace(config, learning_rate=5e-3, train=replace(config.train, steps=60))


def planted(cohort: Cohort, kind: str = "perfect", *, spread: float = SPREAD, seed: int = 0, **changes: Any) -> Bench:
    """The cohort's samples and folds with painted tiles in place of its own; the seed is of tiles and trainings."""
    tissues = sorted(set(cohort.profiles.obs["tissue"].astype(str)))
    bench = prepare(run_of(cohort), cohort, protocol(**changes), maker=Painter(tissues, kind, spread), seed=seed)
    real = bench.real
    return replace(bench, real=Pile(paint(real.numbers, 1 + seed, spread), real.numbers, real.samples, real.groups))
