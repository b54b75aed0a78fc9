"""What this machine has: versions, devices, disk, fetched cohorts, and the command that mends what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys

from rnasynth import __version__
from rnasynth.config import checkout_folder, data_folder, mirror_folder, project_folder, runs_folder

PACKAGES = (
    "torch",
    "accelerate",
    "safetensors",
    "anndata",
    "numpy",
    "pandas",
    "scikit-learn",
    "openslide-python",
    "openslide-bin",
    "lmdb",
    "simplejpeg",
    "papermill",
    "jupytext",
    "jupyter-book",
    "umap-learn",
    "statsmodels",
    "lifelines",
)
GIB = 1 << 30


def report() -> str:
    """Return the report as text, a line a fact."""
    return "\n".join([*_versions(), *_devices(), *_places(), *_cohorts()])


def _versions() -> list[str]:
    lines = [f"rnasynth {__version__}, Python {platform.python_version()} at {sys.executable}"]
    constraints = "" if checkout_folder() is None else "-c constraints.txt "
    for package in PACKAGES:
        try:
            lines.append(f"  {package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"  {package} MISSING: pip install {constraints}{package}")
    return lines


def _devices() -> list[str]:
    import torch

    lines = [f"processor: {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"]
    if not torch.cuda.is_available():
        return [*lines, "GPU: none; the demo preset runs on this processor, the presets gpu and paper want one GPU"]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        lines.append(f"GPU {number}: {properties.name}, {properties.total_memory / GIB:.0f} GiB")
    return lines


def _places() -> list[str]:
    lines = [
        f"project: {project_folder()} ($RNASYNTH_HOME), {'a checkout' if checkout_folder() else 'with an installed package'}"
    ]
    for name, folder, variable in (("data", data_folder(), "RNASYNTH_DATA"), ("runs", runs_folder(), "RNASYNTH_RUNS")):
        existing = next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))
        free = shutil.disk_usage(existing).free / GIB
        allowed = os.access(existing, os.R_OK | os.W_OK | os.X_OK)
        denied = "" if allowed else f", NO PERMISSION to read and write {existing}: change it, or set ${variable}"
        lines.append(f"{name}: {folder} (${variable}), {free:.0f} GiB free{denied}")
    mirror = mirror_folder()
    lines.append(f"mirror: {mirror}" if mirror else "mirror: none ($RNASYNTH_MIRROR or --mirror)")
    return lines


def _cohorts() -> list[str]:
    from rnasynth.data import manifests

    lines = ["cohorts:", "  simulated: embedded, needs nothing"]
    for name in manifests.list_manifests():
        manifest = manifests.load_manifest(name)
        folder = data_folder() / name
        there = sum(os.path.exists(folder / entry.path) for entry in manifest.files)
        state = f"{there} of {len(manifest.files)} files"
        lines.append(
            f"  {name}, {manifest.title}: {state}"
            + ("" if there == len(manifest.files) else f"; get them: rnasynth fetch {name}")
        )
    return lines
