"""Manifests: hostile ones are refused, broken downloads resumed, every byte verified, cached or not."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rnasynth.data import convert
from rnasynth.data.download import DownloadError, check_url, download
from rnasynth.data.manifests import check_at_hand, fetch, gdc_files, list_manifests, load_manifest
from rnasynth.data.schema import Manifest, ManifestFile
from rnasynth.errors import InputError, PartialFailure

CONTENT = bytes(range(256)) * 4000  # about 1 MB


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `behave[path]` is a list of ways to misbehave, one a request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.behave: dict[str, list[str]] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.tags: dict[str, str] = {}

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        given = self.headers.get("Range")
        self.server.seen.append((path, given))
        queue = self.server.behave.get(path, [])
        how = queue.pop(0) if queue else ""
        content = self.server.files.get(path)
        if how == "503" or content is None:
            return self.send_error(503 if how == "503" else 404)
        if how == "redirect":
            self.send_response(302)
            self.send_header("Location", "http://example.invalid/elsewhere")
            return self.end_headers()
        tag = self.server.tags.get(path)
        start = int(given.removeprefix("bytes=").rstrip("-")) if given and how != "ignore range" else 0
        if start and tag and self.headers.get("If-Range") not in (None, tag):
            start = 0
        if start >= len(content) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            shift = 7 if how == "wrong range" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        if tag:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: len(body) // 2] if how == "break" else body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("RNASYNTH_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def cohort(*entries: ManifestFile) -> Manifest:
    return Manifest(name="test", title="t", description="d", licence="l", citation="c", files=entries)


def entry(server: Server, path: str = "a.bin", content: bytes = CONTENT, **more: Any) -> ManifestFile:
    server.files.setdefault(path, content)
    values = {"url": server.url(path), "bytes": len(content), "sha256": sha(content)} | more
    return ManifestFile(path=path, **values)


def get(manifest: Manifest, to: Path, **more: Any) -> Any:
    return fetch(manifest, to=to, progress=False, allow_http_loopback=True, **more)


# ---------------------------------------------------------------- downloads


def test_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    manifest = cohort(entry(server))
    server.behave["a.bin"] = ["break", "break"]
    report = get(manifest, tmp_path)
    assert report.done == ("a.bin",) and (tmp_path / "a.bin").read_bytes() == CONTENT
    starts = [given for _, given in server.seen]
    assert starts == [None, f"bytes={len(CONTENT) // 2}-", f"bytes={len(CONTENT) * 3 // 4}-"]


def test_download_killed_in_between_is_resumed_by_the_next_call(server: Server, tmp_path: Path) -> None:
    manifest = cohort(entry(server))
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    get(manifest, tmp_path)
    assert server.seen == [("a.bin", "bytes=1000-")]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and not (tmp_path / "a.bin.part").exists()


def test_server_that_ignores_ranges_starts_the_file_anew(server: Server, tmp_path: Path) -> None:
    manifest = cohort(entry(server))
    server.behave["a.bin"] = ["break", "ignore range"]
    get(manifest, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_range_that_begins_elsewhere_is_not_pasted(server: Server, tmp_path: Path) -> None:
    manifest = cohort(entry(server))
    server.behave["a.bin"] = ["break", "wrong range"]
    get(manifest, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_file_changed_between_two_parts_is_begun_anew(server: Server, tmp_path: Path) -> None:
    """Without a known hash only the validator tells that the rest belongs to another file."""
    other = CONTENT[::-1]
    server.files["a.bin"], server.tags["a.bin"] = CONTENT, '"one"'
    part = tmp_path / "x.part"
    part.write_bytes(CONTENT[:5000])
    part.with_name("x.part.validator").write_text('"one"', encoding="utf-8")
    server.files["a.bin"], server.tags["a.bin"], server.behave["a.bin"] = other, '"two"', []
    download(server.url("a.bin"), part, max_bytes=1 << 30, hash_known=False, allow_http_loopback=True)
    assert part.read_bytes() == other


def test_part_without_validator_or_hash_is_begun_anew(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = CONTENT
    part = tmp_path / "x.part"
    part.write_bytes(b"something else")
    download(server.url("a.bin"), part, max_bytes=1 << 30, hash_known=False, allow_http_loopback=True)
    assert part.read_bytes() == CONTENT


def test_busy_server_is_asked_again_and_a_refusal_is_not(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = CONTENT
    server.behave["a.bin"] = ["503", "503"]
    download(server.url("a.bin"), tmp_path / "x.part", max_bytes=1 << 30, allow_http_loopback=True, pause_s=0)
    assert len(server.seen) == 3
    with pytest.raises(DownloadError, match="404"):
        download(server.url("none"), tmp_path / "y.part", max_bytes=1 << 30, allow_http_loopback=True, pause_s=0)
    assert len(server.seen) == 4


def test_more_bytes_than_allowed_are_never_written(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = CONTENT
    with pytest.raises(DownloadError, match="at most 1,000"):
        download(server.url("a.bin"), tmp_path / "x.part", max_bytes=1000, allow_http_loopback=True)
    assert not (tmp_path / "x.part").exists()


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/a", "http://example.org/a", "file:///etc/passwd", "ftp://h/a", "https://user@host/a", "https:///a"],
)
def test_only_https_addresses_are_asked(url: str) -> None:
    with pytest.raises(InputError):
        check_url(url)


def test_redirect_away_from_https_is_refused(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = CONTENT
    server.behave["a.bin"] = ["redirect"]
    with pytest.raises(InputError, match="example"):
        download(server.url("a.bin"), tmp_path / "x.part", max_bytes=1 << 30, allow_http_loopback=True)


# ---------------------------------------------------------------- fetch


def test_wrong_bytes_are_deleted_and_named(server: Server, tmp_path: Path) -> None:
    good = entry(server, "b.bin", b"good")
    bad = entry(server, "a.bin", sha256=sha(b"other"))
    with pytest.raises(PartialFailure) as error:
        get(cohort(bad, good), tmp_path)
    message = str(error.value)
    assert "a.bin" in message and sha(b"other") in message and sha(CONTENT) in message
    assert not (tmp_path / "a.bin").exists() and (tmp_path / "b.bin").read_bytes() == b"good"


def test_cached_file_is_verified_too(server: Server, tmp_path: Path) -> None:
    manifest = cohort(entry(server))
    get(manifest, tmp_path)
    assert get(manifest, tmp_path).cached == ("a.bin",)
    damaged = bytearray(CONTENT)
    damaged[500_000] ^= 1
    (tmp_path / "a.bin").write_bytes(bytes(damaged))
    report = get(manifest, tmp_path)
    assert report.replaced == ("a.bin",) and report.done == ("a.bin",)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and "damaged" in str(report)


def test_unknown_hash_is_locked_on_first_fetch_and_held(server: Server, tmp_path: Path) -> None:
    manifest = cohort(entry(server, sha256=None, bytes=None))
    assert get(manifest, tmp_path).locked == ("a.bin",)
    assert json.loads((tmp_path / "locks.json").read_text())["a.bin"]["sha256"] == sha(CONTENT)
    assert get(manifest, tmp_path).locked == ()
    (tmp_path / "a.bin").unlink()
    server.files["a.bin"] = b"changed since"
    with pytest.raises(PartialFailure, match="as locked"):
        get(manifest, tmp_path)
    assert not (tmp_path / "a.bin").exists()


def test_md5_is_checked_where_it_is_what_the_source_gives(server: Server, tmp_path: Path) -> None:
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    assert get(cohort(entry(server, sha256=None, md5=md5)), tmp_path).done == ("a.bin",)
    with pytest.raises(PartialFailure, match="md5"):
        get(cohort(entry(server, sha256=None, md5="0" * 32)), tmp_path / "other")


def test_converted_file_is_verified_by_its_content(server: Server, tmp_path: Path) -> None:
    more = {"conversion": "gzip -9", "content_sha256": sha(CONTENT), "sha256": sha(b"as another zlib packs it"), "bytes": 5}
    server.files["raw"] = CONTENT
    converted = ManifestFile(path="a.tsv.gz", url=server.url("raw"), **more)
    assert get(cohort(converted), tmp_path).done == ("a.tsv.gz",)
    assert gzip.decompress((tmp_path / "a.tsv.gz").read_bytes()) == CONTENT
    assert get(cohort(converted), tmp_path).cached == ("a.tsv.gz",)
    server.files["raw"] = CONTENT[:-1]
    with pytest.raises(PartialFailure, match="content sha256"):
        get(cohort(converted), tmp_path / "other")


def test_members_of_one_archive_cost_one_download(server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("major/A1.tsv", "major/A2.tsv"):
            archive.writestr(name, name * 100)
    server.files["major.zip"] = buffer.getvalue()
    entries = [
        ManifestFile(
            path=f"{s}.tsv.gz", url=server.url("major.zip"), bytes=None, sha256=None,
            conversion=f"unzip member major/{s}.tsv, gzip -9",
        )
        for s in ("A1", "A2", "A3")
    ]  # fmt: skip
    report = get(cohort(*entries[:2]), tmp_path)
    assert len(report.done) == 2 and len(server.seen) == 1
    assert gzip.decompress((tmp_path / "A2.tsv.gz").read_bytes()) == b"major/A2.tsv" * 100
    assert not list((tmp_path / ".sources").iterdir())
    assert get(cohort(*entries), tmp_path).missing == ("A3.tsv.gz",)


def test_file_of_unknown_name_is_found_by_the_listing_and_its_git_blob(server: Server, tmp_path: Path) -> None:
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT, usedforsecurity=False).hexdigest()
    server.files["x.jpg"] = CONTENT
    row = {"type": "file", "name": "x.jpg", "size": len(CONTENT), "sha": blob, "download_url": server.url("x.jpg")}
    server.files["list"] = json.dumps([row, {"type": "file", "name": "note.txt"}]).encode()
    listed = ManifestFile(path="images/A1.jpg", url=None, listing=server.url("list"), bytes=None, sha256=None)
    assert get(cohort(listed), tmp_path).locked == ("images/A1.jpg",)
    assert (tmp_path / "images" / "A1.jpg").read_bytes() == CONTENT
    server.files["list"] = json.dumps([row | {"sha": "0" * 40}]).encode()
    assert "git blob" in get(cohort(listed), tmp_path / "other").reasons["images/A1.jpg"]
    server.files["list"] = json.dumps([row, row]).encode()
    assert "listing" in get(cohort(listed), tmp_path / "third").reasons["images/A1.jpg"]


def test_mirror_that_lacks_files_gives_what_it_has_and_a_list(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "c").mkdir(parents=True)
    (mirror / "c" / "A1").write_bytes(b"one")
    url = "https://example.invalid/x"
    here = ManifestFile(path="A1", url=url, bytes=3, sha256=sha(b"one"), mirror_path="c/A1", group="a")
    absent = ManifestFile(path="B1", url=url, bytes=3, sha256=sha(b"two"), group="b")
    report = fetch(cohort(here, absent), to=tmp_path / "d", mirror=mirror, progress=False)
    assert report.done == ("A1",) and report.missing == ("B1",) and "B1" in str(report)
    needed = ManifestFile(path="B1", url=url, bytes=3, sha256=sha(b"two"), required=True)
    with pytest.raises(PartialFailure, match="B1"):
        fetch(cohort(here, needed), to=tmp_path / "e", mirror=mirror, progress=False)
    assert (tmp_path / "e" / "A1").exists()
    assert fetch(cohort(here, absent), to=tmp_path / "f", mirror=mirror, progress=False, only=["a"]).missing == ()
    with pytest.raises(InputError, match="'Z9'"):
        fetch(cohort(here), to=tmp_path / "g", mirror=mirror, progress=False, only=["Z9"])


def test_mirror_is_checked_like_the_network(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "A1").write_bytes(b"tampered")
    with pytest.raises(PartialFailure, match="A1"):
        fetch(
            cohort(ManifestFile(path="A1", url=None, source="x", bytes=8, sha256=sha(b"original"))),
            to=tmp_path / "d", mirror=mirror, progress=False,
        )  # fmt: skip
    assert not (tmp_path / "d" / "A1").exists()


# ---------------------------------------------------------------- manifests


def hostile(tmp_path: Path, **change: Any) -> Path:
    file = {"path": "a.txt", "url": "https://example.org/a", "bytes": 1, "sha256": "0" * 64} | change.pop("file", {})
    values = {"name": "own", "title": "t", "description": "d", "simulated": False, "licence": "l", "citation": "c"}
    values |= {"files": [file]} | change
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize("bad", ["/etc/passwd", "../x", "a/../../x", "C:\\x", "a\\..\\x", "", ".", "locks.json", "a\nb"])
def test_path_that_leaves_the_folder_is_refused(bad: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load_manifest(hostile(tmp_path, file={"path": bad}))
    with pytest.raises(InputError):
        load_manifest(hostile(tmp_path, file={"mirror_path": bad if bad != "locks.json" else "../locks.json"}))


@pytest.mark.parametrize(
    "change",
    [
        {"file": {"url": "http://example.org/a"}},
        {"file": {"url": "file:///etc/passwd"}},
        {"file": {"url": None}},
        {"file": {"bytes": -1}},
        {"file": {"bytes": 1 << 50}},
        {"file": {"sha256": "abc"}},
        {"file": {"surprise": 1}},
        {"simulated": True},
        {"name": "../own"},
        {"surprise": 1},
        {"files": "none"},
    ],
)
def test_manifest_against_the_schema_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    load_manifest(hostile(tmp_path))
    with pytest.raises(InputError):
        load_manifest(hostile(tmp_path, **change))


def test_yaml_that_makes_objects_or_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    for text in ("!!python/object/apply:os.system ['true']", "a: [", "[]", "\x00"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError):
            load_manifest(path)
    path.write_bytes(b"#" * (5 << 20))
    with pytest.raises(InputError, match="bytes"):
        load_manifest(path)


def test_unknown_cohort_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="her2st"):
        load_manifest("her2nd")


def test_every_manifest_of_the_project_passes_the_schema_and_names_licence_and_source() -> None:
    names = list_manifests()
    assert {"her2st", "tcga-xena", "tcga-tiles", "slides", "gtex", "tcga", "geo", "rtcga", "porpoise", "signatures"} <= set(
        names
    )
    for name in names:
        manifest = load_manifest(name)
        assert manifest.name == name and manifest.licence and manifest.citation and not manifest.simulated
        for file in manifest.files:
            assert file.url or file.listing or file.source
            if file.url and file.conversion and file.sha256:
                assert file.content_sha256 and convert.known(file.conversion), file.path


def test_her2st_lists_all_36_sections_with_four_files_each() -> None:
    manifest = load_manifest("her2st")
    sections = {p + str(i) for p, n in dict(A=6, B=6, C=6, D=6, E=3, F=3, G=3, H=3).items() for i in range(1, n + 1)}
    assert len(sections) == 36
    assert {file.group for file in manifest.files} == sections and len(manifest.files) == 4 * 36


def test_gdc_manifest_becomes_files_checked_by_md5(tmp_path: Path) -> None:
    path, md5 = tmp_path / "gdc.txt", "a" * 32
    head = "id\tfilename\tmd5\tsize\tstate\n"
    path.write_text(head + f"0ab-1\tx.tsv\t{md5}\t12\treleased\n0ab-2\ty.svs\t{md5}\t99\treleased\n", encoding="utf-8")
    first, second = gdc_files(path)
    assert first.url == "https://api.gdc.cancer.gov/data/0ab-1" and first.path == "gdc/0ab-1/x.tsv" and first.md5 == md5
    assert (first.group, second.group) == ("expression", "slide")
    rows = (f"../x\tx.tsv\t{md5}\t12\t", f"0ab\t../../x\t{md5}\t12\t", "0ab\tx\tzz\t12\t", f"0ab\tx\t{md5}\tmany\t")
    for row in rows:
        path.write_text(head + row + "\n", encoding="utf-8")
        with pytest.raises(InputError):
            gdc_files(path)


@pytest.mark.real
def test_mirror_holds_what_the_manifests_say(mirror: Path, tmp_path: Path) -> None:
    """Every file of the small cohorts comes out of the mirror with its hash; her2st lists what the mirror lacks."""
    for name in ("tcga-xena", "rtcga", "signatures", "slides"):
        report = fetch(name, to=tmp_path / name, mirror=mirror, progress=False)
        assert report.missing == () and len(report.done) == len(load_manifest(name).files)
    report = fetch("her2st", to=tmp_path / "her2st", mirror=mirror, progress=False)
    assert {"images/C2.jpg", "images/C5.jpg", "counts/A1.tsv.gz"} <= set(report.done)
    assert "images/A1.jpg" in report.missing and not report.locked


def test_another_cohort_is_used_where_it_is_and_never_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RNASYNTH_MIRROR", raising=False)
    with pytest.raises(InputError, match="run `rnasynth fetch cognoma`"):
        check_at_hand("cognoma", folder=tmp_path)
    (tmp_path / "cognoma").mkdir()
    (tmp_path / "cognoma" / "fetched.json").write_text("{}")
    check_at_hand("cognoma", folder=tmp_path)
    check_at_hand("her2st", folder=tmp_path, mirror=tmp_path)
