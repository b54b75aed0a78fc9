"""A small site for the server guide's commands: a checkout's files, small data, and stand-ins for SLURM's commands."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
import yaml

from rnasynth.data.jpeg_pyramid import write_pyramid
from tests.data.painted import section
from tests.small_simulated import write_small_simulated

ROOT = Path(__file__).resolve().parents[1]
KNOWN_OPTIONS = {"job-name", "gres", "cpus-per-task", "mem", "time", "signal", "requeue", "nodes", "gpus-per-node"}
# Runs a job on this machine: a *.sbatch at once, the workers of dask-jobqueue beside. Two "GPUs" are two processes.
SBATCH = """\
#!/usr/bin/env bash
set -eu
script=$1; shift
head -n 1 "$script" | grep -q '^#!'
export SLURM_JOB_ID=$(( $(ls "$JOBS" | wc -l) + 1 )) SLURM_GPUS_ON_NODE=2
log="$JOBS/slurm-$SLURM_JOB_ID.out"
if [[ "$script" == *.sbatch ]]; then
  bash "$script" "$@" >"$log" 2>&1 || { code=$?; cat "$log" >&2; exit "$code"; }
else
  cp "$script" "$JOBS/script-$SLURM_JOB_ID"
  setsid bash "$JOBS/script-$SLURM_JOB_ID" >"$log" 2>&1 &
  echo $! >"$JOBS/pid-$SLURM_JOB_ID"
fi
echo "Submitted batch job $SLURM_JOB_ID"
"""
SCANCEL = """\
#!/usr/bin/env bash
for id in "$@"; do kill -- -"$(cat "$JOBS/pid-$id")" 2>/dev/null || true; done
"""


def write_site(folder: Path) -> dict[str, str]:
    """Lay the site out in `folder`, and return the environment in which its commands run."""
    site = folder / "checkout"
    shutil.copytree(ROOT / "book" / "server", site / "book" / "server", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, site / name)
        os.utime(site / name, (0, 0))  # older than the environment, which `make setup` then finds made
    (site / ".venv").mkdir()
    (site / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (site / ".venv" / ".setup-stamp").touch()
    (site / "gdc_manifest.txt").write_text(
        "id\tfilename\tmd5\tsize\tstate\na\tx.svs\t0\t1500000000\tlive\nb\ty.svs\t0\t5e8\tlive\n"
    )
    (site / "slides").mkdir()
    for number in range(3):
        image = section(1200, 900, seed=number, tissue=(0.1, 0.1, 0.9, 0.9))
        write_pyramid(site / "slides" / f"slide_{number}.tif", image, 0.5)
    torch.save({"state_dict": {"layer.weight": torch.arange(6.0).reshape(2, 3)}}, site / "published.pth")
    _write_public_files(folder)
    _write_wheel(folder / "index")
    write_small_simulated(folder / "data")
    (folder / "fake").mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / "fake" / name).write_text(text)
        (folder / "fake" / name).chmod(0o755)
    (folder / "jobs").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RNASYNTH", "PYTHON", "PIP", "SLURM"))}
    return kept | {
        "PATH": f"{folder / 'fake'}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "JOBS": str(folder / "jobs"),
        "RNASYNTH_DATA": str(folder / "data"),
        "RNASYNTH_RUNS": str(folder / "runs"),
        "RNASYNTH_HOME": str(folder / "home"),
        "RNASYNTH_MIRROR": str(folder / "public"),
        "COHORT": "simulated",
        "PRESET": "demo",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder / "index"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PROJECT": "tinyproject",
        "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__ENABLED": "false",
    }


def _write_public_files(folder: Path) -> None:
    """One public file and the manifest of a cohort that consists of it."""
    content = np.arange(100, dtype=np.uint8).tobytes()
    (folder / "public").mkdir()
    (folder / "public" / "numbers.bin").write_bytes(content)
    entry = {"path": "numbers.bin", "url": None, "bytes": 100, "sha256": hashlib.sha256(content).hexdigest()}
    told = {name: "small" for name in ("title", "description", "licence", "citation")}
    manifest = {
        "name": "small",
        "simulated": False,
        **told,
        "files": [{**entry, "mirror_path": "numbers.bin", "source": "made by a test"}],
    }
    (folder / "checkout" / "small.yaml").write_text(yaml.safe_dump(manifest))


def _write_wheel(folder: Path) -> None:
    """A project of one line, as a wheel."""
    folder.mkdir()
    info = "tinyproject-1.0.dist-info"
    files = {
        "tinyproject.py": "answer = 42\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tinyproject\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / "tinyproject-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
