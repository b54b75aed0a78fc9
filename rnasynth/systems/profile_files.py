"""A user's tiles and clinical table in, profiles with their uncertainty out, as one file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from anndata import AnnData
from PIL import Image

import rnasynth
from rnasynth import files
from rnasynth.data.h5ad import write_h5ad
from rnasynth.data.patient_folders import BAD_IMAGE, IMAGES, inputs_from_folder
from rnasynth.data.patients import MPP_TOLERANCE, PatientInputs, features_key, store_mpp
from rnasynth.data.tiles import POINTER, TileStore
from rnasynth.errors import InputError
from rnasynth.features.networks import feature_network
from rnasynth.runs import load_run
from rnasynth.systems.patient_data import PatientReader
from rnasynth.systems.profile_generation import ProfileGenerator

SUFFIX = ".h5ad"


def open_profile_generator(run: str | Path) -> ProfileGenerator:
    """Return the generator of a run that reads tiles and text.

    Raises
    ------
    RunError : a run that is not there, not finished or damaged.
    InputError : a run that makes tiles, or that reads neither tiles nor text.
    """
    generator = load_run(run).load()
    if not isinstance(generator, ProfileGenerator):
        raise InputError(
            f"run {run}",
            expected="a system that makes profiles of tiles and text, such as gemm-gan or gemm-flow",
            found=type(generator).__name__,
            fix="a run that makes tiles takes --expression",
        )
    if getattr(generator.system, "reader", None) is None:
        raise InputError(f"run {run}", expected="a system that reads tiles and text", found=generator.name)
    return generator


def read_inputs(
    generator: ProfileGenerator,
    tiles: str | Path | None,
    clinical: str | Path | None,
    *,
    mpp_um: float | None = None,
    seed: int = 0,
) -> PatientInputs:
    """Read a user's samples as a generator was trained to read them: its feature network, um/px and number of tiles.

    Parameters
    ----------
    tiles : a folder with a folder of PNG or JPEG tiles for each sample, or a tile store; None: text alone.
    clinical : a table with sample_id and texts or fields; None: tiles alone.
    mpp_um : um/px of image files; a store says it itself.
    seed : of the choice among more tiles than the run reads.

    Raises
    ------
    InputError : see `inputs_from_folder`; tiles that are coarser than those of the training; a sample without what the run
        cannot do without.
    """
    reader: PatientReader = generator.system.reader  # type: ignore[attr-defined]
    config, known = reader.config, str(reader.facts["features"])
    network = feature_network(config.features)
    wanted = config.feature_mpp_um
    if "@" in known:  # what the training saw, which differs where its tiles were coarser than configured
        wanted = float(known.rpartition("@")[2].removesuffix("um/px"))
    px = None
    if tiles is not None:
        side, own = _side(Path(tiles), mpp_um)
        if own is not None and own > wanted * (1 + MPP_TOLERANCE):
            raise InputError(
                str(tiles), expected=f"tiles of {wanted:g} um/px or finer", found=f"{own:g}", fix="tile the slides finer"
            )
        px = None if side is None or own is None else max(1, round(side * own / wanted))
    inputs = inputs_from_folder(
        tiles, clinical, network, mpp_um=mpp_um, per_sample=config.per_sample, px=px, seed=seed
    )  # fmt: skip
    if known and inputs.features and px and side and own:
        seen = own * side / px
        if features_key(network.name, wanted) == known and abs(seen / wanted - 1) <= MPP_TOLERANCE:
            inputs = replace(inputs, features=known)  # a rounded pixel is no other um/px
    reader.check(inputs)
    return inputs


def generate_profiles(
    run: str | Path,
    out: str | Path,
    *,
    tiles: str | Path | None = None,
    clinical: str | Path | None = None,
    mpp_um: float | None = None,
    draws: int = 16,
    seed: int = 0,
) -> AnnData:
    """Make the profiles of a user's samples and write them, whole or not at all.

    Parameters
    ----------
    run : folder or name.
    out : a new file .h5ad.
    tiles, clinical, mpp_um, seed : see `read_inputs`; the seed is that of the draws, too.
    draws : profiles drawn of each sample, 2 or more.

    Returns
    -------
    What was written, see `ProfileGenerator.profiles`; `uns["provenance"]` is JSON: run, inputs, seed, draws, version.

    Raises
    ------
    InputError : see `open_profile_generator` and `read_inputs`; an `out` that is there or of another kind; too few draws.
    """
    out = Path(out)
    if out.suffix != SUFFIX or out.exists():
        found = "a file that is there already" if out.exists() else f"the suffix {out.suffix or 'none'!r}"
        raise InputError(str(out), expected=f"a new file {SUFFIX}", found=found, fix="give another name")
    if draws < 2:
        raise InputError("draws", expected="2 or more, for a spread", found=str(draws))
    generator = open_profile_generator(run)
    inputs = read_inputs(generator, tiles, clinical, mpp_um=mpp_um, seed=seed)
    made = generator.to("auto").profiles(inputs, draws, seed)
    facts: dict[str, Any] = {
        "run": generator.run_id,
        "system": generator.name,
        "tiles": "" if tiles is None else Path(tiles).name,
        "clinical": "" if clinical is None else Path(clinical).name,
        "clinical_sha256": "" if clinical is None else files.sha256(Path(clinical)),
        "features": inputs.features,
        "seed": seed,
        "draws": draws,
        "version": rnasynth.__version__,
    }
    made.uns["provenance"] = json.dumps(facts, sort_keys=True)
    write_h5ad(made, out)
    return made


def _side(folder: Path, mpp_um: float | None) -> tuple[int | None, float | None]:
    """Return side in pixels and um/px of tiles; None where `inputs_from_folder` will say what is wrong."""
    if not folder.is_dir():
        return None, None
    if (folder / POINTER).is_file():
        store = TileStore(folder)
        return store.tile_px, store_mpp(store)
    first = next((path for path in sorted(folder.glob("*/*")) if path.suffix.lower() in IMAGES), None)
    if first is None:
        return None, mpp_um
    try:
        with Image.open(first) as image:
            return int(image.size[1]), mpp_um
    except BAD_IMAGE:
        return None, mpp_um
