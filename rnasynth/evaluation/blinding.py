"""Real and generated tiles of held-out samples that differ in nothing but who made them: for eyes that must not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.conditioning.experiment import first_in_turn, with_tiles
from rnasynth.features import same_stain
from rnasynth.systems.generation import TileGenerator
from rnasynth.systems.tile_data import ConditionedTiles


@dataclass(frozen=True, kw_only=True)
class BlindTiles:
    """Tiles of the same held-out samples in the same order: tile i of every array is of one sample."""

    real: NDArray[np.uint8]
    """Shape (n, px, px, 3)."""
    made: Mapping[str, NDArray[np.uint8]]
    """By the generator's name, each of the same shape."""
    mpp_um: float
    """Micrometres per pixel, of all."""
    handling: str
    """How the real ones came to the generators' size and stain, in words for a caption."""


def blind_tiles(
    generators: Mapping[str, TileGenerator], cohort: Cohort, *, split: str = "test", count: int = 40, seed: int = 0
) -> BlindTiles:
    """Return real tiles of held-out samples and tiles that generators made for the same samples.

    Real tiles go the way of the generators' training tiles: the same resampling to the same pixel size and, where training
    did so, the same common stain, its strength measured on as many tiles of the sample. So neither size, sharpness nor stain
    tells who made a tile. Samples are taken in turn from the tissues in the order of the cohort; of each the first tile,
    then of each the second, until there are `count`. Nothing is chosen by its looks.

    Parameters
    ----------
    generators : name -> trained generator, all of one pixel size and stain.
    cohort : with tiles.
    split : the held-out split.
    count : tiles of each array at most; fewer where the split has fewer real ones.
    seed : of the generators' noise.

    Raises
    ------
    InputError : no generator, generators of several sizes or stains, no held-out sample with tiles, or `count` below 1.
    SplitError : asked for the training split.
    """
    if split == "train":
        raise SplitError(f"cohort {cohort.name}", expected="a held-out split", found="train", fix="use val or test")
    kinds = {(maker.px, round(maker.mpp_um, 6), bool(maker.system.settings.same_stain)) for maker in generators.values()}
    if len(kinds) != 1 or count < 1:
        found = f"{count} of {', '.join(f'{px} px of {mpp:g} um, one stain {stain}' for px, mpp, stain in kinds) or 'none'}"
        raise InputError("blind tiles", expected="one tile or more, of generators of one size and stain", found=found)
    ((px, mpp_um, restained),) = kinds
    held_out, tile_ids = with_tiles(cohort, split)
    chosen = first_in_turn(held_out, count)
    names = [str(name) for name in chosen.obs_names]
    most = max(len(tile_ids[name]) for name in names)
    places = [(row, turn) for turn in range(most) for row, name in enumerate(names) if turn < len(tile_ids[name])][:count]
    rows, turns = (np.array(column) for column in zip(*places, strict=True))
    each = int(turns.max()) + 1
    of_sample = []
    for name in names:
        wanted = tile_ids[name][: max(each, ConditionedTiles.STAIN_TILES if restained else 1)]
        tiles = cohort.tile_store().read_batch([int(tile) for tile in wanted], px=px)
        of_sample.append(same_stain(tiles) if restained else tiles)
    words = f"brought to {px} px of {mpp_um:.4g} µm as the generators' training tiles were"
    words += ", and so to one common stain" if restained else "; their stain is as scanned, as it was in training"
    return BlindTiles(
        real=np.stack([of_sample[row][turn] for row, turn in places]),
        made={name: maker.generate(chosen, each, seed=seed)[rows, turns] for name, maker in generators.items()},
        mpp_um=float(mpp_um),
        handling=f"Real tiles were {words}; generated ones are as the generator made them.",
    )
