"""One training loop for all systems: precision, clipping, EMA, progress, metrics, checkpoints, resume, processes."""

from __future__ import annotations

from rnasynth.engine.alarms import Alarm
from rnasynth.engine.checkpoint import load_tensors, refuse_other_kinds, save_tensors
from rnasynth.engine.loop import train
from rnasynth.engine.processes import Processes, resolve_precision
from rnasynth.engine.system import (
    EXECUTION_FIELDS,
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
    "EXECUTION_FIELDS",
    "SYSTEMS",
    "Alarm",
    "Dataset",
    "Noise",
    "Processes",
    "System",
    "TrainConfig",
    "adam",
    "load_tensors",
    "mixed_seed",
    "refuse_other_kinds",
    "register",
    "resolve_precision",
    "save_tensors",
    "seeded",
    "system_class",
    "train",
    "warmup_cosine",
]
