"""De-convolved profiles as input, as RNA-CDM's authors tried: one cell type's RNA in the place of a sample's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from rnasynth.data.cohort import Cohort
from rnasynth.data.genes import dense
from rnasynth.data.simulate import CELL_TYPES, stored_config, tiles_with_more
from rnasynth.data.splits import evenly_spaced
from rnasynth.evaluation.cells.nuclei import resampled
from rnasynth.evaluation.deconvolution.checks import fractions_of, join_types
from rnasynth.evaluation.deconvolution.follow import CLASSES
from rnasynth.evaluation.deconvolution.group_mode import CellTypeProfiles, cell_type_profiles, truth_table
from rnasynth.evaluation.deconvolution.mixtures import simulated_rna_content
from rnasynth.evaluation.deconvolution.readers import TileReader, with_tiles
from rnasynth.evaluation.deconvolution.signatures import PER_MILLION
from rnasynth.evaluation.stats import Interval, resampling_units
from rnasynth.perturb.effects import CHUNK, TileGenerator, with_index
from rnasynth.perturb.report import by_sample, mean_intervals

KINDS = ("fibroblast", "haematopoietic")
#: Published claims (data_manifests/papers) and the class whose RNA should raise the same class in the tiles.
CLAIMS = {"fibroblast_rna_raises_connective": "fibroblast", "haematopoietic_rna_raises_lymphocytes": "haematopoietic"}
MORE_OF = {"fibroblast": "fibroblast", "haematopoietic": "lymphocyte"}  # the simulator's type that the control adds
MUCH = 4.0  # log2 fold of the simulator's control: sixteen times the cells
MEAN = "mean RNA (control)"  # of the training samples


@dataclass(frozen=True, eq=False)
class PureReport:
    """What tiles show when each sample's RNA is replaced by one type's.

    Attributes
    ----------
    numbers : claim (see `CLAIMS`) -> mean difference of the class that is read, to tiles of the sample's own RNA with the
        same noise; claim + "_beyond_mean" -> the same to tiles of the mean RNA of the training samples.
    labels : the same keys -> words.
    chart : rows for a chart: label (what is read), group (what was given), value, low, high (difference to own RNA; of
        the simulator's tiles with more of the cells the difference to the same tiles as they are).
    truth : on simulated data `group_mode.truth_table`, else empty.
    holds : class -> whether both of its intervals lie above zero.
    unit : what intervals resample.
    n : samples.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    chart: pd.DataFrame
    truth: pd.DataFrame
    holds: dict[str, bool]
    unit: str
    n: int

    def note(self) -> str:
        """Say in words which classes are raised, and what the control shows."""
        risen = [kind for kind, rises in self.holds.items() if rises]
        told = (
            f"RNA of one class raises that class in {len(risen)} of {len(self.holds)} cases"
            + (f" ({', '.join(risen)})" if risen else "")
            + ": against tiles of the samples' own RNA, and against those of the mean RNA, which takes the sample's own "
            "profile away, too. The two claims are not corrected for each other."
        )
        control = self.chart[self.chart["group"].str.startswith("simulator")]
        if len(control):
            seen = [row["label"] for row in control.to_dict("records") if row["low"] > 0]
            told += (
                f" In the simulator's own tiles with {2**MUCH:g} times the cells, {len(seen)} of {len(control)} are read."
            )
        return told


def class_profiles(cohort: Cohort) -> CellTypeProfiles:
    """Estimate the profiles of the classes of cells (`follow.CLASSES`) by group mode on a cohort's training samples.

    Simulated: by type, with the simulator's RNA content of a cell, then joined; else on the classes' published fractions.
    """
    train = with_fractions(with_tiles(cohort, "train"))
    known = fractions_of(train)
    if cohort.simulated:
        return cell_type_profiles(train, known, rna_content=simulated_rna_content()).joined(CLASSES)
    joined = join_types(known, CLASSES)
    return cell_type_profiles(train, joined.div(joined.sum(axis=1), axis=0))


def programmes(cohort: Cohort) -> pd.DataFrame:
    """Return the simulator's planted programmes, genes x types: means over the tissues, in parts of a million."""
    means = cohort.truth["programmes"].groupby(["gene", "cell_type"], observed=True)["share"].mean().unstack()
    return means[list(CELL_TYPES)] * PER_MILLION


def with_fractions(profiles: AnnData) -> AnnData:
    """Profiles whose fractions are all there."""
    names = [column for column in profiles.obs if str(column).startswith("fraction_")]
    return profiles[profiles.obs[names].notna().all(axis=1).to_numpy()].copy()


def spaced(profiles: AnnData, limit: int) -> AnnData:
    """Return `limit` samples at most (1 or more), evenly spaced in their order."""
    return profiles[evenly_spaced(profiles.n_obs, limit)].copy()


def deconvolved(
    generator: TileGenerator,
    cohort: Cohort,
    reader: TileReader,
    *,
    types: CellTypeProfiles | None = None,
    kinds: Sequence[str] = KINDS,
    tiles_per_profile: int = 4,
    max_profiles: int = 40,
    n_boot: int = 1000,
    seed: int = 0,
) -> PureReport:
    """Give a generator one class's RNA in the place of each held-out sample's own, with the same noise, and read the tiles.

    Parameters
    ----------
    reader : gives a column for each of `kinds`.
    types : profiles of types or classes, such as CIBERSORTx's (`group_mode.read_group_mode`); None: `class_profiles`.
    max_profiles : held-out samples at most, evenly spaced.

    Notes
    -----
    As published: every sample is given the same profile, of its own total. Only its noise stays its own.

    Raises
    ------
    InputError : no such type, or genes that the generator cannot use.
    """
    profiles = spaced(with_fractions(with_tiles(cohort, "test")), max_profiles)
    types = class_profiles(cohort) if types is None else types
    inputs = {f"{kind} RNA": types.given_to(profiles, kind) for kind in kinds}
    inputs[MEAN] = _mean_rna(cohort, profiles)
    own = _read(generator, profiles, reader, tiles_per_profile, seed)
    made = {name: _read(generator, given, reader, tiles_per_profile, seed) for name, given in inputs.items()}
    units, unit = resampling_units(profiles.obs["split_group"].astype(str).to_numpy())
    columns = list(kinds)
    rows = []
    for name, table in made.items():
        rows += _rows(name, by_sample((table - own)[columns]), columns, units, n_boot, seed)
    numbers, labels, holds = {}, {}, {}
    for claim, kind in CLAIMS.items():
        if kind not in columns:
            continue
        for key, base, words in ((claim, own, "own RNA"), (f"{claim}_beyond_mean", made[MEAN], "the mean RNA")):
            difference = by_sample((made[f"{kind} RNA"] - base)[[kind]])
            numbers[key] = mean_intervals(difference, units, n_boot, seed)[0]
            labels[key] = f"{kind} fraction read from tiles of {kind} RNA, less that from tiles of {words}"
        holds[kind] = bool(numbers[claim].low > 0 and numbers[f"{claim}_beyond_mean"].low > 0)
    truth = pd.DataFrame()
    if cohort.simulated:
        for kind in columns:
            more = _more_cells(cohort, profiles, MORE_OF[kind], reader, px=generator.px)[[kind]]
            rows += _rows(f"simulator, {2**MUCH:g} x cells", by_sample(more), [kind], units, n_boot, seed)
        train = with_fractions(with_tiles(cohort, "train"))
        truth = truth_table(train, fractions_of(train), programmes(cohort), rna_content=simulated_rna_content(), seed=seed)
    return PureReport(numbers, labels, pd.DataFrame(rows), truth, holds, unit, profiles.n_obs)


def _rows(
    name: str, values: np.ndarray, columns: Sequence[str], units: np.ndarray, n_boot: int, seed: int
) -> list[dict[str, object]]:
    found = mean_intervals(values, units, n_boot, seed)
    return [
        {"label": f"{kind} fraction", "group": name, "value": mean.value, "low": mean.low, "high": mean.high}
        for kind, mean in zip(columns, found, strict=True)
    ]


def _read(generator: TileGenerator, profiles: AnnData, reader: TileReader, tiles: int, seed: int) -> pd.DataFrame:
    parts = []
    for start in range(0, profiles.n_obs, CHUNK):
        made = generator.generate(profiles[start : start + CHUNK].copy(), tiles, seed=seed)
        parts += [reader(part, generator.mpp_um) for part in made]
    return with_index(parts, [str(name) for name in profiles.obs_names])


def _mean_rna(cohort: Cohort, profiles: AnnData) -> AnnData:
    """Give every sample the mean profile (of samples scaled to one total) of the training samples, of its own total."""
    train = dense(with_tiles(cohort, "train")).astype(np.float64)
    mean = (train / train.sum(axis=1, keepdims=True)).mean(axis=0)
    given = profiles.copy()
    given.X = (dense(profiles).astype(np.float64).sum(axis=1, keepdims=True) * mean).astype(np.float32)
    return given


def _more_cells(
    cohort: Cohort, profiles: AnnData, kind: str, reader: TileReader, *, px: int, tiles: int = 1
) -> pd.DataFrame:
    """Difference of readings, the simulator's tiles with many more cells of a type less the same tiles as they are."""
    config, mpp_um = stored_config(cohort.folder), cohort.tile_mpp(px)
    parts = []
    for patient in profiles.obs["patient_id"].astype(str):
        own, more = (
            reader(np.stack([resampled(tile, (px, px)) for tile in drawn]), mpp_um)
            for drawn in (tiles_with_more(config, patient, kind, dose, tiles) for dose in (0.0, MUCH))
        )
        parts.append(more - own)
    return with_index(parts, [str(name) for name in profiles.obs_names])
