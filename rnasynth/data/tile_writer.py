"""Writing one slide of a tile store: LMDB, position, lock, resume. The store's layout stands in `rnasynth.data.tiles`.

The tile number is the number of the coordinate that it was read at, so it has gaps where tiles were dropped. Tiles, their
rows of the index and the position in the list of coordinates are committed in one LMDB transaction after every 256
coordinates: whatever kills the writer, the next one goes on at most 256 coordinates earlier, and a tile and its row are
never apart. LMDB flushes each commit to the disk itself (its default); nothing here turns that off.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import resource
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import lmdb
import numpy as np
import pandas as pd

from rnasynth import files
from rnasynth.data.pixels import Quality, encode, mean_optical_density
from rnasynth.errors import InputError, StoreError

FORMAT = 1
PAGE_BYTES = 4096  # of an LMDB
COMMIT_EVERY = 256  # coordinates a transaction
INITIAL_MAP_BYTES = 1 << 26  # address space of a new LMDB; doubled when it is full
PARTIAL_SUFFIX = ".partial"
FAILED_SUFFIX = ".failed.json"
INDEX_COLUMNS = (
    "tile_id", "slide_id", "tile", "patient_id", "sample_id", "x_px", "y_px", "mpp_um", "tissue_fraction", "mean_od",
)  # fmt: skip
SLIDE_COLUMNS = INDEX_COLUMNS[1:]
_DTYPES = dict.fromkeys(("tile", "x_px", "y_px"), "int64") | dict.fromkeys(
    ("mpp_um", "tissue_fraction", "mean_od"), "float64"
)
_STATE = b"state"
_ROWS = b"rows"  # + key of the first tile in the batch; only tiles have keys of 8 bytes


class TileWriter:
    """Writer of one slide; goes on where an interrupted one stopped.

    Parameters
    ----------
    store : folder of the store; made if absent.
    slide_id : name of the slide, and of its folder.
    patient_id : whose tissue it is.
    meta : JSON-like facts of the origin (hashes of source and configuration); a resumed slide must have the same.
    quality : see `encode`.

    Raises
    ------
    StoreError : the slide is finished, or another process writes it, or it was begun from something else, or the store
        holds tiles of another quality.

    Examples
    --------
    >>> import tempfile
    >>> store = tempfile.mkdtemp()
    >>> with TileWriter(store, "s1", patient_id="p1") as writer:
    ...     writer.add(np.zeros((64, 64, 3), np.uint8), {"x_px": 0, "y_px": 0, "mpp_um": 0.5})
    ...     writer.skip(reason="background")
    ...     writer.finish()
    >>> writer.finished
    True
    """

    def __init__(
        self,
        store: str | Path,
        slide_id: str,
        *,
        patient_id: str,
        meta: Mapping[str, Any] | None = None,
        quality: Quality = 90,
    ) -> None:
        if quality != "lossless" and not (isinstance(quality, int) and 1 <= quality <= 100):
            raise InputError("quality", expected='1 to 100, or "lossless"', found=repr(quality))
        self.store, self.slide_id = Path(store), check_slide_id(slide_id)
        self.finished = False
        self._folder = self.store / f"{slide_id}{PARTIAL_SUFFIX}"
        self._final = self.store / slide_id
        self._pending: list[tuple[int, bytes, dict[str, Any]]] = []
        self._lock: int | None = take_lock(self.store, slide_id)
        self._env: lmdb.Environment | None = None
        self._hash: Any = hashlib.sha256()  # of what is committed, as `slide_hash`; None where another run began the slide
        try:
            if self._final.exists():
                raise StoreError(f"slide {slide_id} in {store}", found="it is finished already", fix="read it, or remove it")
            fresh = {
                "format": FORMAT, "slide_id": slide_id, "patient_id": str(patient_id), "quality": quality, "tile_px": None,
                "position": 0, "tiles": 0, "dropped": {}, "meta": dict(meta or {}),
            }  # fmt: skip
            self._state = json.loads(json.dumps(fresh))
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.glob(f".*{files.TEMPORARY_SUFFIX}*"):
            leftover.unlink()
        data = self._folder / "data.mdb"
        map_bytes = max(INITIAL_MAP_BYTES, 2 * data.stat().st_size if data.exists() else 0)
        try:
            self._env = lmdb.open(str(self._folder), map_size=map_bytes, lock=False, readahead=False)
            with self._env.begin() as transaction:
                stored = transaction.get(_STATE)
        except lmdb.Error as error:
            raise damaged(self._folder, error) from error
        if stored is not None:
            resumed = json.loads(stored)
            for field in ("format", "patient_id", "quality", "meta"):
                if resumed[field] != self._state[field]:
                    raise StoreError(
                        f"slide {self.slide_id}, begun in {self._folder}",
                        expected=f"{field} {self._state[field]}",
                        found=f"{field} {resumed[field]}",
                        fix=f"go on with what it was begun with, or remove {self._folder}",
                    )
            self._state, self._hash = resumed, None
        self.position: int = self._state["position"]  # number of the next coordinate
        self._committed = self.position
        self._dropped: Counter[str] = Counter(self._state["dropped"])

    @property
    def kept(self) -> int:
        """Tiles stored so far, with those of interrupted runs."""
        return int(self._state["tiles"]) + len(self._pending)

    @property
    def dropped(self) -> dict[str, int]:
        """Coordinates passed over so far, by reason."""
        return dict(sorted(self._dropped.items()))

    def add(self, tile: np.ndarray, row: Mapping[str, Any]) -> None:
        """Store the tile at the next coordinate.

        Parameters
        ----------
        tile : uint8 RGB, shape (tile_px, tile_px, 3), the same size for all tiles of a store.
        row : x_px, y_px (level-0 pixels of the top left corner), mpp_um, tissue_fraction in [0, 1] (NaN if absent),
            sample_id (the patient if absent). `mean_od` is measured here, on the pixels before the codec.
        """
        known = {"x_px", "y_px", "mpp_um", "tissue_fraction", "sample_id"}
        if not {"x_px", "y_px", "mpp_um"} <= set(row) <= known:
            raise InputError(f"slide {self.slide_id}, tile row", expected=f"fields {sorted(known)}", found=f"{sorted(row)}")
        size = self._state["tile_px"] or tile.shape[0]
        if tile.shape != (size, size, 3) or tile.dtype != np.uint8:
            raise InputError(
                f"slide {self.slide_id}, tile {self.position}",
                expected=f"uint8 ({size}, {size}, 3)",
                found=f"{tile.dtype} {tile.shape}",
            )
        self._state["tile_px"] = size
        values = {
            "tile": self.position,
            "sample_id": str(row.get("sample_id", self._state["patient_id"])),
            "x_px": int(row["x_px"]),
            "y_px": int(row["y_px"]),
            "mpp_um": float(row["mpp_um"]),
            "tissue_fraction": float(row.get("tissue_fraction", math.nan)),
            "mean_od": mean_optical_density(tile),
        }
        self._pending.append((self.position, encode(tile, self._state["quality"]), values))
        self._advance(self.position + 1)

    def skip(self, number: int | None = None, *, reason: str = "dropped") -> None:
        """Pass over the next coordinate (or all from it to `number`), counted under `reason`."""
        number = self.position if number is None else int(number)
        if number < self.position:
            raise InputError(f"slide {self.slide_id}", expected=f"a number from {self.position} on", found=str(number))
        self._dropped[reason] += number + 1 - self.position
        self._advance(number + 1)

    def _advance(self, position: int) -> None:
        self.position = position
        if position - self._committed >= COMMIT_EVERY:
            self.commit()

    def commit(self) -> None:
        """Make everything so far survive a crash."""
        whole = [entry for entry in self._pending if entry[0] < self.position]  # an interrupt may fall inside `add`
        state = self._state | {
            "position": self.position,
            "tiles": self._state["tiles"] + len(whole),
            "dropped": self.dropped,
        }
        puts = [(tile_key(number), content) for number, content, _ in whole]
        if whole:
            puts.append((_ROWS + puts[0][0], json.dumps([values for _, _, values in whole]).encode()))
        puts.append((_STATE, json.dumps(state).encode()))
        if self._env is None:
            raise StoreError(f"slide {self.slide_id}", found="its writer is closed")
        try:
            _commit(self._env, puts)
        except lmdb.Error as error:
            if _no_room(self._folder, puts):  # nothing is damaged, what was committed stands
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder)) from error
            raise damaged(self._folder, error) from error
        checksum = None if self._hash is None else self._hash.copy()
        if checksum is not None:
            _add_to_hash(checksum, ((self._named(values), content) for _, content, values in whole))
        self._state, self._committed, self._hash = state, self.position, checksum
        self._pending.clear()

    def _named(self, values: Mapping[str, Any]) -> list[Any]:
        """One row's values in the order of `slide_table`."""
        row = {**values, "slide_id": self.slide_id, "patient_id": self._state["patient_id"]}
        return [row[name] for name in SLIDE_COLUMNS]

    def finish(self) -> None:
        """Commit, write the slide's index and facts, and give the folder its final name; the writer is then closed."""
        self.commit()
        assert self._env is not None
        with self._env.begin(buffers=True) as transaction:
            rows = _stored_rows(transaction)
            table = slide_table(self.slide_id, self._state["patient_id"], rows)
            if self._hash is not None:
                checksum = self._hash.hexdigest()
            else:
                checksum = slide_hash(table, (bytes(transaction.get(tile_key(row["tile"]), b"")) for row in rows))
        self._env.close()
        self._env = None
        with files.atomic_path(self._folder / "index.parquet") as temporary:
            table.to_parquet(temporary, index=False)
        files.write_json(self._folder / "slide.json", self._state | {"sha256": checksum})
        files.replace(self._folder, self._final)
        self.finished = True
        self.close()

    def close(self) -> None:
        """Let go of the slide, dropping what is not committed."""
        if self._env is not None:
            self._env.close()
            self._env = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._env is not None and not isinstance(error, StoreError):
                self.commit()
        finally:
            self.close()


def _commit(env: lmdb.Environment, puts: Sequence[tuple[bytes, bytes]]) -> None:
    """Write all pairs in one synchronous transaction, with twice the room where the map is full."""
    while True:
        try:
            with env.begin(write=True) as transaction:
                for key, value in puts:
                    transaction.put(key, value)
            return
        except lmdb.MapFullError:
            env.set_mapsize(2 * env.info()["map_size"])


def _no_room(folder: Path, puts: Sequence[tuple[bytes, bytes]]) -> bool:
    """Tell whether a transaction failed for want of room: LMDB calls that an input or output error, as any other."""
    needed = sum(len(value) + PAGE_BYTES for _, value in puts)
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    limited = largest != resource.RLIM_INFINITY and (folder / "data.mdb").stat().st_size + needed > largest
    return limited or shutil.disk_usage(folder).free < needed


def _stored_rows(transaction: lmdb.Transaction) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with transaction.cursor() as cursor:
        found = cursor.set_range(_ROWS)
        while found and bytes(cursor.key()).startswith(_ROWS):
            rows += json.loads(bytes(cursor.value()))
            found = cursor.next()
    return rows


def slide_table(slide_id: str, patient_id: str, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Index rows of one slide: `INDEX_COLUMNS` without `tile_id`, in the order of the tile numbers."""
    table = pd.DataFrame(list(rows), columns=list(SLIDE_COLUMNS))
    return table.assign(slide_id=slide_id, patient_id=patient_id).astype(_DTYPES)


def slide_hash(table: pd.DataFrame, contents: Iterable[bytes]) -> str:
    """SHA-256 over each row of `slide_table` and the encoded bytes of its tile."""
    checksum = hashlib.sha256()
    _add_to_hash(checksum, zip(table.itertuples(index=False, name=None), contents, strict=True))
    return checksum.hexdigest()


def _add_to_hash(checksum: Any, tiles: Iterable[tuple[Iterable[Any], bytes]]) -> None:
    for row, content in tiles:
        checksum.update(json.dumps([*row, len(content)]).encode())
        checksum.update(content)


def begun(store: Path, slide_id: str) -> dict[str, Any] | None:
    """Return the committed state of a slide that is growing or was interrupted; None where there is none."""
    folder = store / f"{slide_id}{PARTIAL_SUFFIX}"
    if not (folder / "data.mdb").exists() or not (folder / "data.mdb").stat().st_size:
        return None
    try:
        with lmdb.open(str(folder), readonly=True, lock=False, create=False) as env, env.begin() as transaction:
            stored = transaction.get(_STATE)
    except lmdb.Error as error:
        raise damaged(folder, error) from error
    return None if stored is None else json.loads(stored)


def tile_key(number: int) -> bytes:
    """LMDB key of a tile: its number, 8 bytes, big-endian (so that LMDB's order is the numbers' order)."""
    return int(number).to_bytes(8, "big")


def check_slide_id(slide_id: str) -> str:
    """Return `slide_id`, or raise InputError if it cannot be the name of a folder here."""
    reserved = slide_id.endswith((PARTIAL_SUFFIX, FAILED_SUFFIX, ".parquet")) or slide_id == "INDEX"
    if reserved or not re.fullmatch(r"[\w][\w .+\-()]*", slide_id) or len(slide_id) > 200:
        raise InputError(
            f"slide {slide_id!r}",
            expected="letters, digits, '_', '-', '+', '.', brackets and spaces",
            found="a name that cannot be a folder of a tile store",
            fix="rename the slide",
        )
    return slide_id


def take_lock(store: Path, name: str) -> int:
    """Lock `name` in `store` for this process and return the open handle; the lock ends with the process.

    The lock is `flock` on `STORE/.locks/NAME`, which holds on local disks and NFS 4.

    Raises
    ------
    StoreError : another process (or another writer in this one) has it.
    """
    path = store / ".locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise StoreError(
            f"{name} in {store}",
            expected="one writer at a time",
            found=f"it is being written by process {owner}",
            fix="wait for it or stop it",
        ) from None
    os.ftruncate(handle, 0)
    try:
        os.pwrite(handle, str(os.getpid()).encode("ascii"), 0)
    except OSError as error:  # it does not name the file by itself
        os.close(handle)
        raise OSError(error.errno, error.strerror, str(path)) from error
    return handle


def damaged(folder: Path, error: Exception) -> StoreError:
    """Error for a slide whose LMDB cannot be used."""
    return StoreError(str(folder), expected="a tile database", found=str(error), fix="remove the folder and tile again")
