"""Weights as they are released: what sampling needs, in bfloat16, with the run's record, its card, and what it builds on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rnasynth import files
from rnasynth.engine import save_tensors
from rnasynth.errors import RunError
from rnasynth.runs.run import FORMAT, MANIFEST, SEEN, UPSTREAM, Run

LARGEST_MB = 16.0
CARD = "MODEL_CARD.md"
_RECORD = ("config.json", "fitted.json", "metrics.jsonl", "versions.json")


def release(run: Run, folder: str | Path, name: str, card: str, *, cohort: Any, largest_mb: float = LARGEST_MB) -> Path:
    """Write a finished run as released weights, which stand alone: the runs that it builds on lie inside.

    Of a network with a moving average the average is kept, and no other copy.

    Parameters
    ----------
    run : a finished run on real data.
    folder : where released weights lie, such as `book/released`.
    name : the name that `load_run` and `--run` will take.
    card : what a reader must know, Markdown: data, split, metrics with intervals, limits.
    cohort : that it learned from. The names of its training and validation groups are written beside the weights: whoever
        tests them, on a cohort that is built anew, knows whom they saw.
    largest_mb : of all weights together, 1e6 bytes.

    Returns
    -------
    The folder.

    Raises
    ------
    RunError : the name is taken, a run learned from simulated patients or from another cohort, or the weights are too large.
        Nothing is written.
    """
    home = Path(folder) / name
    if home.exists():
        raise RunError(str(home), expected="a new name", found="released weights", fix="choose another name")
    places = _places(run, home)
    size = 0
    for each in places.values():
        if each.description["cohort"]["simulated"]:
            raise RunError(f"run {each.id}", expected="trained on real patients", found="simulated ones")
        learned = each.description["cohort"]["fingerprint"]
        if learned != cohort.fingerprint():
            raise RunError(f"run {each.id}", expected=f"trained on cohort {cohort.fingerprint()}", found=str(learned))
        size += sum(tensor.numel() * tensor.element_size() for tensor in _bfloat16(each).values())
    if size > largest_mb * 1e6:
        raise RunError(f"run {run.id}", expected=f"weights of at most {largest_mb:g} MB", found=f"{size / 1e6:.1f} MB")
    obs = cohort.profiles.obs
    seen = sorted(set(obs["split_group"][obs["split"] != "test"].astype(str)))
    for place, each in reversed(places.items()):
        _write(each, place, seen, card if place == home else "")
    return home


def _places(run: Run, place: Path) -> dict[Path, Run]:
    found = {place: run}
    for upstream in run.upstream():
        found |= _places(upstream, place / UPSTREAM / upstream.id)
    return found


def _bfloat16(run: Run) -> dict[str, torch.Tensor]:
    """Return the weights by "<network>/<name>"; whole numbers stay what they are."""
    return {
        f"{network}/{name}": tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        for network, tensors in run.networks().items()
        for name, tensor in tensors.items()
    }


def _write(run: Run, place: Path, seen: list[str], card: str) -> None:
    for name in _RECORD:
        files.copy(run.path / name, place / name)
    files.write_json(place / SEEN, seen)
    save_tensors(place / "model.safetensors", _bfloat16(run))
    if card:
        files.write_text(place / CARD, card)
    names = (*_RECORD, SEEN, "model.safetensors", *([CARD] if card else []))
    hashes = {name: files.sha256(place / name) for name in sorted(names)}
    files.write_json(place / MANIFEST, {"format": FORMAT, "id": run.id, "files": hashes})
