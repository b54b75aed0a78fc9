"""The one training loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rnasynth.engine.system import Dataset, Noise, System, TrainConfig


def train(
    system: System,
    dataset: Dataset,
    config: TrainConfig,
    *,
    folder: str | Path | None,
    validation: Dataset | None = None,
    progress: bool = True,
    on_step: Callable[[int, System], None] | None = None,
) -> dict[str, Any]:
    """Train a system."""
    steps = config.steps_for(len(dataset), len(system.phases(0)))
    system.total_steps = steps
    optimizers = {key: system.optimizer(key) for key in {system.trained(phase) for phase in system.phases(0)}}
    generator = np.random.default_rng(config.seed)
    system.train()
    for step in range(steps):
        for number, phase in enumerate(system.phases(step)):
            indices = generator.integers(len(dataset), size=config.batch_size)
            loss, _ = system.loss(phase, dataset.fetch(indices), Noise(config.seed, step, number, config.batch_size))
            optimizer = optimizers[system.trained(phase)]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if on_step is not None:
            on_step(step + 1, system)
    system.eval()
    return {"steps": steps}
