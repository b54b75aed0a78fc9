"""The world of the faults, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import world


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with good/, bad/ and runs/."""
    folder = tmp_path_factory.mktemp("world")
    world.build(folder)
    return folder
