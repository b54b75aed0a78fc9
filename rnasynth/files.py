"""Atomic writing, hashes and safe unpacking: the only place that writes whole files or unpacks archives.

Every write goes to a temporary file in the folder of its target, is flushed to the disk (`os.fsync`) and renamed
(`os.replace`), so that a reader sees the old file or the new one and never a part. Tests inject a crash at each of
these two calls, which is why they are always called through the `os` module here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

from rnasynth.errors import InputError, is_full

CHUNK_BYTES = 1 << 20
_DAMAGE = (  # what the standard library raises on archives that are cut, altered, encrypted or of an unknown method
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError,
)  # fmt: skip
TEMPORARY_SUFFIX = ".tmp"  # leftovers of a killed process end in this and are ignored by every reader


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(source: Path, target: Path) -> None:
    """Rename `source` to `target` on the same file system, atomically and durably."""
    os.replace(source, target)
    fsync_folder(target.parent)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it becomes `path`, else it is removed.

    The temporary name keeps the suffix of `path` (many writers choose their format by it).

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("whole", encoding="utf-8")
    >>> target.read_text(encoding="utf-8")
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{TEMPORARY_SUFFIX}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        replace(temporary, path)
    except Exception as error:
        if is_full(error):  # each library has an error of its own for this
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented, key-sorted JSON; NaN and infinity are refused (JSON has neither)."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError : the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(str(path), expected="a JSON file", found="no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), expected="JSON", found=str(error), fix="delete it and make it anew") from None


def copy(source: str | Path, target: str | Path) -> None:
    """Copy a file's bytes to `target` atomically; links are followed, so that the copy is a file of its own."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def exclusive(path: str | Path) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; other processes and threads that ask for it wait.

    The system lets go of it when the process dies, however it dies.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def locked_folder(folder: str | Path, *, wait: bool = True) -> Iterator[None]:
    """Make `folder` if there is none and hold it while the block runs, as `exclusive` does but without a lock file.

    Raises
    ------
    InputError : another process holds it, and `wait` is False.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise InputError(
                str(folder), expected="one process at a time", found="another at work in it", fix="wait until it has ended"
            ) from None
        yield
    finally:
        os.close(handle)


def digest(path: str | Path, algorithm: str = "sha256") -> str:
    """Hexadecimal hash of a file's bytes, streamed; `algorithm` as `hashlib` names it."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, streamed."""
    return digest(path, "sha256")


def unpack(
    archive: str | Path,
    to: str | Path,
    *,
    max_members: int = 10_000,
    max_bytes: int = 20 << 30,
    max_ratio: float = 200.0,
) -> list[Path]:
    """Unpack a zip or tar archive into the new folder `to`, trusting nothing that the archive says.

    Members are written to a sibling folder first, which is renamed to `to` when all of them are there.

    Parameters
    ----------
    archive : a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file.
    to : folder to make; must not exist.
    max_members, max_bytes : at most this many members, and bytes after unpacking, counted while they are written.
    max_ratio : at most this many unpacked bytes for one byte of the archive (plus 1 MiB, so that tiny files pass).

    Returns
    -------
    Paths of the files written, in the archive's order.

    Raises
    ------
    InputError : absolute path, `..`, link, device, two members of one name, or more than allowed; `to` is then not made.
    """
    archive, to = Path(archive), Path(to)
    if to.exists():
        raise InputError(str(to), expected="a folder that does not exist yet", found="one", fix="remove it first")
    limit = min(max_bytes, int(max_ratio * archive.stat().st_size) + (1 << 20))
    partial = to.with_name(to.name + TEMPORARY_SUFFIX)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    written: list[Path] = []
    total = 0
    try:
        seen: set[PurePosixPath] = set()
        for count, (name, is_folder, stream) in enumerate(_members(archive), start=1):
            if count > max_members:
                raise _refused(archive, name, f"at most {max_members} members")
            if is_folder and not PurePosixPath(name).parts:
                continue  # "./", as `tar -C FOLDER .` writes it
            relative = _safe_relative(archive, name)
            if relative in seen and not is_folder:
                raise _refused(archive, name, "each name once")
            seen.add(relative)
            target = partial / relative
            if is_folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            assert stream is not None
            with stream, open(target, "xb") as handle:
                while chunk := stream.read(CHUNK_BYTES):
                    total += len(chunk)
                    if total > limit:
                        raise _refused(archive, name, f"at most {limit:,} bytes after unpacking")
                    handle.write(chunk)
                handle.flush()
                os.fsync(handle.fileno())
            written.append(to / relative)
        replace(partial, to)
    except _DAMAGE as error:
        raise InputError(str(archive), expected="a whole archive", found=str(error), fix="fetch it again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return written


def _members(archive: Path) -> Iterator[tuple[str, bool, IO[bytes] | None]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for info in bundle.infolist():
                mode = info.external_attr >> 16
                if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
                    raise _refused(archive, info.filename, "plain files and folders only")
                yield info.filename, info.is_dir(), None if info.is_dir() else bundle.open(info)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as ball:
            for member in ball:
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise _refused(archive, member.name, "plain files and folders only")
                yield member.name, member.isdir(), None if member.isdir() else ball.extractfile(member)
    else:
        raise InputError(str(archive), expected="a zip or tar archive", found="another kind of file")


def _safe_relative(archive: Path, name: str) -> PurePosixPath:
    relative = PurePosixPath(name)
    windows_drive = len(name) > 1 and name[1] == ":"
    if (
        relative.is_absolute()
        or ".." in relative.parts
        or "\\" in name
        or "\0" in name
        or windows_drive
        or not relative.parts
    ):
        raise _refused(archive, name, "relative paths inside the archive")
    return relative


def _refused(archive: Path, member: str, rule: str) -> InputError:
    return InputError(
        f"{archive}, member {member!r}", expected=rule, found="a member that breaks it", fix="do not trust this archive"
    )
