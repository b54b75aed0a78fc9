"""What the command line says of itself."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import rnasynth
from rnasynth.cli import app
from rnasynth.data.expression import read_expression
from rnasynth.data.manifests import list_manifests, load_manifest
from rnasynth.systems import diffusion, generation


def test_the_version_is_said_without_a_command() -> None:
    said = CliRunner().invoke(app, ["--version"])
    assert said.exit_code == 0 and said.output == f"rnasynth {rnasynth.__version__}\n"


@pytest.mark.parametrize("noted", [True, False])
def test_generate_says_which_columns_of_a_table_it_took_as_annotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: bool
) -> None:
    genes = pd.DataFrame({"gene": ["TP53", "EGFR", "ERBB2"], "length": [1, 2, 3], "note": ["a", "b", "c"]})
    genes.assign(S1=[0.5, 1.5, 100.5], S2=[1.5, 2.5, 90.5]).to_csv(tmp_path / "tpm.csv", index=False)
    profiles = read_expression(tmp_path / "tpm.csv", genes_in="rows", allow_small=True)
    if not noted:  # a file made elsewhere
        profiles.uns["read"] = "yes"
    profiles.write_h5ad(tmp_path / "profiles.h5ad")
    monkeypatch.setattr(diffusion, "open_generator", lambda *_, **__: None)
    monkeypatch.setattr(generation, "generate_to_folder", lambda *_, **__: pd.DataFrame({"sample_id": ["S1"]}))
    call = ["generate", "--run", "x", "--expression", str(tmp_path / "profiles.h5ad"), "--out", str(tmp_path / "out")]
    said = CliRunner().invoke(app, call)
    assert said.exit_code == 0 and ("annotation, not as genes or samples: 2 (length, note)" in said.output) is noted


def test_doctor_says_what_each_cohort_is() -> None:
    said = CliRunner().invoke(app, ["doctor"]).output
    for name in list_manifests():
        title = load_manifest(name).title
        assert f"  {name}, {title}: " in said and len(title) < 100
