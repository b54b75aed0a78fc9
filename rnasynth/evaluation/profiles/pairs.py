"""What goes in and what should come out: the inputs of samples beside their profiles, and what a model must offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.genes import few
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError, SplitError


class Inputs(Protocol):
    """What a model may read of samples; `data.patients.PatientInputs` is one."""

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """One id a sample."""
        ...

    @property
    def bags(self) -> Sequence[NDArray[np.float32] | None]:
        """Features of each sample's tiles, shape (n_i, dim); None for a sample without tiles."""
        ...

    @property
    def texts(self) -> tuple[str, ...]:
        """Clinical text of each sample; "" for none."""
        ...

    @property
    def tissues(self) -> tuple[str, ...]:
        """Label of each sample; only a model that says so reads it."""
        ...

    def __len__(self) -> int: ...


class ProfileModel(Protocol):
    """What makes profiles: a trained `ProfileGenerator`, or a baseline."""

    @property
    def name(self) -> str:
        """What stands in tables."""
        ...

    @property
    def genes(self) -> tuple[str, ...]:
        """Order of the columns."""
        ...

    def sample(self, inputs: Any, n: int, seed: int = 0) -> NDArray[np.float32]:
        """Return n draws a sample, shape (N, n, genes), z-scores; the same whatever batch a sample is in."""
        ...

    def mean(self, inputs: Any, n: int = 16, seed: int = 0) -> NDArray[np.float32]:
        """Return what is expected of each sample, shape (N, genes), z-scores; n draws where it must be estimated."""
        ...


@dataclass(frozen=True, eq=False)
class Pairs:
    """Samples of one split: what a model may read, and their real profiles.

    Attributes
    ----------
    inputs : of N samples.
    z : their profiles, shape (N, genes), float32, z-scores of the training samples' mean and SD.
    genes : order of the columns.
    groups : split group of each, shape (N,).
    split : "train", "val" or "test".
    """

    inputs: Inputs
    z: NDArray[np.float32]
    genes: tuple[str, ...]
    groups: NDArray[np.str_]
    split: str

    def __post_init__(self) -> None:
        if self.z.shape != (len(self.inputs), len(self.genes)) or len(self.groups) != len(self.inputs):
            expected = f"profiles ({len(self.inputs)}, {len(self.genes)}) and a group each"
            raise InputError("pairs", expected=expected, found=f"{self.z.shape}, {len(self.groups)} groups")
        if not np.isfinite(self.z).all():
            row = int(np.flatnonzero(~np.isfinite(self.z).all(axis=1))[0])
            raise InputError(f"sample {self.inputs.sample_ids[row]}", expected="finite z-scores", found="NaN or infinity")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def tissues(self) -> NDArray[np.str_]:
        """Label of each sample, shape (N,)."""
        return np.asarray(self.inputs.tissues, dtype=str)


def pair(inputs: Inputs, profiles: AnnData, transform: Transform) -> Pairs:
    """Join inputs with the profiles of the same samples.

    Parameters
    ----------
    inputs : samples of one split.
    profiles : raw; `obs` has sample_id (or it is the index), split and split_group; other samples are left out.
    transform : fitted on training samples; its genes are the columns.

    Raises
    ------
    InputError : a sample without profile, or genes that do not match.
    SplitError : samples of several splits.
    """
    ids = profiles.obs["sample_id"].astype(str) if "sample_id" in profiles.obs else profiles.obs_names.astype(str)
    place = {name: row for row, name in enumerate(ids)}
    if missing := [name for name in inputs.sample_ids if name not in place]:
        raise InputError(f"sample {few(missing)}", expected="a profile", found="none", fix="take inputs of the same cohort")
    rows = [place[name] for name in inputs.sample_ids]
    part = profiles[rows]
    splits = sorted(set(part.obs["split"].astype(str)))
    if len(splits) != 1:
        raise SplitError("pairs", expected="samples of one split", found=", ".join(splits) or "none", fix="take one split")
    z = np.asarray(transform.apply(part.copy()).X, dtype=np.float32)
    return Pairs(inputs, z, transform.genes, part.obs["split_group"].astype(str).to_numpy(dtype=str), splits[0])


def check_disjoint(*parts: Pairs) -> None:
    """Raise SplitError where a split group is in two of the parts, and InputError where their genes differ."""
    for number, one in enumerate(parts):
        for other in parts[number + 1 :]:
            if both := sorted(set(one.groups) & set(other.groups)):
                raise SplitError(
                    f"split group {few(both)}", expected="in one split", found=f"in {one.split} and {other.split}"
                )
            if one.genes != other.genes:
                raise InputError("pairs", expected="the same genes in the same order", found="others", fix="one transform")


def take(part: Pairs, rows: NDArray[np.integer]) -> Pairs:
    """Return some samples of a split, in this order."""
    inputs: Any = part.inputs
    return replace(part, inputs=inputs.take(rows), z=part.z[rows], groups=part.groups[rows])
