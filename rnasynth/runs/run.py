"""A finished run: its name, what lies in its folder, and how it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from rnasynth import files
from rnasynth.config import Config, config_hash, runs_folder, sources_folder
from rnasynth.data.transform import Transform
from rnasynth.engine import (
    EXECUTION_FIELDS,
    load_tensors,
    refuse_other_kinds,
    system_class,
)
from rnasynth.engine.snapshots import SAMPLES, SNAPSHOTS, snapshot_path
from rnasynth.errors import RunError

MANIFEST = "manifest.json"
UPSTREAM, SEEN = "upstream", "seen.json"
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

    @cached_property
    def seen(self) -> frozenset[str] | None:
        """Split groups that it learned from or was stopped by, where released weights name them; else None."""
        return frozenset(files.read_json(self.path / SEEN)) if SEEN in self.manifest["files"] else None

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
        """Return the runs that this one was trained on, found in it (released weights), beside it, or by name."""
        inside = self.path / UPSTREAM
        return tuple(
            load_run(inside / name if (inside / name).is_dir() else name, folder=self.path.parent)
            for name in self.description["upstream"]
        )

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
    places = run_places(path_or_name, folder=folder)
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


def groups_seen(run: Any, cohort: Any) -> frozenset[str] | None:
    """Return the split groups of a cohort that a run learned from or was stopped by; None where that cannot be told.

    It can where the run learned from this very cohort with its splits, and where released weights name the groups.
    """
    learned, obs = run.description["cohort"], cohort.profiles.obs
    if run.seen is not None and learned["name"] == cohort.name:
        return frozenset(run.seen)
    if learned["fingerprint"] != cohort.fingerprint():
        return None
    return frozenset(obs["split_group"][obs["split"].isin(("train", "val"))].astype(str))


def run_places(path_or_name: str | Path, *, folder: str | Path | None = None) -> list[Path]:
    """Return where `load_run` looks for a run, in its order."""
    places = [Path(path_or_name)]
    if Path(path_or_name).name == str(path_or_name):
        owners = [Path(folder)] if folder is not None else []
        places += [owner / path_or_name for owner in (*owners, runs_folder(), released_folder())]
    return places


def released_folder() -> Path:
    """Return where released weights lie: `book/released` in the checkout or in the installed package."""
    return sources_folder("book") / "released"


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
