"""The replacement study by a longer protocol than a page has time for: run once, recorded, and shown beside the page's own.

Nothing is added to the question: arms, folds, controls and tests are those of `replacement`. A record must let a reader
judge whether the trainings were long enough, so that it holds their losses, and how many tiles of each held-out patient
were named rightly, without the patient's name.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import rnasynth
from rnasynth.engine import Processes, resolve_precision
from rnasynth.evaluation.utility.bench import Bench
from rnasynth.evaluation.utility.protocols import Protocol
from rnasynth.evaluation.utility.replacement import replacement_study

WHOLE = "replaced_0"  # the arm that all others are compared with


@dataclass(frozen=True, eq=False)
class Trainings:
    """A study's trainings, as a record asks a run for them.

    Attributes
    ----------
    id, system_name : of the generator's run, whose tiles they learned from.
    config : the study's protocol.
    versions : libraries, device and precision of the trainings.
    folder : of the trainings, a folder each, named "ARM-PERCENT-fold-NUMBER".
    """

    id: str
    system_name: str
    config: Protocol
    versions: dict[str, Any]
    folder: Path

    def metrics(self) -> pd.DataFrame:
        """Return the logged steps: step, train_loss, train_accuracy, seconds (of all trainings so far), arm, fold."""
        parts, before = [], 0.0
        for path in sorted(self.folder.glob("*-fold-*/metrics.jsonl")):
            arm, fold = path.parent.name.split("-fold-")
            lines = pd.read_json(path, lines=True)[["step", "train_loss", "train_accuracy", "seconds"]]
            lines["seconds"] += before
            before = float(lines["seconds"].max())
            parts.append(lines.assign(arm=arm.replace("-", "_"), fold=int(fold)))
        return pd.concat(parts, ignore_index=True)


def longer_study(bench: Bench, run: Any, folder: Path) -> tuple[str, Trainings, pd.DataFrame]:
    """Run the replacement study so that it can be recorded; interrupted, it goes on where it was.

    Parameters
    ----------
    bench : of the longer protocol, see `bench.prepare`.
    run : the generator's.
    folder : where the trainings are kept.

    Returns
    -------
    What was trained, in words; the trainings; and a row a unit (patient, or sample where one group is tested):
    "mean_ARM_PERCENT", the share of its tiles that was named rightly, and "mean_change_ARM_PERCENT", that less the share
    after training on real tiles alone.

    Raises
    ------
    As `replacement.replacement_study`.
    """
    found = replacement_study(bench, folder=folder)
    rows = found.units.add_prefix("mean_")
    for arm in found.tests:
        rows[f"mean_change_{arm}"] = found.units[arm] - found.units[WHOLE]
    config = bench.protocol.replacing
    device = Processes.join(config.train.device).device
    versions = {
        "rnasynth": rnasynth.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": device.type,
        "precision": resolve_precision(config.train.precision, device),
    }
    steps = bench.protocol.replacing.train.steps_for(found.n_tiles)
    title = (
        f"ResNet-{config.depth} of width {config.width}, {config.tile_px} px, {found.n_tiles:,} tiles, "
        f"{steps} steps of {min(config.train.batch_size, found.n_tiles)}, {len(bench.folds)} folds, seed {bench.seed}"
    )
    return title, Trainings(run.id, run.system_name, bench.protocol, versions, folder), rows
