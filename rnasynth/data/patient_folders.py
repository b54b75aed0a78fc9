"""A user's own patients: a folder of tiles (or a tile store) and a clinical table -> `PatientInputs`.

::

    TILES/PATIENT-1/any-name.png     a folder a sample, PNG or JPEG, all of one size
    TILES/PATIENT-2/...
    CLINICAL                         csv or tsv: sample_id (or patient_id), and clinical_text or age, sex, notes, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from rnasynth.data.clinical import LABEL_FIELDS, read_clinical
from rnasynth.data.genes import few
from rnasynth.data.patients import BATCH_TILES, Network, PatientInputs, checked, choose_tiles, features_key, texts_of
from rnasynth.data.pixels import resize
from rnasynth.data.tiles import POINTER, TileStore
from rnasynth.data.user_tables import read_user_table
from rnasynth.errors import InputError

IMAGES = (".png", ".jpg", ".jpeg")
LARGEST_PX = 4096  # of a tile; anything larger is a slide, which `rnasynth tile` cuts
# What PIL raises on a damaged image: UnidentifiedImageError is an OSError, some PNG files give SyntaxError
BAD_IMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
TEXT_FIELDS = ("clinical_text", "notes", "age", "sex", "race", "histology", "stage", "grade", "categories")


def inputs_from_folder(
    tiles: str | Path | None,
    clinical: str | Path | None,
    network: Network,
    *,
    mpp_um: float | None = None,
    per_sample: int = 256,
    px: int | None = None,
    seed: int = 0,
) -> PatientInputs:
    """Read a user's own samples, sorted by id: those with tiles, and those that stand in the table alone.

    Parameters
    ----------
    tiles : a folder with a folder of PNG or JPEG tiles for every sample, or a tile store; None: no tiles.
    clinical : table of texts or of fields to make a text of; None: no text.
    network : tiles -> features.
    mpp_um : um/px of the image files; a tile store says it itself.
    per_sample, px, seed : see `patients.patient_inputs`; of thousands of tiles `per_sample` are read.

    Raises
    ------
    InputError : neither given; an empty or flat folder; an image that cannot be read, or of another size; a table without
        ids or without anything to read; no sample of the table among those with tiles.
    """
    if tiles is None and clinical is None:
        raise InputError("inputs", expected="tiles, a clinical table, or both", found="neither")
    bags: dict[str, NDArray[np.float32]] = {}
    key = ""
    if tiles is not None:
        folder = Path(tiles)
        if not folder.is_dir():
            raise InputError(str(folder), expected="a folder of tiles or a tile store", found="no such folder")
        is_store = (folder / POINTER).is_file()
        read = _from_store if is_store else _from_images
        bags, seen_mpp = read(folder, network, mpp_um, per_sample, px, seed)
        key = features_key(network.name, seen_mpp)
    texts: Mapping[str, str] = {}
    tissues: Mapping[str, str] = {}
    if clinical is not None:
        texts, tissues = _table(Path(clinical))
        if bags and not set(bags) & set(texts):
            raise InputError(
                str(clinical),
                expected=f"samples such as {few(sorted(bags))}",
                found=few(sorted(texts)),
                fix="compare how the ids are written",
            )
    names = tuple(sorted(set(bags) | set(texts)))
    return PatientInputs(
        names,
        tuple(bags.get(name) for name in names),
        tuple(texts.get(name, "") for name in names),
        tuple(tissues.get(name, "") for name in names),
        key,
    )


def _from_store(
    folder: Path, network: Network, mpp_um: float | None, per_sample: int, px: int | None, seed: int
) -> tuple[dict[str, NDArray[np.float32]], float]:
    store = TileStore(folder)
    samples = store.index["sample_id"].astype(str)
    samples = samples.where(~samples.isin(["", "nan", "None"]), store.index["slide_id"].astype(str))
    values = store.index["mpp_um"].to_numpy(dtype=float)
    seen = float(np.median(values)) * store.tile_px / (px or store.tile_px)
    bags = {}
    for name, rows in samples.groupby(samples).groups.items():
        ids = np.sort(np.asarray(rows, dtype=np.int64))
        ids = ids[choose_tiles(str(name), len(ids), per_sample, seed)]
        starts = range(0, len(ids), BATCH_TILES)
        parts = [checked(network, store.read_batch(ids[s : s + BATCH_TILES], px), seen, f"sample {name}") for s in starts]
        bags[str(name)] = np.concatenate(parts)
    return bags, seen


def _from_images(
    folder: Path, network: Network, mpp_um: float | None, per_sample: int, px: int | None, seed: int
) -> tuple[dict[str, NDArray[np.float32]], float]:
    if mpp_um is None or not mpp_um > 0:
        raise InputError(str(folder), expected="the um/px of the tiles", found=f"{mpp_um}", fix="say it: --mpp 0.5")
    if flat := [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGES]:
        raise InputError(
            str(flat[0]),
            expected="a folder for each sample",
            found="a tile beside the folders",
            fix="put the tiles of a sample into a folder with its id",
        )
    homes = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    images = {home.name: [path for path in sorted(home.iterdir()) if path.suffix.lower() in IMAGES] for home in homes}
    if not any(images.values()):
        raise InputError(str(folder), expected="folders of PNG or JPEG tiles", found="none")
    side, bags = 0, {}
    for name, paths in images.items():
        chosen = [paths[number] for number in choose_tiles(name, len(paths), per_sample, seed)]
        parts = []
        for start in range(0, len(chosen), BATCH_TILES):
            batch = [_image(path) for path in chosen[start : start + BATCH_TILES]]
            for path, tile in zip(chosen[start:], batch, strict=False):
                side = side or tile.shape[0]
                if tile.shape[:2] != (side, side):
                    raise InputError(
                        str(path),
                        expected=f"square tiles of {side} px, as the first tile of the sample",
                        found=f"{tile.shape[1]} x {tile.shape[0]}",
                        fix="cut all tiles to one size, at one um/px",
                    )
            size = px or side
            pixels = np.stack([resize(tile, size) for tile in batch])
            parts.append(checked(network, pixels, mpp_um * side / size, f"sample {name}"))
        if parts:
            bags[name] = np.concatenate(parts)
    return bags, mpp_um * side / (px or side)


def _image(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            if max(image.size) > LARGEST_PX:
                raise InputError(
                    str(path), expected=f"a tile of at most {LARGEST_PX} px", found=f"{image.size}", fix="rnasynth tile"
                )
            return np.asarray(image.convert("RGB"))
    except BAD_IMAGE as error:
        raise InputError(
            str(path), expected="a PNG or JPEG tile", found=str(error), fix="write it again, or leave it out"
        ) from error


def _table(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return text and tissue by sample id."""
    separator = "\t" if ".tsv" in path.name else ","
    raw = read_user_table(path, separator=separator, what="a clinical table (csv or tsv)")
    key = next((name for name in ("sample_id", "patient_id") if name in raw), None)
    table = raw if key is not None and set(TEXT_FIELDS) & set(raw) else read_clinical(path)
    key = "sample_id" if "sample_id" in table else "patient_id"
    ids = table[key].astype(str)
    if (ids == "").any() or ids.duplicated().any():
        wrong = "an empty one" if (ids == "").any() else f"{ids[ids.duplicated()].iloc[0]} twice"
        raise InputError(f"{path}, column {key}", expected="an id in each row, each once", found=wrong)
    if "clinical_text" in table:
        given = table["clinical_text"].astype(str).str.strip()
        given = given[given != ""]
        if len(given) and pd.to_numeric(given, errors="coerce").notna().all():
            worded = [name for name in table if name != key and table[name].astype(str).str.contains(r"[a-z]+ [a-z]+").any()]
            raise InputError(
                f"{path}, column clinical_text",
                expected="sentences",
                found=f"numbers only ({given.iloc[0]})",
                fix=f"name the column with the text clinical_text{': is it ' + few(worded) + '?' if worded else ''}",
            )
    columns = [name for name in (*TEXT_FIELDS, *LABEL_FIELDS) if name in table]
    texts = dict(zip(ids, texts_of(table[columns]), strict=True))
    tissues = table["tissue"].astype(str) if "tissue" in table else pd.Series("", index=table.index)
    return texts, dict(zip(ids, tissues, strict=True))
