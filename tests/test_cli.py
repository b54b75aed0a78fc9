"""What the command line says of itself."""

from __future__ import annotations

from typer.testing import CliRunner

import rnasynth
from rnasynth.cli import app
from rnasynth.data.manifests import list_manifests, load_manifest


def test_the_version_is_said_without_a_command() -> None:
    said = CliRunner().invoke(app, ["--version"])
    assert said.exit_code == 0 and said.output == f"rnasynth {rnasynth.__version__}\n"


def test_doctor_says_what_each_cohort_is() -> None:
    said = CliRunner().invoke(app, ["doctor"]).output
    for name in list_manifests():
        title = load_manifest(name).title
        assert f"  {name}, {title}: " in said and len(title) < 100
