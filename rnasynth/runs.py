"""A run is a trained model in a folder: named by what went in, whole or not there, found again instead of trained again.

runs/beta-vae-1a2b3c4d5e6f/
    config.json          system, configuration, cohort, upstream runs, and the system's step version
    model.safetensors    weights of all networks, "<network>/<name>"
    ema.safetensors      moving averages, where the system keeps any
    fitted.json          transform with gene order, and whatever else was fitted
    metrics.jsonl        one line a step (or every few)
    versions.json        libraries, device, precision, time
    snapshots/, samples/ weights and tiles of earlier steps, where `train.snapshot_every` asked for them
    manifest.json        sha256 of each file above; written last, without it the run does not count
    checkpoints/         while it is trained
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import rnasynth
from rnasynth import files
from rnasynth.config import Config, config_hash, project_folder, runs_folder
from rnasynth.data.transform import Transform
from rnasynth.engine import (
    EXECUTION_FIELDS,
    Processes,
    System,
    load_tensors,
    refuse_other_kinds,
    save_tensors,
    seeded,
    system_class,
    train,
)
from rnasynth.engine.snapshots import SAMPLES, SNAPSHOTS, kept, snapshot_path
from rnasynth.errors import InputError, RunError

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"
FORMAT = 1
ABSENT = object()  # equal to no value


def run_id(
    system_name: str,
    config: Config,
    cohort_fingerprint: str,
    upstream_ids: Sequence[str] = (),
    step_version: int = 1,
) -> str:
    """Return "<system>-<hash>" of everything that decides the weights.

    How a training is executed (device, logging, checkpoints, memory layout) is not part of it, so that a run made on a
    server is found by the page that wants it. Nor is an option added later that is off (`Config.added`).
    """
    values = {name: value for name, value in config.to_dict().items() if value != config.added.get(name, ABSENT)}
    if isinstance(values.get("train"), dict):
        values["train"] = {name: value for name, value in values["train"].items() if name not in EXECUTION_FIELDS}
    key = {
        "system": system_name,
        "config": values,
        "cohort": cohort_fingerprint,
        "upstream": list(upstream_ids),
        "step_version": step_version,
    }
    return f"{system_name}-{config_hash(key)}"


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run whose files were verified; weights are read when asked for.

    Parameters
    ----------
    path : its folder.
    manifest : content of manifest.json.
    step : of the snapshot whose weights are read; None: those that the training ended with.
    """

    path: Path
    manifest: dict[str, Any]
    step: int | None = None

    @property
    def id(self) -> str:
        """The run's name; of a snapshot "<name>@<step>"."""
        return str(self.manifest["id"]) + ("" if self.step is None else f"@{self.step}")

    @cached_property
    def description(self) -> dict[str, Any]:
        """Content of config.json: system, step_version, config, cohort, upstream."""
        return dict(files.read_json(self.path / "config.json"))

    @property
    def system_name(self) -> str:
        """The system's name."""
        return str(self.description["system"])

    @cached_property
    def config(self) -> Any:
        """The system's configuration."""
        return system_class(self.system_name).Config.from_dict(self.description["config"])

    @cached_property
    def fitted(self) -> dict[str, Any]:
        """What was fitted beside the weights."""
        return dict(files.read_json(self.path / "fitted.json"))

    @cached_property
    def transform(self) -> Transform:
        """The transform that the profiles went through, with the gene order.

        Raises
        ------
        RunError : the system has none of its own.
        """
        if "transform" not in self.fitted:
            raise RunError(f"run {self.id}", expected="a transform", found="none", fix="ask its upstream run")
        return Transform.from_dict(self.fitted["transform"])

    @property
    def versions(self) -> dict[str, Any]:
        """Libraries, device, precision and time of the training."""
        return dict(files.read_json(self.path / "versions.json"))

    def metrics(self) -> pd.DataFrame:
        """Return the lines of metrics.jsonl, one row each; null is NaN."""
        path = self.path / "metrics.jsonl"
        return pd.read_json(path, lines=True) if path.stat().st_size else pd.DataFrame({"step": []})

    def networks(self, ema: bool = True) -> dict[str, dict[str, Tensor]]:
        """Return the weights by network; of those with a moving average the average, unless `ema` is False.

        Of a snapshot: the networks that sampling uses, as they were then.
        """
        if self.step is not None:
            tensors = load_tensors(self._watched(SNAPSHOTS, self.step))
        else:
            tensors = dict(load_tensors(self.path / "model.safetensors"))
            averages = self.path / "ema.safetensors"
            if ema and averages.name in self.manifest["files"]:
                tensors |= load_tensors(averages)
        networks: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            network, parameter = name.split("/", 1)
            networks.setdefault(network, {})[parameter] = tensor
        return networks

    def upstream(self) -> tuple[Run, ...]:
        """Return the runs that this one was trained on, found beside it or by name."""
        return tuple(load_run(name, folder=self.path.parent) for name in self.description["upstream"])

    def load(self, *, step: int | None = None) -> Any:
        """Return the trained system's public object, on the CPU and in evaluation mode.

        Parameters
        ----------
        step : of a snapshot (see `snapshots`): as it was after so many steps; None: as it ended.

        Raises
        ------
        RunError : no snapshot of that step, or a damaged one.
        """
        return system_class(self.system_name).from_run(self if step is None else self.at(step))

    def at(self, step: int) -> Run:
        """Return the run as it was after `step` steps; only its weights differ.

        Raises
        ------
        RunError : no snapshot of that step, or a damaged one.
        """
        self._watched(SNAPSHOTS, step)
        return replace(self, step=step)

    def snapshots(self) -> list[int]:
        """Return the steps whose weights were kept, in order; empty where none were."""
        return self._steps(SNAPSHOTS)

    def samples(self) -> dict[int, Path]:
        """Return the pictures of sample tiles by step, in order: the same noise and samples in each.

        Raises
        ------
        RunError : a damaged one.
        """
        return {step: self._watched(SAMPLES, step) for step in self._steps(SAMPLES)}

    def _steps(self, kind: str) -> list[int]:
        return sorted(int(step) for step in self.manifest.get(kind, {}))

    def _watched(self, kind: str, step: int) -> Path:
        """Return a snapshot's file, verified; not done on opening a run, which may have hundreds of them."""
        steps = self._steps(kind)
        if step not in steps:
            raise RunError(
                f"run {self.path.name}, step {step}",
                expected=f"one of the steps kept in {kind}/: {', '.join(map(str, steps))}" if steps else f"{kind} of it",
                found="no such step" if steps else "a run trained without them",
                fix="" if steps else "remove the run's folder and train again with train.snapshot_every",
            )
        path = snapshot_path(self.path, kind, step)
        _verify(path, str(self.manifest[kind][str(step)]))
        return path


def load_run(path_or_name: str | Path, *, folder: str | Path | None = None) -> Run:
    """Open a finished run and verify its files.

    Parameters
    ----------
    path_or_name : a run's folder, or its name in `folder`, in the runs folder, or among the released ones
        (`book/released/<name>/`).

    Raises
    ------
    RunError : not found, not finished, a file that is missing, changed or of another kind.
    """
    places = [Path(path_or_name)]
    if Path(path_or_name).name == str(path_or_name):
        owners = [Path(folder)] if folder is not None else []
        places += [owner / path_or_name for owner in (*owners, runs_folder(), released_folder())]
    for place in places:
        if place.is_file():
            refuse_other_kinds(place)
            raise RunError(str(place), expected="a run's folder", found="a file", fix="give the folder that it lies in")
        if (place / MANIFEST).is_file():
            return Run(place, _verified(place))
    partial = [place for place in places if place.is_dir()]
    if partial:
        raise RunError(
            str(partial[0]),
            expected=f"a finished run with its {MANIFEST}",
            found="none",
            fix="its training has not ended: run the same command again to go on",
        )
    released = sorted(path.name for path in released_folder().glob("*/") if (path / MANIFEST).is_file())
    raise RunError(
        f"run {path_or_name}",
        expected="a run's folder or name",
        found=f"neither (looked in {runs_folder()}; released: {', '.join(released) or 'none'})",
        fix="train it first: rnasynth train",
    )


def released_folder() -> Path:
    """Return where released weights lie: `book/released` in the checkout."""
    return project_folder() / "book" / "released"


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


def _verified(path: Path) -> dict[str, Any]:
    manifest = files.read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not isinstance(manifest.get("files"), dict):
        raise RunError(str(path / MANIFEST), expected=f"a run's manifest of format {FORMAT}", found="another content")
    if missing := {"config.json", "fitted.json", "model.safetensors"} - set(manifest["files"]):
        raise RunError(str(path / MANIFEST), expected="a run's files", found=f"none named {', '.join(sorted(missing))}")
    for name, expected in manifest["files"].items():
        file = path / name
        if Path(name).name != name:
            raise RunError(str(file), expected="the run's file", found="none", fix="fetch or train the run again")
        _verify(file, str(expected))
    return manifest


def _verify(file: Path, expected: str) -> None:
    """Raise unless the file is there and as the manifest says."""
    if not file.is_file():
        raise RunError(str(file), expected="the run's file", found="none", fix="fetch or train the run again")
    refuse_other_kinds(file)
    if (found := files.sha256(file)) != expected:
        raise RunError(
            str(file),
            expected=f"sha256 {expected[:12]}",
            found=found[:12],
            fix="the file was changed or damaged: fetch or train the run again",
        )


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
