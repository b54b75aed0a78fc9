"""Building a cohort once: its files fetched and verified, its profiles and tiles built in a folder that is then renamed.

The folder's name is `NAME-HASH`; the hash is of the options, the source files and the builders' version, so that other
sources are another cohort. `data.cohort` opens what is built here.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rnasynth import files
from rnasynth.config import config_hash
from rnasynth.data.cohorts import bulk, her2st, regions, slides
from rnasynth.data.cohorts.parts import Builder, Built, Sources, plain_obs
from rnasynth.data.manifests import fetch, list_manifests, load_manifest
from rnasynth.data.schema import Manifest
from rnasynth.data.simulate import SimulationConfig, build_simulated
from rnasynth.data.simulate.section import write_section
from rnasynth.errors import InputError

VERSION = 2  # of the builders: a change that changes profiles, tiles or what is measured of them raises it
SIMULATED_BANNER = "SIMULATED cohort: no patient, no tissue. It shows what a method does where the truth is known."
BUILDERS: dict[str, Builder] = {
    "her2st": her2st.build,
    "tcga-xena": bulk.build_xena,
    "tcga-tiles": regions.build,
    "rtcga": bulk.build_rtcga,
    "porpoise": bulk.build_porpoise,
    "cognoma": bulk.build_cognoma,
    "gtex": bulk.build_gtex,
    "tcga": slides.build_tcga,
    "geo": bulk.build_geo,
}


def build_cohort(
    name: str | Path, base: Path, *, mirror: str | Path | None, options: dict[str, Any], progress: bool = False
) -> Path:
    """Return the folder of a cohort of files, built first where it is not there; arguments as of `data.cohort.load_cohort`.

    Raises
    ------
    InputError : unknown cohort or option, or files that are needed and missing.
    """
    if str(name) not in list_manifests() and Path(name).suffix not in {".yaml", ".yml"}:
        raise InputError(
            f"cohort {str(name)!r}",
            expected=f"one of {', '.join(['simulated', *BUILDERS])}, or the path of a manifest (.yaml)",
            found="unknown",
            fix="check the spelling",
        )
    manifest = load_manifest(name)
    builder = slides.build_own if manifest.folder is not None else BUILDERS.get(manifest.name)
    if builder is None or (manifest.folder is not None and not manifest.cohort):
        raise InputError(
            f"cohort {manifest.name}",
            expected=f"one with profiles ({', '.join(['simulated', *BUILDERS])}), or a manifest with a block `cohort`",
            found="files for testing or lookup only",
            fix="fetch it with rnasynth.data.manifests.fetch",
        )
    known = set(inspect.signature(builder).parameters) - {"sources", "folder", "progress"}
    if unknown := sorted(set(options) - known):
        raise InputError(
            f"option {unknown[0]!r} of cohort {manifest.name}",
            expected=f"one of {', '.join(sorted(known)) or 'none'}",
            found="unknown",
        )
    sources, hashes = _sources(manifest, base, None if mirror is None else Path(mirror), progress)
    key = {"name": manifest.name, "options": options, "version": VERSION, "sources": hashes, "settings": sources.settings}
    key["missing"] = sorted(sources.missing)
    home = base / f"{manifest.name}-{config_hash(key)}"
    build_once(
        home, lambda building: _store(building, manifest.name, builder(sources, building, progress=progress, **options))
    )
    return home


def _sources(manifest: Manifest, base: Path, mirror: Path | None, progress: bool) -> tuple[Sources, dict[str, str]]:
    """Fetch or verify the files of a manifest; return them and the hash of each."""
    raw = manifest.folder or base / manifest.name
    hashes: dict[str, str] = {}
    missing: dict[str, str] = {}
    if manifest.files:
        report = fetch(manifest, to=raw, mirror=mirror, progress=progress, known_only=True)
        locks = files.read_json(raw / "locks.json") if (raw / "locks.json").exists() else {}
        there = set(report.done) | set(report.cached)
        for entry in manifest.files:
            if entry.path in there:
                locked = locks.get(entry.path, {}).get("sha256")
                hashes[entry.path] = entry.content_sha256 or entry.sha256 or entry.md5 or locked or ""
        missing = report.reasons
    settings = dict(manifest.cohort)
    if manifest.folder is not None:
        settings["name"] = manifest.name
        for part in ("samples", "expression"):
            path = raw / settings[part]
            if path.is_file():
                hashes[settings[part]] = files.sha256(path)
        slides_folder = raw / settings.get("slides", "no slides")
        for path in sorted(slides_folder.glob("*")) if "slides" in settings else []:
            hashes[f"slide {path.name}"] = str(path.stat().st_size)
    if manifest.gdc:
        hashes |= {str(path.relative_to(raw)): str(path.stat().st_size) for path in sorted((raw / "gdc").rglob("*.*"))}
    return Sources(folder=raw, missing=missing, settings=settings), hashes


def build_simulated_cohort(base: Path, seed: int, options: dict[str, Any]) -> Path:
    """Return the folder of the simulated cohort, built first where it is not there.

    `workers` (default 1) of the options render in processes; the cohort does not depend on them.
    """
    workers = int(options.pop("workers", 1))
    config = SimulationConfig.from_dict({"seed": seed} | options)
    home = base / f"simulated-{config_hash({'config': config.to_dict(), 'version': VERSION})}"

    def build(building: Path) -> None:
        build_simulated(building, config, workers=workers)
        section = write_section(building, config)
        facts = {
            "name": "simulated",
            "simulated": True,
            "banner": SIMULATED_BANNER,
            "notes": [],
            "split_by": "patient",
            "stratify": "tissue",
            "splits": None,
            "section": [section.name, config.mpp_um],
        }
        files.write_json(building / "cohort.json", facts)

    build_once(home, build)
    return home


def build_once(home: Path, build: Callable[[Path], None]) -> None:
    """Build into a sibling folder and rename it; one process builds, others wait. A killed build goes on where it was."""
    if (home / "cohort.json").exists():
        return
    with files.exclusive(home.parent / f".{home.name}.lock"):
        if (home / "cohort.json").exists():
            return
        if home.exists():
            raise InputError(str(home), expected="a built cohort", found="a folder without cohort.json", fix="remove it")
        building = home.with_name(f".{home.name}.building")
        building.mkdir(parents=True, exist_ok=True)
        build(building)
        files.replace(building, home)


def _store(building: Path, name: str, built: Built) -> None:
    """Write profiles, truth and, last, the facts of a built cohort."""
    adata = built.profiles
    adata.obs = plain_obs(adata.obs)
    with files.atomic_path(building / "profiles.h5ad") as temporary:
        adata.write_h5ad(temporary, compression="gzip", compression_opts=1)
    for table, frame in built.truth.items():
        with files.atomic_path(building / "truth" / f"{table}.parquet") as temporary:
            frame.to_parquet(temporary)
    section = None
    if built.section is not None:
        path, mpp_um = built.section
        section = [os.path.relpath(path, building.parent / "any"), None if np.isnan(mpp_um) else mpp_um]
    facts = {
        "name": name,
        "simulated": False,
        "banner": built.banner,
        "notes": built.notes,
        "split_by": built.split_by,
        "stratify": built.stratify,
        "splits": built.splits,
        "section": section,
    }
    files.write_json(building / "cohort.json", facts)
