"""What a page's parameters stand for: its folder, its cohort, the options of the cohort's builder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rnasynth.config import project_folder
from rnasynth.errors import InputError


def build_folder(cohort: str, preset: str, root: Path | None = None) -> Path:
    """Return `build/<cohort>-<preset>` in the checkout; a cohort given as a manifest's path goes by its stem."""
    label = Path(cohort).stem if "/" in cohort or cohort.endswith((".yaml", ".yml")) else cohort
    return (root or project_folder()) / "build" / f"{label}-{preset}"


def check_cohort(cohort: str) -> str:
    """Return `cohort`, or raise if it is neither a known name nor a manifest's path.

    Raises
    ------
    InputError : unknown name.
    """
    from rnasynth.data.cohort import BUILDERS

    known = ("simulated", *BUILDERS)
    if cohort not in known and not Path(cohort).is_file():
        raise InputError(
            f"cohort {cohort!r}", expected=f"one of {', '.join(known)}, or the path of a manifest", found="unknown"
        )
    return cohort


def options_of(given: str) -> dict[str, Any]:
    """Return {"profiles": "all", "sections": ["C2", "C3"]} of "profiles=all,sections=C2+C3".

    Raises
    ------
    InputError : a part that is not name=value.
    """
    options: dict[str, Any] = {}
    for part in filter(None, (text.strip() for text in given.split(","))):
        name, separator, value = part.partition("=")
        if not separator or not name or not value:
            raise InputError(f"options {given!r}", expected="name=value, name=value+value", found=repr(part))
        options[name] = value.split("+") if "+" in value else value
    return options
