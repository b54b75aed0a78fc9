"""What every system that makes tiles shares: what it is told of a sample, which tiles it learns from, what it remembers.

A system is told the latent of a sample's profile (by an upstream encoder), its tissue as one-hot, or nothing. Latents may
be standardised by the training patients' mean and spread, which are saved with the run.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnasynth.config import Config
from rnasynth.data.cohort import Cohort, TileDataset
from rnasynth.data.pixels import to_uint8
from rnasynth.data.splits import evenly_spaced
from rnasynth.engine import System, mixed_seed
from rnasynth.errors import InputError
from rnasynth.systems.tile_data import ConditionedTiles

WATCHED_SAMPLES, WATCHED_TILES = 8, 4  # of the grid that a training is watched by
SPREAD_FLOOR = 0.1  # a latent that hardly varies is divided by this share of the largest spread: its rounding is not signal


class TileSystem(System):
    """A subclass gives networks, loss and `tiles`; its configuration has `tile_px`, `tiles_per_patient`, `same_stain`,
    `standardise` and `train`.

    Attributes
    ----------
    facts : what sampling needs beside weights: latent_dim, latent_mean, latent_spread, tissues, tile_um (a tile's side).
    conditions : what is told of every profile of the cohort trained on, shape (profiles, c); None in a loaded run.
    watched : row and id of the validation samples that a training is watched by; empty in a loaded run.
    """

    uses: ClassVar[Literal["latent", "tissue", "nothing"]]

    def __init__(self, config: Any, facts: dict[str, Any]) -> None:
        super().__init__()
        self.settings: Any = config
        self.facts = facts
        self.conditions: NDArray[np.float32] | None = None
        self.watched: list[tuple[int, str]] = []

    # ------------------------------------------------------------------ what a subclass must give
    def tiles(self, condition: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Make one tile for each row: condition (B, c), a generator of its own each -> (B, 3, px, px) in [-1, 1]."""
        raise NotImplementedError

    def samples(self) -> NDArray[np.uint8] | None:
        """Return tiles to watch a training by: a row a tile number, a column a validation sample.

        They are those that the trained system makes of these samples with seed 0.

        Returns
        -------
        uint8 RGB, shape (WATCHED_TILES, samples, px, px, 3); None where there are no validation samples, or where one
        network alone makes no tile.
        """
        if type(self).tiles is TileSystem.tiles or self.conditions is None or not self.watched:
            return None
        rows = [row for row, _ in self.watched] * WATCHED_TILES
        keys = [(name, number) for number in range(WATCHED_TILES) for _, name in self.watched]
        made = self.tiles(torch.from_numpy(self.conditions[rows]), [tile_generator(0, *key) for key in keys])
        tiles = to_uint8(made)
        return tiles.reshape(WATCHED_TILES, len(self.watched), *tiles.shape[1:])

    # ------------------------------------------------------------------ what is told of a sample
    @property
    def condition_dim(self) -> int:
        """Length of what is known of a sample: latent, one-hot tissue, or 0."""
        return {"latent": int(self.facts["latent_dim"]), "tissue": len(self.facts["tissues"]), "nothing": 0}[self.uses]

    @classmethod
    def from_cohort(cls, config: Config, cohort: Cohort, upstream: tuple[Any, ...] = ()) -> Any:
        """Build for a cohort; latents come from the upstream encoder run and are standardised by its training patients.

        Raises
        ------
        InputError : no tiles, or (a system that is told latents) no upstream run that encodes profiles.
        """
        latents = None
        if cls.uses == "latent":
            if len(upstream) != 1:
                raise InputError(
                    f"system {cls.name}",
                    expected="one upstream run that encodes profiles",
                    found=f"{len(upstream)}",
                    fix="train beta-vae first",
                )
            latents = np.asarray(upstream[0].load().encode(cohort.profiles), dtype=np.float32)
        system = cls(config, facts_of(cohort, latents, standardise=config.standardise))  # type: ignore[attr-defined]
        system.conditions = system.condition_of(latents, cohort.profiles.obs["tissue"].astype(str).to_numpy())
        system.watched = watched_rows(cohort)
        return system

    def condition_of(self, latents: NDArray[np.float32] | None, tissues: NDArray[Any]) -> NDArray[np.float32]:
        """Return what the system is told, a row a sample: standardised latents, one-hot tissues, or nothing.

        Raises
        ------
        InputError : latents of another length, or a tissue that the training patients did not have.
        """
        if self.uses == "nothing":
            return np.zeros((len(tissues), 0), dtype=np.float32)
        if self.uses == "tissue":
            known = {name: number for number, name in enumerate(self.facts["tissues"])}
            if unknown := sorted(set(map(str, tissues)) - set(known)):
                raise InputError(
                    f"tissue {unknown[0]!r}", expected=f"one of {', '.join(known)}", found="unknown to this run"
                )
            return np.eye(len(known), dtype=np.float32)[[known[str(name)] for name in tissues]]
        if latents is None or latents.ndim != 2 or latents.shape[1] != self.condition_dim:
            found = "none" if latents is None else f"shape {latents.shape}"
            raise InputError("latents", expected=f"shape (samples, {self.condition_dim})", found=found)
        if not self.facts["latent_mean"]:
            return np.asarray(latents, dtype=np.float32)
        mean, spread = (np.array(self.facts[key], dtype=np.float32) for key in ("latent_mean", "latent_spread"))
        return np.asarray((latents - mean) / spread, dtype=np.float32)

    # ------------------------------------------------------------------ what runs asks for
    def dataset(self, cohort: Cohort, split: str) -> ConditionedTiles:
        """Return the tiles of one split, each with its sample's condition."""
        assert self.conditions is not None, "only a system made by from_cohort has conditions"
        config = self.settings
        tiles = TileDataset(cohort, split, config.tile_px)
        return ConditionedTiles(
            tiles, self.conditions, config.tiles_per_patient, config.train.seed, same_stain=config.same_stain
        )

    def fitted(self) -> dict[str, Any]:
        """Return the facts that sampling needs: latent length, mean and spread, tissues, field of a tile in um."""
        return self.facts

    def best(self, key: str) -> nn.Module:
        """Return the moving average of a network where there is one, else the network; in evaluation mode."""
        return self.averaged.get(key, self.networks[key]).eval()


def tile_generator(seed: int, sample: str, number: int) -> torch.Generator:
    """Return the random generator of tile `number` of a sample: the same in whatever batch or order it is made."""
    return torch.Generator().manual_seed(mixed_seed("tile", seed, sample, int(number)))


def watched_rows(cohort: Cohort) -> list[tuple[int, str]]:
    """Return row and id of at most `WATCHED_SAMPLES` validation samples, evenly over the cohort sorted by tissue."""
    obs = cohort.profiles.obs
    rows = np.flatnonzero((obs["split"] == "val").to_numpy())
    rows = rows[np.argsort(obs["tissue"].astype(str).to_numpy()[rows], kind="stable")]
    chosen = rows[evenly_spaced(len(rows), WATCHED_SAMPLES)]
    return [(int(row), str(cohort.profiles.obs_names[row])) for row in chosen]


def facts_of(cohort: Cohort, latents: NDArray[np.float32] | None, *, standardise: str) -> dict[str, Any]:
    """Return the `facts` of a cohort, everything measured on its training patients.

    Parameters
    ----------
    cohort : with tiles.
    latents : shape (profiles, latent), or None where the system is not told any.
    standardise : "none", "scale" (one spread for all) or "each" (every latent's own).

    Raises
    ------
    InputError : no tiles.
    """
    training = (cohort.profiles.obs["split"] == "train").to_numpy()
    facts: dict[str, Any] = {
        "latent_dim": 0 if latents is None else latents.shape[1],
        "latent_mean": [],
        "latent_spread": [],
        "tissues": sorted(set(cohort.profiles.obs["tissue"][training].astype(str))),
        "tile_um": cohort.tile_um(),
    }
    if latents is not None and standardise != "none":
        mean, spread = latents[training].mean(axis=0), latents[training].std(axis=0)
        floor = max(SPREAD_FLOOR * float(spread.max()), 1e-6)
        if standardise == "scale":
            varies = spread >= floor
            spread = np.full_like(spread, np.sqrt(np.mean(spread[varies] ** 2)) if varies.any() else 1.0)
        facts["latent_mean"] = [float(value) for value in mean]
        facts["latent_spread"] = [float(value) for value in np.maximum(spread, floor)]
    return facts
