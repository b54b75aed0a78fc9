"""Whatever kills the tiling command, the same command run again ends with the same store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data.tile_storm import CRASHED

CHECKOUT = Path(__file__).resolve().parents[2]


def storm(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """Rounds of tests/data/tile_storm.py."""
    finished = subprocess.run(
        [sys.executable, "-m", "tests.data.tile_storm", arguments[0], str(folder), *arguments[1:]],
        cwd=CHECKOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in finished.stdout.splitlines()]


def check_rounds(rounds: list[dict[str, Any]], ends: set[int]) -> None:
    for one in rounds:
        assert one["ended"] in ends, one
        assert one["rerun"] == 0 and one["equal"] and one["readable"] and not one["left_over"], one
        assert one["lost"] <= 256, one


@pytest.mark.slow
def test_crash_at_every_fsync_rename_and_commit(tmp_path: Path) -> None:
    rounds = storm(tmp_path, "points")
    assert len(rounds) >= 30  # three commits, index, facts and folder of the slide, index and pointer of the store
    check_rounds(rounds, {CRASHED})
    assert max(one["lost"] for one in rounds) > 0  # the crashes did cost something: they were real


@pytest.mark.slow
def test_crashes_find_a_position_committed_before_its_tiles(tmp_path: Path) -> None:
    rounds = storm(tmp_path, "points", "--variant", "position")
    assert not all(one["equal"] for one in rounds)


@pytest.mark.slow
def test_five_random_kills(tmp_path: Path) -> None:
    check_rounds(storm(tmp_path, "kills"), {0, -signal.SIGKILL})


@pytest.mark.stress
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(4))
def test_hundreds_of_random_kills(tmp_path: Path, seed: int) -> None:
    check_rounds(storm(tmp_path, "kills", "--rounds", "75", "--seed", str(seed + 1)), {0, -signal.SIGKILL})
