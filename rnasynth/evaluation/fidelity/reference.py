"""Statistics of a reference set of tiles, saved so that two studies measure against the same numbers.

    her2st-test.safetensors    mean (dim,), cov (dim, dim), float64
    her2st-test.json           what they are of: network, preprocessing, px, um/px, cohort, split, hash of the tile store

A Frechet distance to a reference is refused unless network, preprocessing, px, um/px and stain are the reference's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rnasynth import files
from rnasynth.config import config_hash
from rnasynth.engine import load_tensors, save_tensors
from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.distances import frechet_distance
from rnasynth.features import FeatureNetwork, FeatureStats
from rnasynth.features.networks import preprocessing_of

FORMAT = 1
MUST_AGREE = ("network", "preprocessing", "tile_px", "mpp_um", "restained")


@dataclass(frozen=True, kw_only=True)
class ReferenceFacts:
    """What a reference is of.

    Attributes
    ----------
    network, preprocessing : name of the feature network (another for other weights), and what it does to tiles first.
    tile_px, mpp_um : of the tiles as the network was given them.
    restained : whether the tiles were brought to one stain first.
    cohort, split, store : where the tiles are from; `store` is the tile store's fingerprint.
    n : tiles. digest : of the features, see `FeatureStats`.
    """

    network: str
    preprocessing: str
    tile_px: int
    mpp_um: float
    restained: bool
    cohort: str
    split: str
    store: str
    n: int
    digest: str


@dataclass(frozen=True, eq=False)
class Reference:
    """Mean and covariance of a reference set, and what they are of."""

    facts: ReferenceFacts
    mean: NDArray[np.float64]
    cov: NDArray[np.float64]

    @property
    def id(self) -> str:
        """Hash of all facts, to be printed beside every distance."""
        return config_hash(asdict(self.facts))

    @classmethod
    def of(
        cls,
        features: NDArray[Any],
        network: FeatureNetwork,
        *,
        tile_px: int,
        mpp_um: float,
        cohort: str,
        split: str,
        store: str,
        restained: bool = False,
    ) -> Reference:
        """Compute from features (N, dim), N >= 2; the other arguments as in `ReferenceFacts`.

        Raises
        ------
        InputError : fewer than two rows.
        """
        stats = FeatureStats.of(features, network.name)
        facts = ReferenceFacts(
            network=network.name,
            preprocessing=preprocessing_of(network),
            tile_px=int(tile_px),
            mpp_um=round(float(mpp_um), 6),
            restained=restained,
            cohort=cohort,
            split=split,
            store=store,
            n=stats.n,
            digest=stats.digest,
        )
        return cls(facts, stats.mean, stats.cov)

    @classmethod
    def save_all(
        cls, features: Mapping[str, NDArray[Any]], networks: Sequence[FeatureNetwork], folder: Path, **facts: Any
    ) -> list[Reference]:
        """Compute and write `reference_1.safetensors` and so on into a folder, one a network; the rest as in `of`."""
        found = [cls.of(features[network.name], network, **facts) for network in networks]
        for number, reference in enumerate(found):
            reference.save(folder / f"reference_{number + 1}.safetensors")
        return found

    def save(self, path: str | Path) -> None:
        """Write `path` (.safetensors) and, last, the .json beside it, each whole or not at all."""
        path = _checked(path)
        save_tensors(path, {"mean": torch.from_numpy(self.mean), "cov": torch.from_numpy(self.cov)})
        facts = {"format": FORMAT, "id": self.id, "sha256": files.sha256(path), "facts": asdict(self.facts)}
        files.write_json(path.with_suffix(".json"), facts)

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read and verify.

        Raises
        ------
        InputError : a file is missing, changed or of another format. RunError : no safetensors file.
        """
        path = _checked(path)
        beside = path.with_suffix(".json")
        if not path.is_file() or not beside.is_file():
            raise InputError(str(path), expected=f"a reference and its {beside.name}", found="none")
        header = files.read_json(beside)
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise InputError(str(beside), expected=f"a reference of format {FORMAT}", found="another content")
        if (found := files.sha256(path)) != header["sha256"]:
            raise InputError(str(path), expected=f"sha256 {header['sha256'][:12]}", found=found[:12], fix="fetch it again")
        tensors = load_tensors(path)
        loaded = cls(ReferenceFacts(**header["facts"]), tensors["mean"].numpy(), tensors["cov"].numpy())
        if loaded.id != header["id"]:
            raise InputError(str(beside), expected=f"facts of id {header['id']}", found=f"those of {loaded.id}")
        return loaded

    def distance(self, other: Reference) -> float:
        """Return the Frechet distance to another set's statistics.

        Raises
        ------
        InputError : the two were not measured in the same way; the message names each difference.
        """
        mine, theirs = asdict(self.facts), asdict(other.facts)
        differing = [name for name in MUST_AGREE if mine[name] != theirs[name]]
        if differing:
            raise InputError(
                f"reference {self.id}",
                expected=", ".join(f"{name} {mine[name]}" for name in differing),
                found=", ".join(f"{name} {theirs[name]}" for name in differing),
                fix="measure both with the same network at the same px and um/px",
            )
        return frechet_distance(self.mean, self.cov, other.mean, other.cov)


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(str(path), expected="a name ending in .safetensors", found=path.suffix or "none")
    return path
