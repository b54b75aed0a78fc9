"""Piles of small tiles in memory, real or made, each with its class, sample and split group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor

from rnasynth.data.cohort import Cohort, TileDataset
from rnasynth.data.pixels import to_float
from rnasynth.errors import InputError
from rnasynth.systems.tile_data import ConditionedTiles
from rnasynth.systems.tile_labels import class_numbers, label_rule

READ = 256  # tiles at a time


class Maker(Protocol):
    """What makes tiles of profiles: a `TileGenerator`."""

    px: int

    def generate(self, profiles: AnnData, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
        """Return uint8 tiles (N, n_per_profile, px, px, 3)."""
        ...


@dataclass(frozen=True, eq=False)
class Pile:
    """Tiles of one size; what the engine trains on.

    Attributes
    ----------
    tiles : uint8 RGB, shape (n, px, px, 3).
    numbers : class of each, int64, shape (n,).
    samples : row of each one's profile in the cohort, int64, shape (n,).
    groups : split group of each, shape (n,).
    """

    tiles: NDArray[np.uint8]
    numbers: NDArray[np.int64]
    samples: NDArray[np.int64]
    groups: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.numbers)

    def fetch(self, indices: NDArray[Any]) -> dict[str, Tensor]:
        """Return tile (B, 3, px, px) float32 in [-1, 1] and condition (B, 1), the class's number."""
        chosen = np.asarray(indices)
        condition = torch.from_numpy(self.numbers[chosen].astype(np.float32)[:, None])
        return {"tile": to_float(self.tiles[chosen]), "condition": condition}

    def rows(self, chosen: NDArray[Any]) -> Pile:
        """Return the tiles `chosen`, in that order."""
        return Pile(self.tiles[chosen], self.numbers[chosen], self.samples[chosen], self.groups[chosen])

    def of(self, groups: Iterable[str]) -> NDArray[np.int64]:
        """Return the row numbers of the tiles of some split groups, in order."""
        return np.flatnonzero(np.isin(self.groups, list(groups)))

    def with_made(self, made: Pile, chosen: NDArray[Any]) -> Pile:
        """Return the pile with the tiles `chosen` replaced by those of the same rows of `made`.

        Raises
        ------
        InputError : `made` is not of the same samples and classes, row by row.
        """
        if not (np.array_equal(self.samples, made.samples) and np.array_equal(self.numbers, made.numbers)):
            raise InputError("made tiles", expected="one of the same sample and class for each real tile", found="others")
        tiles = self.tiles.copy()
        tiles[chosen] = made.tiles[chosen]
        return replace(self, tiles=tiles)


def task_of(cohort: Cohort, label: str, *, classes: Sequence[str] = ()) -> dict[str, Any]:
    """Return what is named: label, classes and cut, by the rule of the training samples with tiles.

    Parameters
    ----------
    label : any column of `obs`: texts are classes ("msi": MSI and MSS, say), numbers are cut at the training median.
    classes : only these of the texts (two tissues, say); none: all.

    Raises
    ------
    InputError : no such column, fewer than two classes, or a class that is none.
    """
    obs = cohort.profiles.obs
    there = obs["sample_id"].astype(str).isin(list(cohort.tile_ids())).to_numpy()
    rule = label_rule(obs[(obs["split"] == "train").to_numpy() & there], label)
    if unknown := sorted(set(classes) - set(rule["classes"])):
        raise InputError(f"class {unknown[0]!r}", expected=f"one of {', '.join(rule['classes'])}", found="unknown")
    named = [name for name in rule["classes"] if not classes or name in classes]
    if len(named) < 2:
        raise InputError(f"label {label!r}", expected="two or more classes", found=", ".join(named))
    return {**rule, "label": label, "classes": named, "tile_um": cohort.tile_um(), "stop_groups": [],
            "class_weights": [1.0] * len(named)}  # fmt: skip


def within_tissue(cohort: Cohort, label: str) -> tuple[Cohort, str]:
    """Add a column: how far a number lies above the median of the training samples of its own tissue.

    Cut at zero it tells samples of one tissue apart, and the tissue says nothing about it.

    Returns
    -------
    The cohort (its fingerprint is the same: runs trained on it are still its runs) and the column's name.

    Raises
    ------
    InputError : no such column, or one of texts.
    """
    obs = cohort.profiles.obs
    if label not in obs or not pd.api.types.is_numeric_dtype(obs[label]):
        raise InputError(f"label {label!r}", expected="a column of numbers", found="texts" if label in obs else "none")
    train = obs[obs["split"] == "train"]
    medians = train[label].groupby(train["tissue"].astype(str)).median()
    profiles = cohort.profiles.copy()
    name = f"{label} within tissue"
    profiles.obs[name] = obs[label].to_numpy(float) - obs["tissue"].astype(str).map(medians).to_numpy(float)
    return replace(cohort, profiles=profiles), name


def real_pile(cohort: Cohort, task: dict[str, Any], px: int, *, same_stain: bool, per_sample: int, seed: int = 0) -> Pile:
    """Read the cohort's tiles whose class is known, of all splits.

    Parameters
    ----------
    task : see `task_of`.
    px : side, that of the generator's tiles.
    same_stain : bring every sample to one stain, as the generator's tiles are.
    per_sample : at most so many tiles of a sample, chosen with `seed`.

    Raises
    ------
    InputError : no tiles of a known class.
    """
    obs = cohort.profiles.obs
    numbers = class_numbers(obs, task)
    groups = obs["split_group"].astype(str).to_numpy(dtype=str)
    tiles, samples = [np.empty((0, px, px, 3), np.uint8)], [np.empty(0, np.int64)]
    for split in sorted(set(obs["split"].astype(str))):
        held = ConditionedTiles(
            TileDataset(cohort, split, px), numbers[:, None].astype(np.float32), per_sample, seed, same_stain=same_stain
        )
        kept = np.flatnonzero(numbers[held.samples] >= 0)
        for start in range(0, len(kept), READ):
            pixels = held.fetch(kept[start : start + READ])["tile"]
            tiles.append(((pixels + 1.0) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
        samples.append(held.samples[kept])
    rows = np.concatenate(samples)
    if not len(rows):
        raise InputError(f"cohort {cohort.name}", expected=f"tiles with a known {task['label']}", found="none")
    return Pile(np.concatenate(tiles), numbers[rows], rows, groups[rows])


def made_pile(maker: Maker, cohort: Cohort, like: Pile, *, seed: int = 0) -> Pile:
    """Make a tile for each of `like`, from the profile of the same sample.

    Parameters
    ----------
    maker : told of nothing but the profile and the seed.
    like : real tiles; of a sample with k of them k different tiles are made.

    Raises
    ------
    InputError : the generator's tiles have another size.
    """
    if like.tiles.shape[1] != maker.px:
        raise InputError("made tiles", expected=f"{like.tiles.shape[1]} px", found=f"{maker.px} px")
    tiles = np.empty_like(like.tiles)
    counts = pd.Series(like.samples).groupby(like.samples).cumcount().to_numpy()
    each = np.bincount(like.samples)
    for count in sorted(set(each[each > 0])):  # samples of equally many tiles together
        rows = np.flatnonzero(each == count)
        made = maker.generate(cohort.profiles[rows].copy(), int(count), seed=seed)
        mine = np.flatnonzero(each[like.samples] == count)
        tiles[mine] = made[np.searchsorted(rows, like.samples[mine]), counts[mine]]
    return replace(like, tiles=tiles)
