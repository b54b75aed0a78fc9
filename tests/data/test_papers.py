"""Published numbers: each row quotes its paper, and the number stands in the quote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from rnasynth.config import manifests_folder
from rnasynth.data import papers
from rnasynth.data.papers import quotable, read_hyperparameters, read_papers
from rnasynth.errors import InputError

TEXTS = {"rna-gan": "rna-gan.md", "rna-cdm": "rna-cdm.txt", "gemm-gan": "gemm-gan.txt"}
DERIVED = {"fid60k_gain", "substitution_no_loss"}  # a difference of two printed numbers; "no difference" in words


def numbers(sentence: str) -> set[float]:
    found = re.findall(r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?", sentence)
    return {float(number.replace(",", "")) for number in found}


def test_every_published_number_stands_in_its_quote() -> None:
    table = read_papers()
    assert len(table) > 100
    for row in table.itertuples():
        if row.id in DERIVED or row.unit == "yes":
            continue
        assert row.value in numbers(row.sentence), row.id
        if row.low_or_sd == row.low_or_sd:
            assert row.low_or_sd in numbers(row.sentence), row.id


def test_pages_get_their_own_rows() -> None:
    assert set(read_papers("07_rna_gan")["page"]) == {"07_rna_gan"}
    assert {"fid60k_rna_gan", "fid60k_gain"} <= set(read_papers("07_rna_gan")["id"])
    assert read_papers("99_none").empty


@pytest.mark.parametrize(
    ("system", "field", "value"),
    [
        ("beta-vae/rna-gan", "hidden", [6000, 4096]),
        ("beta-vae/rna-gan", "latent", 2048),
        ("beta-vae/rna-cdm", "latent", 200),
        ("beta-vae/rna-cdm", "lr", 3e-3),
        ("rna-gan", "lr_critic", 4e-3),
        ("rna-gan", "noise_range", 0.3),
        ("rna-cdm", "S_noise", 1.003),
    ],
)
def test_hyperparameters_are_found_by_system_and_field(system: str, field: str, value: object) -> None:
    table = read_hyperparameters(system).set_index("field")
    assert json.loads(table.loc[field, "value"]) == value and table.loc[field, "sentence"]


def test_hyperparameters_name_each_field_once() -> None:
    table = read_hyperparameters()
    assert not table.duplicated(["system", "field"]).any() and (table["sentence"].str.len() > 10).all()


def test_double_id_or_unknown_direction_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.read_csv(manifests_folder() / "papers" / "gemm-gan.csv")
    (tmp_path / "papers").mkdir()
    monkeypatch.setattr(papers, "manifests_folder", lambda: tmp_path)
    for broken in (
        pd.concat([table, table]),
        table.assign(direction="up"),
        table.assign(sentence=None),
        table.drop(columns="unit"),
    ):
        broken.to_csv(tmp_path / "papers" / "a.csv", index=False)
        with pytest.raises(InputError):
            read_papers()


@pytest.mark.real
def test_every_quote_occurs_in_its_paper(mirror: Path) -> None:
    folder = mirror.parent / "papers"
    if not folder.is_dir():
        pytest.skip("the papers' texts are not at hand")
    texts = {paper: quotable((folder / file).read_text(encoding="utf-8")) for paper, file in TEXTS.items()}
    ratings = pd.read_csv(manifests_folder() / "papers" / "expert_ratings.csv").assign(paper="rna-gan")
    tables = (read_papers(), read_hyperparameters(), ratings)
    rows = pd.concat([table[["paper", "place", "sentence"]] for table in tables])
    for row in rows.itertuples():
        for part in row.sentence.split(" [...] "):
            plain = quotable(part)
            assert plain in texts[row.paper], f"{row.paper}, {row.place}: {part}"
            changed = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), plain)
            changed += "" if changed != plain else "never"
            assert changed not in texts[row.paper], "a changed number must not be found"
