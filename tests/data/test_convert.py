"""Conversions: what both forms share hashes alike, damaged and oversized input is refused."""

from __future__ import annotations

import gzip
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from rnasynth.data import convert
from rnasynth.errors import InputError
from rnasynth.files import copy, exclusive


def test_content_hash_does_not_depend_on_who_compressed(tmp_path: Path) -> None:
    text = b"gene\tcount\n" * 5000
    (tmp_path / "raw").write_bytes(text)
    (tmp_path / "other.gz").write_bytes(gzip.compress(text, 1))
    convert.convert(tmp_path / "raw", tmp_path / "ours.gz", "gzip -9")
    assert (tmp_path / "ours.gz").read_bytes() != (tmp_path / "other.gz").read_bytes()
    assert convert.content_sha256(tmp_path / "ours.gz") == convert.content_sha256(tmp_path / "other.gz")


def test_gzip_is_the_same_at_any_time(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"x" * 1000)
    convert.convert(tmp_path / "raw", tmp_path / "a.gz", "gzip -9")
    convert.convert(tmp_path / "raw", tmp_path / "b.gz", "gzip -9")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_tiff_becomes_png_pixel_for_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    convert.convert(tmp_path / "a.tif", tmp_path / "a.png", "tiff to png")
    assert convert.content_sha256(tmp_path / "a.tif") == convert.content_sha256(tmp_path / "a.png")


def test_damaged_or_unknown_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"x" * 1000)[:-6])
    with pytest.raises(InputError):
        convert.content_sha256(tmp_path / "a.gz")
    for how in ("unzip member a, gzip -9", "tiff to png", "run this"):
        with pytest.raises(InputError):
            convert.convert(tmp_path / "a.gz", tmp_path / "b.png", how)
    assert not (tmp_path / "b.png").exists()


def test_content_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "MAX_CONTENT_BYTES", 10_000)
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"0" * 5_000_000))
    with pytest.raises(InputError, match="at most"):
        convert.content_sha256(tmp_path / "a.gz")


def test_copy_is_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    copy(tmp_path / "link", tmp_path / "sub" / "b")
    (tmp_path / "a").write_bytes(b"y")
    assert (tmp_path / "sub" / "b").read_bytes() == b"x" and not (tmp_path / "sub" / "b").is_symlink()


def test_exclusive_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with exclusive(tmp_path / "lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
