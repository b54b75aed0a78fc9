"""What a training leaves behind so that it can go on: checkpoints, the best weights, the lines of metrics.jsonl.

A checkpoint is a folder `step-000000100` of safetensors files and one `state.json` with their hashes. It is written
under a temporary name, flushed and renamed, so it is whole or not there; the last two are kept, and where the newest is
damaged the one before it is used. The best weights by validation lie beside them and each checkpoint names the file
that was the best when it was written.
"""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rnasynth import files
from rnasynth.errors import InputError, RunError

KEPT = 2
STATE_FILE = "state.json"
REFUSED_SUFFIXES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".zip", ".tar", ".npz", ".npy", ".joblib")


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as a safetensors file, atomically; shared or strided storage is copied first."""
    seen: set[int] = set()
    ready: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        pointer = tensor.untyped_storage().data_ptr()
        ready[name] = tensor.clone() if pointer in seen and tensor.numel() else tensor
        seen.add(pointer)
    with files.atomic_path(path) as temporary:
        save_file(ready, temporary)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises
    ------
    RunError : the file is missing, damaged or of another kind, above all a pickle or a zip archive.
    """
    if not path.is_file():
        raise RunError(str(path), expected="a safetensors file", found="no such file")
    refuse_other_kinds(path)
    if not _is_safetensors(path):
        raise RunError(
            str(path), expected="a whole safetensors file", found="a damaged one", fix="delete it and train again"
        )
    return load_file(path)


def refuse_other_kinds(path: Path) -> None:
    """Refuse a file that is a pickle or an archive by its name or by its first bytes.

    Raises
    ------
    RunError : it is.
    """
    with open(path, "rb") as handle:
        start = handle.read(2)
    pickled = start[:1] == b"\x80" and start[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")
    if path.suffix in REFUSED_SUFFIXES or start == b"PK" or (pickled and not _is_safetensors(path)):
        raise RunError(
            str(path),
            expected="safetensors or JSON",
            found="a pickle or an archive, which can run code when it is loaded",
            fix="convert its weights to safetensors where you trust it",
        )


def _is_safetensors(path: Path) -> bool:
    size = path.stat().st_size
    if path.suffix != ".safetensors" or size < 8:
        return False
    with open(path, "rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if length > min(size - 8, 100 << 20):
            return False
        try:
            header = json.loads(handle.read(length))
        except (json.JSONDecodeError, UnicodeDecodeError):
            return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return max(ends, default=0) == size - 8 - length


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take an optimiser's state apart: tensors by "<parameter number>/<name>", and the plain numbers likewise."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{index}/{name}"] = value
    return tensors, numbers


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Put a state from `optimizer_tensors` back; the options (learning rate, betas) stay those of `optimizer`."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors named "<prefix>/<name>"."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of that prefix, the prefix taken off."""
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint read back: `state` as JSON, `tensors` by file stem."""

    path: Path
    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


class Checkpoints:
    """The checkpoints of one training, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, state: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> Path:
        """Write the checkpoint of `step` and remove all but the last two."""
        target = self.folder / f"step-{step:09d}"
        partial = self.folder / f"{target.name}{files.TEMPORARY_SUFFIX}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        hashes: dict[str, str] = {}
        for stem, group in tensors.items():
            path = partial / f"{stem}.safetensors"
            save_tensors(path, group)
            hashes[path.name] = files.sha256(path)
        files.write_json(partial / STATE_FILE, {**state, "step": step, "files": hashes})
        if target.exists():  # the same step again, after a stop at that very step: equal, and whole
            shutil.rmtree(partial)
        else:
            files.replace(partial, target)
        self._tidy()
        return target

    def latest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None; a damaged one is removed with a warning."""
        for path in reversed(self._folders()):
            try:
                return self._read(path)
            except RunError as error:
                warnings.warn(f"damaged checkpoint removed: {error}", RuntimeWarning, stacklevel=2)
                shutil.rmtree(path, ignore_errors=True)
        return None

    @staticmethod
    def best_name(step: int) -> str:
        """Return the file name of the best weights, found at `step`."""
        return f"best-{step:09d}.safetensors"

    def save_best(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the best weights so far."""
        save_tensors(self.folder / self.best_name(step), tensors)

    def load_best(self, name: str) -> dict[str, Tensor]:
        """Read the best weights back."""
        return load_tensors(self.folder / name)

    def _read(self, path: Path) -> Checkpoint:
        if not (path / STATE_FILE).is_file():
            raise RunError(str(path), expected=STATE_FILE, found="none")
        try:
            state = files.read_json(path / STATE_FILE)
        except InputError as error:
            raise RunError(str(path), expected=f"JSON in {STATE_FILE}", found=error.found) from None
        tensors = {}
        for name, expected in state["files"].items():
            file = path / name
            if not file.is_file() or files.sha256(file) != expected:
                raise RunError(str(file), expected=f"sha256 {expected[:12]}", found="another one, or no file")
            tensors[file.stem] = load_tensors(file)
        return Checkpoint(path, state, tensors)

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if path.suffix != files.TEMPORARY_SUFFIX)

    def _tidy(self) -> None:
        folders = self._folders()
        for superseded in folders[:-KEPT]:
            shutil.rmtree(superseded, ignore_errors=True)
        named = set()
        for path in folders[-KEPT:]:
            if (path / STATE_FILE).is_file():
                best = files.read_json(path / STATE_FILE).get("early_stopping", {}).get("best")
                named.add(best["file"] if best else None)
        for old in self.folder.glob("best-*.safetensors"):
            if old.name not in named:
                old.unlink(missing_ok=True)

    def newest(self, upto_step: int | None = None) -> str:
        """Say where the last good checkpoint is, of those written up to a step."""
        folders = [path for path in self._folders() if upto_step is None or int(path.name.split("-")[1]) <= upto_step]
        return f"the last good checkpoint is {folders[-1]}" if folders else "no checkpoint was written before that"


class MetricsLog:
    """The lines of metrics.jsonl: one JSON object a line, appended and flushed; NaN and infinity become null."""

    def __init__(self, path: Path, *, upto_step: int) -> None:
        """Open for appending, keeping the whole lines of steps up to `upto_step` only."""
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        kept = [line for line in lines if (record := _parse(line)) is not None and record["step"] <= upto_step]
        if lines or not path.exists():
            files.write_text(path, "".join(line + "\n" for line in kept))
        self._handle = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by `close`)

    def write(self, record: Mapping[str, float | int | None]) -> None:
        """Append one line and flush it."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        self._handle.write(json.dumps(clean, allow_nan=False) + "\n")
        self._handle.flush()

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:  # the last line of a killed process
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None
