"""Many slides to one tile store: open, mask, grid, read, keep or drop, write; on one process or on Dask workers.

Each slide is one task. Its position (the number of the next coordinate of its grid) is committed with its tiles, so the same
command goes on where it was interrupted, and does nothing for slides that are finished.

**A slide that breaks**: it is reopened once and the tile is read again; if that fails too the slide goes into quarantine:
`SLIDE.failed.json` says why, `SLIDE.partial` is kept (not indexed, so nobody trains on half a slide), the other slides are
tiled, and the command ends with `PartialFailure`. The next command tries it again from the tile where it broke; if its
file has changed by then (fetched again), from the start.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from rnasynth import files
from rnasynth.config import config_hash
from rnasynth.data.pixels import Quality
from rnasynth.data.slides import Slide, open_slide
from rnasynth.data.tile_writer import FAILED_SUFFIX, PARTIAL_SUFFIX, TileWriter, begun, check_slide_id, take_lock
from rnasynth.data.tiles import finish_store, finished_slides
from rnasynth.data.tissue import TileConfig, keep_tile, tile_grid, tissue_mask
from rnasynth.data.workers import on_dask
from rnasynth.errors import InputError, PartialFailure, RnasynthError, SlideError, StoreError

SAMPLE_BYTES = 1 << 16  # of each of the blocks by which a source is known
SAMPLES = 32
NO_TISSUE = "no tile was kept"


@dataclass(frozen=True, kw_only=True)
class SlideOutcome:
    """What became of one slide.

    Attributes
    ----------
    slide_id : name of the slide.
    kept : tiles in the store.
    dropped : coordinates read and dropped, by reason.
    failure : why the slide is in quarantine; empty if it is finished.
    before : it was finished before this command.
    """

    slide_id: str
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    failure: str = ""
    before: bool = False


@dataclass(frozen=True, kw_only=True)
class TilingReport:
    """What became of all slides of a command.

    Attributes
    ----------
    kept : tiles of these slides in the store.
    dropped_by_reason : coordinates read and dropped.
    failures : reason by slide in quarantine.
    slides : the outcome of each slide, in the order of the paths.
    """

    kept: int
    dropped_by_reason: dict[str, int]
    failures: dict[str, str]
    slides: tuple[SlideOutcome, ...]


def tile_slides(
    paths: Iterable[str | Path],
    store: str | Path,
    config: TileConfig,
    *,
    slide_mpp: float | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = True,
    patient_of: Callable[[str], str] | Mapping[str, str] | None = None,
    quality: Quality = 90,
) -> TilingReport:
    """Tile slides into a store and index it.

    Parameters
    ----------
    paths : slide files; their stems are the slide ids and must differ.
    store : folder of the tile store, new or to be extended.
    config : which tiles are cut and kept.
    slide_mpp : um/px of level 0 for all of them, where the files do not say or say wrong.
    workers : processes on this machine; 1 works in this process, without Dask.
    scheduler : address of a Dask scheduler whose workers see the same paths; `workers` is then not used.
    progress : show a bar.
    patient_of : patient of a slide id, by function or table. Default: the patient part of a TCGA barcode, else the slide id
        itself, which is wrong where a patient has several slides (they would be split as if they were several patients).
    quality : JPEG quality or "lossless".

    Raises
    ------
    InputError : no slides, two of one name, a missing file, or a slide whose patient is not in the table.
    StoreError : a finished slide in the store came from another file or another configuration (both are named).
    SlideError : the only slide cannot be opened.
    PartialFailure : some slides are in quarantine; the others are finished and indexed.
    """
    store = Path(store)
    if workers < 1:
        raise InputError("workers", expected="1 or more", found=str(workers))
    tasks = _tasks([Path(path) for path in paths], store, config, slide_mpp, patient_of, quality)
    finished = finished_slides(store)
    outcomes = {
        slide_id: SlideOutcome(slide_id=slide_id, kept=facts["tiles"], dropped=facts["dropped"], before=True)
        for slide_id, facts in finished.items()
        if slide_id in tasks
    }
    todo = [task for slide_id, task in tasks.items() if slide_id not in outcomes]
    store.mkdir(parents=True, exist_ok=True)
    if scheduler is None and workers == 1:
        done: Generator[SlideOutcome, None, None] = (
            _tile_slide(task, alone=len(tasks) == 1, progress=progress) for task in todo
        )
    else:
        done = on_dask(_tile_slide, todo, died=_worker_died, workers=workers, scheduler=scheduler)
    with (
        closing(done) as running,
        tqdm(total=len(tasks), initial=len(outcomes), unit="slide", disable=None if progress else True) as bar,
    ):
        for outcome in running:
            outcomes[outcome.slide_id] = outcome
            bar.update()
    ordered = tuple(outcomes[slide_id] for slide_id in tasks)
    failures = {outcome.slide_id: outcome.failure for outcome in ordered if outcome.failure}
    if len(failures) < len(ordered):
        finish_store(store)
    if failures:
        raise PartialFailure(f"tiling into {store}", failures, fix="mend or leave out these slides and run it again")
    dropped: Counter[str] = Counter()
    for outcome in ordered:
        dropped.update(outcome.dropped)
    return TilingReport(
        kept=sum(outcome.kept for outcome in ordered),
        dropped_by_reason=dict(dropped),
        failures=failures,
        slides=ordered,
    )


def source_hash(path: Path) -> str:
    """Hash of a slide file by its size and 32 blocks of 64 KiB spread evenly from its first byte to its last.

    It does not depend on the file's time or place, so a copy is the same source, and it costs 2 MiB whatever the size.
    """
    size = path.stat().st_size
    checksum = hashlib.sha256(str(size).encode())
    with open(path, "rb") as handle:
        for start in np.unique(np.linspace(0, max(0, size - SAMPLE_BYTES), SAMPLES).astype(np.int64)):
            handle.seek(int(start))
            checksum.update(handle.read(SAMPLE_BYTES))
    return checksum.hexdigest()[:16]


def patient_of_barcode(slide_id: str) -> str:
    """Patient of a TCGA barcode (its first three fields), else the slide id.

    Examples
    --------
    >>> patient_of_barcode("TCGA-5P-A9K0-01Z-00-DX1"), patient_of_barcode("C2")
    ('TCGA-5P-A9K0', 'C2')
    """
    found = re.match(r"TCGA-\w{2}-\w{4}", slide_id)
    return found[0] if found else slide_id


@dataclass(frozen=True, kw_only=True)
class _Task:
    """All that a worker needs for one slide."""

    path: Path
    store: Path
    config: TileConfig
    slide_mpp: float | None
    patient_id: str
    quality: Quality
    meta: dict[str, str]

    @property
    def slide_id(self) -> str:
        return self.path.stem


def _tasks(
    paths: list[Path],
    store: Path,
    config: TileConfig,
    slide_mpp: float | None,
    patient_of: Callable[[str], str] | Mapping[str, str] | None,
    quality: Quality,
) -> dict[str, _Task]:
    """Check the whole call before anything is written."""
    if not paths:
        raise InputError("tiling", expected="at least one slide", found="none")
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise InputError(", ".join(missing), expected="slide files", found="no such file", fix="check the path")
    if store.exists() and not store.is_dir():
        raise InputError(str(store), expected="a folder for the tile store", found="a file", fix="give another path")
    made_with = config_hash({"config": config.to_dict(), "slide_mpp": slide_mpp, "quality": quality})
    finished = finished_slides(store)
    tasks: dict[str, _Task] = {}
    for path in paths:
        slide_id = check_slide_id(path.stem)
        if slide_id in tasks:
            raise InputError(
                f"slide {slide_id}",
                expected="slides of different names",
                found=f"{tasks[slide_id].path} and {path}",
                fix="rename one of them",
            )
        patient_id = _patient(slide_id, patient_of)
        meta = {"source": source_hash(path), "config": made_with}
        tasks[slide_id] = _Task(
            path=path.resolve(),
            store=store.resolve(),
            config=config,
            slide_mpp=slide_mpp,
            patient_id=patient_id,
            quality=quality,
            meta=meta,
        )
        if slide_id in finished:
            _check_same(tasks[slide_id], finished[slide_id], store / slide_id)
        elif (started := begun(store, slide_id)) is not None:
            failed = (store / f"{slide_id}{FAILED_SUFFIX}").exists()  # then its file may have been mended
            meta = started["meta"] | ({"source": meta["source"]} if failed else {})
            _check_same(tasks[slide_id], started | {"meta": meta}, store / f"{slide_id}{PARTIAL_SUFFIX}")
    return tasks


def _patient(slide_id: str, patient_of: Callable[[str], str] | Mapping[str, str] | None) -> str:
    if patient_of is None:
        return patient_of_barcode(slide_id)
    if callable(patient_of):
        return str(patient_of(slide_id))
    if slide_id not in patient_of:
        raise InputError(f"slide {slide_id}", expected="its patient in the table", found="no row for it", fix="add one")
    return str(patient_of[slide_id])


def _check_same(task: _Task, recorded: Mapping[str, Any], folder: Path) -> None:
    for key, what in (("source", f"the file {task.path}"), ("config", "this configuration")):
        then, now = recorded["meta"].get(key), task.meta[key]
        if then != now:
            raise StoreError(
                f"slide {task.slide_id}",
                expected=f"tiles made from {what} (hash {now})",
                found=f"{folder} made from another (hash {then})",
                fix=f"use another store, or remove {folder}",
            )
    if recorded["patient_id"] != task.patient_id:
        raise StoreError(
            f"slide {task.slide_id}",
            expected=f"patient {task.patient_id}",
            found=f"{folder} of patient {recorded['patient_id']}",
            fix=f"use another store, or remove {folder}",
        )


def _tile_slide(task: _Task, *, alone: bool = False, progress: bool = False) -> SlideOutcome:
    """Tile one slide, from its committed position on; errors of the slide become its outcome, unless it is `alone`."""
    try:
        slide = open_slide(task.path, slide_mpp=task.slide_mpp)
        try:
            grid = tile_grid(slide, tissue_mask(slide, task.config), task.config)
        except BaseException:
            slide.close()
            raise
    except RnasynthError as error:
        if alone:
            raise  # the call itself is wrong: nothing was written, nothing is in quarantine
        return _quarantine(task, str(error))
    try:
        with slide:
            _forget_old_failure(task)
            return _write_slide(task, slide, grid, progress)
    except StoreError as error:  # another process has the slide, or its partial folder is damaged: not the slide's fault
        if alone:
            raise
        return SlideOutcome(slide_id=task.slide_id, failure=str(error))
    except RnasynthError as error:
        return _quarantine(task, str(error))


def _write_slide(task: _Task, slide: Slide, grid: pd.DataFrame, progress: bool) -> SlideOutcome:
    xy = grid[["x_px", "y_px"]].to_numpy(np.int64)
    meta = task.meta | {"grid": hashlib.sha256(xy.tobytes()).hexdigest()[:16]}
    with TileWriter(task.store, task.slide_id, patient_id=task.patient_id, meta=meta, quality=task.quality) as writer:
        start = writer.position
        tiles = _read_tiles(task, slide, xy[start:])
        fractions = grid["tissue_fraction"].to_numpy()[start:]
        with (
            closing(tiles),
            tqdm(
                total=len(grid),
                initial=start,
                desc=task.slide_id,
                unit="tile",
                leave=False,
                disable=None if progress else True,
            ) as bar,
        ):
            for (tile, mpp_um), (x_px, y_px), fraction in zip(tiles, xy[start:], fractions, strict=True):
                keep, reason = keep_tile(tile, task.config)
                if keep:
                    row = {"x_px": x_px, "y_px": y_px, "mpp_um": mpp_um, "tissue_fraction": fraction}
                    writer.add(tile, row)
                else:
                    writer.skip(reason=reason)
                bar.update()
        dropped = writer.dropped
        if not writer.kept:
            listed = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "none was tissue"
            raise SlideError(f"slide {task.slide_id}", expected="tiles worth keeping", found=f"{NO_TISSUE} ({listed})")
        with suppress(FileNotFoundError):
            (task.store / f"{task.slide_id}{FAILED_SUFFIX}").unlink()
        writer.finish()
        return SlideOutcome(slide_id=task.slide_id, kept=writer.kept, dropped=dropped)


def _read_tiles(task: _Task, first: Slide, xy: np.ndarray) -> Generator[tuple[np.ndarray, float], None, None]:
    """Tiles at `xy` with their um/px; where one cannot be read, the slide is opened anew, once for that tile.

    `first` is the open slide; it is closed here.
    """
    number, retried = 0, -1
    slide: Slide | None = first
    try:
        while number < len(xy):
            try:
                slide = slide or open_slide(task.path, slide_mpp=task.slide_mpp)
                mpp_um = round(
                    slide.mpp_um * slide.span_px(task.config.tile_px, task.config.mpp_um) / task.config.tile_px, 6
                )
                for tile in slide.read_tiles(xy[number:], task.config.tile_px, task.config.mpp_um):
                    yield tile, mpp_um
                    number += 1
            except (SlideError, OSError) as error:
                if retried == number:
                    if isinstance(error, SlideError):
                        raise
                    where = f"slide {task.slide_id}, x {xy[number][0]}, y {xy[number][1]}"
                    raise SlideError(where, expected="pixels", found=str(error)) from error
                retried = number
                if slide is not None:
                    slide.close()
                slide = None
    finally:
        if slide is not None:
            slide.close()


def _quarantine(task: _Task, reason: str) -> SlideOutcome:
    record = {"slide_id": task.slide_id, "patient_id": task.patient_id, "reason": reason, "meta": task.meta}
    files.write_json(task.store / f"{task.slide_id}{FAILED_SUFFIX}", record)
    return SlideOutcome(slide_id=task.slide_id, failure=reason)


def _worker_died(task: _Task) -> SlideOutcome:
    return _quarantine(task, "its worker process died several times while reading it")


def _forget_old_failure(task: _Task) -> None:
    """Start anew where the slide broke before and its file has changed since."""
    failed = task.store / f"{task.slide_id}{FAILED_SUFFIX}"
    if failed.exists() and files.read_json(failed)["meta"]["source"] != task.meta["source"]:
        lock = take_lock(task.store, task.slide_id)
        try:
            shutil.rmtree(task.store / f"{task.slide_id}{PARTIAL_SUFFIX}", ignore_errors=True)
            failed.unlink()
        finally:
            os.close(lock)
