"""Provenance: the commit that ran it, and a command that can be typed again."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from rnasynth.pages import provenance


def test_commit_and_changes_are_told_apart(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    head, dirty = provenance.commit(tmp_path)
    assert len(head) == 40 and not dirty
    (tmp_path / "untracked").write_text("1")
    assert provenance.commit(tmp_path) == (head, False)
    (tmp_path / "a").write_text("2")
    assert provenance.commit(tmp_path) == (head, True)
    assert provenance.short_commit(head, True) == f"{head[:10]} + changes"


def test_no_git_is_no_error(tmp_path: Path) -> None:
    assert provenance.commit(tmp_path / "nowhere") == ("unknown", False)


def test_the_command_survives_the_shell() -> None:
    command = provenance.remake_command(
        "07_rna_gan", cohort="my cohort.yaml", preset="gpu", seed=4, parameters={"genes": ["A", "B"], "word": "x y"}
    )
    parts = shlex.split(command)
    assert parts[:6] == ["rnasynth", "book", "--cohort", "my cohort.yaml", "--preset", "gpu"]
    assert parts[6:] == [
        "--seed", "4", "--set", 'genes=["A", "B"]', "--set", "word=x y", "--pages", "07_rna_gan", "--force",
    ]  # fmt: skip
