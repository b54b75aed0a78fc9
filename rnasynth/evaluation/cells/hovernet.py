"""HoVer-Net's public output as nuclei: one JSON file a tile, as its `run_infer.py tile` writes it.

The file: `{"mag": 40, "nuc": {"1": {"bbox": [[y0, x0], [y1, x1]], "centroid": [x, y], "contour": [[x, y], ...],
"type_prob": 0.98, "type": 1}, ...}}`. Nothing of HoVer-Net is needed to read it. Source: Graham et al., Medical Image
Analysis 58, 101563 (2019), and the format of its public repository.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.draw import polygon, polygon_perimeter

from rnasynth.errors import InputError
from rnasynth.evaluation.cells.nuclei import COLUMNS, Nuclei, measure
from rnasynth.evaluation.cells.stain import stain_planes

#: Types of the PanNuke weights, by number (0 is "no label"): the words of the paper's Table 1.
PANNUKE = {0: "unlabelled", 1: "tumour", 2: "lymphocyte", 3: "connective", 4: "dead", 5: "normal"}
MPP_AT_40X = 0.25
MAX_BYTES = 500_000_000


def read_hovernet(
    path: str | Path,
    tile: NDArray[np.uint8],
    *,
    mpp_um: float,
    types: Mapping[int, str] = PANNUKE,
) -> Nuclei:
    """Read HoVer-Net's nuclei of one tile.

    Parameters
    ----------
    path : the JSON file.
    tile : uint8 RGB (H, W, 3): the tile that HoVer-Net was given, whose pixels the coordinates count.
    mpp_um : um/px of that tile. Where the file states a magnification, the two must agree (40x is 0.25 um/px): the
        published weights want 40x, and 20x tiles given to them as they are would be counted wrongly.
    types : number -> class.

    Returns
    -------
    Nuclei on the tile's pixels; areas are those of the contours. Where contours overlap, the later one has the pixels.

    Raises
    ------
    InputError : no such file, not JSON, no `nuc`, a nucleus without contour, centroid or with an unknown type, coordinates
        outside the tile, or another magnification. The message names the nucleus.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), expected="a HoVer-Net JSON file", found="no such file")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(str(path), expected=f"at most {MAX_BYTES / 1e6:g} MB", found=f"{path.stat().st_size / 1e6:.0f} MB")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(str(path), expected="JSON", found=str(error).splitlines()[0]) from error
    if not isinstance(content, dict) or not isinstance(content.get("nuc"), dict):
        raise InputError(
            str(path), expected='an object with "nuc"', found="none", fix="give the file of a tile, not of a slide"
        )
    _check_magnification(path, content.get("mag"), mpp_um)
    height, width = tile.shape[:2]
    labels = np.zeros((height, width), dtype=np.int32)
    rows = []
    for number, (name, nucleus) in enumerate(content["nuc"].items(), start=1):
        contour, centroid, kind, probability = _nucleus(f"{path}, nucleus {name}", nucleus, types, (height, width))
        for draw in (polygon, polygon_perimeter):
            y, x = draw(contour[:, 1], contour[:, 0], shape=labels.shape)
            labels[y, x] = number
        rows.append((number, *centroid, kind, probability))
    given = pd.DataFrame(rows, columns=["label", "x_px", "y_px", "class", "probability"])
    measured = measure(labels, stain_planes(tile), mpp_um=mpp_um).drop(columns=["x_px", "y_px", "class", "probability"])
    table = given.merge(measured, on="label", how="left")  # a nucleus that a later one covers keeps its row
    return Nuclei(labels, table[list(COLUMNS)], mpp_um)


def _check_magnification(path: Path, mag: Any, mpp_um: float) -> None:
    if not (math.isfinite(mpp_um) and mpp_um > 0):
        raise InputError(str(path), expected="um/px above 0", found=repr(mpp_um))
    if mag is None:  # HoVer-Net writes null where the tile does not say it
        return
    if isinstance(mag, bool) or not isinstance(mag, (int, float)) or not mag > 0:
        raise InputError(f"{path}, mag", expected="a magnification such as 40, or null", found=repr(mag))
    stated = MPP_AT_40X * 40 / float(mag)
    if not 0.8 < stated / mpp_um < 1.25:
        raise InputError(
            f"{path}, mag {mag:g}",
            expected=f"a magnification of {mpp_um:g} um/px ({MPP_AT_40X * 40 / mpp_um:g}x)",
            found=f"{stated:g} um/px",
            fix="bring the tiles to 40x before HoVer-Net, or state the um/px that they had",
        )


def _nucleus(
    subject: str, nucleus: Any, types: Mapping[int, str], side: tuple[int, int]
) -> tuple[NDArray[np.float64], tuple[float, float], str, float]:
    """Return contour (n, 2) x and y, centroid, class, and probability of one nucleus."""
    if not isinstance(nucleus, dict):
        raise InputError(subject, expected="an object", found=type(nucleus).__name__)
    contour, centroid = (_points(subject, key, nucleus.get(key)) for key in ("contour", "centroid"))
    if contour.ndim != 2 or contour.shape[1] != 2 or len(contour) < 3:
        raise InputError(f"{subject}, contour", expected="three or more points [x, y]", found=f"shape {contour.shape}")
    if centroid.shape != (2,):
        raise InputError(f"{subject}, centroid", expected="[x, y]", found=f"shape {centroid.shape}")
    limit = np.array([side[1], side[0]], dtype=np.float64)
    for points in (contour, centroid[None]):
        if (points < 0).any() or (points > limit).any():
            raise InputError(
                subject,
                expected=f"coordinates within the tile of {side[1]} x {side[0]} px",
                found=f"{points.min(0).tolist()} to {points.max(0).tolist()}",
                fix="give the tile that HoVer-Net was given",
            )
    kind = nucleus.get("type")
    if isinstance(kind, bool) or not isinstance(kind, int) or kind not in types:
        raise InputError(f"{subject}, type", expected=f"one of {', '.join(map(str, types))}", found=repr(kind))
    probability = nucleus.get("type_prob")
    if probability is not None and (isinstance(probability, bool) or not isinstance(probability, (int, float))):
        raise InputError(f"{subject}, type_prob", expected="a number or null", found=repr(probability))
    return (
        contour,
        (float(centroid[0]), float(centroid[1])),
        types[kind],
        math.nan if probability is None else float(probability),
    )


def _points(subject: str, key: str, value: Any) -> NDArray[np.float64]:
    try:
        points = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{subject}, {key}", expected="numbers", found=repr(value)[:60]) from error
    if not np.isfinite(points).all():
        raise InputError(f"{subject}, {key}", expected="finite numbers", found="none, NaN or infinity")
    return points
