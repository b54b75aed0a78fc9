"""A run is a trained model in a folder: named by what went in, whole or not there, found again instead of trained again.

runs/beta-vae-1a2b3c4d5e6f/
    config.json          system, configuration, cohort, upstream runs, and the system's step version
    model.safetensors    weights of all networks, "<network>/<name>"
    ema.safetensors      moving averages, where the system keeps any
    fitted.json          transform with gene order, and whatever else was fitted
    metrics.jsonl        one line a step (or every few)
    versions.json        libraries, device, precision, time
    snapshots/, samples/ weights and tiles of earlier steps, where `train.snapshot_every` asked for them
    manifest.json        sha256 of each file above; written last, without it the run does not count
    checkpoints/         while it is trained
"""

from __future__ import annotations

from rnasynth.runs.making import get_or_train
from rnasynth.runs.releasing import release
from rnasynth.runs.run import Run, load_run, released_folder, run_id

__all__ = ["Run", "get_or_train", "load_run", "release", "released_folder", "run_id"]
