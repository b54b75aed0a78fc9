"""Sections of real H&E as they lie, tiled edge to edge, for networks that learn from pictures alone.

Which sections: of her2st those that its pages train on (C2 and C3) and validate on (C4), and the CC0 slide
CMU-1-Small-Region. C5, on which every page tests, and all files whose licence forbids released weights stay outside.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from rnasynth.config import data_folder
from rnasynth.data.cohort import Cohort
from rnasynth.data.cohorts.her2st import ONE_TUMOUR_SPLIT, grid_mpp_um, spots_of
from rnasynth.data.manifests import fetch
from rnasynth.data.tiles import finish_store
from rnasynth.data.tiling import tile_slides
from rnasynth.data.tissue import TileConfig

FREE_SLIDE = "CMU-1-Small-Region"
SECTIONS = tuple(section for section, split in ONE_TUMOUR_SPLIT.items() if split != "test")
BANNER = "Real H&E without RNA: sections C2, C3 (train) and C4 (validation) of one tumour, and one CC0 slide (train)."


def load_sections(*, mirror: Path | None = None, folder: Path | None = None, progress: bool = False) -> Cohort:
    """Tile the sections edge to edge, 256 px of 0.5 um, and return them as a cohort without profiles.

    Parameters
    ----------
    mirror, folder : as of `load_cohort`; the store lies in FOLDER/sections.
    progress : show bars.

    Returns
    -------
    Cohort of one row a section (`sample_id` is the section, the one "gene" its number of tiles), for systems that read
    tiles only. No test split: section C5 is not among them.

    Raises
    ------
    InputError : the files are neither fetched nor in the mirror.
    """
    base = Path(folder) if folder is not None else data_folder()
    wanted = [f"{kind}/{section}{end}" for section in SECTIONS for kind, end in _PARTS]
    fetch("her2st", to=base / "her2st", mirror=mirror, progress=progress, only=wanted)
    fetch("slides", to=base / "slides", mirror=mirror, progress=progress, only=[f"{FREE_SLIDE}.svs"])
    home = base / "sections"
    for section in SECTIONS:
        mpp_um = grid_mpp_um(spots_of(base / "her2st", section), section)
        path = base / "her2st" / "images" / f"{section}.jpg"
        tile_slides([path], home / "tiles", TileConfig(), slide_mpp=mpp_um, progress=progress, patient_of={section: section})
    free = base / "slides" / f"{FREE_SLIDE}.svs"
    tile_slides([free], home / "tiles", TileConfig(), progress=progress, patient_of={FREE_SLIDE: FREE_SLIDE})
    store = finish_store(home / "tiles")
    names = store.slide_ids
    obs = pd.DataFrame({"sample_id": names}, index=pd.Index(names, dtype=object))
    obs["patient_id"] = obs["split_group"] = names
    obs["split"] = [ONE_TUMOUR_SPLIT.get(name, "train") for name in names]
    obs["cohort"], obs["tissue"] = "sections", "unknown"
    counts = store.index["slide_id"].value_counts().reindex(names).to_numpy(np.float32)[:, None]
    profiles = AnnData(X=counts, obs=obs, var=pd.DataFrame(index=pd.Index(["tiles"])), uns={"unit": "counts"})
    return Cohort(
        name="sections",
        profiles=profiles,
        tiles=store,
        simulated=False,
        banner=BANNER,
        notes=(),
        truth={},
        folder=home,
        split_by="section",
    )


_PARTS = (("images", ".jpg"), ("spots", "_selection.tsv"))
