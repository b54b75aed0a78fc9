"""Page 14 needs no cohort: the same numbers on every one, and other numbers as soon as one score is another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rnasynth.config import manifests_folder
from rnasynth.pages import show
from rnasynth.pages.notebooks import notebooks_folder, read_page

NAME = "14_expert_ratings"


def results_of(folder: Path, **parameters: Any) -> dict[str, Any]:
    """Run the page's code with parameters of its own and return its results.json."""
    source = read_page(notebooks_folder() / f"{NAME}.py")
    space: dict[str, Any] = {}
    for cell in (cell for cell in source.notebook.cells if cell.cell_type == "code"):
        exec(compile(cell.source, NAME, "exec"), space)
        if "parameters" in cell.metadata.get("tags", []):
            space.update(parameters, out=str(folder))
    return dict(json.loads((folder / "results.json").read_text(encoding="utf-8")))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the page displays."""
    lines: list[str] = []
    monkeypatch.setattr(show, "display", lambda markdown, page_html: lines.append(markdown))
    return lines


@pytest.mark.slow
def test_page_has_the_same_numbers_on_every_cohort_and_others_for_another_score(tmp_path: Path, said: list[str]) -> None:
    simulated, her2st = (results_of(tmp_path / name, cohort=name) for name in ("simulated", "her2st"))
    assert simulated["numbers"] == her2st["numbers"]
    assert all("cohort" not in figure["caption"] for figure in simulated["figures"])

    verdicts = {verdict["id"]: verdict for verdict in simulated["verdicts"]}
    kinds = {name: verdict["kind"] for name, verdict in verdicts.items()}
    assert {name for name, kind in kinds.items() if kind == "reproduced"} == {
        "p_lung_rna_gan_over_gan", "p_brain_rna_gan_vs_gan",
        *(f"rating_{group}_{tissue}" for group in ("real", "gan", "rna_gan") for tissue in ("lung", "brain")),
    }  # fmt: skip
    differing = {name for name, kind in kinds.items() if kind == "differs"}
    assert differing == {"p_lung_real_vs_rna_gan", "p_brain_real_vs_gan", "p_brain_real_vs_rna_gan"}
    assert all("without rater 6" in verdicts[name]["verdict"] for name in differing)
    assert "published p values come out (0.025, 0.305)" in "\n".join(said)

    raw = pd.read_csv(manifests_folder() / "papers" / "expert_ratings.csv", dtype=str, keep_default_na=False)
    raw.loc[0, ["printed", "exact"]] = "3"
    raw.to_csv(tmp_path / "mine.csv", index=False)
    mine = results_of(tmp_path / "mine", scores=str(tmp_path / "mine.csv"))
    before, after = (results["numbers"]["p_lung_real_vs_rna_gan"]["value"] for results in (simulated, mine))
    assert before == pytest.approx(0.0239, abs=5e-5) and abs(after - before) > 0.01
