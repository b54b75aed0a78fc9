"""From the public form of a file to the form that the readers take, and the hash of what both forms share.

The conversions that a manifest may name, and no others:

`gzip -9`                     the public file, compressed
`unzip member M, gzip -9`     one member of a public zip archive, compressed
`tiff to png`                 an image, pixel for pixel

A compressed file's bytes depend on the zlib that made it, so that a converted file is verified by its content:
the bytes before compression, or the pixels.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import tifffile
from PIL import Image

from rnasynth.errors import InputError
from rnasynth.files import CHUNK_BYTES, atomic_path

MAX_CONTENT_BYTES = 4 << 30
MAX_PIXELS = 1 << 28


class _Readable(Protocol):
    def read(self, count: int, /) -> bytes: ...


_MEMBER = re.compile(r"^unzip member (\S[^,]*), gzip -9$")


def known(conversion: str) -> bool:
    """Whether `convert` can do it; other texts in a manifest describe what was done by hand for a mirror."""
    return conversion in {"gzip -9", "tiff to png"} or _MEMBER.match(conversion) is not None


def convert(source: Path, target: Path, conversion: str) -> None:
    """Write `target` atomically from the public file `source`.

    Raises
    ------
    InputError : unknown conversion, a damaged source, a missing member, or content beyond the limits.
    """
    with _readable(source):
        if conversion == "tiff to png":
            pixels = _pixels(source)
            with atomic_path(target) as temporary:
                Image.fromarray(pixels).save(temporary, format="PNG")
        elif conversion == "gzip -9":
            with open(source, "rb") as stream:
                _compress(stream, target, source)
        elif found := _MEMBER.match(conversion):
            with zipfile.ZipFile(source) as archive:
                if found[1] not in archive.namelist():
                    raise InputError(
                        f"{source}, member {found[1]!r}", expected="it in the archive", found="none of that name"
                    )
                with archive.open(found[1]) as stream:
                    _compress(stream, target, source)
        else:
            raise InputError(f"conversion {conversion!r}", expected="one of those that this version knows", found="another")


def content_sha256(path: Path) -> str:
    """Hash of what both forms share: of the pixels for an image, of the uncompressed bytes for a `.gz` file.

    Raises
    ------
    InputError : a damaged file, or content beyond the limits.
    """
    with _readable(path):
        if path.suffix in {".png", ".tif", ".tiff"}:
            pixels = _pixels(path)
            return hashlib.sha256(repr((pixels.shape, str(pixels.dtype))).encode() + pixels.tobytes()).hexdigest()
        state = hashlib.sha256()
        with gzip.open(path, "rb") as stream:
            for chunk in _limited(stream, path):
                state.update(chunk)
        return state.hexdigest()


def _pixels(path: Path) -> np.ndarray:
    """Image as stored, shape (H, W) or (H, W, C); sizes are checked before decoding."""
    if path.suffix == ".png" or path.read_bytes()[:4] == b"\x89PNG":
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    str(path), expected=f"at most {MAX_PIXELS:,} pixels", found=f"{image.width} x {image.height}"
                )
            return np.asarray(image)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        if int(np.prod(page.shape)) > 4 * MAX_PIXELS:
            raise InputError(str(path), expected=f"at most {MAX_PIXELS:,} pixels", found=str(page.shape))
        return np.ascontiguousarray(page.asarray()[..., :3])


def _compress(stream: _Readable, target: Path, subject: Path) -> None:
    with (
        atomic_path(target) as temporary,
        open(temporary, "wb") as handle,
        gzip.GzipFile("", "wb", 9, handle, mtime=0) as packed,
    ):
        for chunk in _limited(stream, subject):
            packed.write(chunk)


def _limited(stream: _Readable, subject: Path) -> Iterator[bytes]:
    total = 0
    while chunk := stream.read(CHUNK_BYTES):
        total += len(chunk)
        if total > MAX_CONTENT_BYTES:
            raise InputError(str(subject), expected=f"at most {MAX_CONTENT_BYTES:,} bytes of content", found="more")
        yield chunk


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tifffile.TiffFileError, ValueError) as error:
        raise InputError(str(path), expected="a whole file of its kind", found=str(error), fix="fetch it again") from error
