"""Small tables that a user wrote (samples, patients, clinical texts), read with every mistake said in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from rnasynth.errors import InputError

MAX_BYTES = 1 << 30  # of such a table; matrices of numbers have readers of their own
MAX_COLUMNS = 100_000  # pandas takes a minute and gigabytes for a million
MAX_HEADER_BYTES = 16 << 20


def check_table(path: str | Path, separator: str = ",", *, what: str = "a csv table") -> None:
    """Raise unless a file can be a table: there, text, not empty, of a size and width that can be read.

    Parameters
    ----------
    path : the file, not compressed.
    separator : of its fields, one character.
    what : what it should be, for the message.

    Raises
    ------
    InputError : otherwise.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), expected=what, found="no such file", fix="check the path")
    size = path.stat().st_size
    with open(path, "rb") as handle:
        header = handle.readline(MAX_HEADER_BYTES)
    if not header.strip():
        raise InputError(str(path), expected=what, found="an empty file" if not size else "an empty first line")
    if size > MAX_BYTES or len(header) == MAX_HEADER_BYTES:
        raise InputError(str(path), expected=f"{what} of at most {MAX_BYTES:,} bytes", found=f"{size:,} bytes")
    if (columns := header.count(separator.encode()) + 1) > MAX_COLUMNS:
        fix = "is it a matrix of numbers, or turned on its side?"
        raise InputError(str(path), expected=f"{what} of at most {MAX_COLUMNS:,} columns", found=f"{columns:,}", fix=fix)


def read_user_table(
    path: str | Path,
    *,
    needs: Sequence[str] = (),
    separator: str = ",",
    types: Mapping[str, type] | None = None,
    what: str = "a csv table",
) -> pd.DataFrame:
    """Read a table.

    Parameters
    ----------
    path : the file, not compressed.
    needs : columns that it must have.
    separator : of its fields.
    types : of columns, as pandas takes them, an empty field then being NaN; None: all are text, "" where empty.
    what : what it should be, for messages.

    Returns
    -------
    The table, with at least the columns of `needs`.

    Raises
    ------
    InputError : not such a file (see `check_table`), not text, lines of several widths, or a column is missing.
    """
    expected = what + (f" with columns {', '.join(needs)}" if needs else "")
    check_table(path, separator, what=expected)
    try:
        if types is None:
            table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
        else:
            table = pd.read_csv(path, sep=separator, dtype=types)
    except ValueError as error:  # pandas' own errors and those of decoding are all of this kind
        raise InputError(str(path), expected=expected, found=str(error)[:300], fix="write it again as csv") from None
    if lacking := [name for name in needs if name not in table.columns]:
        listed = ", ".join(map(str, table.columns[:8]))[:300]
        raise InputError(
            str(path), expected=expected, found=f"no {', '.join(lacking)} among {listed}", fix="name the columns so"
        )
    return table
