"""Tiles in which the truth is known to have changed: what shows that a reading can see what a generator should do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from rnasynth.data.cohort import Cohort
from rnasynth.data.simulate import stored_config, tiles_with_more
from rnasynth.evaluation.cells.nuclei import resampled
from rnasynth.evaluation.deconvolution.readers import TileReader, real_tiles
from rnasynth.evaluation.stats import bootstrap, resampling_units, spearman
from rnasynth.perturb.changes import Change
from rnasynth.perturb.effects import DOSES, with_index
from rnasynth.perturb.reading import read_all
from rnasynth.perturb.report import EffectReport, report_of

TRUTH = "simulator (control)"


def simulated_truth(
    cohort: Cohort,
    profiles: AnnData,
    changes: Sequence[Change],
    readers: Sequence[TileReader],
    *,
    px: int,
    doses: Sequence[float] = DOSES,
    tiles: int = 1,
    seed: int = 0,
) -> EffectReport:
    """Read the simulator's own tiles of each patient with more, or fewer, cells of the type that a change raises.

    Parameters
    ----------
    changes : those whose `raises` is a cell type of the simulator; each tile is drawn anew with the same random streams.
    px : side to which the tiles are averaged, as the generator's.
    tiles : the first of each patient.
    """
    config, mpp_um = stored_config(cohort.folder), cohort.tile_mpp(px)
    names = [str(name) for name in profiles.obs_names]
    patients = profiles.obs["patient_id"].astype(str).tolist()
    own: pd.DataFrame | None = None
    reads = {}
    for change in changes:
        by_dose = {}
        for dose in (0.0, *map(float, doses)):
            if dose == 0 and own is not None:
                by_dose[dose] = own
                continue
            parts = []
            for patient in patients:
                drawn = tiles_with_more(config, patient, change.raises, dose, tiles)
                coarse = np.stack([resampled(tile, (px, px)) for tile in drawn])
                parts.append(read_all(coarse, readers, mpp_um))
            by_dose[dose] = with_index(parts, names)
            own = by_dose[dose] if dose == 0 else own
        reads[change.name] = by_dose
    return report_of(
        TRUTH,
        reads,
        {change.name: change.raises if change.raises in reads[change.name][0.0] else "" for change in changes},
        groups=profiles.obs["split_group"].astype(str).to_numpy(),
        acts={change.name: change.acts(profiles) for change in changes},
        seed=seed,
    )


def real_association(
    cohort: Cohort,
    profiles: AnnData,
    changes: Sequence[Change],
    readers: Sequence[TileReader],
    *,
    px: int,
    limit: int = 10,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlate the expression of each change's genes with its named quantity, read from the real tiles of held-out samples.

    Expression is the logarithm of what the change would multiply (`Change.amount`): of a programme the type's RNA.

    Returns
    -------
    A row a change: change, quantity, value, low, high (Spearman's correlation), n.
    """
    mpp_um = cohort.tile_mpp(px)
    seen = pd.DataFrame(
        [read_all(part, readers, mpp_um).mean() for part in real_tiles(cohort, profiles, px=px, limit=limit)]
    )
    units, _ = resampling_units(profiles.obs["split_group"].astype(str).to_numpy())
    rows = []
    for change in changes:
        found = bootstrap(
            spearman, change.amount(profiles), seen[change.raises].to_numpy(float), groups=units, n_boot=n_boot, seed=seed
        )
        ends = {"value": found.value, "low": found.low, "high": found.high}
        rows.append({"change": change.name, "quantity": change.raises, **ends, "n": profiles.n_obs})
    return pd.DataFrame(rows)
