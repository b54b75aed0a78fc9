"""The tile store: encoded tiles in one LMDB a slide, and one index for all of them.

::

    STORE/INDEX                     name of the index in force; switched atomically, always last
    STORE/index-3.parquet           one row a tile (`INDEX_COLUMNS`), the store's facts in the file's metadata
    STORE/SLIDE/data.mdb            key = tile number (8 bytes, big-endian), value = JPEG or PNG bytes
    STORE/SLIDE/index.parquet       this slide's rows
    STORE/SLIDE/slide.json          what it was made from, what was dropped and why, hash of rows and tiles
    STORE/SLIDE.partial/            a slide that is still growing, or that was interrupted
    STORE/SLIDE.failed.json         why a slide is in quarantine (its `.partial` is kept: the next try goes on there)
    STORE/.locks/SLIDE              held by the one process that may write the slide

**Equality.** Two stores are equal if their `fingerprint()` is: the same rows of the index (all columns) and the same encoded
bytes of each tile. The bytes of `data.mdb` are not compared: LMDB's page order depends on when commits happened.
`tile_id` is the row in the order (slide_id, tile): extending a store renumbers; (slide_id, tile) is the lasting name, and
an open `TileStore` keeps the index that it was opened with.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from rnasynth import files
from rnasynth.config import config_hash
from rnasynth.data.pixels import Quality, decode, resize, to_float, to_uint8, widen
from rnasynth.data.tile_writer import (
    FORMAT,
    INDEX_COLUMNS,
    TileWriter,
    damaged,
    slide_hash,
    take_lock,
    tile_key,
)
from rnasynth.errors import InputError, StoreError

__all__ = ["INDEX_COLUMNS", "TileStore", "TileWriter", "finish_store", "finished_slides", "to_float", "to_uint8"]

MAX_THREADS = 4  # decoding releases Python's lock
TILES_PER_THREAD = 8  # fewer are not worth a thread
MAX_SPARE = 3  # batches whose memory is used again: one in training, one being read, one waiting
MAX_HANDLES = 128  # open slides a process; beyond it the one used longest ago is closed
POINTER = "INDEX"
MEND = "remove INDEX and run `rnasynth tile` again: finished slides are kept"
_METADATA = b"rnasynth_tiles"


class TileStore:
    """A finished tile store, read-only.

    Parameters
    ----------
    folder : folder of the store.

    Raises
    ------
    StoreError : there is no index, or it is of another format, or (on reading) a tile is missing or damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            name = (self.folder / POINTER).read_text(encoding="ascii").strip()
            if not re.fullmatch(r"index-\d+\.parquet", name):
                raise StoreError(
                    str(self.folder / POINTER),
                    expected="the name of a tile store's index",
                    found=repr(name[:40]),
                    fix=MEND,
                )
        except UnicodeDecodeError as error:
            raise StoreError(
                str(self.folder / POINTER), expected="the pointer of a tile store", found=str(error), fix=MEND
            ) from None
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            started = sorted(path.name for path in self.folder.glob("*.partial"))
            raise StoreError(
                f"{folder}",
                expected=f"a tile store (a folder with {POINTER})",
                found=f"one that was never finished ({', '.join(started)})" if started else "none",
                fix="run `rnasynth tile` to its end",
            ) from None
        self._path = self.folder / name
        try:
            metadata = pq.read_schema(self._path).metadata or {}
            self._facts: dict[str, Any] = json.loads(metadata[_METADATA])
        except (OSError, KeyError, pa.ArrowInvalid, json.JSONDecodeError) as error:
            raise StoreError(
                str(self._path), expected="the index of a tile store", found=repr(error)[:300], fix=MEND
            ) from error
        if self._facts["format"] != FORMAT:
            raise StoreError(
                str(self._path),
                expected=f"format {FORMAT}",
                found=f"format {self._facts['format']}",
                fix="tile again, or install the version that wrote it",
            )
        self.tile_px: int = self._facts["tile_px"]
        self.quality: Quality = self._facts["quality"]

    def __len__(self) -> int:
        return int(self._facts["tiles"])

    def __repr__(self) -> str:
        return f"TileStore({str(self.folder)!r}: {len(self)} tiles of {self.tile_px} px, {len(self.slide_ids)} slides)"

    def __getstate__(self) -> dict[str, Any]:
        """A worker process reads the index anew instead of receiving it."""
        return {name: value for name, value in self.__dict__.items() if name not in ("index", "_where")}

    @property
    def slide_ids(self) -> list[str]:
        """Names of the slides, sorted."""
        return sorted(self._facts["slides"])

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row a tile, columns `INDEX_COLUMNS`; x_px and y_px are level-0 pixels, mpp_um the tile's um/px."""
        return pd.read_parquet(self._path)

    @cached_property
    def _where(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(number of the slide, tile number) of each row, and the slides' names."""
        codes, names = pd.factorize(self.index["slide_id"])
        return codes, self.index["tile"].to_numpy(), np.asarray(names, dtype=object)

    def read_bytes(self, tile_id: int) -> bytes:
        """Encoded bytes (JPEG or PNG) of one tile."""
        return next(iter(self._contents([tile_id])))[2]

    def read(self, tile_id: int) -> np.ndarray:
        """One tile, uint8 RGB, shape (tile_px, tile_px, 3)."""
        return self.read_batch([tile_id])[0]

    def read_batch(self, tile_ids: Sequence[int] | np.ndarray | torch.Tensor, px: int | None = None) -> np.ndarray:
        """Read tiles, in the order asked for.

        Parameters
        ----------
        tile_ids : rows of the index, shape (B,).
        px : size wanted; by an integer factor smaller: the exact mean of each area; else antialiased bicubic.

        Returns
        -------
        uint8 RGB, shape (B, px, px, 3).
        """
        size = px or self.tile_px
        batch = np.empty((len(tile_ids), size, size, 3), np.uint8)

        def place(number: int, tile: np.ndarray) -> None:
            batch[number] = resize(tile, size)

        self._decode(tile_ids, place)
        return batch

    def read_float(self, tile_ids: Sequence[int] | np.ndarray | torch.Tensor, px: int | None = None) -> torch.Tensor:
        """Return `to_float(read_batch(tile_ids, px))`, faster: each tile is widened while it is in the cache.

        Returns
        -------
        float32, shape (B, 3, px, px), in [-1, 1].
        """
        size = px or self.tile_px
        batch_BCHW = _own_handles().spare((len(tile_ids), 3, size, size))
        self._decode(tile_ids, lambda number, tile: widen(resize(tile, size), batch_BCHW[number]))
        return torch.from_numpy(batch_BCHW)

    def _decode(self, tile_ids: Sequence[int] | np.ndarray | torch.Tensor, use: Callable[[int, np.ndarray], None]) -> None:
        """Call `use(place in tile_ids, decoded tile)` for each tile, on as many threads as torch may use, at most 4.

        The tile is a buffer that is used again for the next one.
        """

        def part(entries: list[tuple[int, int, bytes]]) -> None:
            tile = np.empty((self.tile_px, self.tile_px, 3), np.uint8)
            for place, tile_id, content in entries:
                try:
                    decode(content, tile)
                except ValueError as error:
                    raise self._bad_tile(tile_id, f"damaged bytes ({error})") from error
                use(place, tile)

        entries = list(self._contents(tile_ids))
        threads = max(1, min(MAX_THREADS, torch.get_num_threads(), len(entries) // TILES_PER_THREAD))
        if threads == 1:
            part(entries)
        else:
            list(_own_handles().pool.map(part, (entries[start::threads] for start in range(threads))))

    def _contents(self, tile_ids: Sequence[int] | np.ndarray | torch.Tensor) -> Iterator[tuple[int, int, bytes]]:
        """(place in `tile_ids`, tile id, encoded bytes), slide by slide."""
        ids = np.asarray(tile_ids, dtype=np.int64).reshape(-1)
        if ids.size and (ids.min() < 0 or ids.max() >= len(self)):
            raise InputError(
                f"tile ids for {self.folder}", expected=f"0 to {len(self) - 1}", found=f"{ids.min()} to {ids.max()}"
            )
        slides, tiles, names = self._where
        order = np.argsort(slides[ids], kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(slides[ids[order]])) + 1):
            if not places.size:
                continue
            folder = self.folder / names[slides[ids[places[0]]]]
            contents = read_contents(folder, [tile_key(tiles[ids[place]]) for place in places])
            for place, content in zip(places, contents, strict=True):
                if content is None:
                    raise self._bad_tile(int(ids[place]), "no such tile")
                yield int(place), int(ids[place]), content

    def _bad_tile(self, tile_id: int, found: str) -> StoreError:
        row = self.index.iloc[tile_id]
        return StoreError(
            f"slide {row['slide_id']} in {self.folder}, tile {row['tile']}",
            expected=f"an image of {self.tile_px} px",
            found=found,
            fix="remove the slide's folder and tile it again",
        )

    def fingerprint(self) -> str:
        """Hash of all rows and tiles, from the slides' hashes recorded when they were finished; `verify` recomputes them."""
        return config_hash({key: self._facts[key] for key in ("format", "tile_px", "quality", "slides")})

    def verify(self) -> str:
        """Read every tile's bytes, compare with the recorded hashes, and return the fingerprint.

        Raises
        ------
        StoreError : a slide's rows or bytes are not what was written.
        """
        for slide_id, table in self.index.groupby("slide_id", sort=True):
            contents = (content for _, _, content in self._contents(table["tile_id"].to_numpy()))
            if slide_hash(table.drop(columns="tile_id"), contents) != self._facts["slides"][slide_id]:
                raise StoreError(
                    f"slide {slide_id} in {self.folder}",
                    expected="the rows and bytes that were written",
                    found="others",
                    fix="remove the slide's folder and tile it again",
                )
        return self.fingerprint()


def finished_slides(store: str | Path) -> dict[str, dict[str, Any]]:
    """Facts (`slide.json`) of each finished slide in a store's folder, by slide id, sorted."""
    found = Path(store).glob("*/slide.json")
    return {path.parent.name: files.read_json(path) for path in sorted(found) if path.parent.suffix != ".partial"}


def finish_store(store: str | Path) -> TileStore:
    """Index all finished slides: write a new index, then switch the pointer. Does nothing where the index is current.

    The index before it is kept for readers that are just opening it; older ones are removed.

    Raises
    ------
    StoreError : no slide is finished, or they differ in tile size or quality, or another process is at it.
    """
    store = Path(store)
    slides = finished_slides(store)
    if not slides:
        raise StoreError(str(store), expected="a finished slide", found="none", fix="tile a slide first")
    sizes = {(facts["tile_px"], str(facts["quality"])) for facts in slides.values() if facts["tiles"]}
    if len(sizes) > 1:
        raise StoreError(
            str(store),
            expected="one tile size and quality",
            found=", ".join(f"{size} px at quality {quality}" for size, quality in sorted(sizes, key=str)),
            fix="make one store for each",
        )
    first = next((facts for facts in slides.values() if facts["tiles"]), next(iter(slides.values())))
    facts = {
        "format": FORMAT,
        "tile_px": first["tile_px"] or 0,
        "quality": first["quality"],
        "tiles": sum(each["tiles"] for each in slides.values()),
        "slides": {slide_id: each["sha256"] for slide_id, each in slides.items()},
    }
    lock = take_lock(store, POINTER)
    try:
        versions = {
            int(found[1]): path for path in store.iterdir() if (found := re.fullmatch(r"index-(\d+)\.parquet", path.name))
        }
        pointer = store / POINTER
        current = pointer.read_text(encoding="ascii").strip() if pointer.exists() else ""
        if current and TileStore(store)._facts == facts:
            return TileStore(store)
        for leftover in store.glob(f".*{files.TEMPORARY_SUFFIX}*"):
            leftover.unlink()
        tables = [pd.read_parquet(store / slide_id / "index.parquet") for slide_id in slides]
        index = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
        index.insert(0, "tile_id", np.arange(len(index)))
        table = pa.Table.from_pandas(index, preserve_index=False)
        table = table.replace_schema_metadata((table.schema.metadata or {}) | {_METADATA: json.dumps(facts).encode()})
        new = f"index-{max(versions, default=0) + 1}.parquet"
        with files.atomic_path(store / new) as temporary:
            pq.write_table(table, temporary)
        files.write_text(pointer, new + "\n")
        for path in versions.values():
            if path.name != current:
                path.unlink()
    finally:
        os.close(lock)
    return TileStore(store)


class _Handles:
    """The LMDB environments open in this process; LMDB allows one a file and process, and none across a fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="tiles")  # starts threads when they are needed
        self.batches: deque[np.ndarray] = deque(maxlen=MAX_SPARE)
        self.open: OrderedDict[Path, tuple[int, lmdb.Environment]] = OrderedDict()

    def spare(self, shape: tuple[int, ...]) -> np.ndarray:
        """Float32 array of `shape`, its content undefined: the memory of an earlier batch that nobody holds any more.

        Fresh memory has to be zeroed page by page by the system, which takes a fifth of the time of a batch.
        """
        with self.lock:
            for batch in self.batches:
                if batch.shape == shape and sys.getrefcount(batch) == 3:  # our list, the loop's name, the call's argument
                    return batch
            self.batches.append(np.empty(shape, np.float32))
            return self.batches[-1]

    def get(self, folder: Path) -> lmdb.Environment:
        """Open `folder`, or return it open; a folder that was replaced on the disk is opened anew."""
        path = Path(os.path.realpath(folder))
        inode = os.stat(path / "data.mdb").st_ino
        if path in self.open and self.open[path][0] == inode:
            self.open.move_to_end(path)
            return self.open[path][1]
        if path in self.open:
            self.open.pop(path)[1].close()
        while len(self.open) >= MAX_HANDLES:
            self.open.popitem(last=False)[1][1].close()
        env = lmdb.open(str(path), readonly=True, lock=False, create=False, readahead=False, max_spare_txns=1)
        self.open[path] = inode, env
        return env


_handles = _Handles()


def _own_handles() -> _Handles:
    global _handles
    if _handles.pid != os.getpid():
        _handles = _Handles()
    return _handles


def read_contents(folder: Path, keys: Sequence[bytes]) -> list[bytes | None]:
    """Values of `keys` in the finished slide at `folder`; None where there is none. Safe after a fork and from threads.

    Raises
    ------
    StoreError : the database is missing or damaged.
    """
    handles = _own_handles()
    with handles.lock:
        try:
            with handles.get(folder).begin() as transaction:
                return [transaction.get(key) for key in keys]
        except (lmdb.Error, OSError) as error:
            raise damaged(folder, error) from error
