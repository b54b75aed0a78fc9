"""Many slides to one store: equal by any number of workers, resumed, and honest about slides that break."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rnasynth.data import tiling
from rnasynth.data.slides import Slide, open_slide
from rnasynth.data.tile_writer import begun, take_lock
from rnasynth.data.tiles import TileStore, TileWriter, finished_slides
from rnasynth.data.tiling import SlideOutcome, patient_of_barcode, source_hash, tile_slides
from rnasynth.data.tissue import TileConfig, tile_grid, tissue_mask
from rnasynth.errors import InputError, PartialFailure, SlideError, StoreError
from tests.data.sections import draw_section

CONFIG = TileConfig(tile_px=16, mpp_um=0.5)


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sections")
    return [draw_section(folder / f"s{number}.png", seed=number, size_px=384) for number in range(3)]


@pytest.fixture(scope="module")
def whole(sections: list[Path], tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    store = tmp_path_factory.mktemp("whole") / "store"
    tile(sections, store)
    return TileStore(store)


def tile(paths: list[Path], store: Path, **options: Any) -> tiling.TilingReport:
    options = {"slide_mpp": 0.5, "progress": False, "config": CONFIG} | options
    return tile_slides(paths, store, options.pop("config"), **options)


class Breaking:
    """Stands for `open_slide`: one slide's tile number `at` (of its grid) fails `times` times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slide_id: str, at: int, times: int, kind: type = SlideError) -> None:
        self.slide_id, self.at, self.left, self.kind, self.opened = slide_id, at, times, kind, 0
        monkeypatch.setattr(tiling, "open_slide", self.open)

    def open(self, path: Path, **options: Any) -> Slide:
        slide = open_slide(path, **options)
        if slide.slide_id != self.slide_id:
            return slide
        self.opened += 1
        bad = tile_grid(slide, tissue_mask(slide, CONFIG), CONFIG)[["x_px", "y_px"]].to_numpy()[self.at].tolist()
        read = slide.read_tile

        def read_tiles(xy: np.ndarray, tile_px: int, mpp_um: float) -> Iterator[np.ndarray]:
            for place in xy.tolist():
                if place == bad and self.left > 0:
                    self.left -= 1
                    raise self.kind("tile data is damaged")
                yield read(*place, tile_px, mpp_um)

        slide.read_tiles = read_tiles  # type: ignore[method-assign]
        return slide


def test_tiles_are_the_slides_pixels_at_their_coordinates(sections: list[Path], tmp_path: Path) -> None:
    report = tile(sections[:1], tmp_path, quality="lossless")
    store = TileStore(tmp_path)
    assert report.kept == len(store) == 324 and report.failures == {}  # (288 / 16)^2: all of the tissue, none of the glass
    with open_slide(sections[0], slide_mpp=0.5) as slide:
        for tile_id in (0, 100, 323):
            row = store.index.iloc[tile_id]
            assert (store.read(tile_id) == slide.read_tile(row["x_px"], row["y_px"], 16, 0.5)).all()
    assert store.index["x_px"].between(48, 320).all() and (store.index["mpp_um"] == 0.5).all()


def test_without_the_mask_glass_would_be_kept(sections: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "keep_tile", lambda tile, config: (True, ""))
    config = TileConfig(tile_px=16, mpp_um=0.5, max_background=1.0)
    assert tile(sections[:1], tmp_path, config=config).kept > 324


def test_dropped_tiles_are_counted_by_reason_and_leave_gaps(
    sections: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(10**6))
    monkeypatch.setattr(
        tiling, "keep_tile", lambda tile, config: (True, "") if (n := next(numbers)) % 3 else (False, f"reason {n % 2}")
    )
    report = tile(sections[:1], tmp_path)
    assert report.dropped_by_reason == {"reason 0": 54, "reason 1": 54} and report.kept == 216
    assert TileStore(tmp_path).index["tile"].tolist() == [number for number in range(324) if number % 3]
    assert tile(sections[:1], tmp_path).dropped_by_reason == report.dropped_by_reason  # recorded, not recounted


@pytest.mark.slow
def test_two_workers_make_the_same_store(sections: list[Path], whole: TileStore, tmp_path: Path) -> None:
    report = tile(sections, tmp_path, workers=2)
    assert [outcome.slide_id for outcome in report.slides] == ["s0", "s1", "s2"]
    assert TileStore(tmp_path).verify() == whole.fingerprint()


def test_order_of_slides_and_extending_do_not_matter(sections: list[Path], whole: TileStore, tmp_path: Path) -> None:
    tile(sections[2:], tmp_path)
    report = tile(sections[::-1], tmp_path)
    assert [outcome.before for outcome in report.slides] == [True, False, False]
    assert TileStore(tmp_path).verify() == whole.fingerprint()


def test_finished_slides_are_not_opened_again(
    sections: list[Path], whole: TileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "open_slide", None)
    report = tile(sections, whole.folder, workers=2)
    assert report.kept == len(whole) and all(outcome.before for outcome in report.slides)


@pytest.mark.parametrize("kind", [SlideError, OSError])
def test_a_tile_that_fails_once_is_read_again(
    sections: list[Path], whole: TileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    breaking = Breaking(monkeypatch, "s1", 200, 1, kind)
    tile(sections, tmp_path)
    assert breaking.opened == 2  # for mask and tiles, and once again
    assert TileStore(tmp_path).verify() == whole.fingerprint()


@pytest.mark.parametrize("kind", [SlideError, OSError])
def test_a_slide_that_breaks_is_quarantined_and_the_others_are_kept(
    sections: list[Path], whole: TileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    breaking = Breaking(monkeypatch, "s1", 300, 4, kind)
    for opened in (2, 4):  # the next command tries again, from where it broke
        with pytest.raises(PartialFailure, match=r"s1.*tile data is damaged") as error:
            tile(sections, tmp_path)
        assert error.value.exit_code == 1 and list(error.value.failures) == ["s1"]
        assert breaking.opened == opened
        assert TileStore(tmp_path).slide_ids == ["s0", "s2"]
        assert "damaged" in json.loads((tmp_path / "s1.failed.json").read_text(encoding="utf-8"))["reason"]
        state = begun(tmp_path, "s1")
        assert state is not None and state["position"] == 300
    tile(sections, tmp_path)
    assert TileStore(tmp_path).verify() == whole.fingerprint()
    assert not list(tmp_path.glob("s1.*"))


def test_a_mended_slide_starts_anew(
    sections: list[Path], whole: TileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [Path(shutil.copy(path, tmp_path)) for path in sections]
    draw_section(paths[1], seed=9, size_px=384)
    Breaking(monkeypatch, "s1", 300, 2)
    with pytest.raises(PartialFailure):
        tile(paths, tmp_path / "store")
    shutil.copy(sections[1], paths[1])
    tile(paths, tmp_path / "store")
    assert TileStore(tmp_path / "store").verify() == whole.fingerprint()


def test_a_slide_that_cannot_be_opened_alone_writes_nothing(sections: list[Path], tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"s0.*--slide-mpp") as error:
        tile(sections[:1], tmp_path, slide_mpp=None)
    assert error.value.exit_code == 2 and not list(tmp_path.rglob("*.json"))


def test_unreadable_and_empty_slides_among_others(sections: list[Path], whole: TileStore, tmp_path: Path) -> None:
    (tmp_path / "text.svs").write_text("no slide", encoding="utf-8")
    glass = tmp_path / "glass.png"
    Image.new("RGB", (300, 300), (240, 240, 240)).save(glass)
    with pytest.raises(PartialFailure) as error:
        tile([*sections, tmp_path / "text.svs", glass], tmp_path / "store")
    assert sorted(error.value.failures) == ["glass", "text"]
    assert TileStore(tmp_path / "store").fingerprint() == whole.fingerprint()


def test_a_slide_whose_every_tile_is_dropped_is_said(
    sections: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "keep_tile", lambda tile, config: (False, "pen"))
    with pytest.raises(PartialFailure, match=r"no tile was kept.*324 pen"):
        tile(sections[:1], tmp_path)


def test_another_source_or_configuration_is_named(sections: list[Path], whole: TileStore, tmp_path: Path) -> None:
    other = draw_section(tmp_path / "s0.png", seed=5)
    with pytest.raises(StoreError, match=rf"{other}.*{whole.folder}"):
        tile([other], whole.folder)
    with pytest.raises(StoreError, match=rf"this configuration.*{whole.folder}"):
        tile(sections, whole.folder, config=TileConfig(tile_px=32, mpp_um=0.5))
    with pytest.raises(StoreError, match="patient x"):
        tile(sections, whole.folder, patient_of=lambda slide_id: "x")
    copied = Path(shutil.copyfile(sections[0], tmp_path / "s0.png"))  # another place and time, the same bytes
    assert tile([copied], whole.folder).slides[0].before


def test_a_begun_slide_of_another_configuration_is_refused_before_anything_is_written(
    sections: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Breaking(monkeypatch, "s1", 300, 2)
    with pytest.raises(PartialFailure):
        tile(sections[1:2], tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError, match=r"s1.*this configuration"):
        tile(sections, tmp_path, config=TileConfig(tile_px=32, mpp_um=0.5))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_slide_that_another_process_writes_is_listed_not_quarantined(sections: list[Path], tmp_path: Path) -> None:
    take_lock(tmp_path, "s1")
    with pytest.raises(PartialFailure, match=r"s1.*being written by process"):
        tile(sections, tmp_path)
    assert sorted(finished_slides(tmp_path)) == ["s0", "s2"] and not (tmp_path / "s1.failed.json").exists()


@pytest.mark.parametrize("wrong", ["none", "missing", "twice", "patient"])
def test_a_wrong_call_writes_nothing(sections: list[Path], tmp_path: Path, wrong: str) -> None:
    twin = tmp_path / "folder" / "s0.png"
    twin.parent.mkdir()
    shutil.copy(sections[0], twin)
    paths = {"none": [], "missing": [*sections, tmp_path / "no.svs"], "twice": [*sections, twin], "patient": sections}[wrong]
    with pytest.raises(InputError) as error:
        tile(paths, tmp_path / "store", patient_of={"s0": "p", "s1": "p"} if wrong == "patient" else None)
    assert error.value.exit_code == 2 and not (tmp_path / "store").exists()


def test_patients_by_function_table_or_barcode(sections: list[Path], tmp_path: Path) -> None:
    tile(sections[:1], tmp_path / "a", patient_of={"s0": "p7"})
    tile(sections[:1], tmp_path / "b", patient_of=str.upper)
    assert set(TileStore(tmp_path / "a").index["patient_id"]) == {"p7"}
    assert set(TileStore(tmp_path / "b").index["patient_id"]) == {"S0"}
    assert patient_of_barcode("TCGA-5P-A9K0_2") == "TCGA-5P-A9K0"


def test_source_hash_sees_size_and_sampled_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = bytearray(np.random.default_rng(0).bytes(500_000))
    hashes = set()
    for place in (None, 0, 250_000, 499_999):
        changed = content.copy()
        if place is not None:
            changed[place] ^= 1
        path.write_bytes(changed)
        hashes.add(source_hash(path))
    path.write_bytes(content + b"\0")
    assert len(hashes | {source_hash(path)}) == 5
    path.write_bytes(b"")
    assert source_hash(path) != source_hash(Path(__file__))


@pytest.mark.real
@pytest.mark.slow
def test_real_slides_of_every_kind(mirror: Path, tmp_path: Path) -> None:
    names = ["CMU-1-Small-Region.svs", "TCGA-5P-A9K0_1.svs", "TCGA-5P-A9K0_2.svs"]
    report = tile([mirror / "slides" / name for name in names], tmp_path, config=TileConfig(), slide_mpp=None)
    store = TileStore(tmp_path)
    assert all(isinstance(outcome, SlideOutcome) and outcome.kept > 0 for outcome in report.slides)
    assert set(store.index["patient_id"]) == {"CMU-1-Small-Region", "TCGA-5P-A9K0"}
    assert store.verify() and (store.index["mean_od"].between(0.1, 1.5)).all()
    with pytest.raises(SlideError, match="--slide-mpp"):
        tile([next((mirror / "slides").glob("CropBreastSlide.tif*"))], tmp_path, slide_mpp=None)


def test_writer_and_tiling_agree_on_an_unfinished_store(sections: list[Path], whole: TileStore, tmp_path: Path) -> None:
    with TileWriter(tmp_path, "s0", patient_id="s0") as writer:
        writer.skip()
    with pytest.raises(StoreError, match="s0"):  # begun by something else than tile_slides
        tile(sections, tmp_path)
