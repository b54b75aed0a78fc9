"""Cohort manifests: which files a cohort is made of, where each lies in public, its hash and licence; fetch and verify.

A manifest (`data_manifests/NAME.yaml`) is checked by a JSON schema and treated as hostile input: relative paths only,
https only, sizes limited, safe YAML. `fetch` takes each file by https or from a local mirror and checks size and hash
every time, also of files that are already there. Where a hash cannot be known beforehand (`sha256: null`), the first
fetch locks it in `locks.json` beside the data.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import urllib.error
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema
import yaml
from tqdm import tqdm

from rnasynth import files
from rnasynth.config import data_folder, manifests_folder, mirror_folder
from rnasynth.data import convert
from rnasynth.data.download import PART_SUFFIX, DownloadError, check_url, download, open_url
from rnasynth.data.schema import FILE_SCHEMA, MAX_FILE_BYTES, SCHEMA, Manifest, ManifestFile, check_files, check_relative
from rnasynth.errors import InputError, PartialFailure

MAX_MANIFEST_BYTES = 4 << 20
EXAMPLE = "compare it with a manifest in data_manifests/"


class _NoAliases(yaml.SafeLoader):
    """Plain YAML without references: a kilobyte of nested ones unfolds to gigabytes in any message about it."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "found an alias (*name), which manifests do not use", mark)
        return super().compose_node(parent, index)


def list_manifests() -> dict[str, Path]:
    """Return the cohorts that the project knows: name -> manifest file, sorted by name."""
    return {path.stem: path for path in sorted(manifests_folder().glob("*.yaml"))}


def load_manifest(name_or_path: str | Path) -> Manifest:
    """Read and check a manifest, by its name or as a file of a user's own.

    Raises
    ------
    InputError : no such manifest, not YAML, against the schema, or a path or address that is not allowed.
    """
    known = list_manifests()
    own = str(name_or_path) not in known
    path = Path(name_or_path) if own else known[str(name_or_path)]
    if own and not (path.suffix in {".yaml", ".yml"} and path.is_file()):
        raise InputError(
            f"cohort {str(name_or_path)!r}",
            expected=f"one of {', '.join(known)}, or a manifest file (.yaml)",
            found="neither",
            fix="check the spelling",
        )
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise InputError(str(path), expected=f"at most {MAX_MANIFEST_BYTES:,} bytes", found=f"{path.stat().st_size:,}")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_NoAliases)
        jsonschema.validate(values, SCHEMA)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(str(path), expected="a manifest in YAML", found=str(error), fix=EXAMPLE) from None
    except jsonschema.ValidationError as error:
        place = "/".join(str(part) for part in error.absolute_path) or "top"
        raise InputError(
            f"{path}, at {place}", expected="what the schema says", found=error.message[:500], fix=EXAMPLE
        ) from None
    entries = tuple(ManifestFile(**entry) for entry in values["files"])
    check_files(path, entries)
    for key in ("samples", "expression", "slides"):
        if key in values.get("cohort", {}):
            check_relative(str(path), values["cohort"][key])
    values |= {"files": entries, "notes": tuple(values.get("notes", ()))}
    return Manifest(**values, folder=path.resolve().parent if own else None)


def gdc_files(path: str | Path) -> tuple[ManifestFile, ...]:
    """Read a GDC manifest (columns id, filename, md5, size, state) into files at api.gdc.cancer.gov, checked by md5.

    Raises
    ------
    InputError : another table, or an id, name, hash or size that cannot be one.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(str(path), expected="a GDC manifest", found=str(error)) from None
    if not rows or not {"id", "filename", "md5", "size"} <= set(rows[0]):
        raise InputError(
            str(path),
            expected="a tab-separated table with id, filename, md5, size",
            found="another",
            fix="on portal.gdc.cancer.gov put the files in the cart and choose Download > Manifest",
        )
    entries = []
    for row in rows:
        entry: dict[str, Any] = {
            "path": f"gdc/{row['id']}/{row['filename']}",
            "url": f"https://api.gdc.cancer.gov/data/{row['id']}",
            "bytes": int(row["size"]) if str(row["size"]).isdigit() else -1,
            "sha256": None,
            "md5": row["md5"],
            "licence": "TCGA open access (NIH Genomic Data Sharing policy)",
            "required": True,
            "group": "slide" if str(row["filename"]).endswith(".svs") else "expression",
        }
        try:
            jsonschema.validate(entry, FILE_SCHEMA)
        except jsonschema.ValidationError as error:
            raise InputError(f"{path}, id {row['id']!r}", expected="a GDC file", found=error.message[:300]) from None
        if "/" in str(row["id"]) or "/" in str(row["filename"]):
            raise InputError(f"{path}, id {row['id']!r}", expected="names without /", found=str(row["filename"]))
        entries.append(ManifestFile(**entry))
    check_files(path, tuple(entries))
    return tuple(entries)


def with_gdc_manifest(manifest: Manifest, path: str | Path) -> Manifest:
    """Return `manifest` with the files of a GDC manifest added."""
    return replace(manifest, files=manifest.files + gdc_files(path))


@dataclass(frozen=True, kw_only=True)
class FetchReport:
    """What a fetch did: files fetched now, files found whole, files that are not there (with reasons), and new locks."""

    folder: Path
    done: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Say it in one paragraph for a person."""
        lines = [f"{self.folder}: {len(self.done)} fetched, {len(self.cached)} were there, {len(self.missing)} missing"]
        if self.replaced:
            lines.append("damaged, deleted and fetched anew: " + ", ".join(self.replaced))
        if self.locked:
            lines.append("no hash was known; locked as first seen (locks.json): " + ", ".join(self.locked))
        lines += [f"missing {path}: {self.reasons[path]}" for path in self.missing]
        return "\n".join(lines)


def fetch(
    name: str | Path | Manifest,
    *,
    to: Path | None = None,
    mirror: Path | None = None,
    progress: bool = True,
    only: Iterable[str] | None = None,
    gdc_manifest: Path | None = None,
    known_only: bool = False,
    allow_http_loopback: bool = False,
) -> FetchReport:
    """Bring a cohort's files to `to` (default: the data folder's NAME), verify every one, and report.

    Parameters
    ----------
    name : a cohort's name, a manifest file, or a loaded manifest.
    mirror : a local folder that stands in for the internet (default: `$RNASYNTH_MIRROR`); nothing is asked over the
        network then, and what it lacks is reported.
    only : groups or path patterns (`["counts", "images/C2.jpg"]`); None for all files.
    gdc_manifest : a GDC manifest whose files are fetched too (for the cohort `tcga`).
    known_only : where an earlier fetch is on record (`fetched.json`) and there is no mirror, verify its files and ask for
        no others: what was missing then is reported as missing again, without a network.
    allow_http_loopback : also http from this machine; for tests.

    Raises
    ------
    PartialFailure : a required file is missing, or a file is not the one of the manifest (it is deleted: the message
        names it with the expected and found hash). All other files are fetched then.
    InputError : see `load_manifest`; a mirror that does not exist.
    """
    manifest = name if isinstance(name, Manifest) else load_manifest(name)
    if gdc_manifest is not None:
        manifest = with_gdc_manifest(manifest, gdc_manifest)
    mirror = mirror or mirror_folder()
    if mirror is not None and not mirror.is_dir():
        raise InputError(str(mirror), expected="the folder of a mirror", found="none", fix="check --mirror")
    folder = to or data_folder() / manifest.name
    if folder.exists() and not folder.is_dir():
        raise InputError(str(folder), expected="a folder for the files", found="a file", fix="give another path")
    with files.exclusive(folder / ".fetch.lock"):
        record = folder / "fetched.json"
        known = _record(record)
        chosen = manifest.select(only)
        if known_only and mirror is None and record.exists():
            chosen = tuple(entry for entry in chosen if entry.path in known["files"])
        report = _Fetch(manifest, folder, mirror, allow_http_loopback).run(chosen, progress)
        there = sorted({*known["files"], *report.done, *report.cached} - set(report.missing))
        missing = {path: why for path, why in (known["missing"] | report.reasons).items() if path not in there}
        now = {"files": there, "missing": missing}
        if now != known:
            files.write_json(record, now)
        if len(chosen) < len(manifest.select(only)):
            report = replace(report, missing=tuple(missing), reasons=missing)
        return report


def _record(path: Path) -> dict[str, Any]:
    """Return what earlier fetches brought and missed."""
    known = files.read_json(path) if path.exists() else {"files": [], "missing": {}}
    if not (isinstance(known, dict) and isinstance(known.get("files"), list) and isinstance(known.get("missing"), dict)):
        raise InputError(str(path), expected="the record of a fetch", found="other JSON", fix="delete it and fetch again")
    return known


def check_at_hand(name: str, *, mirror: Path | None = None, folder: Path | None = None) -> None:
    """Raise unless a cohort's files can be had without the network: from a mirror, or from an earlier fetch.

    For pages that show another cohort beside their own: they may use what is there, and never download what nobody asked
    for.

    Parameters
    ----------
    mirror : as in `fetch` (default: `$RNASYNTH_MIRROR`).
    folder : where data lie (default: the data folder).

    Raises
    ------
    InputError : neither; it names the command that fetches them.
    """
    given = (mirror or mirror_folder()) is not None
    if not given and not ((folder or data_folder()) / name / "fetched.json").exists():
        raise InputError(name, expected="its files, fetched earlier", found="none", fix=f"run `rnasynth fetch {name}`")


class _Fetch:
    """One call of `fetch`: its folder, its locks, what has happened so far."""

    def __init__(self, manifest: Manifest, folder: Path, mirror: Path | None, allow_http_loopback: bool) -> None:
        self.manifest, self.folder, self.mirror, self.loopback = manifest, folder, mirror, allow_http_loopback
        self.locks: dict[str, Any] = files.read_json(folder / "locks.json") if (folder / "locks.json").exists() else {}
        if not isinstance(self.locks, dict) or not all(isinstance(lock, dict) for lock in self.locks.values()):
            raise InputError(
                str(folder / "locks.json"), expected="hashes by path", found="other JSON", fix="delete it and fetch again"
            )
        self.done: list[str] = []
        self.cached: list[str] = []
        self.locked: list[str] = []
        self.replaced: list[str] = []
        self.missing: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.sources: set[Path] = set()

    def run(self, entries: tuple[ManifestFile, ...], progress: bool) -> FetchReport:
        total = sum(entry.bytes or 0 for entry in entries)
        with tqdm(
            total=total, unit="B", unit_scale=True, desc=self.manifest.name, disable=None if progress else True
        ) as self.bar:
            for entry in entries:
                self.one(entry)
        for source in self.sources:
            source.unlink(missing_ok=True)
        if self.failures:
            raise PartialFailure(f"cohort {self.manifest.name}", self.failures, fix="the other files are fetched")
        return FetchReport(
            folder=self.folder, done=tuple(self.done), cached=tuple(self.cached), missing=tuple(self.missing),
            locked=tuple(self.locked), replaced=tuple(self.replaced), reasons=self.missing,
        )  # fmt: skip

    def one(self, entry: ManifestFile) -> None:
        target = self.folder / entry.path
        if target.exists():
            if not self.wrong(entry, target):
                self.cached.append(entry.path)
                self.bar.update(entry.bytes or 0)
                return self.lock(entry, target)
            target.unlink()
            self.replaced.append(entry.path)
        try:
            found = self.from_mirror(entry, target) if self.mirror else self.from_web(entry, target)
        except DownloadError as error:
            found = str(error)
        if found:
            (self.failures if entry.required else self.missing)[entry.path] = found
        elif wrong := self.wrong(entry, target):
            target.unlink()
            self.failures[entry.path] = f"{wrong}; deleted"
        else:
            self.done.append(entry.path)
            self.lock(entry, target)

    def wrong(self, entry: ManifestFile, path: Path) -> str:
        """Say what is expected and found where `path` is not the manifest's file; empty where it is."""
        if entry.bytes is not None and not entry.conversion and path.stat().st_size != entry.bytes:
            return f"expected {entry.bytes:,} bytes, found {path.stat().st_size:,}"
        for algorithm, expected in (("sha256", entry.sha256), ("md5", entry.md5)):
            if expected and (found := files.digest(path, algorithm)) != expected:
                if algorithm == "sha256" and entry.content_sha256:
                    continue  # another zlib packed it: its content decides, below
                return f"expected {algorithm} {expected}, found {found}"
        if entry.content_sha256 and not (entry.sha256 and files.sha256(path) == entry.sha256):
            try:
                found = convert.content_sha256(path)
            except InputError as error:
                return str(error)
            if found != entry.content_sha256:
                return f"expected content sha256 {entry.content_sha256}, found {found}"
        if not (entry.sha256 or entry.md5 or entry.content_sha256):
            expected = self.locks.get(entry.path, {}).get("sha256")
            if expected and (found := files.sha256(path)) != expected:
                return f"expected sha256 {expected} as locked at the first fetch, found {found}"
        return ""

    def lock(self, entry: ManifestFile, path: Path) -> None:
        if entry.sha256 or entry.md5 or entry.content_sha256 or entry.path in self.locks:
            return
        self.locks[entry.path] = {"sha256": files.sha256(path), "bytes": path.stat().st_size}
        files.write_json(self.folder / "locks.json", self.locks)
        self.locked.append(entry.path)

    def from_mirror(self, entry: ManifestFile, target: Path) -> str:
        assert self.mirror is not None
        source = self.mirror / (entry.mirror_path or entry.path)
        if not source.is_file():
            return f"not in the mirror {self.mirror}"
        if not os.access(source, os.R_OK):
            return f"no permission to read {source}"
        size = source.stat().st_size
        if entry.bytes is not None and not entry.conversion and size != entry.bytes:
            return f"expected {entry.bytes:,} bytes, found {size:,} in the mirror; not copied"
        files.copy(source, target)
        self.bar.update(target.stat().st_size)
        return ""

    def from_web(self, entry: ManifestFile, target: Path) -> str:
        url, size, blob = entry.url, entry.bytes, ""
        if url is None and entry.listing:
            url, size, blob = self.listed(entry)
        if url is None or (entry.conversion and not convert.known(entry.conversion)):
            return f"no single public address gives it: {entry.source or entry.conversion}"
        whole = target
        if entry.conversion:  # several files may come out of one archive: it is fetched once
            whole = self.folder / ".sources" / hashlib.sha256(url.encode()).hexdigest()
            self.sources.add(whole)
            size = None
        if not whole.exists():
            part = whole.with_name(whole.name + PART_SUFFIX)
            download(
                url, part, max_bytes=size or MAX_FILE_BYTES, hash_known=bool(entry.sha256 or entry.md5 or blob),
                allow_http_loopback=self.loopback, on_bytes=self.moved,
            )  # fmt: skip
            content = f"blob {part.stat().st_size}\0".encode() if blob else b""
            if blob and hashlib.sha1(content + part.read_bytes(), usedforsecurity=False).hexdigest() != blob:
                part.unlink()
                return f"expected git blob {blob}, found another; deleted"
            files.replace(part, whole)
        if entry.conversion:
            try:
                convert.convert(whole, target, entry.conversion)
            except InputError as error:
                whole.unlink(missing_ok=True)
                return str(error)
        return ""

    def moved(self, count: int) -> None:
        self.bar.update(count)

    def listed(self, entry: ManifestFile) -> tuple[str, int, str]:
        """Address, size and git blob of the one file of its kind in a folder of a code host (its JSON listing)."""
        assert entry.listing is not None
        kind = PurePosixPath(entry.path).suffix
        try:
            with open_url(entry.listing, allow_http_loopback=self.loopback) as answer:
                rows = json.loads(answer.read(1 << 20))
            found = [row for row in rows if row["type"] == "file" and PurePosixPath(row["name"]).suffix.lower() == kind]
            (row,) = found
            return check_url(row["download_url"], allow_http_loopback=self.loopback), int(row["size"]), str(row["sha"])
        except (urllib.error.URLError, OSError, ValueError, TypeError, KeyError) as error:
            raise DownloadError(entry.listing, expected=f"a listing with one {kind} file", found=str(error)) from None
