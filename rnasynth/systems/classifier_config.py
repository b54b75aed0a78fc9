"""Configuration and presets of the classifier of tiles.

Source of `paper`: RNA-GAN, Cell Reports Methods 2023, STAR Methods.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from rnasynth.config import Config, check
from rnasynth.engine import TrainConfig
from rnasynth.nets.resnet import Stem


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(Config):
    """Network, label and data."""

    depth: Literal[18, 50] = 18
    """Of the residual network."""
    width: int = 64
    """Channels of its first stage."""
    stem: Stem = "published"
    """First layer; "small" keeps four times the places, for small tiles."""
    tile_px: int = 256
    """Side of the tiles; the store's tiles are averaged down to it. That of the generators whose tiles are to be named."""
    label: str = "tissue"
    """Column of `obs` that is named. Texts are classes ("" and "unknown" are none); numbers are cut into two classes."""
    cut: float | None = None
    """Where numbers are cut, values above being the second class; None: at the median of the training samples."""
    class_weights: Literal["none", "balanced"] = "balanced"
    """"balanced": a class weighs the less in the loss, the more training tiles it has."""
    tiles_per_sample: int = 4000
    """At most this many tiles of a sample are used, chosen with the training seed."""
    same_stain: bool = True
    """Bring the tiles of every sample to one stain first, as the generators of tiles do; off as published."""
    start: str = ""
    """Run whose network the training starts from (simclr or tile-classifier, of the same depth, width and stem); empty:
    from scratch, as published."""
    flips: bool = True
    """Show training tiles in the eight symmetries of a square, at random."""
    stain_jitter: float = 0.0
    """Haematoxylin and eosin of training tiles are multiplied by 1 - this to 1 + this, each tile anew; 0: left alone, as
    published."""
    learning_rate: float = 1e-3
    """Of AdamW."""
    weight_decay: float = 0.01
    """Of AdamW, on all weights; its usual value, the paper prints none here."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rate; "cosine" follows a warm-up of a tenth of the steps."""
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=10, batch_size=64))
    """How long, batch size, patience, seed."""

    def __post_init__(self) -> None:
        check(self, "width", self.width >= 1, "at least 1")
        check(self, "tile_px", 16 <= self.tile_px <= 1024, "16..1024")
        check(self, "label", bool(self.label), "the name of a column")
        check(self, "cut", self.cut is None or math.isfinite(self.cut), "a number, or none")
        check(self, "tiles_per_sample", self.tiles_per_sample >= 1, "at least 1")
        check(self, "stain_jitter", 0 <= self.stain_jitter < 1, "0..1")
        check(self, "learning_rate", self.learning_rate > 0, "above 0")
        check(self, "weight_decay", self.weight_decay >= 0, "at least 0")
        check(self, "train", self.train.batch_size >= 2, "a batch of two or more")


def demo() -> ClassifierConfig:
    """Return the preset for 2 CPU cores: tiles of 32 px, a width of 16, under twenty seconds."""
    train = TrainConfig(
        steps=250, batch_size=64, validate_every=25, patience=5, checkpoint_every=0, log_every=10, channels_last=True
    )
    return ClassifierConfig(
        width=16,
        stem="small",
        tile_px=32,
        tiles_per_sample=24,
        stain_jitter=0.25,
        learning_rate=1e-3,
        schedule="cosine",
        train=train,
    )


def gpu() -> ClassifierConfig:
    """Return the preset for one GPU: tiles of 128 px, minutes."""
    train = TrainConfig(epochs=10, batch_size=256, patience=3, precision="auto", log_every=50)
    return ClassifierConfig(
        tile_px=128, tiles_per_sample=600, stain_jitter=0.25, learning_rate=3e-4, schedule="cosine", train=train
    )


def paper() -> ClassifierConfig:
    """Return the published numbers: ResNet-18, ten epochs, AdamW 3e-5, early stopping (STAR Methods).

    The batch size, the patience and the number of real tiles are not printed: 64, two epochs and 600 are ours.
    """
    train = TrainConfig(epochs=10, batch_size=64, patience=2, log_every=50)
    return ClassifierConfig(
        tile_px=256,
        tiles_per_sample=600,
        same_stain=False,
        flips=False,
        class_weights="none",
        learning_rate=3e-5,
        train=train,
    )
