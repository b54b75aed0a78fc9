"""The same generator trained in other ways, each judged on validation samples, for a record beside the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from rnasynth.data.cohort import Cohort
from rnasynth.evaluation.conditioning.experiment import prove
from rnasynth.evaluation.conditioning.proof import ConditioningProof
from rnasynth.runs import Run
from rnasynth.systems.training import train_preset


def variants(
    cohort: Cohort,
    preset: str,
    settings: Sequence[str],
    *,
    system: str = "rna-gan",
    control: str = "label-gan",
    tiles_per_profile: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> Iterator[tuple[str, Run, pd.DataFrame]]:
    """Train a system as its preset says and in other ways, and ask of each whether the profile reaches the tile.

    Parameters
    ----------
    cohort, preset : as for `train_preset`.
    settings : one text a variant, "field=value" with commas between several, e.g. "condition_critic=none,matching_weight=0".
    system, control : the generator, and the one that is told the label alone, which stays as its preset says.
    seed : of the trainings and the noise, the same for all.

    Yields
    ------
    The variant in words, its run, and `table_of` its proof on validation samples; first the preset as it is.
    """
    label = train_preset(control, cohort, preset, overrides=[f"train.seed={seed}"], progress=progress).load()
    for setting in ("", *settings):
        changes = [f"train.seed={seed}", *filter(None, setting.split(","))]
        run = train_preset(system, cohort, preset, overrides=changes, progress=progress)
        proof = prove(
            run.load(), label, cohort, split="val", with_mean_profile=False, tiles_per_profile=tiles_per_profile, seed=seed
        )
        yield setting or "as it is", run, table_of(proof)


def table_of(proof: ConditioningProof) -> pd.DataFrame:
    """Return what a record keeps, a row a sample that has others of its tissue beside it.

    Columns: tissue; mean_rank (retrieval within the tissue); mean_own (distance of the tiles of its own profile to its real
    tiles); mean_over_shuffled, mean_over_label (how much further those of others of its tissue and of the label lie).
    """
    rows = proof.per_sample[proof.per_sample["rank"].notna()]
    table = pd.DataFrame({"tissue": rows["tissue"], "mean_rank": rows["rank"], "mean_own": rows["own"]})
    for name in ("shuffled", "label"):
        if name in rows:
            table[f"mean_over_{name}"] = rows[name] - rows["own"]
    return table.reset_index(drop=True)
