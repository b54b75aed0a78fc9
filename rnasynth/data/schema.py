"""What a cohort manifest may say: its JSON schema, its dataclasses, and the rules that a schema cannot hold."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rnasynth.data.download import check_url
from rnasynth.errors import InputError

MAX_FILE_BYTES = 100 << 30  # no single file of these cohorts is larger; GTEx's largest slides have a few GB

_TEXT = {"type": "string", "minLength": 1, "maxLength": 4000}
_HASH = {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"}
_PATH = {"type": "string", "minLength": 1, "maxLength": 300}
_ADDRESS = {"type": ["string", "null"], "pattern": "^https://", "maxLength": 1000}
FILE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path", "url", "bytes", "sha256"],
    "properties": {
        "path": _PATH,
        "url": _ADDRESS,
        "listing": _ADDRESS,
        "bytes": {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_FILE_BYTES},
        "sha256": _HASH,
        "md5": {"type": ["string", "null"], "pattern": "^[0-9a-f]{32}$"},
        "content_sha256": _HASH,
        "mirror_path": _PATH,
        "conversion": _TEXT,
        "licence": _TEXT,
        "source": _TEXT,
        "required": {"type": "boolean"},
        "group": _TEXT,
        "note": _TEXT,
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "title", "description", "simulated", "licence", "citation", "files"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,40}$"},
        "title": _TEXT,
        "description": _TEXT,
        "simulated": {"const": False},
        "licence": _TEXT,
        "citation": _TEXT,
        "notes": {"type": "array", "items": _TEXT},
        "files": {"type": "array", "items": FILE_SCHEMA, "maxItems": 100_000},
        "gdc": {"type": "boolean"},
        "cohort": {
            "type": "object",
            "additionalProperties": False,
            "required": ["samples", "expression"],
            "properties": {
                "samples": _PATH,
                "expression": _PATH,
                "expression_kind": _TEXT,
                "unit": {"enum": ["tpm", "counts", "rsem", "zscore"]},
                "slides": _PATH,
                "slide_mpp": {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
                "banner": _TEXT,
            },
        },
    },
}


@dataclass(frozen=True, kw_only=True)
class ManifestFile:
    """One file of a cohort.

    `path` is where it lies below the cohort's folder, `url` its public address (None: `source` says in words where it
    comes from). `listing` is an address that lists the folder holding exactly one such file, for public files whose
    name is not known here. `sha256` and `bytes` are of the file at `path` as the mirror holds it; where `conversion`
    is not empty, `content_sha256` is of what both forms share (text before compression, pixels), so that a file
    converted here, by another zlib, is verified too.
    """

    path: str
    url: str | None
    bytes: int | None
    sha256: str | None
    listing: str | None = None
    md5: str | None = None
    content_sha256: str | None = None
    mirror_path: str = ""
    conversion: str = ""
    licence: str = ""
    source: str = ""
    required: bool = False
    group: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A cohort: who it is, whose it is, which files it has. `cohort` describes a user's own tables (see `cohort.py`)."""

    name: str
    title: str
    description: str
    licence: str
    citation: str
    files: tuple[ManifestFile, ...]
    simulated: bool = False
    notes: tuple[str, ...] = ()
    gdc: bool = False
    cohort: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None  # where a user's own manifest lies; None for the project's

    def select(self, only: Iterable[str] | None) -> tuple[ManifestFile, ...]:
        """Return the files whose group or path matches one of the patterns in `only` (all for None).

        Raises
        ------
        InputError : a pattern that matches nothing.
        """
        if only is None:
            return self.files
        chosen: set[str] = set()
        for pattern in (only,) if isinstance(only, str) else only:
            matched = {f.path for f in self.files if f.group == pattern or fnmatch.fnmatchcase(f.path, pattern)}
            if not matched:
                groups = sorted({f.group for f in self.files if f.group})
                raise InputError(
                    f"cohort {self.name}, files {pattern!r}",
                    expected=f"a group ({', '.join(groups)}) or a path",
                    found="none",
                )
            chosen |= matched
        return tuple(f for f in self.files if f.path in chosen)


def check_relative(subject: str, path: str) -> PurePosixPath:
    """Return `path` as a relative path that stays below its folder, else raise InputError."""
    relative = PurePosixPath(path)
    bad = relative.is_absolute() or ".." in relative.parts or "\\" in path or "\0" in path or ":" in path
    if bad or not relative.parts or any(ord(character) < 32 for character in path):
        raise InputError(f"{subject}, path {path!r}", expected="a relative path below the cohort's folder", found="another")
    return relative


def check_files(manifest: Path, entries: tuple[ManifestFile, ...]) -> None:
    """Raise InputError where a path leaves the folder or comes twice, or an address is not allowed."""
    seen: set[str] = set()
    for entry in entries:
        subject = f"{manifest}, file {entry.path!r}"
        normal = str(check_relative(str(manifest), entry.path)).casefold()
        if entry.mirror_path:
            check_relative(str(manifest), entry.mirror_path)
        if normal in seen or PurePosixPath(normal).name in {"locks.json", "fetched.json", "splits.csv"}:
            raise InputError(subject, expected="each path once, none that the library writes itself", found="another")
        seen.add(normal)
        for address in (entry.url, entry.listing):
            if address is not None:
                check_url(address)
        if entry.url is None and entry.listing is None and not entry.source:
            raise InputError(subject, expected="an address, a listing, or a source in words", found="none")
