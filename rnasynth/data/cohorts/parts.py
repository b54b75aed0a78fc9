"""What a builder hands back, and small helpers that all builders share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData

from rnasynth.errors import InputError

TILE_PX = 256
TILE_MPP_UM = 0.5  # 20x, both papers: a field of 128 um


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a builder reads: the folder of the fetched files, and the files that are not there, with reasons."""

    folder: Path
    missing: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)  # a user's own manifest: its `cohort` block


@dataclass(frozen=True, kw_only=True)
class Built:
    """A cohort before it is stored.

    `splits` is given where the split is fixed; else it is made by `split_group`, stratified by the column `stratify`.
    `section` is an example of a slide (path, um/px). Tiles, if any, lie in the store `tiles` of the building folder.
    """

    profiles: AnnData
    banner: str = ""
    notes: list[str] = field(default_factory=list)
    splits: dict[str, str] | None = None
    split_by: str = "patient"
    stratify: str | None = "tissue"
    section: tuple[Path, float] | None = None
    truth: dict[str, pd.DataFrame] = field(default_factory=dict)


Builder = Callable[..., Built]


def plain_obs(obs: pd.DataFrame) -> pd.DataFrame:
    """Return `obs` with plain columns: text ("" where missing), float, int or bool; never objects of several kinds."""
    plain = {}
    for name in obs:
        column = obs[name]
        if pd.api.types.is_bool_dtype(column) or (pd.api.types.is_numeric_dtype(column) and column.dtype.kind in "iuf"):
            plain[str(name)] = column.to_numpy()
        else:
            plain[str(name)] = column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)
    return pd.DataFrame(plain, index=pd.Index([str(name) for name in obs.index], dtype=object))


def chosen(wanted: Sequence[str] | None, available: Sequence[str], subject: str) -> list[str]:
    """Return the parts wanted (all for None) in the order of `available`, or raise where one is not known."""
    if wanted is None:
        return list(available)
    if unknown := sorted(set(map(str, wanted)) - set(available)):
        raise InputError(f"{subject} {unknown[0]!r}", expected=f"one of {', '.join(available)}", found="unknown")
    return [name for name in available if name in set(map(str, wanted))]


def listed(names: Sequence[str], most: int = 40) -> str:
    """Return names for a sentence, cut where there are too many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
