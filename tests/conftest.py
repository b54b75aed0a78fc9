"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mirror() -> Path:
    """Folder with the real, public files; tests that need it are skipped where it is absent."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("RNASYNTH_MIRROR") or default)
    if not (folder / "MANIFEST.tsv").exists():
        pytest.skip("no mirror of the real data ($RNASYNTH_MIRROR)")
    return folder


@pytest.fixture
def _same_settings() -> Iterator[None]:
    """Nothing that a test calls leaves a setting behind for the tests after it in this process."""
    before = {name: value for name, value in os.environ.items() if name.startswith("RNASYNTH_")}
    yield
    after = {name: value for name, value in os.environ.items() if name.startswith("RNASYNTH_")}
    for name in after.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
    assert after == before


@pytest.fixture(autouse=True)
def _own_folders(_same_settings: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's data and runs."""
    base = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("RNASYNTH_DATA", str(base / "data"))
    monkeypatch.setenv("RNASYNTH_RUNS", str(base / "runs"))
