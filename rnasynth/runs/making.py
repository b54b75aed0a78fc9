"""Finds a run, or trains it: locked while it is made, complete only with its manifest."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rnasynth
from rnasynth import files
from rnasynth.config import runs_folder
from rnasynth.engine import (
    Processes,
    System,
    save_tensors,
    seeded,
    system_class,
    train,
)
from rnasynth.engine.snapshots import SAMPLES, SNAPSHOTS, kept
from rnasynth.errors import InputError, RunError
from rnasynth.runs.run import FORMAT, MANIFEST, Run, load_run, run_id

CHECKPOINTS = "checkpoints"


def get_or_train(
    system_name: str,
    config: Any,
    cohort: Any,
    *,
    upstream: Sequence[Run] = (),
    folder: str | Path | None = None,
    progress: bool = True,
    wait: bool = True,
) -> Run:
    """Return the finished run of this configuration and cohort, trained now where there is none.

    A training that was stopped or killed goes on from its last checkpoint. Under torchrun all processes call this.

    Parameters
    ----------
    system_name : e.g. "beta-vae".
    config : of the system's own type.
    cohort : its fingerprint becomes part of the run's name; its splits are checked first.
    upstream : finished runs that this one builds on.
    folder : where runs lie; None: the runs folder.
    progress : show a progress bar.
    wait : wait where another process is training this very run; else that is an error.

    Raises
    ------
    RunError : another process trains it and `wait` is False; a finished run is damaged.
    InputError, SplitError, DivergedError : from the system, the splits or the training.
    """
    kind = system_class(system_name)
    _check_config(kind, config)
    cohort.check_splits()
    identity = run_id(system_name, config, cohort.fingerprint(), [run.id for run in upstream], kind.step_version)
    path = Path(folder or runs_folder()) / identity
    processes = Processes.join(config.train.device)
    if processes.rank != 0:  # process 0 holds the lock and decides
        if processes.any(False):
            _train_run(kind, config, cohort, tuple(upstream), path, progress=False)
        processes.barrier()
        return load_run(path)
    if (path / MANIFEST).is_file() and processes.size == 1:
        return load_run(path)
    with _locked(path, wait=wait):
        missing = not (path / MANIFEST).is_file()  # another process may have finished it meanwhile
        processes.any(missing)
        if missing:
            trained = _train_run(kind, config, cohort, tuple(upstream), path, progress=progress)
            _finish(path, identity, kind, config, cohort, upstream, trained)
        processes.barrier()
    return load_run(path)


def _check_config(kind: type[System], config: object) -> None:
    if not isinstance(config, kind.Config):
        found = type(config).__name__
        raise InputError(f"config of {kind.name}", expected=kind.Config.__name__, found=found, fix="use its preset(name)")


@dataclass(frozen=True)
class _Trained:
    system: System
    summary: dict[str, Any]


def _train_run(
    kind: type[System], config: Any, cohort: Any, upstream: tuple[Run, ...], path: Path, *, progress: bool
) -> _Trained:
    with seeded("first weights", config.train.seed):
        system = kind.from_cohort(config, cohort, upstream)
    validates = kind.validate is not System.validate and config.train.validate_every != 0
    validation = system.dataset(cohort, "val") if validates else None
    summary = train(
        system, system.dataset(cohort, "train"), config.train, folder=path, validation=validation, progress=progress
    )
    return _Trained(system, summary)


def _finish(
    path: Path, identity: str, kind: type[System], config: Any, cohort: Any, upstream: Sequence[Run], trained: _Trained
) -> None:
    """Write what makes a folder a run, the manifest last."""
    system = trained.system
    weights = {f"{key}/{n}": t for key, network in system.networks.items() for n, t in network.state_dict().items()}
    averages = {f"{key}/{n}": t for key, network in system.averaged.items() for n, t in network.state_dict().items()}
    save_tensors(path / "model.safetensors", weights)
    if averages:
        save_tensors(path / "ema.safetensors", averages)
    files.write_json(path / "fitted.json", system.fitted())
    description = {
        "system": kind.name,
        "step_version": kind.step_version,
        "config": config.to_dict(),
        "cohort": {"name": str(cohort.name), "fingerprint": cohort.fingerprint(), "simulated": bool(cohort.simulated)},
        "upstream": [run.id for run in upstream],
    }
    files.write_json(path / "config.json", description)
    files.write_json(path / "versions.json", {**_versions(), **trained.summary})
    names = ["config.json", "fitted.json", "metrics.jsonl", "model.safetensors", "versions.json"]
    names += ["ema.safetensors"] if averages else []
    hashes = {name: files.sha256(path / name) for name in sorted(names)}
    watched = {kind: {step: files.sha256(file) for step, file in kept(path, kind).items()} for kind in (SNAPSHOTS, SAMPLES)}
    content = {
        "format": FORMAT,
        "id": identity,
        "files": hashes,
        **{kind: steps for kind, steps in watched.items() if steps},
    }
    files.write_json(path / MANIFEST, content)
    shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)


def _versions() -> dict[str, Any]:
    return {
        "rnasynth": rnasynth.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the run for this process; the lock ends with the process, however that ends."""
    path.mkdir(parents=True, exist_ok=True)
    handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 64, 0).decode("utf-8", "replace").strip() or "unknown"
            if not wait:
                raise RunError(
                    f"run {path.name}",
                    expected="one process at a time",
                    found=f"process {owner} training it",
                    fix="wait for it, or end it",
                ) from None
            print(f"run {path.name}: process {owner} is training it; waiting", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()} on {platform.node()}".encode(), 0)
        yield
    finally:
        os.close(handle)
