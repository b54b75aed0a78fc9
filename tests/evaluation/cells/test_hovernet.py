"""HoVer-Net's JSON is read as it is written, and what is wrong with a file is said with the nucleus it is wrong in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnasynth.errors import InputError
from rnasynth.evaluation.cells.composition import count_table
from rnasynth.evaluation.cells.hovernet import PANNUKE, read_hovernet

TILE = np.full((40, 50, 3), 200, np.uint8)


def content() -> dict[str, Any]:
    square = [[10, 5], [19, 5], [19, 14], [10, 14]]
    nucleus = {"bbox": [[5, 10], [15, 20]], "centroid": [14.5, 9.5], "contour": square, "type_prob": 0.9, "type": 1}
    far = {"bbox": [[25, 30], [31, 36]], "centroid": [32.5, 27.5], "contour": [[30, 25], [35, 25], [35, 30], [30, 30]]}
    return {"mag": 40, "nuc": {"7": nucleus, "9": {**far, "type_prob": None, "type": 2}}}


def written(folder: Path, value: Any) -> Path:
    path = folder / "tile.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    found = read_hovernet(written(tmp_path, content()), TILE, mpp_um=0.25)
    assert found.table["class"].tolist() == ["tumour", "lymphocyte"]
    assert found.table[["x_px", "y_px"]].to_numpy().tolist() == [[14.5, 9.5], [32.5, 27.5]]
    assert found.table["area_um2"].tolist() == pytest.approx([100 / 16, 36 / 16])
    assert found.labels[9, 14] == 1 and found.labels[27, 32] == 2 and found.labels[0, 0] == 0
    assert found.table["probability"].iloc[0] == 0.9 and np.isnan(found.table["probability"].iloc[1])
    assert count_table([found], list(PANNUKE.values())).iloc[0].to_dict()["tumour"] == 1


def test_a_tile_without_nuclei_is_read(tmp_path: Path) -> None:
    found = read_hovernet(written(tmp_path, {"mag": None, "nuc": {}}), TILE, mpp_um=0.25)
    assert len(found) == 0 and not found.labels.any() and found.counts(("tumour",)) == {"tumour": 0}


def test_another_magnification_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mag 40"):
        read_hovernet(written(tmp_path, content()), TILE, mpp_um=0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("nuc"), '"nuc"'),
        (lambda c: c.update(mag="40x"), "magnification"),
        (lambda c: c["nuc"]["9"].pop("contour"), "nucleus 9, contour"),
        (lambda c: c["nuc"]["9"].update(contour=[[1, 1], [2, 2]]), "nucleus 9, contour"),
        (lambda c: c["nuc"]["9"].update(contour=[["a", 1]]), "nucleus 9, contour"),
        (lambda c: c["nuc"]["9"].update(centroid=[900, 3]), "nucleus 9"),
        (lambda c: c["nuc"]["9"].update(type=17), "nucleus 9, type"),
        (lambda c: c["nuc"]["9"].update(type_prob="high"), "nucleus 9, type_prob"),
        (lambda c: c["nuc"].update({"9": 3}), "nucleus 9"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, change: Any, message: str) -> None:
    broken = content()
    change(broken)
    with pytest.raises(InputError, match=message):
        read_hovernet(written(tmp_path, broken), TILE, mpp_um=0.25)


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_hovernet(tmp_path / "none.json", TILE, mpp_um=0.25)
    with pytest.raises(InputError, match="JSON"):
        read_hovernet(written(tmp_path, '{"nuc": '), TILE, mpp_um=0.25)
