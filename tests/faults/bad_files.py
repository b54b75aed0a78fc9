"""Files that are empty, cut short, absurdly large or of another kind than their name says; all of them small on the disk."""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import yaml
from PIL import Image

HTML = b"<!DOCTYPE html><html><body><h1>503 Service Unavailable</h1><p>a, b; c\td</p></body></html>\n"
COLUMNS = 1_000_000  # of a table that nobody meant
BOMB_PX = 100_000  # side of an image whose header claims 30 GB of pixels
CLAIMED_VALUES = (200_000, 5_000_000)  # samples x genes that a profile file claims to hold: 4 TB


def png_header(side_px: int) -> bytes:
    """Start of a PNG that claims to be `side_px` squared and holds nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def pickled() -> bytes:
    """Return a harmless pickle, as a file of weights from elsewhere might be."""
    return pickle.dumps({"weights": [1.0, 2.0]}, protocol=4)


def wide_table() -> bytes:
    """Return a table of a million columns and one line."""
    names = ",".join(f"c{number}" for number in range(COLUMNS))
    return f"{names}\n{','.join('1' * COLUMNS)}\n".encode()


def yaml_bomb() -> bytes:
    """Return YAML whose nested references unfold to 10^9 items where they are written out."""
    lines = ["name: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"k{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9)]
    return "\n".join([*lines, "title: *a8", "files: *a8", ""]).encode()


def huge_profiles(path: Path) -> None:
    """Write an .h5ad file of a few kB that claims 4 TB of values, none of which is stored."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        values = file.create_dataset("X", CLAIMED_VALUES, "f4", chunks=(1, 10_000), compression="gzip")
        values.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for name in ("obs", "var"):
            group = file.create_group(name)
            group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
            group.attrs["column-order"] = np.array([], dtype=h5py.string_dtype())
            index = group.create_dataset("_index", data=np.array(["a"], dtype=object), dtype=h5py.string_dtype())
            index.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})


def small_png(path: Path, *, side_px: int = 64, seed: int = 0) -> Path:
    """Write a PNG of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side_px, side_px, 3), dtype=np.uint8)).save(path)
    return path


def own_manifest(folder: Path, samples: bytes, expression: bytes) -> None:
    """Write a user's own cohort: a manifest, its table of samples and its table of profiles."""
    folder.mkdir(parents=True)
    (folder / "samples.csv").write_bytes(samples)
    (folder / "expression.csv").write_bytes(expression)
    values = {
        "name": "mine", "title": "Mine", "description": "d", "simulated": False, "licence": "own", "citation": "c",
        "files": [],
        "cohort": {"samples": "samples.csv", "expression": "expression.csv", "unit": "tpm"},
    }  # fmt: skip
    (folder / "mine.yaml").write_text(yaml.safe_dump(values))


SIMPLE: dict[str, Callable[[], bytes]] = {  # name -> content
    **{f"empty.{kind}": lambda: b"" for kind in ("yaml", "csv", "tsv", "png", "svs", "h5ad", "json", "txt")},
    **{f"html.{kind}": lambda: HTML for kind in ("yaml", "csv", "png", "svs", "h5ad", "json", "txt")},
    **{f"png.{kind}": lambda: png_header(64) for kind in ("yaml", "csv", "h5ad", "txt")},
    "pickle.tif": pickled,
    "pickle.h5ad": pickled,
    "cut.yaml": lambda: b"name: mine\nfiles:\n  - {path: 'a.txt', url: 'https://exam",
    "cut.txt": lambda: b"id\tfilename\tmd5\tsize\tstate\n0a5f2c2e-6b0e-4a1c-9d1f-3f0f5b9d8c11\tTCGA-A",
    "cut.json": lambda: b'{"format": "rnasynth rating key 1", "tiles": {"ab',
    "bomb.yaml": yaml_bomb,
    "long.yaml": lambda: b"# " + b"x" * (5 << 20),
    "bomb.png": lambda: png_header(BOMB_PX),
    "wide.csv": wide_table,
}


def write_bad_files(folder: Path) -> None:
    """Write all of `SIMPLE`, and what needs more than bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in SIMPLE.items():
        (folder / name).write_bytes(content())
    huge_profiles(folder / "huge.h5ad")
