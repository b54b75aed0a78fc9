"""Cohorts: samples, raw profiles, tiles and splits under one roof, built once, stored, and known by a fingerprint.

`load_cohort("her2st")` fetches what is not there, verifies what is, builds profiles and tiles in a temporary folder that
is renamed when complete, splits by group, and asserts the splits. The built cohort lies in `DATA/NAME-HASH`; the hash is
of the options, the source files and the builders' version, so that other sources are another cohort.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth import files
from rnasynth.config import config_hash, data_folder
from rnasynth.data.cohort_building import build_cohort, build_simulated_cohort
from rnasynth.data.cohorts.comparability import comparability
from rnasynth.data.cohorts.parts import plain_obs
from rnasynth.data.datasets import ArrayDataset, TileDataset
from rnasynth.data.genes import dense
from rnasynth.data.splits import SPLITS, check_splits, make_folds, make_splits, stored_splits
from rnasynth.data.tiles import TileStore
from rnasynth.errors import InputError, SplitError

__all__ = ["ArrayDataset", "Cohort", "TileDataset", "comparability", "load_cohort", "make_splits"]


@dataclass(frozen=True)
class Cohort:
    """Samples with what is known of them.

    Attributes
    ----------
    profiles : raw AnnData, samples x genes; `obs` has sample_id, patient_id, split_group, split, cohort, tissue and more.
    tiles : store whose `sample_id` joins `obs`; None for profiles alone.
    simulated : made by the simulator; every page says so.
    banner : what every page must say first.
    notes : what is missing or was dropped.
    truth : tables of what the simulator planted.
    folder : where it lies.
    split_by : "patient", or "section" where one tumour has the images.
    section : an example slide and its um/px; None where there is none.
    """

    name: str
    profiles: AnnData
    tiles: TileStore | None
    simulated: bool
    banner: str
    notes: tuple[str, ...]
    truth: dict[str, pd.DataFrame]
    folder: Path
    split_by: str = "patient"
    section: tuple[Path, float] | None = None
    stored: dict[str, str] | None = field(default=None, repr=False)

    def tile_store(self) -> TileStore:
        """Return the tiles.

        Raises
        ------
        InputError : profiles alone.
        """
        if self.tiles is None:
            raise InputError(f"cohort {self.name}", expected="tiles", found="profiles only", fix="tile its slides first")
        return self.tiles

    def tile_um(self) -> float:
        """Return the side of a tile in um, the median where slides differ.

        Raises
        ------
        InputError : no tiles.
        """
        store = self.tile_store()
        return float(store.index["mpp_um"].median()) * store.tile_px

    def tile_mpp(self, px: int | None = None) -> float:
        """Return the um/px of the tiles once they have `px` pixels a side; None: as stored.

        Raises
        ------
        InputError : no tiles.
        """
        return self.tile_um() / (px or self.tile_store().tile_px)

    def tile_ids(self) -> dict[str, NDArray[np.int64]]:
        """Return the numbers of each sample's tiles in the store, in its order; a sample without tiles is not there.

        Raises
        ------
        InputError : no tiles.
        """
        index = self.tile_store().index
        return {str(name): rows["tile_id"].to_numpy() for name, rows in index.groupby("sample_id", observed=True)}

    def fingerprint(self) -> str:
        """Hash of sample ids, splits, unit, genes, values and the tile store: what a run must know of its data."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        obs = self.profiles.obs
        rows = "\n".join(
            "\t".join(row) for row in obs[["sample_id", "patient_id", "split_group", "split"]].astype(str).to_numpy()
        )
        values = np.ascontiguousarray(dense(self.profiles), dtype="<f4")
        return config_hash(
            {
                "samples": hashlib.sha256(rows.encode()).hexdigest(),
                "tissue": hashlib.sha256("\n".join(obs["tissue"].astype(str)).encode()).hexdigest(),
                "genes": hashlib.sha256("\n".join(map(str, self.profiles.var_names)).encode()).hexdigest(),
                "values": hashlib.sha256(values.tobytes()).hexdigest(),
                "unit": str(self.profiles.uns.get("unit", "")),
                "tiles": self.tiles.fingerprint() if self.tiles is not None else "",
            }
        )

    def only(self, split: str) -> Cohort:
        """Return the cohort with the profiles of one split (the store stays whole).

        Raises
        ------
        SplitError : no profile is in that split.
        """
        mine = (self.profiles.obs["split"].astype(str) == split).to_numpy()
        if not mine.any():
            raise SplitError(
                f"cohort {self.name}, split {split!r}", expected=f"one of {', '.join(SPLITS)}", found="no sample"
            )
        return replace(self, profiles=self.profiles[mine].copy())

    def of_tissues(self, *tissues: str) -> Cohort:
        """Return the cohort with the profiles of these tissues; every sample keeps its split (the store stays whole).

        Raises
        ------
        InputError : none named, or an unknown tissue.
        SplitError : one of the three splits is left empty.
        """
        names = self.profiles.obs["tissue"].astype(str)
        if not tissues or (unknown := sorted(set(tissues) - set(names))):
            raise InputError(
                f"cohort {self.name}, tissues {', '.join(tissues)}",
                expected=f"one or more of {', '.join(sorted(set(names)))}",
                found=f"unknown: {', '.join(unknown)}" if tissues else "none",
            )
        mine = names.isin(tissues).to_numpy()
        if absent := [split for split in SPLITS if split not in set(self.profiles.obs["split"][mine])]:
            raise SplitError(
                f"cohort {self.name}, tissues {', '.join(tissues)}",
                expected="samples in each split",
                found=f"none in {', '.join(absent)}",
                fix="choose tissues with more patients",
            )
        return replace(self, profiles=self.profiles[mine].copy())

    def folds(self, n: int = 5, *, seed: int = 0) -> list[Cohort]:
        """Return `n` cohorts of the same samples for cross-validation, each with its own splits (see `make_folds`).

        Whatever is fitted on the "train" (and "val") samples of a part never sees the patients that it tests.

        Raises
        ------
        InputError, SplitError : see `make_folds`.
        """
        parts = []
        for splits in make_folds(self.profiles.obs, n, seed=seed):
            profiles = self.profiles.copy()
            profiles.obs["split"] = profiles.obs["split_group"].astype(str).map(splits).to_numpy(dtype=object)
            stored = {str(group): str(split) for group, split in splits.items()}
            part = replace(self, profiles=profiles, stored=stored)
            part.check_splits()
            parts.append(part)
        return parts

    def split_of(self, sample: str) -> str:
        """Return the split of a sample id.

        Raises
        ------
        InputError : no such sample.
        """
        found = self.profiles.obs["split"][self.profiles.obs["sample_id"].astype(str) == sample]
        if not len(found):
            raise InputError(f"sample {sample!r}", expected=f"a sample of cohort {self.name}", found="none of that name")
        return str(found.iloc[0])

    def check_splits(self) -> None:
        """Raise SplitError if a split group or patient crosses splits, or the table differs from the stored splits."""
        check_splits(self.profiles.obs, subject=f"cohort {self.name}", split_by=self.split_by, stored=self.stored)

    def example_section(self) -> tuple[Path, float | None]:
        """Return the path of one slide or section and its um/px (None where the file itself says it).

        Raises
        ------
        InputError : the cohort has no slides.
        """
        if self.section is None:
            raise InputError(f"cohort {self.name}", expected="a slide", found="profiles or tiles only")
        path, mpp_um = self.section
        return path, None if np.isnan(mpp_um) else mpp_um


def load_cohort(
    name: str | Path,
    *,
    seed: int = 0,
    mirror: str | Path | None = None,
    folder: Path | None = None,
    progress: bool = False,
    **options: Any,
) -> Cohort:
    """Load a cohort by name, building it first where it is not built yet.

    Parameters
    ----------
    name : "simulated", a name of `list_manifests()`, or the path of a user's own manifest (see `cohorts.slides.build_own`).
    seed : of the splits (a fixed split, as her2st's, ignores it) and of the simulation.
    mirror : local folder that stands in for the internet (default `$RNASYNTH_MIRROR`). Without one, files that an earlier
        fetch brought are verified and used as they are; only where nothing was ever fetched is the network asked.
    folder : where data lie (default `$RNASYNTH_DATA`).
    progress : show bars while fetching and building.
    options : of the builder, see `rnasynth.data.cohorts`; for "simulated" the fields of `SimulationConfig`.

    Raises
    ------
    InputError : unknown cohort or option, or files that are needed and missing.
    SplitError : the stored splits are not those of this cohort.
    """
    base = Path(folder) if folder is not None else data_folder()
    if str(name) == "simulated":
        return _open(build_simulated_cohort(base, seed, options), seed)
    return _open(build_cohort(name, base, mirror=mirror, options=options, progress=progress), seed)


def _open(home: Path, seed: int) -> Cohort:
    """Open a built cohort and give it its stored splits."""
    facts = files.read_json(home / "cohort.json")
    adata = anndata.read_h5ad(home / "profiles.h5ad")
    adata.obs = plain_obs(adata.obs.drop(columns=["split"], errors="ignore"))
    if facts["splits"] is not None:
        made, path = pd.Series(facts["splits"]), home / "splits.csv"
    else:
        made, path = make_splits(adata.obs, seed=seed, stratify=facts["stratify"]), home / f"splits-seed{seed}.csv"
    with files.exclusive(home.parent / f".{home.name}.lock"):
        splits = stored_splits(path, adata.obs, made)
    adata.obs["split"] = adata.obs["split_group"].map(splits).to_numpy(dtype=object)
    section = facts["section"]
    cohort = Cohort(
        name=facts["name"],
        profiles=adata,
        tiles=TileStore(home / "tiles") if (home / "tiles").exists() else None,
        simulated=facts["simulated"],
        banner=facts["banner"],
        notes=tuple(facts["notes"]),
        truth={path.stem: pd.read_parquet(path) for path in sorted((home / "truth").glob("*.parquet"))},
        folder=home,
        split_by=facts["split_by"],
        section=None
        if section is None
        else ((home / section[0]).resolve(), float("nan") if section[1] is None else float(section[1])),
        stored={str(group): str(split) for group, split in splits.items()},
    )
    cohort.check_splits()
    return cohort
