"""Number tables of any size as a stream: only the wanted rows are parsed, and of them only the wanted columns.

A GTEx matrix is 6 GB of text in 1.5 GB of gzip. Here it passes through in parts: `isal` inflates, lines whose first field
is not wanted are dropped unread, and blocks of wanted lines go to Arrow's parser in a second thread while the next ones
are inflated. What is held is the wanted matrix and a few blocks.
"""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
import pyarrow as pa
from isal import igzip
from isal.igzip_lib import IsalError
from numpy.typing import NDArray
from pyarrow import compute as arrow_compute
from pyarrow import csv as arrow_csv

from rnasynth.errors import InputError

CHUNK_BYTES = 1 << 18  # inflated at a time; larger ones leave the processor's cache
BLOCK_BYTES = 4 << 20  # wanted lines parsed at a time
MISSING = ["", "NA", "NaN", "nan", "N/A", "null", "NULL", "None"]
FLAT_COLUMNS = 1000  # more wanted columns than this are parsed as one long one: Arrow pays for each column of a block
Line = tuple[bytes, int, int]  # a buffer and where in it the line starts and ends (its line break excluded)


def open_stream(path: Path) -> IO[bytes]:
    """Open a plain, gzip or one-member zip file for reading; what it is is told by its first bytes, not by its name.

    Raises
    ------
    InputError : no such file, an Excel workbook, or a zip archive of several files.
    """
    try:
        with open(path, "rb") as handle:
            magic = handle.read(4)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(str(path), expected="a file", found="none there", fix="check the path") from None
    if magic[:2] == b"\x1f\x8b":
        return igzip.open(path, "rb")
    if magic == b"PK\x03\x04":
        bundle = zipfile.ZipFile(path)
        names = [name for name in bundle.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
        if "[Content_Types].xml" in names:
            raise InputError(
                str(path),
                expected="a text table",
                found="an Excel workbook",
                fix="save it as tab-separated text, and see that no gene symbol became a date (SEPT1, MARCH1)",
            )
        if len(names) != 1:
            raise InputError(str(path), expected="one table in the zip file", found=f"{len(names)} files", fix="unpack it")
        return bundle.open(names[0])
    return open(path, "rb")


class Lines:
    """The lines of a file, one after the other, without a copy of each; a context manager.

    Iterating gives `(buffer, start, stop)`; empty lines are left out. `next()` gives the following line as bytes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._handle = open_stream(self.path)
        self._lines = self._split()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._handle.close()

    def __iter__(self) -> Iterator[Line]:
        return self._lines

    def next(self) -> bytes:
        """Return the next line that is not empty; b"" at the end."""
        for buffer, start, stop in self._lines:
            return buffer[start:stop]
        return b""

    def _split(self) -> Iterator[Line]:
        rest = b""
        while True:
            try:
                buffer = self._handle.read(CHUNK_BYTES)
            except (EOFError, OSError, zlib.error, IsalError, zipfile.BadZipFile) as error:  # type: ignore[misc]
                raise InputError(
                    str(self.path), expected="a whole file", found=f"damaged or cut short ({error})", fix="fetch it again"
                ) from None
            if not buffer:
                break
            if b"\n" not in buffer:
                rest += buffer
                continue
            buffer, start = rest + buffer, 0
            while (stop := buffer.find(b"\n", start)) >= 0:
                end = stop - 1 if stop > start and buffer[stop - 1] == 13 else stop
                if end > start:
                    yield buffer, start, end
                start = stop + 1
            rest = buffer[start:]
        if rest.strip():
            yield rest, 0, len(rest.rstrip(b"\r"))


def fields_of(line: bytes, delimiter: str) -> list[str]:
    """Return the fields of a line, quotes taken off."""
    text = line.decode("utf-8", errors="replace").lstrip("\ufeff")
    if '"' not in text:
        return text.split(delimiter)
    return next(csv.reader(io.StringIO(text), delimiter=delimiter))


def field_at(line: Line, delimiter: bytes, number: int) -> str:
    """Return one of the first fields of a line without splitting the rest."""
    buffer, start, stop = line
    for _ in range(number):
        start = _field_end(buffer, start, stop, delimiter) + 1
    text = buffer[start : _field_end(buffer, start, stop, delimiter)]
    return text.decode("utf-8", errors="replace").strip().strip('"')


def _field_end(buffer: bytes, start: int, stop: int, delimiter: bytes) -> int:
    if buffer[start : start + 1] == b'"':
        quote = buffer.find(b'"', start + 1, stop)
        start = quote if quote >= 0 else start
    end = buffer.find(delimiter, start, stop)
    return stop if end < 0 else end


@dataclass(frozen=True)
class Layout:
    """Where the numbers stand in each line.

    Parameters
    ----------
    path : for messages.
    delimiter : one character.
    n_fields : fields of each line; another number is an error (a file cut short, a stray delimiter).
    columns : numbers of the fields to parse, any order.
    quoted : fields may be in double quotes.
    """

    path: Path
    delimiter: str
    n_fields: int
    columns: NDArray[np.intp]
    quoted: bool = False

    def parse(self, block: bytes, n_rows: int) -> NDArray[np.float32]:
        """Return the numbers of the `n_rows` lines of `block`, shape (n_rows, columns); an empty field is NaN.

        Raises
        ------
        InputError : a field that is no number, or a line with another number of fields.
        """
        if len(self.columns) > FLAT_COLUMNS and not self.quoted:
            values = self._parse_flat(block, n_rows)
            if values is not None:
                return values
        names = [f"f{number}" for number in self.columns]
        try:
            table = arrow_csv.read_csv(
                pa.py_buffer(block),
                arrow_csv.ReadOptions(use_threads=False, autogenerate_column_names=True, block_size=len(block) + 1),
                arrow_csv.ParseOptions(delimiter=self.delimiter, quote_char='"' if self.quoted else False),
                arrow_csv.ConvertOptions(
                    include_columns=names, column_types=dict.fromkeys(names, pa.float32()), null_values=MISSING
                ),
            )
        except pa.ArrowException as error:
            raise InputError(
                str(self.path),
                expected=f"{self.n_fields} fields a line, numbers in the wanted columns",
                found=str(error)[:300],
                fix="fetch it again, or mend that line",
            ) from None
        found_fields = block[: block.find(b"\n")].count(self.delimiter.encode()) + 1
        if len(table) != n_rows or (
            not self.quoted and found_fields != self.n_fields
        ):  # Arrow compares lines with the first
            raise InputError(
                str(self.path), expected=f"{self.n_fields} fields a line", found=f"{found_fields}", fix="fetch it again"
            )
        values = np.empty((n_rows, len(names)), dtype=np.float32)
        for number, name in enumerate(names):
            values[:, number] = table.column(name).to_numpy()
        return values

    def _parse_flat(self, block: bytes, n_rows: int) -> NDArray[np.float32] | None:
        """Parse all fields from the first wanted column on; None where one is no number or the lines are uneven."""
        text = np.frombuffer(block, dtype=np.uint8)
        ends = np.flatnonzero((text == 10) | (text == ord(self.delimiter))).astype(np.int32)
        if len(ends) != n_rows * self.n_fields:
            return None
        first = int(self.columns.min())
        by_line = ends.reshape(n_rows, self.n_fields)
        if not (text[by_line[:, -1]] == 10).all():
            return None
        parts = []
        for line in by_line:  # in each line, offsets of the fields from `first` on
            offsets = np.concatenate([line[first - 1 : first], line[first:]]) + 1
            texts = pa.StringArray.from_buffers(
                len(offsets) - 1, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(block)
            )
            try:
                parts.append(
                    arrow_compute.cast(arrow_compute.utf8_rtrim(texts, self.delimiter + "\n"), pa.float32()).to_numpy()
                )
            except pa.ArrowException:
                return None
        return np.stack(parts)[:, self.columns - first]


def stream_numbers(
    lines: Lines,
    layout: Layout,
    place: Callable[[Line], int],
    store: Callable[[NDArray[np.intp], NDArray[np.float32]], None],
) -> None:
    """Parse the wanted lines and hand them to `store`, block by block.

    Parameters
    ----------
    lines : positioned after the header.
    place : gives a line's row in the result, -1 to drop it unread.
    store : called as `store(rows, values)`: rows, shape (n,), without repeats; values, shape (n, columns). It is called
        from another thread, one call at a time, in order.
    """
    block: list[bytes] = []
    rows: dict[int, None] = {}
    size = 0
    with ThreadPoolExecutor(max_workers=1) as worker:
        running: Future[None] | None = None

        def flush() -> None:
            nonlocal running, block, rows, size
            if running is not None:
                running.result()
            if block:
                running = worker.submit(_parse_and_store, layout, b"\n".join(block) + b"\n", list(rows), store)
            block, rows, size = [], {}, 0

        for line in lines:
            row = place(line)
            if row < 0:
                continue
            if row in rows or size > BLOCK_BYTES:
                flush()
            buffer, start, stop = line
            block.append(buffer[start:stop])
            rows[row] = None
            size += stop - start
        flush()
        flush()


def _parse_and_store(
    layout: Layout, block: bytes, rows: list[int], store: Callable[[NDArray[np.intp], NDArray[np.float32]], None]
) -> None:
    store(np.array(rows, dtype=np.intp), layout.parse(block, len(rows)))
