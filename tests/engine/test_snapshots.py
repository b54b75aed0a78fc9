"""Snapshots: what is kept, that keeping changes nothing, and that a course cut in two leaves the same ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from rnasynth import files
from rnasynth.engine import TrainConfig, load_tensors, train
from rnasynth.engine.snapshots import SAMPLES, SNAPSHOTS, Snapshots, grid, kept
from rnasynth.errors import InputError
from tests.engine.toy import Rows, Toy, same_bits, weights_of


class Painting(Toy):
    """Shows tiles whose grey level follows the moving average; with dropout, which evaluation mode turns off."""

    def __init__(self) -> None:
        super().__init__(dropout=0.5)
        self.modes: list[bool] = []

    def samples(self) -> NDArray[np.uint8]:
        self.modes.append(self.networks["auto"].training)
        level = float(self.averaged["auto"](torch.ones(1, 5)).sum().tanh()) * 127 + 128
        return np.full((2, 3, 4, 4, 3), int(level), np.uint8)


def config(**changes: Any) -> TrainConfig:
    return TrainConfig.from_dict({"steps": 7, "batch_size": 8, "checkpoint_every": 2, "snapshot_every": 3, **changes})


def run(folder: Path | None, on_step: Callable[[int, object], None] | None = None, **changes: Any) -> Painting:
    system = Painting()
    train(system, Rows(), config(**changes), folder=folder, progress=False, on_step=on_step)
    return system


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: files.sha256(path) for kind in (SNAPSHOTS, SAMPLES) for path in kept(folder, kind).values()}


def test_each_so_many_steps_and_the_last_are_kept(tmp_path: Path) -> None:
    averages = {}

    def watch(step: int, system: object) -> None:
        assert isinstance(system, Painting)
        averages[step] = {f"auto/{name}": t.clone() for name, t in system.averaged["auto"].state_dict().items()}

    system = run(tmp_path, watch)
    assert list(kept(tmp_path, SNAPSHOTS)) == list(kept(tmp_path, SAMPLES)) == [3, 6, 7]
    for step, path in kept(tmp_path, SNAPSHOTS).items():
        assert same_bits(load_tensors(path), averages[step])  # the average alone: sampling uses nothing else
    pictures = [np.asarray(Image.open(path)) for path in kept(tmp_path, SAMPLES).values()]
    assert all(picture.shape == (10, 16, 3) for picture in pictures) and (pictures[0] != pictures[2]).any()
    assert system.modes == [False] * 3  # evaluation mode


def test_keeping_changes_nothing_and_without_it_nothing_is_kept(tmp_path: Path) -> None:
    watched, plain = run(tmp_path / "watched"), run(tmp_path / "plain", snapshot_every=0)
    assert same_bits(weights_of(watched), weights_of(plain))
    assert not kept(tmp_path / "plain", SNAPSHOTS) and not (tmp_path / "plain" / SAMPLES).exists()
    assert plain.modes == []
    assert run(None).modes == []  # without a folder there is nowhere to keep them


def test_a_system_without_averages_or_pictures_keeps_its_weights(tmp_path: Path) -> None:
    system = Toy()
    system.ema = {}
    train(system, Rows(), config(), folder=tmp_path, progress=False)
    stored = load_tensors(kept(tmp_path, SNAPSHOTS)[7])
    assert same_bits(stored, {name.replace(".", "/", 1): t for name, t in system.networks.state_dict().items()})
    assert not (tmp_path / SAMPLES).exists()


@pytest.mark.parametrize("checkpoint_every", [4, 0])
def test_a_course_cut_in_two_leaves_the_same_snapshots(tmp_path: Path, checkpoint_every: int) -> None:
    def stop(step: int, system: object) -> None:
        if step == 6:  # after the snapshot of 6; the last checkpoint is 4, or none
            raise RuntimeError("cut")

    run(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="cut"):
        run(tmp_path / "cut", stop, checkpoint_every=checkpoint_every, steps=7)
    (tmp_path / "cut" / SNAPSHOTS / "000000005.safetensors").write_bytes(b"of another course")
    (tmp_path / "cut" / SNAPSHOTS / ".000000006.1.tmp.safetensors").write_bytes(b"half")
    run(tmp_path / "cut", checkpoint_every=checkpoint_every)
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")


def test_what_lies_before_the_checkpoint_stays(tmp_path: Path) -> None:
    run(tmp_path)
    before = hashes(tmp_path)
    Snapshots(tmp_path, upto_step=6)
    assert list(kept(tmp_path, SNAPSHOTS)) == list(kept(tmp_path, SAMPLES)) == [3, 6]
    assert hashes(tmp_path).items() <= before.items()


def test_a_grid_shows_each_tile_at_its_place() -> None:
    tiles = np.random.default_rng(0).integers(0, 255, (2, 3, 5, 4, 3)).astype(np.uint8)
    picture = grid(tiles)
    assert picture.shape == (2 * 7 - 2, 3 * 6 - 2, 3)
    for row in range(2):
        for column in range(3):
            assert np.array_equal(picture[row * 7 : row * 7 + 5, column * 6 : column * 6 + 4], tiles[row, column])
    assert (picture[5:7] == 255).all() and (picture[:, 4:6] == 255).all()
    for wrong in (tiles[0], tiles.astype(np.float32), tiles[:0]):
        with pytest.raises(InputError, match="rows, columns"):
            grid(wrong)


def test_a_picture_is_lossless(tmp_path: Path) -> None:
    tiles = np.random.default_rng(1).integers(0, 255, (1, 2, 8, 8, 3)).astype(np.uint8)
    Snapshots(tmp_path, upto_step=0).save(4, {"a/x": torch.ones(2)}, tiles)
    content = kept(tmp_path, SAMPLES)[4].read_bytes()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), grid(tiles))
