"""One training loop for all systems: precision, clipping, EMA, progress, metrics, checkpoints, resume, processes."""

from __future__ import annotations

from rnasynth.engine.loop import train
from rnasynth.engine.system import (
    SYSTEMS,
    Dataset,
    Noise,
    System,
    TrainConfig,
    adam,
    mixed_seed,
    register,
    seeded,
    system_class,
    warmup_cosine,
)

__all__ = [
    "SYSTEMS",
    "Dataset",
    "Noise",
    "System",
    "TrainConfig",
    "adam",
    "mixed_seed",
    "register",
    "seeded",
    "system_class",
    "train",
    "warmup_cosine",
]
