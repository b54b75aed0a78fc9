"""What a training leaves behind so that it can be watched and looked at later: weights and sample tiles, every so often.

Beside the run's other files lie `snapshots/000000100.safetensors`, the networks that sampling uses (their moving average
where there is one) after 100 steps, and `samples/000000100.png`, tiles made by them from the same noise and the same
samples each time. Each is written whole or not at all. A training that goes on from a checkpoint first removes what lies
after it, so that all of them belong to one course.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rnasynth import files
from rnasynth.data import pixels
from rnasynth.engine.checkpoint import save_tensors
from rnasynth.errors import InputError

SNAPSHOTS, SAMPLES = "snapshots", "samples"  # folders inside the run's folder
SUFFIXES = {SNAPSHOTS: ".safetensors", SAMPLES: ".png"}
GAP_PX = 2  # white, between the tiles of a grid


class Snapshots:
    """The snapshots of one training, in the run's folder."""

    def __init__(self, folder: Path, *, upto_step: int) -> None:
        """Open, and remove what lies after `upto_step`."""
        self.folder = folder
        for kind in SUFFIXES:
            for step, path in kept(folder, kind).items():
                if step > upto_step:
                    path.unlink()

    def save(self, step: int, weights: Mapping[str, Tensor], tiles: NDArray[np.uint8] | None) -> None:
        """Write the weights of a step, "<network>/<name>", and a grid of its tiles where there are any."""
        if tiles is not None:
            files.write_bytes(snapshot_path(self.folder, SAMPLES, step), pixels.encode(grid(tiles), "lossless"))
        save_tensors(snapshot_path(self.folder, SNAPSHOTS, step), weights)


def snapshot_path(folder: Path, kind: str, step: int) -> Path:
    """Return where the file of `kind` ("snapshots" or "samples") of a step lies."""
    return folder / kind / f"{step:09d}{SUFFIXES[kind]}"


def kept(folder: Path, kind: str) -> dict[int, Path]:
    """Return the whole files of `kind` in a run's folder by step, in order."""
    found = {int(path.stem): path for path in (folder / kind).glob(f"*{SUFFIXES[kind]}") if path.stem.isdigit()}
    return dict(sorted(found.items()))


def grid(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Set tiles side by side on white.

    Parameters
    ----------
    tiles : uint8 RGB, shape (rows, columns, H, W, 3).

    Returns
    -------
    Shape (rows * (H + 2) - 2, columns * (W + 2) - 2, 3), uint8.

    Raises
    ------
    InputError : another shape or type.

    Examples
    --------
    >>> grid(np.zeros((2, 3, 8, 8, 3), np.uint8)).shape
    (18, 28, 3)
    """
    if tiles.ndim != 5 or tiles.shape[-1] != 3 or tiles.dtype != np.uint8 or not tiles.size:
        raise InputError("sample tiles", expected="uint8 (rows, columns, H, W, 3)", found=f"{tiles.dtype} {tiles.shape}")
    rows, columns, height, width, _ = tiles.shape
    canvas = np.full((rows, height + GAP_PX, columns, width + GAP_PX, 3), 255, np.uint8)
    canvas[:, :height, :, :width] = tiles.transpose(0, 2, 1, 3, 4)
    whole = canvas.reshape(rows * (height + GAP_PX), columns * (width + GAP_PX), 3)
    return np.ascontiguousarray(whole[:-GAP_PX, :-GAP_PX])
