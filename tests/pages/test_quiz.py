"""The quiz on its way from a page into the book: collected whole, scrambled, and telling of nobody."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rnasynth.data.pixels import data_uri, decode
from rnasynth.errors import InputError
from rnasynth.pages import Page, quiz, stamps
from rnasynth.pages.notebooks import read_pages
from rnasynth.pages.quiz_sheets import read_sheet, write_sheet
from tests.pages.quiz_tiles import BANNER, leave, sheet, tiles

Write = Callable[..., Path]
CALL = "page.quiz('RNA-GAN', real=real, made=made, mpp_um=2.0, handling='x')"


def data_of(text: str) -> dict[str, Any]:
    """The data inside the quiz's HTML."""
    found = re.search(r'<script type="application/json" id="quiz-data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return dict(json.loads(found.group(1)))


def tells(data: dict[str, Any], maker: list[int]) -> str:
    """Return how the data gives the answers away to who only reads it, or ""."""
    known = {"count", "models", "real", "sizes", "tiles", "key", "sealed"}
    if set(data) - known:
        return f"it has {', '.join(sorted(set(data) - known))}"
    try:
        if "maker" in base64.b64decode(data["sealed"]).decode("ascii"):
            return "the answers are only encoded"
    except UnicodeDecodeError:
        pass
    changes = sum(one != other for one, other in itertools.pairwise(maker))
    if changes < len(maker) / 4:
        return "the tiles stand in the order of who made them"
    return ""


def test_a_sheet_is_read_as_it_was_left(tmp_path: Path) -> None:
    one = sheet("RNA-GAN", seed=1, count=23)
    leave(tmp_path, "07_rna_gan", [one])
    read = read_sheet("07_rna_gan", tmp_path / "07_rna_gan" / "quiz" / "rna_gan.json")
    np.testing.assert_array_equal(read.real, one.real)
    np.testing.assert_array_equal(read.made, one.made)
    assert (read.model, read.mpp_um, read.handling, read.banner) == ("RNA-GAN", 2.0, "Averaged.", BANNER)
    assert read.simulated


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"real": tiles(3, seed=0).astype(np.float32)}, "uint8"),
        ({"made": tiles(3, seed=0)[..., 0]}, "uint8"),
        ({"made": tiles(3, seed=0, px=8)}, "one size"),
        ({"made": tiles(41, seed=0)}, "1 to 40"),
        ({"real": tiles(3, seed=0)[:0]}, "1 to 40"),
        ({"mpp_um": 0.0}, "micrometres"),
        ({"mpp_um": float("nan")}, "micrometres"),
        ({"handling": " "}, "handled"),
        ({"model": "real"}, "not real"),
        ({"model": "µ"}, "letters"),
    ],
)
def test_tiles_that_would_give_themselves_away_are_refused_and_nothing_is_left(
    tmp_path: Path, change: dict[str, Any], word: str
) -> None:
    values = {"model": "m", "real": tiles(3, seed=0), "made": tiles(3, seed=1), "mpp_um": 2.0, "handling": "x", **change}
    with pytest.raises(InputError, match=word):
        write_sheet(tmp_path, values.pop("model"), **values)
    assert not list(tmp_path.iterdir())


def test_a_sheet_that_is_not_whole_is_an_error(tmp_path: Path, write_page: Write) -> None:
    write_page("07_rna_gan", body=f"# {CALL}")
    pages = read_pages(tmp_path / "notebooks")
    leave(tmp_path, "07_rna_gan", [sheet("RNA-GAN", seed=1)])
    image = tmp_path / "07_rna_gan" / "quiz" / "rna_gan_made.png"
    Image.new("RGB", (160, 48)).save(image)
    with pytest.raises(InputError, match=r"(?s)other bytes.*--force"):
        quiz.collect(pages, tmp_path)
    image.unlink()
    with pytest.raises(InputError, match="no such file"):
        quiz.collect(pages, tmp_path)
    (image.parent / "rna_gan.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="another form"):
        quiz.collect(pages, tmp_path)


def test_two_pages_must_not_leave_one_model(tmp_path: Path, write_page: Write) -> None:
    for name in ("07_rna_gan", "09_rna_cdm"):
        write_page(name)
        leave(tmp_path, name, [sheet("RNA-GAN", seed=1)])
    with pytest.raises(InputError, match="07_rna_gan, 09_rna_cdm"):
        quiz.collect(read_pages(tmp_path / "notebooks"), tmp_path)


def test_what_a_page_left_before_it_failed_is_not_collected(tmp_path: Path, write_page: Write) -> None:
    write_page("07_rna_gan")
    leave(tmp_path, "07_rna_gan", [sheet("RNA-GAN", seed=1)])
    (tmp_path / "07_rna_gan" / "results.json").unlink()
    assert quiz.collect(read_pages(tmp_path / "notebooks"), tmp_path) == []


def test_every_tile_is_in_the_quiz_once_with_its_sealed_answer() -> None:
    sheets = [sheet("RNA-GAN", seed=1), sheet("label only", seed=2)]
    data = data_of(quiz.quiz_html(sheets))
    truth = quiz.unseal(data["sealed"], data["key"])
    assert data["models"] == ["RNA-GAN", "label only"] and len(set(data["tiles"])) == len(data["tiles"]) == 3 * 24
    for maker, part in enumerate((sheets[0].real, sheets[0].made, sheets[1].made)):
        mine = {image for image, made in zip(data["tiles"], truth["maker"], strict=True) if made == maker}
        assert mine == {data_uri(tile) for tile in part}
    assert quiz.quiz_html(sheets) == quiz.quiz_html(sheets), "the same tiles give the same text"


def test_models_of_two_sizes_are_shown_beside_real_tiles_of_their_own() -> None:
    data = data_of(quiz.quiz_html([sheet("a", seed=1), sheet("b", seed=2, px=24, real_seed=5, mpp_um=1.0)]))
    truth = quiz.unseal(data["sealed"], data["key"])
    assert data["sizes"] == [{"px": 16, "mpp": "2", "um": "32"}, {"px": 24, "mpp": "1", "um": "24"}]
    both = sorted(set(zip(truth["maker"], truth["size"], strict=True)))
    assert both == [(0, 0), (0, 1), (1, 0), (2, 1)]


def test_answers_are_not_read_from_the_source() -> None:
    sheets = [sheet("RNA-GAN", seed=1), sheet("label only", seed=2)]
    text = quiz.quiz_html(sheets)
    data = data_of(text)
    maker = quiz.unseal(data["sealed"], data["key"])["maker"]
    assert tells(data, maker) == ""
    for wrong in (str(maker), str(maker).replace(" ", ""), "".join(map(str, maker))):
        assert wrong not in text and base64.b64encode(wrong.encode()).decode()[4:-4] not in text
    assert text.count("RNA-GAN") == text.count("label only") == 1, "the names stand in the list of models alone"
    # the same, not scrambled, not mixed, or with a field too many, is seen
    plain = base64.b64encode(json.dumps({"maker": maker}).encode("ascii")).decode("ascii")
    assert tells({**data, "sealed": plain}, maker) == "the answers are only encoded"
    assert tells(data, sorted(maker)) == "the tiles stand in the order of who made them"
    assert tells({**data, "answers": maker}, maker) == "it has answers"


def test_images_hold_pixels_and_nothing_else() -> None:
    tile = tiles(1, seed=3)[0]
    content = base64.b64decode(data_uri(tile).partition(",")[2])
    back = np.zeros_like(tile)
    decode(content, back)
    np.testing.assert_array_equal(back, tile)
    chunks, place = [], 8
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunks.append(content[place + 4 : place + 8])
        place += 12 + length
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}


@given(
    value=st.recursive(st.integers() | st.text(), lambda inner: st.lists(inner, max_size=5)), key=st.text("0af", min_size=1)
)
def test_what_was_sealed_is_opened_again(value: Any, key: str) -> None:
    assert quiz.unseal(quiz.seal(value, key), key) == value


def test_another_key_opens_nothing() -> None:
    sealed = quiz.seal(list(range(50)), "aa")
    for damaged, key in ((sealed, "ab"), ("AAAA" + sealed[4:], "aa"), ("!", "aa")):
        with pytest.raises(InputError, match="answers"):
            quiz.unseal(damaged, key)


@pytest.mark.parametrize("sheets", [[], [sheet("a", seed=1, count=19)]])
def test_too_few_tiles_make_no_quiz(sheets: list[Any]) -> None:
    with pytest.raises(InputError, match="quiz"):
        quiz.quiz_html(sheets)


def test_tiles_that_repeat_do_not_count(tmp_path: Path) -> None:
    one = sheet("a", seed=1)
    one.made[:] = one.made[0]
    with pytest.raises(InputError, match="different"):
        quiz.quiz_html([one])


def test_the_document_has_the_quiz_its_warnings_and_its_sources(tmp_path: Path, write_page: Write) -> None:
    write_page("07_rna_gan")
    pages = read_pages(tmp_path / "notebooks")
    small = sheet("small", seed=3, count=5)
    leave(tmp_path, "07_rna_gan", [sheet("RNA-GAN", seed=1), small], not_converged=("the RNA is not heard",))
    text = quiz.fill("%QUIZ%\n%COUNT% tiles: %UNDECIDED%", pages, tmp_path, {}, cohort="simulated")
    assert text.startswith(":::{warning}\nSIMULATED DATA") and "the RNA is not heard." in text
    assert "*real* means: drawn by the simulator" in text and '"real": "real (of the simulator)"' in text
    assert "````{raw} html\n<style>" in text and "| RNA-GAN | `07_rna_gan` | 24 | 24 | 16 px of 2 µm |" in text
    assert (
        "Not in the quiz" in text
        and "small (07_rna_gan)" in text
        and "its page: [07_rna_gan](notebooks/07_rna_gan)." in text
        and "Averaged." in text
    )
    assert text.endswith("20 tiles: 6 to 14 right answers of 20")


def test_without_tiles_the_document_says_which_page_to_run(tmp_path: Path, write_page: Write) -> None:
    write_page("01_cohorts")
    pages = read_pages(tmp_path / "notebooks")
    assert "No page of this book" in quiz.quiz_markdown(pages, tmp_path, {}, cohort="her2st")
    write_page("07_rna_gan", body=f"# {CALL}")
    pages = read_pages(tmp_path / "notebooks")
    text = quiz.quiz_markdown(pages, tmp_path, {}, cohort="her2st")
    assert "`rnasynth book --cohort her2st --pages 07`" in text and "01_cohorts" not in text and "<script" not in text
    skipped = {"07_rna_gan": {"outcome": "skipped", "reason": "it is meant for simulated"}}
    text = quiz.quiz_markdown(pages, tmp_path, skipped, cohort="gtex")
    assert "not on gtex: it is meant for simulated" in text and "--cohort simulated --pages 07" in text


def test_a_page_leaves_its_tiles_with_its_banner_and_the_stamp_guards_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from rnasynth.data import cohort as cohorts

    fake = SimpleNamespace(
        name="simulated", banner="", simulated=True, notes=(), fingerprint=lambda: "f00", ids=["PATIENT-0007"]
    )
    monkeypatch.setattr(cohorts, "load_cohort", lambda name, seed: fake)
    page = Page.open("07_rna_gan", preset="demo", cohort="simulated", out=tmp_path)
    page.load()
    page.quiz("RNA-GAN", real=tiles(20, seed=0), made=tiles(20, seed=1), mpp_um=2.0, handling="Averaged.")
    page.close()
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["quiz"] == ["quiz/rna_gan.json"]
    left = read_sheet("07_rna_gan", tmp_path / "quiz" / "rna_gan.json")
    assert left.banner.startswith("SIMULATED DATA") and left.simulated
    (tmp_path / "page.ipynb").write_text("{}", encoding="utf-8")
    stamps.write_stamp(tmp_path, {"source": "x"}, seconds=1.0)
    assert stamps.changed(tmp_path, {"source": "x"}) == []
    (tmp_path / "quiz" / "rna_gan_made.png").write_bytes(b"other")
    assert stamps.changed(tmp_path, {"source": "x"}) == ["quiz/rna_gan_made.png is missing or was changed"]
