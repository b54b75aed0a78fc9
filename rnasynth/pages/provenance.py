"""Where a page's results come from: commit, cohort, device, versions, time, memory and the command that remakes them."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from rnasynth.config import checkout_folder

PACKAGES = (
    "rnasynth",
    "torch",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "scikit-image",
    "anndata",
    "lmdb",
    "simplejpeg",
    "openslide-python",
    "matplotlib",
)  # what changes a number; a page is run again when one of them has another version
UNKNOWN = "unknown"  # commit of an installed package; its version tells instead


def commit(folder: Path | None = None) -> tuple[str, bool]:
    """Return the checkout's commit (40 hexadecimal characters) and whether tracked files differ from it.

    (`UNKNOWN`, False) where there is no git or no checkout, such as in an installed package.
    """
    where = folder or checkout_folder()
    if where is None:
        return UNKNOWN, False
    try:
        head = _git(where, "rev-parse", "HEAD")
        changed = _git(where, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN, False
    return head, bool(changed)


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=30, encoding="utf-8"
    )
    return done.stdout.strip()


def short_commit(head: str, dirty: bool) -> str:
    """Return the commit as tables show it: 10 characters, with "+ changes" where the checkout was not clean."""
    return head[:10] + (" + changes" if dirty else "")


@cache
def versions() -> dict[str, str]:
    """Return the version of Python and of each package that can change a number ("absent" where not installed)."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def device() -> str:
    """Return the device that training would use, in words: the first GPU's name, else the processor and thread count."""
    import torch  # here, because the runner asks for commits and versions without needing torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return f"{count} x {torch.cuda.get_device_name(0)}" if count > 1 else torch.cuda.get_device_name(0)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # Linux counts in KiB, macOS in bytes


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def remake_command(
    page: str, *, cohort: str, preset: str, seed: int = 0, parameters: Mapping[str, Any] | None = None
) -> str:
    """Return the shell command that runs one page again with the same parameters.

    Examples
    --------
    >>> remake_command("04_beta_vae", cohort="simulated", preset="demo", seed=0)
    'rnasynth book --cohort simulated --preset demo --pages 04_beta_vae --force'
    """
    import json
    import shlex

    parts = ["rnasynth", "book", "--cohort", cohort, "--preset", preset]
    if seed:
        parts += ["--seed", str(seed)]
    for name, value in sorted((parameters or {}).items()):
        parts += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join([*parts, "--pages", page, "--force"])
