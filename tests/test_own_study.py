"""The page "use it in your own study" runs as it is written: its blocks, in their order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from PIL import Image

from rnasynth.errors import InputError

PAGE = Path(__file__).resolve().parents[1] / "book" / "own_study.md"
BLOCK = re.compile(r"^```\{code-block\} (\w+)\n((?::\w+: [^\n]*\n)*)(.*?)^```$", re.MULTILINE | re.DOTALL)
# Sphinx renders the book in tests of its own; here the command runs its pages, and rendering is told what it was asked for.
COMMAND = """#!{python}
import rnasynth.pages.runner as runner
runner.build_book = lambda cohort, preset: f"{{cohort}} {{preset}}"
from rnasynth.cli import main
main()
"""


class Block(NamedTuple):
    language: str
    caption: str
    text: str


def blocks(text: str) -> list[Block]:
    """Return the code blocks of a page, in their order."""
    found = []
    for language, options, body in BLOCK.findall(text):
        caption = re.search(r":caption: (.*)", options)
        found.append(Block(language, caption[1].strip() if caption else "", body))
    return found


def follow(page: list[Block], folder: Path) -> tuple[dict[str, Any], str]:
    """Do what a reader does: save yaml, run commands and Python; return Python's names and what the commands said."""
    (folder / ".bin").mkdir()
    command = folder / ".bin" / "rnasynth"
    command.write_text(COMMAND.format(python=sys.executable), encoding="utf-8")
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(PAGE.parents[1])}
    names: dict[str, Any] = {}
    said = ""
    for block in page:
        if block.language == "yaml":
            (folder / block.caption).write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            done = subprocess.run(
                ["bash", "-eu", "-c", block.text], cwd=folder, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
            said += done.stdout
        else:
            assert block.language == "python", block
            exec(compile(block.text, str(PAGE), "exec"), names)
    return names, said


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which data, runs and results go to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RNASYNTH_HOME", str(tmp_path))
    for name in ("RNASYNTH_DATA", "RNASYNTH_RUNS", "RNASYNTH_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)  # seconds of a quiet core: below a minute
def test_the_page_runs_as_it_is_written(folder: Path) -> None:
    page = blocks(PAGE.read_text(encoding="utf-8"))
    assert [block.language for block in page] == ["python", "yaml", "bash", *["python"] * 5]
    assert PAGE.read_text(encoding="utf-8").count("```{") == len(page)  # no block is overlooked
    names, said = follow(page, folder)

    # 1. slides and RNA, joined and split by patient
    cohort = names["cohort"]
    assert re.search(r"^[1-8] tiles of 1 slides in look$", said, re.MULTILINE)
    assert "01_cohorts: ran" in said and "The book is at study/study.yaml demo" in said
    assert (folder / "build/study-demo/01_cohorts/results.json").is_file()
    assert cohort.profiles.shape == (20, 300) and "simulator" in cohort.banner and not cohort.simulated
    assert set(cohort.tile_store().index["sample_id"]) == set(cohort.profiles.obs["sample_id"])
    assert (
        cohort.folder.parent == folder / "data" and cohort.profiles.obs.groupby("patient_id")["split"].nunique().max() == 1
    )

    # 2. tiles of the series, of genes that it shares
    made = pd.read_csv(folder / "imputed" / "table.csv")
    assert made.equals(names["table"]) and len(made) == 12 * 4 and made["sample_id"].nunique() == 12
    assert made["sample_id"].str.startswith("SERIES-").all()
    px = names["generator"].px
    assert {Image.open(folder / "imputed" / file).size for file in made["file"]} == {(px, px)}
    assert 0.15 < names["inputs"].uns["alignment"]["missing_share"] < 0.25
    assert names["run"].path.parent == folder / "runs"
    assert {"own test patients", "series"} == set(names["report"].table.index.get_level_values("cohort"))

    # 3. an effect with its interval, beside matched genes, of held-out patients only
    effect = names["effects"].numbers["my_generator_t_cell_genes"]
    row = names["effects"].primary.iloc[0]
    assert effect.low <= effect.value <= effect.high and effect.n == names["held_out"].n_obs > 2
    assert set(names["held_out"].obs["split"]) == {"test"} and names["change"].absent == ("NOSUCHGENE",)
    assert row["matched_low"] <= row["matched"] <= row["matched_high"] and 0 < row["p"] <= 1


def test_a_page_that_is_wrong_fails(folder: Path) -> None:
    page = blocks(PAGE.read_text(encoding="utf-8"))
    (folder / "study").mkdir()
    misspelt = [block._replace(text=block.text.replace("samples:", "sample:")) for block in page[1:2]]
    with pytest.raises(InputError, match=r"study\.yaml, at cohort.*sample"):
        follow([*misspelt, page[3]], folder)
