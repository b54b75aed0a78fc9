"""Files .h5ad: one from elsewhere is summed up before any of it is read, and one of ours is whole or not there."""

from __future__ import annotations

import io
import os
from pathlib import Path

import anndata
import h5py
from anndata import AnnData

from rnasynth import files
from rnasynth.errors import InputError

SHARE_OF_MEMORY = 0.5  # of the machine's, for the values of one file


def read_h5ad(path: str | Path) -> AnnData:
    """Read an .h5ad file.

    Raises
    ------
    InputError : no such file, another kind of file, cut short, or values beyond half of the machine's memory (a file of a
        few kB can claim terabytes).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), expected="an .h5ad file", found="no such file", fix="check the path")
    try:
        if path.suffix != ".h5ad" and not h5py.is_hdf5(path):
            raise InputError(
                str(path),
                expected="an .h5ad file",
                found="another kind of file",
                fix="read a table of genes and samples, tell its unit, and write it as one: "
                'read_expression("table.tsv", kind="table", unit="tpm").write_h5ad("profiles.h5ad")',
            )
        claimed = _claimed_bytes(path)
        limit = int(SHARE_OF_MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        if claimed > limit:
            raise InputError(
                str(path),
                expected=f"values of at most {limit / 2**30:.1f} GiB, half of this machine's memory",
                found=f"{claimed / 2**30:,.1f} GiB claimed by a file of {path.stat().st_size:,} bytes",
                fix="write fewer samples a file",
            )
        return anndata.read_h5ad(path)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        # whatever h5py and anndata find wrong with a file
        found = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise InputError(str(path), expected="an .h5ad file", found=found, fix="write it again with anndata") from error


def write_h5ad(adata: AnnData, path: str | Path) -> None:
    """Write profiles, atomically; texts of `obs` and `var` become categories, as by anndata's own `write_h5ad`.

    The file is made in memory, of which it takes its own size: HDF5 that cannot write to a full disk prints a traceback for
    every array that it still holds, and can crash the process when it ends.

    Raises
    ------
    OSError : it cannot be written; nothing is then left of it.
    """
    adata.strings_to_categoricals()
    with io.BytesIO() as buffer:
        with h5py.File(buffer, "w") as file:
            anndata.io.write_elem(file, "/", adata)
            if adata.raw is None and "raw" in file:  # an empty mark that anndata's own `write_h5ad` leaves out
                del file["raw"]
        files.write_bytes(path, buffer.getvalue())


def _claimed_bytes(path: Path) -> int:
    """Bytes of all arrays of an HDF5 file once they are read; nothing is read for it."""
    total = 0

    def add(_: str, item: object) -> None:
        nonlocal total
        if isinstance(item, h5py.Dataset):
            total += int(item.size or 0) * int(item.dtype.itemsize)

    with h5py.File(path, "r") as file:
        file.visititems(add)
    return total
