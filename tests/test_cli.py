"""What the command line says of itself."""

from __future__ import annotations

from typer.testing import CliRunner

import rnasynth
from rnasynth.cli import app


def test_the_version_is_said_without_a_command() -> None:
    said = CliRunner().invoke(app, ["--version"])
    assert said.exit_code == 0 and said.output == f"rnasynth {rnasynth.__version__}\n"
