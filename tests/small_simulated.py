"""A small simulated cohort that stands where the default one would, for commands that take no builder's options."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rnasynth.config import config_hash
from rnasynth.data.cohort import load_cohort
from rnasynth.data.cohort_building import VERSION
from rnasynth.data.simulate import SimulationConfig


def write_small_simulated(data: Path) -> Path:
    """Build 24 patients with 4 tiles and 300 genes under the name that `load_cohort("simulated")` looks for in `data`."""
    name = config_hash({"config": SimulationConfig().to_dict(), "version": VERSION})
    home = data / f"simulated-{name}"
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data) as beside:
        made = load_cohort("simulated", folder=Path(beside), patients=24, tiles_per_patient=4, genes=300)
        made.folder.rename(home)
    return home
