"""A user with GTEx's files fetches them and runs page 04 on them, nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rnasynth.cli import app
from rnasynth.data.cohorts.bulk import GTEX_TISSUES
from rnasynth.pages import show
from rnasynth.pages.notebooks import notebooks_folder
from tests.data.small_gtex import write_gtex


@pytest.mark.slow
def test_fetch_gtex_then_page_04(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jupytext

    write_gtex(tmp_path / "downloads", GTEX_TISSUES, donors=12)
    fetched = CliRunner().invoke(app, ["fetch", "gtex", "--mirror", str(tmp_path / "downloads")])
    assert fetched.exit_code == 0, fetched.output
    monkeypatch.setattr(show, "display", lambda markdown, page_html: None)
    page = jupytext.read(notebooks_folder() / "04_beta_vae.py")
    given = f"cohort, preset, choice_seeds, out = 'gtex', 'demo', 0, {str(tmp_path / 'out')!r}"
    names: dict[str, object] = {}
    for cell in page.cells:
        if cell.cell_type == "code":
            source = f"{cell.source}\n{given}" if "parameters" in cell.metadata.get("tags", []) else cell.source
            exec(compile(source, "04_beta_vae", "exec"), names)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["cohort"] == "gtex" and {"rmse_test", "rmse_rna_gan", "rmse_rna_gan_two_tissues"} <= set(
        results["numbers"]
    )
    judged = {verdict["id"]: verdict["kind"] for verdict in results["verdicts"]}
    assert judged["beta_vae_rmse_gtex"] in {"holds", "fails", "undecided"}  # the demo's widths are not the paper's
