"""What a page leaves for the book's quiz: real tiles and tiles of one model, as two sheets of images with their facts.

In the page's folder, for each model: `quiz/NAME_real.png` and `quiz/NAME_made.png` (tiles in rows of ten, without metadata)
and, written last, `quiz/NAME.json`. No sample and no patient is named: a sheet can be handed on with the rendered book.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rnasynth.errors import InputError
from rnasynth.files import read_json, sha256, write_bytes, write_json

QUIZ = "quiz"  # the folder, inside the page's
MOST_TILES = 40  # real ones, and as many made ones, of a model
PER_ROW = 10
_FORMAT = "rnasynth quiz sheet 1"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The tiles that a page left of one model."""

    page: str
    """The page, such as "07_rna_gan"."""
    model: str
    """What readers call the model."""
    real: NDArray[np.uint8]
    """Real tiles of held-out samples, shape (n, px, px, 3)."""
    made: NDArray[np.uint8]
    """Tiles that the model made, shape (m, px, px, 3)."""
    mpp_um: float
    """Micrometres per pixel, of both."""
    handling: str
    """How both came to their size and stain, in words."""
    banner: str
    """The page's warning about its data; empty if it has none."""
    simulated: bool
    """Whether the real tiles are a simulator's."""


def write_sheet(
    folder: Path,
    model: str,
    *,
    real: NDArray[np.uint8],
    made: NDArray[np.uint8],
    mpp_um: float,
    handling: str,
    banner: str = "",
    simulated: bool = False,
) -> Path:
    """Leave the tiles of one model in a page's folder.

    Parameters
    ----------
    folder : of the page.
    model : what readers call it, such as "RNA-GAN"; unique on the page, and not "real".
    real, made : uint8 RGB, shape (n, px, px, 3) and (m, px, px, 3); at most `MOST_TILES` each. Of held-out samples, taken
        by a fixed rule, never by their looks.
    mpp_um : micrometres per pixel, the same for both: size must not give them away.
    handling : how both came to their size and stain, in words for the quiz's page.
    banner : warning about the data, in Markdown.
    simulated : whether the real tiles are a simulator's: the quiz must say so.

    Returns
    -------
    Path of the sheet's JSON.

    Raises
    ------
    InputError : tiles of another type or shape, of two sizes, none or too many; no name, one that is taken, no `handling`.
    """
    name = re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")
    path = folder / QUIZ / f"{name}.json"
    if not name or name == "real":
        raise InputError(f"quiz, model {model!r}", expected="a name with letters or digits, and not real", found=repr(model))
    if not handling.strip() or not (math.isfinite(mpp_um) and mpp_um > 0):
        raise InputError(
            f"quiz, model {model}",
            expected="micrometres per pixel, and how the tiles were handled",
            found=f"{mpp_um} and {handling!r}",
        )
    for kind, tiles in (("real", real), ("made", made)):
        if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[3] != 3 or tiles.shape[1] != tiles.shape[2]:
            raise InputError(
                f"quiz, model {model}, {kind} tiles", expected="uint8 (n, px, px, 3)", found=f"{tiles.dtype} {tiles.shape}"
            )
        if not 1 <= len(tiles) <= MOST_TILES:
            raise InputError(f"quiz, model {model}, {kind} tiles", expected=f"1 to {MOST_TILES}", found=str(len(tiles)))
    if real.shape[1] != made.shape[1]:
        raise InputError(
            f"quiz, model {model}",
            expected="real and made tiles of one size, else it tells them apart",
            found=f"{real.shape[1]} and {made.shape[1]} px",
        )
    facts: dict[str, Any] = {"format": _FORMAT, "model": model, "px": int(real.shape[1]), "mpp_um": float(mpp_um)}
    facts |= {"handling": " ".join(handling.split()), "banner": banner, "simulated": bool(simulated)}
    for kind, tiles in (("real", real), ("made", made)):
        image = path.with_name(f"{name}_{kind}.png")
        write_bytes(image, _joined(tiles))
        facts[kind] = {"file": image.name, "tiles": len(tiles), "sha256": sha256(image)}
    write_json(path, facts)
    return path


def read_sheet(page: str, path: Path) -> Sheet:
    """Read a sheet that a page left.

    Raises
    ------
    InputError : a file is missing, of another form, or not the one that the page left.
    """
    facts = read_json(path)
    again = f"run {page} again with --force"
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
        raise InputError(str(path), expected=_FORMAT, found="another form", fix=again)
    tiles = {}
    for kind in ("real", "made"):
        image = path.with_name(facts[kind]["file"])
        if not image.is_file() or sha256(image) != facts[kind]["sha256"]:
            found = "other bytes" if image.is_file() else "no such file"
            raise InputError(str(image), expected="the sheet of tiles that the page left", found=found, fix=again)
        tiles[kind] = _parted(image, facts["px"], facts[kind]["tiles"])
    kept = {name: facts[name] for name in ("model", "mpp_um", "handling", "banner", "simulated")}
    return Sheet(page=page, real=tiles["real"], made=tiles["made"], **kept)


def _joined(tiles: NDArray[np.uint8]) -> bytes:
    """Return one PNG with the tiles in rows of `PER_ROW`; places that are left over are white."""
    count, px = tiles.shape[:2]
    rows = math.ceil(count / PER_ROW)
    full = np.full((rows * PER_ROW, px, px, 3), 255, dtype=np.uint8)
    full[:count] = tiles
    sheet = full.reshape(rows, PER_ROW, px, px, 3).swapaxes(1, 2).reshape(rows * px, PER_ROW * px, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG")
    return buffer.getvalue()


def _parted(path: Path, px: int, count: int) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        sheet = np.asarray(image.convert("RGB"))
    rows = sheet.shape[0] // px
    return sheet.reshape(rows, px, PER_ROW, px, 3).swapaxes(1, 2).reshape(rows * PER_ROW, px, px, 3)[:count]
