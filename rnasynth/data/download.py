"""One file over https into a `.part` file, resumed where it stopped; nothing here knows of cohorts.

A server is not trusted: only https (http for loopback hosts when a caller asks, for tests), also after redirects; at most
`max_bytes` are written whatever the server says; a partial answer must continue exactly where the file ends.
Whether the content is the right one is for the caller to check, by hash.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from rnasynth.errors import InputError
from rnasynth.files import CHUNK_BYTES, write_text

PART_SUFFIX = ".part"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
TIMEOUT_S = 60.0
USER_AGENT = "rnasynth"


class DownloadError(InputError):
    """An address gave no file, an oversized one, or broke off too often."""


def check_url(url: str, *, allow_http_loopback: bool = False) -> str:
    """Return `url` if it may be fetched, else raise.

    Raises
    ------
    InputError : not https (nor http on a loopback host where that is allowed), no host, or a user name in the address.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https" or (parts.scheme == "http" and allow_http_loopback and parts.hostname in LOOPBACK)
    if not secure or not parts.hostname or parts.username is not None:
        raise InputError(f"address {url!r}", expected="https://HOST/PATH without a user name", found=parts.scheme or "none")
    return url


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follow a redirect only to an address that could have been asked for."""

    def __init__(self, allow_http_loopback: bool) -> None:
        self.allow_http_loopback = allow_http_loopback

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_url(newurl, allow_http_loopback=self.allow_http_loopback)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_url(url: str, headers: dict[str, str] | None = None, *, allow_http_loopback: bool = False) -> Any:
    """Open an address for reading (an `http.client.HTTPResponse`), redirects checked.

    Raises
    ------
    InputError : an address that may not be fetched; urllib's errors otherwise.
    """
    check_url(url, allow_http_loopback=allow_http_loopback)
    opener = urllib.request.build_opener(_CheckedRedirects(allow_http_loopback))
    request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT, **(headers or {})})
    return opener.open(request, timeout=TIMEOUT_S)


def download(
    url: str,
    part: Path,
    *,
    max_bytes: int,
    hash_known: bool = True,
    allow_http_loopback: bool = False,
    attempts: int = 6,
    pause_s: float = 0.5,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> None:
    """Fetch `url` into `part`, going on where an earlier call stopped.

    Parameters
    ----------
    part : the growing file; its server's validator (ETag or date) lies beside it as `PART.validator`.
    max_bytes : the transfer stops with an error beyond this.
    hash_known : False: without the same validator a resumed file is begun anew, as nothing could tell a mixture of two.
    attempts, pause_s : tries without a single new byte, and the pause after the first of them (doubled each time).
    on_bytes : called with the number of new bytes (negative when the file is begun anew).

    Raises
    ------
    DownloadError : refused (4xx), too large, or broken off `attempts` times in a row without progress.
    """
    validator_file = part.with_name(part.name + ".validator")
    part.parent.mkdir(parents=True, exist_ok=True)
    failed, reason = 0, ""
    while failed < attempts:
        if failed:
            time.sleep(pause_s * 2 ** (failed - 1))
        offset = part.stat().st_size if part.exists() else 0
        validator = validator_file.read_text(encoding="utf-8") if validator_file.exists() else ""
        if offset and not validator and not hash_known:
            on_bytes(-offset)
            part.unlink()
            offset = 0
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and validator:
            headers["If-Range"] = validator
        before = offset
        try:
            with open_url(url, headers, allow_http_loopback=allow_http_loopback) as answer:
                start = _start(answer, offset)
                if start != offset:
                    on_bytes(start - offset)
                if found := _validator(answer):
                    write_text(validator_file, found)
                else:
                    validator_file.unlink(missing_ok=True)
                length = answer.headers.get("Content-Length")
                total = start + int(length) if length is not None and length.isdigit() else None
                if total is not None and total > max_bytes:
                    raise DownloadError(url, expected=f"at most {max_bytes:,} bytes", found=f"{total:,} announced")
                end = _append(part, start, _chunks(answer), max_bytes, url, on_bytes)
            if total is None or end == total:
                validator_file.unlink(missing_ok=True)
                return
            reason = f"the connection closed after {end:,} of {total:,} bytes"
            failed = 0 if end > before and start == before else failed + 1
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing beyond what is there: the whole file, or another file; the hash decides
                with suppress(ValueError, AttributeError):
                    if int(error.headers.get("Content-Range", "").rpartition("/")[2]) == offset:
                        return
                on_bytes(-offset)
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise DownloadError(url, expected="a file", found=f"HTTP {error.code} {error.reason}") from None
            failed, reason = failed + 1, f"HTTP {error.code}"
        except (http.client.HTTPException, OSError) as error:  # URLError and time-outs are OSErrors
            grown = part.exists() and part.stat().st_size > before
            failed, reason = (1 if grown else failed + 1), str(error) or type(error).__name__
    raise DownloadError(
        url, expected="the whole file", found=reason, fix="run the same command again: it goes on where it stopped"
    )


def _start(answer: Any, offset: int) -> int:
    """Byte of the file at which the answer begins: 0 where the server ignores the range."""
    if answer.status != 206:
        return 0
    given = answer.headers.get("Content-Range", "")
    begin = given.removeprefix("bytes ").split("-")[0].strip()
    if not begin.isdigit() or int(begin) != offset:
        raise http.client.HTTPException(f"asked for bytes from {offset}, given {given!r}")
    return offset


def _validator(answer: Any) -> str:
    """Strong ETag, else the date of the last change: what If-Range accepts."""
    tag = answer.headers.get("ETag", "")
    return str(tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", ""))


def _chunks(answer: IO[bytes]) -> Iterator[bytes]:
    while chunk := answer.read(CHUNK_BYTES // 4):
        yield chunk


def _append(
    part: Path, start: int, chunks: Iterator[bytes], max_bytes: int, url: str, on_bytes: Callable[[int], None]
) -> int:
    """Write `chunks` from position `start` and return the new size; what was written stays when they break off."""
    with open(part, "r+b" if part.exists() else "xb") as handle:
        handle.seek(start)
        handle.truncate()
        try:
            for chunk in chunks:
                if handle.tell() + len(chunk) > max_bytes:
                    raise DownloadError(url, expected=f"at most {max_bytes:,} bytes", found="more")
                handle.write(chunk)
                on_bytes(len(chunk))
            return handle.tell()
        finally:
            handle.flush()
            os.fsync(handle.fileno())
