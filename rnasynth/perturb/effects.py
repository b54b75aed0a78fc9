"""From a change to its effect: tiles of the same noise at every dose, read, and compared tile by tile.

The tile of a changed profile has the noise of the tile of the profile itself, so that each difference is of one tile with
itself: what the noise does cancels. Intervals resample patients (or sections), never tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.deconvolution.readers import TileReader
from rnasynth.perturb.changes import Change, matched_controls
from rnasynth.perturb.reading import read_all
from rnasynth.perturb.report import EffectReport, Reads, report_of

DOSES = (-2.0, -1.0, 1.0, 2.0)  # log2 fold changes; dose 0, the profile itself, is always there
CHUNK = 64  # profiles whose tiles are held at a time


class TileGenerator(Protocol):
    """Profiles -> tiles, whose noise is keyed by (seed, sample id, tile number)."""

    px: int
    mpp_um: float

    def generate(self, profiles: AnnData, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
        """Shape (N, n_per_profile, px, px, 3), uint8."""
        ...


def read_doses(
    generator: TileGenerator,
    profiles: AnnData,
    change: Change,
    readers: Sequence[TileReader],
    *,
    doses: Sequence[float] = DOSES,
    tiles_per_profile: int = 3,
    seed: int = 0,
) -> Reads:
    """Generate tiles of the changed profiles at each dose with the same noise, and read them.

    Parameters
    ----------
    profiles : raw AnnData, what `change` was made for; its sample ids key the noise.
    readers : each gives quantities a tile; their names must differ.
    doses : log2 fold changes; 0 gives the profiles themselves.
    tiles_per_profile, seed : of the generator.

    Returns
    -------
    Dose -> a row a (sample, tile), a column a quantity.

    Raises
    ------
    InputError : two readers with one quantity, or no tile or dose.
    """
    if tiles_per_profile < 1 or not len(doses) or not readers:
        raise InputError("perturbation", expected="a tile, a dose and a reader or more", found="none")
    names = [str(name) for name in profiles.obs_names]
    found: Reads = {}
    for dose in doses:
        changed = change.apply(profiles, dose)
        parts = []
        for start in range(0, len(names), CHUNK):
            tiles = generator.generate(changed[start : start + CHUNK].copy(), tiles_per_profile, seed=seed)
            parts += [read_all(part, readers, generator.mpp_um) for part in tiles]
        found[float(dose)] = with_index(parts, names)
    return found


def with_index(parts: Sequence[pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """Stack the readings of each sample's tiles; index (sample, tile).

    Raises
    ------
    InputError : two readers with one quantity.
    """
    whole = pd.concat(dict(zip(names, parts, strict=True)), names=["sample", "tile"])
    if not whole.columns.is_unique:
        twice = list(whole.columns[whole.columns.duplicated()])
        raise InputError("readers", expected="quantities of different names", found=f"{twice[0]} twice")
    return whole


def measure(
    source: str,
    generator: TileGenerator,
    profiles: AnnData,
    changes: Sequence[Change],
    readers: Sequence[TileReader],
    *,
    doses: Sequence[float] = DOSES,
    tiles_per_profile: int = 3,
    controls: int = 4,
    among: Sequence[str] | None = None,
    n_boot: int = 1000,
    n_permutations: int = 999,
    seed: int = 0,
) -> EffectReport:
    """Change profiles, generate, read, and report effects with intervals, a dose-response and matched random genes.

    Parameters
    ----------
    source : what makes the tiles, in words.
    generator : anything with `generate`, `px` and `mpp_um` whose noise is keyed by seed, sample id and tile number.
    profiles : held-out raw AnnData with `obs["split_group"]`.
    changes : what is done to them; each may name the quantity that it should raise.
    readers : see `read_doses`.
    doses : log2 fold changes other than 0.
    controls : matched random changes of each; they are made at the smallest and largest dose only.
    among : genes that the generator reads, for the controls (see `matched_controls`).
    n_boot, n_permutations, seed : of intervals, p values and draws; the seed also keys the noise.

    Raises
    ------
    InputError : a change that acts on no sample, or names a quantity that no reader gives; doses without a number but 0.
    """
    doses = [float(dose) for dose in doses if dose]
    if not doses or not changes:
        raise InputError("perturbation", expected="a change and a dose other than 0", found="none")
    common = {"tiles_per_profile": tiles_per_profile, "seed": seed}
    own = read_doses(generator, profiles, changes[0], readers, doses=[0.0], **common)[0.0]
    ends = sorted({min(doses), max(doses)})
    reads: dict[str, Reads] = {}
    random: dict[str, list[Reads]] = {}
    acts: dict[str, NDArray[np.bool_]] = {}
    for change in changes:
        acts[change.name] = change.acts(profiles)
        reads[change.name] = read_doses(generator, profiles, change, readers, doses=doses, **common) | {0.0: own}
        random[change.name] = [
            read_doses(generator, profiles, drawn, readers, doses=ends, **common) | {0.0: own}
            for drawn in matched_controls(change, profiles, sets=controls, among=among, seed=seed)
        ]
    return report_of(
        source,
        reads,
        {change.name: change.raises for change in changes},
        groups=profiles.obs["split_group"].astype(str).to_numpy(),
        controls=random,
        acts=acts,
        n_boot=n_boot,
        n_permutations=n_permutations,
        seed=seed,
    )
