"""How the usefulness of synthetic tiles is measured: the papers' three protocols, and ours for CPUs and for one GPU.

RNA-CDM: 5,000 tiles of five tissues of which a share is synthetic, and pretraining on synthetic tiles with their classes
(`paper`). RNA-GAN: SimCLR on 10,000 synthetic tiles, then two tissues (`paper_two_tissues`). RNA-CDM: SimCLR on 50,000
synthetic tiles, then microsatellite instability (`paper_msi`). What a paper does not print is ours, and said below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from rnasynth.config import Config, check, check_preset
from rnasynth.engine import TrainConfig
from rnasynth.runs import load_run
from rnasynth.systems.classifier_config import ClassifierConfig
from rnasynth.systems.simclr import SimCLRConfig


@dataclass(frozen=True, kw_only=True)
class Protocol(Config):
    """Sizes and trainings of one study."""

    folds: int = 5
    """Parts into which the held-out patients are divided, at most."""
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Of the training tiles that are replaced by synthetic ones, rising; the first is 0. 1 is our own extra."""
    left_out: tuple[float, ...] = (0.75,)
    """Shares that are also only left out, with nothing in their place: what the real tiles that stay are worth alone."""
    tiles: int = 5000
    """Training tiles of a fold, real and synthetic together, where tiles are replaced."""
    replaced_steps: int | None = None
    """Steps of each training where tiles are replaced; None: as `scratch`."""
    margin: float = 0.05
    """Difference of accuracy that would not matter; "no significant difference" in the papers, where none is stated."""
    per_sample: int = 600
    """At most so many tiles of one sample are used."""
    sizes: tuple[int, ...] = (200, 1000, 2000, 4000)
    """Numbers of real tiles that pretrained networks are trained on, rising."""
    pretraining_tiles: int = 5000
    """Tiles, synthetic or real, of the pretraining."""
    pretraining_shares: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Of `pretraining_tiles`, for the pretraining with classes, rising."""
    scratch: ClassifierConfig = field(default_factory=ClassifierConfig)
    """Network and training on real tiles, from random weights."""
    tuned_rate: float = 3e-5
    """Learning rate on real tiles from pretrained weights, as published; the other arms all have that of `scratch`."""
    tuned_epochs: float | None = None
    """Epochs on real tiles after a pretraining with classes; None: as `scratch`."""
    supervised: ClassifierConfig = field(default_factory=ClassifierConfig)
    """Training on synthetic tiles with their classes; early stopping looks at a fifth of the patients."""
    simclr: SimCLRConfig = field(default_factory=SimCLRConfig)
    """Training on tiles without classes."""
    short: bool = False
    """Too few steps for the published rate to move the weights: the arms of one rate answer the published numbers."""

    def __post_init__(self) -> None:
        check(self, "folds", self.folds >= 1, "at least 1")
        rising = all(a < b for a, b in zip(self.shares, self.shares[1:], strict=False))
        check(self, "shares", self.shares[:1] == (0.0,) and rising and self.shares[-1] <= 1, "0 first, rising, at most 1")
        check(self, "left_out", all(0 < share < 1 for share in self.left_out), "between 0 and 1")
        check(self, "tiles", self.tiles >= 2, "at least 2")
        check(self, "replaced_steps", self.replaced_steps is None or self.replaced_steps >= 1, "at least 1, or none")
        check(self, "margin", 0 < self.margin < 1, "between 0 and 1")
        check(self, "per_sample", self.per_sample >= 1, "at least 1")
        sizes = self.sizes
        check(self, "sizes", bool(sizes) and sizes[0] >= 2 and sizes == tuple(sorted(set(sizes))), "2 or more, rising")
        check(self, "pretraining_tiles", self.pretraining_tiles >= 2, "at least 2")
        parts = self.pretraining_shares
        ordered = bool(parts) and parts[0] > 0 and parts[-1] <= 1 and parts == tuple(sorted(set(parts)))
        check(self, "pretraining_shares", ordered, "above 0, rising, at most 1")
        check(self, "tuned_rate", self.tuned_rate > 0, "above 0")
        check(self, "tuned_epochs", self.tuned_epochs is None or self.tuned_epochs > 0, "above 0, or none")
        networks = {(part.depth, part.width, part.stem) for part in (self.scratch, self.supervised, self.simclr)}
        check(self, "scratch", len(networks) == 1, "one network in all trainings")
        check(self, "scratch", self.scratch.train.patience is None, "no early stopping on the real tiles")

    @property
    def replacing(self) -> ClassifierConfig:
        """Network and training where tiles are replaced."""
        if self.replaced_steps is None:
            return self.scratch
        return replace(self.scratch, train=replace(self.scratch.train, steps=self.replaced_steps, epochs=None))

    def steps_on_real(self, tiles: int) -> int:
        """Return how many steps a training on so many real tiles takes."""
        batch = min(tiles, self.scratch.train.batch_size)
        return replace(self.scratch.train, batch_size=batch).steps_for(tiles)

    def steps_of_equal_compute(self, tiles: int, pretraining_tiles: int) -> int:
        """Return the steps from random weights that show the network as many pictures as SimCLR and the training after it.

        A step of SimCLR shows two views of each tile of its batch.
        """
        train = self.simclr.train
        pictures = 2 * train.batch_size * train.steps_for(pretraining_tiles)
        return self.steps_on_real(tiles) + math.ceil(pictures / min(tiles, self.scratch.train.batch_size))


def demo() -> Protocol:
    """Return the protocol for 2 CPU cores: tiles of 32 px, a width of 16, about sixty trainings of some dozen steps."""
    quick = TrainConfig(steps=50, batch_size=32, validate_every=0, checkpoint_every=0, log_every=10, channels_last=True)
    scratch = ClassifierConfig(
        width=16, tile_px=32, learning_rate=3e-3, class_weights="none", schedule="cosine", train=quick
    )
    return Protocol(
        folds=3,
        tiles=1200,
        replaced_steps=90,
        margin=0.1,
        per_sample=24,
        sizes=(50, 450),
        pretraining_tiles=1000,
        pretraining_shares=(0.25, 1.0),
        scratch=scratch,
        supervised=scratch,
        simclr=SimCLRConfig(width=16, tile_px=32, crop_px=32, learning_rate=3e-3, train=quick),
        short=True,
    )


def wide() -> Protocol:
    """Return `demo`'s tiles, margin and number of training tiles with the published network, for most of an hour on a CPU.

    Why: the demo's network is a quarter as wide, and is shown each tile two or three times. Here it is a ResNet-18 of its
    full width, shown each five times, in five folds, with the fewest arms that answer: all real, three quarters
    replaced, the same only left out, and tiles of exchanged profiles. The rate is that of `gpu`, the steps are what two
    cores give in that time; a trial saw the generator's own training and validation patients alone. It is no paper's
    protocol: the generator's pixels, a quarter of the tiles, a quarter of the epochs.
    """
    short = demo()
    train = replace(short.scratch.train, steps=100, batch_size=64)
    scratch = replace(short.scratch, width=64, learning_rate=1e-3, train=train)
    simclr = replace(short.simclr, width=64, learning_rate=1e-3, train=train)
    shares = (0.0, 0.75)
    return replace(short, folds=5, shares=shares, replaced_steps=None, scratch=scratch, supervised=scratch, simclr=simclr)


def gpu() -> Protocol:
    """Return the protocol for one GPU: tiles of 128 px, the published network and numbers of tiles, an hour or two."""
    train = TrainConfig(epochs=20, batch_size=64, validate_every=0, precision="auto", log_every=50)
    scratch = ClassifierConfig(tile_px=128, learning_rate=1e-3, class_weights="none", schedule="cosine", train=train)
    return Protocol(
        per_sample=200,
        sizes=(200, 1000, 2000, 4000),
        pretraining_tiles=5000,
        scratch=scratch,
        supervised=scratch,
        simclr=SimCLRConfig(crop_px=128, train=replace(train, epochs=50, batch_size=256)),
    )


def paper() -> Protocol:
    """Return RNA-CDM's numbers (Methods, training details; Results, Fig. 4); the batch size and the patience are ours."""
    train = TrainConfig(epochs=20, batch_size=64, validate_every=0, log_every=50)
    scratch = _published(3e-3, train)
    return Protocol(
        scratch=scratch,
        tuned_epochs=20,
        supervised=replace(scratch, train=replace(train, epochs=50, validate_every=None, patience=5)),
        simclr=_msi_simclr(),
    )


def paper_two_tissues() -> Protocol:
    """Return RNA-GAN's numbers (STAR Methods; Results): ResNet-50, two tissues of 1,000 real tiles each.

    Both of its arms have the same learning rate. The batch of SimCLR, 256, is ours.
    """
    train = TrainConfig(epochs=40, batch_size=4, validate_every=0, log_every=200)
    scratch = replace(_published(3e-5, train), depth=50)
    simclr = SimCLRConfig(
        depth=50,
        tile_px=256,
        crop_px=224,
        temperature=0.1,
        projection=128,
        optimizer="sgd",
        learning_rate=6e-2,
        momentum=0.9,
        weight_decay=5e-4,
        warmup=0.0,
        train=TrainConfig(epochs=100, batch_size=256, validate_every=0, log_every=50),
    )
    return Protocol(sizes=(2000,), pretraining_tiles=10_000, scratch=scratch, supervised=scratch, simclr=simclr)


def paper_msi() -> Protocol:
    """Return RNA-CDM's numbers for microsatellite instability: 50 epochs of SimCLR, then 100 epochs on real tiles.

    From random weights the rate is 3e-3, from pretrained ones 3e-5, a hundredth: both stand in the protocol, and arms of
    one rate beside them. Printed are four numbers of real tiles, three of them in the text (200, 1,000, 4,000).
    """
    train = TrainConfig(epochs=100, batch_size=64, validate_every=0, log_every=50)
    scratch = _published(3e-3, train)
    return Protocol(pretraining_tiles=50_000, scratch=scratch, supervised=scratch, simclr=_msi_simclr())


PROTOCOLS = {
    "demo": demo,
    "wide": wide,
    "gpu": gpu,
    "paper": paper,
    "paper_two_tissues": paper_two_tissues,
    "paper_msi": paper_msi,
}


def protocol(name: str, px: int | None = None) -> Protocol:
    """Return a protocol: of a preset, or another of `PROTOCOLS`; at `px` pixels a tile, those of the generator.

    Raises
    ------
    InputError : no such protocol.
    """
    found = PROTOCOLS[name if name in PROTOCOLS else check_preset(name)]()
    if px is None:
        return found
    simclr = replace(found.simclr, tile_px=px, crop_px=min(px, found.simclr.crop_px))
    scratch, supervised = (replace(part, tile_px=px) for part in (found.scratch, found.supervised))
    return replace(found, scratch=scratch, supervised=supervised, simclr=simclr)


def starting_from(found: Protocol, name: str) -> Protocol:
    """Return a protocol whose trainings on real tiles start from a run's network, and have its size; empty: as it is.

    Raises
    ------
    RunError : no such run.
    """
    if not name:
        return found
    there = load_run(name).config
    scratch, supervised = (
        replace(part, depth=there.depth, width=there.width, stem=there.stem) for part in (found.scratch, found.supervised)
    )
    simclr = replace(found.simclr, depth=there.depth, width=there.width, stem=there.stem)
    return replace(found, scratch=replace(scratch, start=name), supervised=supervised, simclr=simclr)


def _published(rate: float, train: TrainConfig) -> ClassifierConfig:
    return ClassifierConfig(
        tile_px=256,
        tiles_per_sample=600,
        same_stain=False,
        flips=False,
        class_weights="none",
        learning_rate=rate,
        train=train,
    )


def _msi_simclr() -> SimCLRConfig:
    """ResNet-18 on 50,000 tiles for 50 epochs (RNA-CDM, Methods); rate, batch and temperature are not printed."""
    train = TrainConfig(epochs=50, batch_size=256, validate_every=0, log_every=50)
    return SimCLRConfig(
        tile_px=256, crop_px=224, temperature=0.1, projection=128, learning_rate=3e-3, warmup=0.0, train=train
    )
