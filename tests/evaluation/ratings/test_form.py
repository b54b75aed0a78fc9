"""The rating form: blind, balanced, random; and what its answers become."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from rnasynth.cli import app
from rnasynth.errors import InputError
from rnasynth.evaluation.ratings.form import Form, TileGroup, make_form
from rnasynth.evaluation.ratings.study import COLUMNS, analyse_forms, answers_by_group, read_forms, scores_from_answers

GROUPS = ("lung/orchard", "lung/plumtree", "brain/orchard", "brain/plumtree")


def folders(root: Path, *, px: int = 24, count: int = 5) -> list[str]:
    """Folders of noise whose names, files and metadata would give the groups away."""
    generator = np.random.default_rng(5)
    texts = []
    for label in GROUPS:
        folder = root / label.replace("/", "_")
        folder.mkdir(parents=True)
        for number in range(count):
            info = PngInfo()
            info.add_text("Comment", f"made by {label}")
            image = Image.fromarray(generator.integers(0, 255, (px, px, 3), dtype=np.uint8))
            image.save(folder / f"quince_{folder.name}_{number}.png", pnginfo=info)
        texts.append(f"{label}={folder}")
    return texts


def made(root: Path, **options: Any) -> Form:
    groups = [TileGroup.parse(text) for text in folders(root / "tiles")]
    return make_form(groups, root / "form", **{"tiles_per_group": 3, "seed": 11, **options})


def payload(form: Form) -> dict[str, Any]:
    text = form.path.read_text(encoding="utf-8")
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert match
    return json.loads(match.group(1))


def answer(form: Form, rater: str, folder: Path, *, bonus: float = 0.0, seed: int = 0) -> Path:
    """The csv that a rater would export, better for "orchard" by `bonus`."""
    key = json.loads(form.key.read_text(encoding="utf-8"))
    generator = np.random.default_rng(seed)
    rows = []
    for place, (tile, what) in enumerate(key["tiles"].items(), start=1):
        quality = int(np.clip(round(3 + generator.normal(0, 0.8) + bonus * (what["group"] == "orchard")), 1, 5))
        rows.append(
            (form.study, rater, tile, place, what["tissue"], quality, "yes" if what["group"] == "plumtree" else "no")
        )
    path = folder / f"ratings-{rater}.csv"
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(path, index=False)
    return path


def test_form_tells_neither_group_nor_file_nor_seed(tmp_path: Path) -> None:
    form = made(tmp_path, seed=1234567)
    text = form.path.read_text(encoding="utf-8")
    images = [base64.b64decode(tile["src"].split(",")[1]) for tile in payload(form)["tiles"]]
    for secret in ("orchard", "plumtree", "quince", "1234567", str(tmp_path)):
        assert secret not in text and all(secret.encode() not in image for image in images)
    assert [path.name for path in form.path.parent.iterdir()] == ["form.html"]
    assert not form.key.resolve().is_relative_to(form.path.parent.resolve())
    for image in images:
        with Image.open(io.BytesIO(image)) as opened:
            assert opened.size == (24, 24) and not opened.info
    assert "orchard" in form.key.read_text(encoding="utf-8")


def test_form_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = made(tmp_path).path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]+\.", text) and "default-src 'none'" in text


def test_form_is_balanced_and_its_order_is_not_that_of_the_groups(tmp_path: Path) -> None:
    form = made(tmp_path)
    secret = json.loads(form.key.read_text(encoding="utf-8"))["tiles"]
    shown = [tile["id"] for tile in payload(form)["tiles"]]
    assert set(shown) == set(secret) and form.n_tiles == len(shown) == 12
    labels = [f"{secret[name]['tissue']}/{secret[name]['group']}" for name in shown]
    assert Counter(labels) == dict.fromkeys(GROUPS, 3)
    assert (
        labels != sorted(labels) and max(len(run) for run in re.findall(r"((?:lo)+|(?:lp)+)", "".join(labels)) or ["x"]) < 12
    )
    assert shown != sorted(shown)


def test_form_is_the_same_for_a_seed_and_another_for_another(tmp_path: Path) -> None:
    groups = [TileGroup.parse(text) for text in folders(tmp_path / "tiles")]
    one, two, three = (
        make_form(groups, tmp_path / name, tiles_per_group=2, seed=seed).path.read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == two != three


def test_a_leaky_form_would_be_seen(tmp_path: Path) -> None:
    form = made(tmp_path)
    secret = json.loads(form.key.read_text(encoding="utf-8"))["tiles"]
    leaky = form.path.read_text(encoding="utf-8").replace("</body>", f"<!-- {secret} --></body>")
    assert "orchard" in leaky and "quince" in leaky


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"tiles_per_group": 6}, "at least 6 images"),
        ({"tiles_per_group": 0}, "1 or more"),
        ({"tissues": ["lung"]}, "2 to 12 answers"),
        ({"tissues": ["lung", "liver"]}, "not brain"),
    ],
)
def test_a_form_that_cannot_be_made_is_an_error_and_writes_nothing(
    tmp_path: Path, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(InputError, match=word):
        made(tmp_path, **options)
    assert not (tmp_path / "form").exists() and not (tmp_path / "form-key.json").exists()


def test_key_in_the_forms_folder_or_an_existing_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="outside"):
        made(tmp_path / "a", key=tmp_path / "a" / "form" / "sub" / "key.json")
    form = made(tmp_path / "b")
    before = form.path.read_bytes()
    groups = [TileGroup.parse(f"{label}={tmp_path / 'b' / 'tiles' / label.replace('/', '_')}") for label in GROUPS]
    with pytest.raises(InputError, match="does not exist yet"):
        make_form(groups, form.path.parent, tiles_per_group=2)
    assert form.path.read_bytes() == before


def test_another_size_a_copy_and_a_broken_image_are_refused(tmp_path: Path) -> None:
    for number, damage in enumerate(("size", "copy", "broken")):
        root = tmp_path / str(number)
        texts = folders(root, count=1)
        target = next((root / "lung_orchard").iterdir())
        if damage == "size":
            Image.new("RGB", (30, 30)).save(target)
        elif damage == "copy":
            target.write_bytes(next((root / "brain_orchard").iterdir()).read_bytes())
        else:
            target.write_bytes(b"not an image")
        with pytest.raises(InputError):
            make_form([TileGroup.parse(text) for text in texts], root / "form", tiles_per_group=1)
        assert not (root / "form").exists()


@pytest.mark.parametrize("text", ["lung", "=.", "lung/=.", "lung/real=nowhere"])
def test_a_group_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(InputError):
        TileGroup.parse(text)


def test_tissue_names_cannot_break_the_page(tmp_path: Path) -> None:
    form = made(tmp_path, tissues=["lung", "brain", "</script><b>"])
    assert payload(form)["tissues"][2] == "</script><b>"


def test_answers_come_back_through_the_key(tmp_path: Path) -> None:
    form = made(tmp_path)
    paths = [answer(form, f"r{n}", tmp_path, bonus=1.0, seed=n) for n in range(5)]
    answers = read_forms(paths, form.key)
    assert len(answers) == 60 and set(answers["group"]) == {"orchard", "plumtree"}
    scores = scores_from_answers(answers)
    assert len(scores) == 20 and scores["score"].between(1, 5).all()
    shares = answers_by_group(answers).set_index(["tissue", "group"])
    assert (
        shares.loc[("lung", "plumtree"), "artefacts"].value == 1 and shares.loc[("lung", "orchard"), "artefacts"].value == 0
    )
    assert all(interval.value == 1 and interval.n == 5 for interval in shares["tissue_right"])
    found = analyse_forms(paths, form.key, tmp_path / "out")
    assert (found.tests["difference"] > 0).all()
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert results["raters"] == 5 and results["tests"][0]["t_p"] == found.tests["t_p"][0]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ratings.csv", "means.csv", "tests.csv", "results.json"}


def test_differences_are_real_minus_other_whatever_the_order_of_the_tiles() -> None:
    rows = [("r", "x", group, "t", 3) for group in ("zebra", "real", "apple")]
    answers = pd.DataFrame(rows, columns=["rater", "tile", "group", "tissue", "quality"])
    assert list(scores_from_answers(answers)["group"]) == ["real", "apple", "zebra"]


def damaged(path: Path, how: str) -> None:
    table = pd.read_csv(path, dtype=str)
    if how == "unknown tile":
        table.loc[3, "tile"] = "ffffffff"
    elif how == "quality 1 to 5":
        table.loc[0, "quality"] = "6"
    elif how == "no quality":
        table = table.drop(columns="quality")
    elif how == "each of the 12 tiles once":
        table = table.iloc[:-1]
    elif how == "each of the 12 tiles":
        table.loc[1] = table.loc[0]
    elif how == "study":
        table["study"] = "0" * 12
    elif how == "artefacts":
        table.loc[0, "artefacts"] = "maybe"
    elif how == "one rater a file":
        table.loc[0, "rater"] = "somebody"
    table.to_csv(path, index=False)


@pytest.mark.parametrize(
    "how",
    [
        "unknown tile",
        "quality 1 to 5",
        "no quality",
        "each of the 12 tiles once",
        "each of the 12 tiles",
        "study",
        "artefacts",
        "one rater a file",
        "each rater in one file",
    ],
)
def test_a_wrong_csv_ends_with_code_2_and_says_why(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rnasynth import cli

    form = made(tmp_path)
    paths = [answer(form, f"r{n}", tmp_path, seed=n) for n in range(2)]
    if how == "each rater in one file":
        (tmp_path / "again.csv").write_bytes(paths[0].read_bytes())
        paths.append(tmp_path / "again.csv")
    else:
        damaged(paths[1], how)
    call = ["rnasynth", "ratings", "analyse", *map(str, paths), "--key", str(form.key), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", call)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and how in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_one_rater_or_another_key_is_an_error(tmp_path: Path) -> None:
    form = made(tmp_path)
    path = answer(form, "r", tmp_path)
    with pytest.raises(InputError, match="two raters"):
        analyse_forms([path], form.key, tmp_path / "out")
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    for paths, key in (([path], tmp_path / "other.json"), ([], form.key), ([tmp_path / "none.csv"], form.key)):
        with pytest.raises(InputError):
            read_forms(paths, key)


def test_command_line_makes_and_analyses_a_form(tmp_path: Path) -> None:
    runner = CliRunner()
    texts = folders(tmp_path / "tiles")
    done = runner.invoke(app, ["ratings", "form", *texts, "--out", str(tmp_path / "form"), "--tiles-per-group", "3"])
    assert done.exit_code == 0 and "12 tiles" in done.output, done.output
    study = json.loads((tmp_path / "form-key.json").read_text(encoding="utf-8"))["study"]
    form = Form(tmp_path / "form" / "form.html", tmp_path / "form-key.json", study, 12)
    paths = [str(answer(form, f"r{n}", tmp_path, seed=n)) for n in range(3)]
    done = runner.invoke(app, ["ratings", "analyse", *paths, "--key", str(form.key), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0 and "3 raters" in done.output and "Holm" in done.output, done.output
