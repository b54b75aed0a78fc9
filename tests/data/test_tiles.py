"""The tile store: what is written is read, by any process; damage and double writers are named."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import pytest

from rnasynth.data import tile_writer, tiles
from rnasynth.data.pixels import Quality, to_float
from rnasynth.data.tile_writer import begun
from rnasynth.data.tiles import INDEX_COLUMNS, TileStore, TileWriter, finish_store, finished_slides
from rnasynth.errors import InputError, StoreError

PX = 32


def tile(number: int, px: int = PX) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (px, px, 3), dtype=np.uint8)


def row(number: int) -> dict[str, object]:
    return {"x_px": number * PX, "y_px": 7, "mpp_um": 0.5, "tissue_fraction": 0.75}


def write(store: Path, slide_id: str, n: int = 10, *, quality: Quality = "lossless", first: int = 0) -> None:
    with TileWriter(store, slide_id, patient_id=f"patient of {slide_id}", quality=quality) as writer:
        for number in range(first, first + n):
            if number % 5 == 2:
                writer.skip(reason="background")
            else:
                writer.add(tile(number), row(number))
        writer.finish()


def test_lossless_tiles_and_their_rows_come_back(tmp_path: Path) -> None:
    write(tmp_path, "b")
    write(tmp_path, "a", first=100)
    store = finish_store(tmp_path)
    assert tuple(store.index.columns) == INDEX_COLUMNS and len(store) == len(store.index) == 16
    assert store.index["tile_id"].tolist() == list(range(16))
    assert store.index["slide_id"].tolist() == ["a"] * 8 + ["b"] * 8
    assert store.index["tile"].tolist() == [0, 1, 3, 4, 5, 6, 8, 9] * 2
    assert (store.index["patient_id"] == "patient of " + store.index["slide_id"]).all()
    assert (store.index["sample_id"] == store.index["patient_id"]).all()
    for tile_id, number in ((0, 100), (7, 109), (8, 0), (11, 4)):
        assert (store.read(tile_id) == tile(number)).all()
        assert store.index["x_px"][tile_id] == number * PX
    assert store.tile_px == PX and store.quality == "lossless" and store.slide_ids == ["a", "b"]
    assert finished_slides(tmp_path)["a"]["dropped"] == {"background": 2}


def test_batches_keep_the_order_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "a", quality=90)
    write(tmp_path, "b", quality=90, first=50)
    store = finish_store(tmp_path)
    ids = [15, 0, 8, 3, 3, 9, 1]
    batch = store.read_batch(ids)
    assert all((batch[place] == store.read(tile_id)).all() for place, tile_id in enumerate(ids))
    assert (store.read_float(ids) == to_float(batch)).all()
    small = store.read_batch(np.array(ids), px=8)
    assert small.shape == (7, 8, 8, 3)
    assert (small == np.floor(batch.reshape(7, 8, 4, 8, 4, 3).mean((2, 4)) + 0.5)).all()
    assert (store.read_float(ids, px=8) == to_float(small)).all()
    assert store.read_batch([], px=8).shape == (0, 8, 8, 3)
    assert store.read_bytes(3)[:2] == b"\xff\xd8"


def test_memory_of_a_batch_is_used_again_only_when_nobody_holds_it(tmp_path: Path) -> None:
    write(tmp_path, "a", 40)
    store = finish_store(tmp_path)
    held = [store.read_float([number]) for number in range(32)]
    views = [store.read_float([number])[0, 1] for number in range(32)]
    for number in range(32):
        assert (held[number] == to_float(store.read_batch([number]))).all()
        assert (views[number] == held[number][0, 1]).all()
    del held, views
    places = set()
    for number in range(20):
        batch = store.read_float([number])
        places.add(batch.data_ptr())
        assert (batch == to_float(store.read_batch([number]))).all()
    assert len(places) <= 3


def test_a_value_is_an_image_under_the_big_endian_tile_number(tmp_path: Path) -> None:
    write(tmp_path, "a")
    with lmdb.open(str(tmp_path / "a"), readonly=True, lock=False) as env, env.begin() as transaction:
        assert transaction.get(bytes([0, 0, 0, 0, 0, 0, 0, 9]))[:8] == b"\x89PNG\r\n\x1a\n"
        assert transaction.get(bytes([0, 0, 0, 0, 0, 0, 0, 7])) is None


@pytest.mark.parametrize("stop", [0, 1, 255, 256, 257, 511, 512, 600])
def test_an_interrupted_writer_goes_on_and_ends_equal(tmp_path: Path, stop: int) -> None:
    def run(store: Path, until: int) -> int:
        writer = TileWriter(store, "a", patient_id="p")
        start = writer.position
        for number in range(start, until):
            writer.skip() if number % 3 else writer.add(tile(number % 7), row(number))
        if until == 600:
            writer.finish()
        writer.close()  # without a commit: as a killed process leaves it
        return start

    run(tmp_path / "whole", 600)
    run(tmp_path / "cut", stop)
    if stop < 600:
        state = begun(tmp_path / "cut", "a")
        assert run(tmp_path / "cut", 600) == (state["position"] if state else 0) > stop - 256
    assert finish_store(tmp_path / "cut").verify() == finish_store(tmp_path / "whole").verify()


def test_an_exception_commits_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), TileWriter(tmp_path, "a", patient_id="p") as writer:
        writer.add(tile(0), row(0))
        raise KeyboardInterrupt
    with TileWriter(tmp_path, "a", patient_id="p") as writer:
        assert writer.position == 1 and writer.kept == 1


def test_a_full_map_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_writer, "INITIAL_MAP_BYTES", 1 << 17)
    write(tmp_path, "a", 700)
    monkeypatch.undo()
    write(tmp_path / "large", "a", 700)
    assert finish_store(tmp_path).verify() == finish_store(tmp_path / "large").verify()


def test_fingerprint_follows_pixels_rows_and_nothing_else(tmp_path: Path) -> None:
    names = ["same", "again", "pixel", "row"]
    for name in names:
        with TileWriter(tmp_path / name, "a", patient_id="p") as writer:
            changed = tile(1)
            changed[0, 0, 0] ^= name == "pixel" and 128
            writer.add(changed, row(1) | ({"sample_id": "s"} if name == "row" else {}))
            if name == "again":
                writer.commit()  # other pages in data.mdb
            writer.finish()
    prints = [finish_store(tmp_path / name).verify() for name in names]
    assert prints[0] == prints[1] and len(set(prints)) == 3


def test_verify_finds_a_changed_byte_and_a_changed_row(tmp_path: Path) -> None:
    write(tmp_path, "a")
    store = finish_store(tmp_path)
    recorded = store.fingerprint()
    data = tmp_path / "a" / "data.mdb"
    content = data.read_bytes()
    place = content.index(store.read_bytes(2)) + 200
    data.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(StoreError, match="slide a"):
        TileStore(tmp_path).verify()
    data.write_bytes(content)
    assert TileStore(tmp_path).verify() == recorded
    store.index.loc[3, "mean_od"] += 1e-6
    with pytest.raises(StoreError, match="slide a"):
        store.verify()


def test_damaged_tile_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a")
    store = finish_store(tmp_path)
    data = tmp_path / "a" / "data.mdb"
    content = data.read_bytes()
    place = content.index(store.read_bytes(2))
    data.write_bytes(content[:place] + bytes(500) + content[place + 500 :])
    with pytest.raises(StoreError, match=r"slide a .*tile 3.*damaged"):
        TileStore(tmp_path).read(2)


def test_extending_switches_the_index_and_open_readers_keep_theirs(tmp_path: Path) -> None:
    write(tmp_path, "b")
    before = finish_store(tmp_path)
    first = before.read_batch([0, 1])
    write(tmp_path, "a")
    assert len(TileStore(tmp_path)) == 8  # finished, but not indexed yet
    after = finish_store(tmp_path)
    assert len(after) == 16 and len(before) == 8
    assert (before.read_batch([0, 1]) == first).all() and (after.read_batch([8, 9]) == first).all()
    assert (tmp_path / "INDEX").read_text(encoding="ascii") == "index-2.parquet\n"
    assert finish_store(tmp_path).fingerprint() == after.fingerprint()
    assert sorted(path.name for path in tmp_path.glob("index-*")) == ["index-1.parquet", "index-2.parquet"]


def test_growing_slides_are_not_seen(tmp_path: Path) -> None:
    with TileWriter(tmp_path, "a", patient_id="p") as writer:
        writer.add(tile(0), row(0))
        with pytest.raises(StoreError, match="none"):
            finish_store(tmp_path)
        with pytest.raises(StoreError, match=r"never finished.*a\.partial"):
            TileStore(tmp_path)
    with pytest.raises(StoreError, match="tile store"):
        TileStore(tmp_path / "nowhere")


def test_one_writer_a_slide(tmp_path: Path) -> None:
    with TileWriter(tmp_path, "a", patient_id="p") as writer:
        writer.add(tile(0), row(0))
        with pytest.raises(StoreError, match=rf"a in .*process {os.getpid()}"):
            TileWriter(tmp_path, "a", patient_id="p")
        with TileWriter(tmp_path, "b", patient_id="p"):
            pass
        child = multiprocessing.get_context("spawn").Process(target=_fails_to_write, args=(tmp_path,))
        child.start()
        child.join()
        assert child.exitcode == 0
        writer.finish()
    with pytest.raises(StoreError, match="finished already"):
        TileWriter(tmp_path, "a", patient_id="p")


def _fails_to_write(store: Path) -> None:
    with pytest.raises(StoreError, match="being written by process"):
        TileWriter(store, "a", patient_id="p")


@pytest.mark.parametrize("change", [{"patient_id": "q"}, {"quality": 80}, {"meta": {"source": "2"}}], ids=str)
def test_a_slide_is_resumed_only_with_what_it_was_begun_with(tmp_path: Path, change: dict[str, object]) -> None:
    start = {"patient_id": "p", "quality": 90, "meta": {"source": "1"}}
    with TileWriter(tmp_path, "a", **start) as writer:  # type: ignore[arg-type]
        writer.add(tile(0), row(0))
    with pytest.raises(StoreError, match=next(iter(change))):
        TileWriter(tmp_path, "a", **(start | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "slide_id", ["", "a/b", "..", ".hidden", "a.partial", "a.failed.json", "INDEX", "index-1.parquet", "a\n"]
)
def test_names_that_are_no_folders_are_refused(tmp_path: Path, slide_id: str) -> None:
    with pytest.raises(InputError, match="rename"):
        TileWriter(tmp_path / "s", slide_id, patient_id="p")
    assert not (tmp_path / "s").exists()


def test_bad_tiles_and_rows_are_refused(tmp_path: Path) -> None:
    with TileWriter(tmp_path, "a", patient_id="p") as writer:
        writer.add(tile(0), row(0))
        for bad in (tile(0, 16), tile(0).astype(np.float32), tile(0)[:, :16], tile(0)[..., :1]):
            with pytest.raises(InputError, match="slide a, tile 1"):
                writer.add(bad, row(0))
        with pytest.raises(InputError, match="x_pixel"):
            writer.add(tile(0), row(0) | {"x_pixel": 1})
        with pytest.raises(InputError, match="mpp_um"):
            writer.add(tile(0), {"x_px": 0, "y_px": 0})
        with pytest.raises(InputError, match="from 1 on"):
            writer.skip(0)
        writer.skip(4)
        assert writer.position == 5 and writer.dropped == {"dropped": 4}
    with pytest.raises(InputError, match="lossless"):
        TileWriter(tmp_path, "b", patient_id="p", quality=0)


def test_slides_of_different_size_or_quality_are_not_one_store(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b", quality=90)
    with pytest.raises(StoreError, match=r"90.*lossless"):
        finish_store(tmp_path)


def test_ids_outside_the_index_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a")
    store = finish_store(tmp_path)
    for bad in ([8], [-1]):
        with pytest.raises(InputError, match="0 to 7"):
            store.read_batch(bad)


def test_readers_survive_fork_threads_pickling_and_few_handles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        write(tmp_path, f"s{number}", 6, first=10 * number)
    monkeypatch.setattr(tiles, "MAX_HANDLES", 2)
    store, ids = finish_store(tmp_path), np.random.default_rng(0).permutation(30)
    expected = store.read_batch(ids)
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert (copy.read_batch(ids) == expected).all() and (TileStore(tmp_path).read_batch(ids) == expected).all()
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.extend((store.read_batch(ids) == expected).all() for _ in range(10)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 40
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if (store.read_batch(ids) == expected).all() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (store.read_batch(ids) == expected).all()


def test_a_store_made_anew_at_the_same_place_is_read_anew(tmp_path: Path) -> None:
    for first in (0, 50):
        store = tmp_path / "store"
        write(store, "a", first=first)
        assert (finish_store(store).read(0) == tile(first)).all()
        store.rename(tmp_path / f"old{first}")


def test_readers_write_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a")
    finish_store(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    store = TileStore(tmp_path)
    store.read_batch(range(8))
    store.verify()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_slide_without_tiles_can_be_finished(tmp_path: Path) -> None:
    write(tmp_path, "a")
    with TileWriter(tmp_path, "empty", patient_id="p", quality="lossless") as writer:
        writer.skip()
        writer.finish()
    store = finish_store(tmp_path)
    assert len(store) == 8 and store.slide_ids == ["a", "empty"] and store.verify() == store.fingerprint()
    assert pd.read_parquet(tmp_path / "empty" / "index.parquet").empty
