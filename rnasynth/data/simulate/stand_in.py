"""Files that stand in for a user's own study: simulated slides and profiles, in the forms that people have them in.

For trying what is meant for one's own data before there are any: an image file of a section for each patient, a table of
profiles, a table of samples. Everything is simulated, and the tables say so in their sample ids ("SIM-").
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from threadpoolctl import threadpool_limits

from rnasynth import files
from rnasynth.data.genes import dense
from rnasynth.data.simulate.design import SimulationConfig, patient_name
from rnasynth.data.simulate.profiles import simulate_profiles
from rnasynth.data.simulate.render import render_tile
from rnasynth.errors import InputError

SLIDE_MPP_UM = 0.5
GLASS = (243, 241, 244)  # RGB of the bare slide around the tissue
FIELD_PX = 640  # side of the tissue; 320 um
BORDER_PX = 64  # of glass on each side
OTHER_SEED = 1000  # of a series: other patients of the same biology


def write_study(folder: str | Path, *, patients: int = 15, genes: int = 300, seed: int = 0) -> Path:
    """Write a simulated study of paired slides and RNA: `slides/SAMPLE.tif`, `expression.tsv`, `samples.csv`.

    Parameters
    ----------
    folder : new or empty.
    patients : one sample and one slide each; patient i has tissue `TISSUES[i % 5]`.
    genes : rows of the expression table, 90 or more.
    seed : of the patients.

    Returns
    -------
    The folder. `expression.tsv` is genes x samples in TPM; a slide is an RGB TIFF of 768 x 768 px at 0.5 um/px that, as many
    TIFFs, does not say its um/px; `samples.csv` has sample_id, patient_id, tissue, slide, age, sex.

    Raises
    ------
    InputError : the folder holds files already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(str(folder), expected="a new or empty folder", found="other files", fix="choose another folder")
    config = SimulationConfig(
        patients=patients, genes=genes, seed=seed, tiles_per_patient=1, tile_px=FIELD_PX, mpp_um=SLIDE_MPP_UM
    )
    profiles, _ = simulate_profiles(config)
    with threadpool_limits(1):
        for number in range(patients):
            image = np.full((FIELD_PX + 2 * BORDER_PX,) * 2 + (3,), GLASS, dtype=np.uint8)
            image[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = render_tile(config, number, 0).image
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, format="TIFF", compression="tiff_lzw")
            files.write_bytes(folder / "slides" / f"{patient_name(number)}.tif", buffer.getvalue())
    table = profiles.obs[["sample_id", "patient_id", "tissue", "age", "sex"]].copy()
    table.insert(3, "slide", [f"{name}.tif" for name in table["sample_id"]])
    files.write_text(folder / "expression.tsv", _genes_by_samples(profiles.to_df()))
    files.write_text(folder / "samples.csv", table.to_csv(index=False))
    return folder


def write_series(path: str | Path, *, patients: int = 12, genes: int = 300, seed: int = 0) -> Path:
    """Write a simulated series of RNA without images, from another laboratory: shifted, and a fifth of the genes missing.

    Parameters
    ----------
    path : of the tab-separated table, genes x samples in TPM.
    patients, genes : samples, and genes before some are left out; with the `genes` of `write_study`, the same biology.
    seed : of the patients; they are never those of `write_study` with a seed below 1,000.
    """
    config = SimulationConfig(
        patients=patients, genes=genes, seed=OTHER_SEED + seed, tiles_per_patient=1, batch_shift=0.5, missing_gene_share=0.2
    )
    profiles, _ = simulate_profiles(config)
    table = pd.DataFrame(
        dense(profiles), index=[f"SERIES-{name}" for name in profiles.obs_names], columns=profiles.var_names
    )
    files.write_text(Path(path), _genes_by_samples(table))
    return Path(path)


def _genes_by_samples(table: pd.DataFrame) -> str:
    return str(table.T.round(4).rename_axis("gene").to_csv(sep="\t"))
