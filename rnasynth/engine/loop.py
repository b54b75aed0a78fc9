"""The one training loop: how a training is started, resumed and stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rnasynth.engine.processes import Processes, kept_memory
from rnasynth.engine.system import Dataset, System, TrainConfig, seeded
from rnasynth.engine.training import Training
from rnasynth.errors import InputError


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
    """Train a system, or go on with it where it was stopped, killed or interrupted.

    On the CPU a resumed training ends with the same bits as an uninterrupted one: the order of the data, the noise and
    the global generators are functions of (seed, step), everything else is in the checkpoint.

    Parameters
    ----------
    system : untrained; ends in evaluation mode on the training's device, with the best weights if `patience` is set,
        else the last ones; its moving averages in `system.averaged`. Networks that were divided end whole, on the CPU;
        after a stop they stay divided, and a new system goes on.
    dataset : training samples, `len` and `fetch(indices)`.
    config : see TrainConfig.
    folder : gets `metrics.jsonl` and `checkpoints/`; None: nothing is written and nothing can be resumed.
    validation : samples for `system.validate`; needed for early stopping.
    progress : show a progress bar (process 0 only).
    on_step : called with (steps done, system) after every step.

    Returns
    -------
    {"steps", "seconds", "samples_per_s", "wait_share" (of the time, for data), "stopped_early", "best_step",
    "best_loss", "precision", "device", "processes", "sharding"}.

    Raises
    ------
    DivergedError : a loss, gradient or weight is not finite; names step, phase and samples. The checkpoints stay good.
    InputError : no data, early stopping without validation data, a batch that cannot be shared by the processes.
    RunError : `folder` holds a checkpoint of another training.
    KeyboardInterrupt : Ctrl-C; a checkpoint was written first.
    """
    if config.patience is not None and (validation is None or config.validate_every == 0):
        raise InputError("TrainConfig.patience", expected="validation data", found="none", fix="give some, or no patience")
    processes = Processes.join(config.device)
    with kept_memory(processes.device), seeded(config.seed):
        training = Training(system, dataset, config, processes, Path(folder) if folder is not None else None, validation)
        with stop_signals(training):
            try:
                return training.run(progress, on_step)
            finally:
                training.close()


@contextmanager
def stop_signals(training: Training) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into a wish that is granted after the step; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def wish(number: int, _: Any) -> None:
        training.stop_signal = number
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, wish)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
