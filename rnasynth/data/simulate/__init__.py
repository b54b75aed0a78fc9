"""The simulated cohort: profiles, tiles, survival and clinical text that follow the same known cell fractions.

Everything random is drawn from a stream keyed by (purpose, seed, patient, tile), so that a tile is the same whether it is
rendered alone, in another order or in another process. Bit-identity holds on one machine and one numpy; between processors
the last bit of a floating-point function may differ, which can move single pixels by one grey level.

`build_simulated` writes a cohort; `render_tile` and `simulate_profiles` are its pure halves.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from rnasynth import files
from rnasynth.data.simulate.counterfactual import (
    counterfactual_profiles,
    in_tissue,
    stored_config,
    tiles_with_more,
    with_more,
)
from rnasynth.data.simulate.design import (
    CELL_TYPES,
    MARKERS,
    MEAN_FRACTIONS,
    RNA_CONTENT,
    SURVIVAL_COEFFICIENTS,
    TISSUES,
    TUMOURS,
    SimulationConfig,
    patient_name,
)
from rnasynth.data.simulate.profiles import Patient, gene_programmes, make_patient, simulate_profiles, tile_fractions
from rnasynth.data.simulate.render import Tile, nuclei_mask, render_tile
from rnasynth.data.simulate.stain import Stain, draw_stain, transmit, unmix
from rnasynth.data.tiles import TileWriter, finish_store
from rnasynth.errors import InputError

VERSION = 1  # raise it when equal configurations would give other values than before
FACTS = "simulated.json"  # written last; a folder without it does not count
COLUMNS_OF_TILES = 6  # a slide's tiles lie side by side in rows of six


def build_simulated(folder: str | Path, config: SimulationConfig, *, workers: int = 1) -> None:
    """Write a whole simulated cohort; do nothing where `folder` already holds the same one.

    Files: profiles.h5ad, truth/*.parquet (the tables of `simulate_profiles`, and "nuclei", see `nuclei_table`),
    tiles/ (a tile store, one slide a patient), simulated.json. It is built beside `folder` and renamed when complete, so
    an interrupted build leaves nothing; of several processes that build the same folder, one builds and the others wait.

    Parameters
    ----------
    folder : where the cohort shall lie.
    config : what to simulate.
    workers : processes that render; the result does not depend on it.

    Raises
    ------
    InputError : `folder` holds another cohort, or something else.
    """
    folder = Path(folder)
    facts = {"version": VERSION, "config": config.to_dict()}
    if _holds(folder, facts):
        return
    with _alone(folder):
        if _holds(folder, facts):
            return
        work = folder.with_name(folder.name + ".partial")
        shutil.rmtree(work, ignore_errors=True)
        profiles, truth = simulate_profiles(config)
        truth["nuclei"] = _build_tiles(work / "tiles", config, workers)
        with files.atomic_path(work / "profiles.h5ad") as temporary:
            profiles.write_h5ad(temporary)
        for name, table in truth.items():
            with files.atomic_path(work / "truth" / f"{name}.parquet") as temporary:
                table.to_parquet(temporary, index=False)
        files.write_json(work / FACTS, facts)
        files.replace(work, folder)


def _holds(folder: Path, facts: dict[str, object]) -> bool:
    if not folder.exists():
        return False
    if not (folder / FACTS).exists() and any(folder.iterdir()):
        raise InputError(
            str(folder), expected="a simulated cohort or no folder", found="something else", fix="choose another"
        )
    if not (folder / FACTS).exists():
        folder.rmdir()
        return False
    found = files.read_json(folder / FACTS)
    if found != facts:
        raise InputError(
            str(folder),
            expected=f"the simulated cohort {facts}",
            found=str(found),
            fix="remove it, or choose another folder",
        )
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for other processes that build the same folder; the lock ends with the process that holds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build_tiles(store: Path, config: SimulationConfig, workers: int) -> pd.DataFrame:
    """Render and store every patient's slide; return the table of all nuclei."""
    build = partial(_build_slide, store, config)
    if workers == 1:
        tables = [build(patient) for patient in range(config.patients)]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            tables = list(pool.map(build, range(config.patients), chunksize=4))
    finish_store(store)
    return pd.concat(tables, ignore_index=True)


def _build_slide(store: Path, config: SimulationConfig, patient: int) -> pd.DataFrame:
    name = patient_name(patient)
    nuclei = []
    meta = {"simulated": config.to_dict(), "version": VERSION}
    # One thread: the matrices of a tile are small, and threads that wait for each other cost twenty times the work.
    with threadpool_limits(1), TileWriter(store, name, patient_id=name, meta=meta) as writer:
        for number in range(config.tiles_per_patient):
            tile = render_tile(config, patient, number)
            row = {
                "sample_id": name,
                "x_px": config.tile_px * (number % COLUMNS_OF_TILES),
                "y_px": config.tile_px * (number // COLUMNS_OF_TILES),
                "mpp_um": config.mpp_um,
                "tissue_fraction": tile.tissue_fraction,
            }
            writer.add(tile.image, row)
            nuclei.append(tile.nuclei)
        writer.finish()
    return nuclei_table(config, patient, nuclei)


def nuclei_table(config: SimulationConfig, patient: int, nuclei: list[np.ndarray]) -> pd.DataFrame:
    """Return the nuclei of one patient's tiles, one row a nucleus that lies in its tile or reaches into it.

    Columns: patient_id, slide_id, tile, nucleus (its value in `nuclei_mask`), x_px, y_px (centre, sub-pixel, 0 is the
    left or upper edge of the tile), kind (of CELL_TYPES), malignant, long_um, short_um (half axes), angle (radians, of
    the long axis, x to the right and y down), centre_inside. Count those with `centre_inside` to compare with fractions.
    """
    rows = np.concatenate(nuclei)
    counts = [len(each) for each in nuclei]
    x_px, y_px = rows["x_um"] / config.mpp_um, rows["y_um"] / config.mpp_um
    inside = (x_px >= 0) & (x_px < config.tile_px) & (y_px >= 0) & (y_px < config.tile_px)
    return pd.DataFrame(
        {
            "patient_id": patient_name(patient),
            "slide_id": patient_name(patient),
            "tile": np.repeat(np.arange(len(nuclei)), counts),
            "nucleus": np.concatenate([np.arange(1, count + 1) for count in counts]),
            "x_px": x_px,
            "y_px": y_px,
            "kind": np.array(CELL_TYPES, dtype=object)[rows["kind"]],
            "malignant": rows["malignant"],
            "long_um": rows["long_um"],
            "short_um": rows["short_um"],
            "angle": rows["angle"],
            "centre_inside": inside,
        }
    )


__all__ = [
    "CELL_TYPES",
    "MARKERS",
    "MEAN_FRACTIONS",
    "RNA_CONTENT",
    "SURVIVAL_COEFFICIENTS",
    "TISSUES",
    "TUMOURS",
    "Patient",
    "SimulationConfig",
    "Stain",
    "Tile",
    "build_simulated",
    "counterfactual_profiles",
    "draw_stain",
    "gene_programmes",
    "in_tissue",
    "make_patient",
    "nuclei_mask",
    "nuclei_table",
    "render_tile",
    "simulate_profiles",
    "stored_config",
    "tile_fractions",
    "tiles_with_more",
    "transmit",
    "unmix",
    "with_more",
]
