"""Atomic writing, hashes, unpacking."""

from __future__ import annotations

import hashlib
import io
import os
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rnasynth import files
from rnasynth.errors import InputError


class Crash(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("nth", [0, 1, 2])
def test_crash_while_writing_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int
) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    original: Callable[..., None] = getattr(os, call)
    calls = 0

    def crash(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls > nth:
            raise Crash
        original(*arguments)

    monkeypatch.setattr(os, call, crash)
    try:
        files.write_text(target, "new" * 100_000)
    except Crash:
        pass
    else:
        assert calls <= nth
    assert target.read_text(encoding="utf-8") in ("old", "new" * 100_000)


def test_content_is_flushed_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: (done.append("dir" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"), fsync(handle))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    files.write_bytes(tmp_path / "a", b"x")
    assert done == ["file", "replace", "dir"]


def test_failed_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), files.atomic_path(tmp_path / "a.csv") as temporary:
        assert temporary.suffix == ".csv" and temporary.parent == tmp_path
        temporary.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_json_round_trip_refuses_nan_and_names_a_bad_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"b": [1, 2.5, None], "ä": "ö"})
    assert files.read_json(path) == {"b": [1, 2.5, None], "ä": "ö"}
    with pytest.raises(ValueError):
        files.write_json(path, {"a": float("nan")})
    assert files.read_json(path)["b"] == [1, 2.5, None]
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.json"):
        files.read_json(path)
    with pytest.raises(InputError, match="no such file"):
        files.read_json(tmp_path / "b.json")


def test_digest_equals_hashlib(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(3 << 20)
    (tmp_path / "a").write_bytes(content)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    assert files.digest(tmp_path / "a", "md5") == hashlib.md5(content).hexdigest()


def make_tar(path: Path, members: list[tuple[str, bytes, bytes]], mode: str = "w:gz") -> Path:
    """Write a tar archive of (name, type, content or link target)."""
    with tarfile.open(path, mode) as ball:  # type: ignore[call-overload]
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                member.linkname = content.decode()
                ball.addfile(member)
            else:
                member.size = len(content)
                ball.addfile(member, io.BytesIO(content))
    return path


def make_zip(path: Path, members: list[tuple[str, bytes]], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            bundle.writestr(info, content)
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_is_unpacked_whole(tmp_path: Path, mode: str) -> None:
    archive = make_tar(
        tmp_path / "a.tar",
        [("./", tarfile.DIRTYPE, b""), ("./d/x", tarfile.REGTYPE, b"1"), ("y", tarfile.REGTYPE, b"22")],
        mode,
    )
    written = files.unpack(archive, tmp_path / "to")
    assert [path.relative_to(tmp_path / "to").as_posix() for path in written] == ["d/x", "y"]
    assert [path.read_bytes() for path in written] == [b"1", b"22"]


def test_zip_is_unpacked_whole(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", [("d/", b""), ("d/x", b"1"), ("y", b"22")])
    assert [path.read_bytes() for path in files.unpack(archive, tmp_path / "to")] == [b"1", b"22"]
    with pytest.raises(InputError, match="does not exist yet"):
        files.unpack(archive, tmp_path / "to")


BAD_NAMES = ["/etc/x", "../x", "a/../../x", "a\\..\\x", "C:/x", "C:x"]
BAD_KINDS = [
    tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "tar":
        archive = make_tar(tmp_path / "a", [("good", tarfile.REGTYPE, b"1"), (name, tarfile.REGTYPE, b"1")])
    else:
        archive = make_zip(tmp_path / "a", [("good", b"1"), (name, b"1")])
    refused(archive, tmp_path)


@pytest.mark.parametrize("kind", BAD_KINDS)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    refused(make_tar(tmp_path / "a", [("good", tarfile.REGTYPE, b"1"), ("bad", kind, b"good")]), tmp_path)


def test_zip_links_are_refused(tmp_path: Path) -> None:
    refused(make_zip(tmp_path / "a", [("bad", b"/etc/passwd")], stat.S_IFLNK | 0o777), tmp_path)


@pytest.mark.parametrize(
    "limits", [{"max_members": 2}, {"max_bytes": 1 << 20}, {"max_ratio": 2.0}], ids=["members", "bytes", "ratio"]
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_more_than_allowed_is_refused(tmp_path: Path, limits: dict[str, int], kind: str) -> None:
    members = [(str(number), bytes(1 << 20)) for number in range(3)]
    if kind == "tar":
        archive = make_tar(tmp_path / "a", [(name, tarfile.REGTYPE, content) for name, content in members])
    else:
        archive = make_zip(tmp_path / "a", members)
    refused(archive, tmp_path, **limits)
    assert len(files.unpack(archive, tmp_path / "to", max_ratio=1e6)) == 3


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    refused(make_tar(tmp_path / "a", [("x", tarfile.REGTYPE, b"1"), ("./x", tarfile.REGTYPE, b"2")]), tmp_path)
    refused(make_tar(tmp_path / "b", [("x", tarfile.REGTYPE, b"1"), ("x/y", tarfile.REGTYPE, b"2")]), tmp_path)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_damaged_archives_are_an_input_error(tmp_path: Path, kind: str) -> None:
    content = [(str(number), random.Random(number).randbytes(3000) + bytes(3000)) for number in range(3)]
    if kind == "tar":
        archive = make_tar(tmp_path / "a", [(name, tarfile.REGTYPE, value) for name, value in content])
    else:
        archive = make_zip(tmp_path / "a", content)
    whole = archive.read_bytes()
    rng = random.Random(1)
    refusals = 0
    for number in range(150):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if number % 3 == 0 else whole)
        for _ in range(3):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        archive.write_bytes(damaged)
        try:
            files.unpack(archive, tmp_path / f"to{number}")
        except InputError:
            refusals += 1
            assert not (tmp_path / f"to{number}").exists()
    assert refusals > 50


def test_encrypted_zip_is_an_input_error(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", [("x", b"1")])
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # local header, general purpose flag: encrypted
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    refused(archive, tmp_path)


def refused(archive: Path, folder: Path, **limits: int) -> None:
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(InputError) as error:
        files.unpack(archive, folder / "to", **limits)  # type: ignore[arg-type]
    assert str(archive) in str(error.value)
    assert sorted(folder.parent.rglob("*")) == before  # nothing was written, in the folder or beside it
