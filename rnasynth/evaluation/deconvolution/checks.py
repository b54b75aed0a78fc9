"""Does a deconvolution find fractions that are known? Simulated, published and measured truths beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.errors import InputError, PartialFailure
from rnasynth.evaluation.deconvolution import mixtures as mixtures_at_hand
from rnasynth.evaluation.deconvolution.inputs import signature_folder
from rnasynth.evaluation.deconvolution.methods import Deconvolution, Method, deconvolve
from rnasynth.evaluation.deconvolution.mixtures import KnownMixture
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units

MIN_SAMPLES = 4  # below, resampling samples says nothing
METHODS: tuple[Method, ...] = ("nu-svr", "nnls")


@dataclass(frozen=True, eq=False)
class Validation:
    """Known against estimated fractions.

    Attributes
    ----------
    numbers : "correlation_MIXTURE_METHOD" -> Pearson's r over all samples and types; "rmse_MIXTURE_METHOD" -> root mean
        square error of the fractions; intervals resample the samples,
        and are left out below four.
    labels : the same keys -> words.
    table : a row a mixture and method, as text: r, RMSE of cells, RMSE where shares of RNA are taken for shares of cells.
    points : rows for a scatter plot: mixture, method, sample, group (type), x (known), y (estimated).
    """

    numbers: dict[str, Interval | float]
    labels: dict[str, str]
    table: pd.DataFrame
    points: pd.DataFrame

    def of(self, mixture: str, method: str) -> pd.DataFrame:
        """Return the points of one mixture and method ("nu-SVR" or "NNLS")."""
        return self.points[(self.points["mixture"] == mixture) & (self.points["method"] == method)]


def known_mixtures(*, seed: int = 0, mirror: Path | None = None) -> tuple[list[KnownMixture], list[str]]:
    """Return the mixtures at hand whose fractions are known, and a sentence for each that could not be had."""
    found, missing = [mixtures_at_hand.simulated_mixture(seed=seed)], []
    try:
        folder = signature_folder(mirror)
    except (InputError, PartialFailure) as error:
        return found, [f"The published mixtures are not there: {str(error).splitlines()[0]}"]
    for name, read in (
        ("TIL10 test mixture", mixtures_at_hand.til10_mixture),
        ("melanoma lymph nodes", mixtures_at_hand.racle_mixture),
    ):
        try:
            found.append(read(folder))
        except InputError as error:
            missing.append(f"{name} is left out: {error}.")
    return found, missing


def validate(
    mixtures: Sequence[KnownMixture], *, methods: Sequence[Method] = METHODS, seed: int = 0, n_boot: int = 1000
) -> Validation:
    """Deconvolve each mixture with its signature, and compare with what is known.

    Where cells of no type are among the known ones, NNLS keeps its own total, and nu-SVR, which has none, is compared after
    both were scaled to 1 over the known types.

    Parameters
    ----------
    mixtures : see `mixtures`.
    methods : of `deconvolve`.
    seed, n_boot : of the bootstrap over samples.
    """
    numbers: dict[str, Interval | float] = {}
    labels: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    points: list[pd.DataFrame] = []
    for mixture in mixtures:
        for method in methods:
            absolute = mixture.other and method == "nnls"
            rna = deconvolve(mixture.profiles, mixture.signature, method=method, other=absolute, symbols=mixture.symbols)
            scaled = mixture.other and not absolute
            known, cells = compared(mixture, rna.to_cells(mixture.rna_content), rescale=scaled)
            _, as_if = compared(mixture, rna, rescale=scaled)
            key = f"{mixture.key}_{key_of(rna.method)}"
            words = f"{mixture.name}, {rna.method}"
            r = bootstrap(flat_correlation, known, cells, n_boot=n_boot, seed=seed)
            error = bootstrap(rmse, known, cells, n_boot=n_boot, seed=seed)
            few_samples = len(known) < MIN_SAMPLES
            numbers |= {f"correlation_{key}": r.value if few_samples else r}
            numbers |= {f"rmse_{key}": error.value if few_samples else error}
            labels |= {
                f"correlation_{key}": f"Pearson's r of estimated and known fractions: {words}",
                f"rmse_{key}": f"error of the fractions (RMSE): {words}",
            }
            rows.append(
                {
                    "mixture": mixture.name,
                    "truth": mixture.truth,
                    "method": rna.method + (", both scaled to 1" if scaled else ", with other cells" if absolute else ""),
                    "samples": len(known),
                    "Pearson's r": f"{r.value:.3g}" if few_samples else str(r),
                    "RMSE, cells": f"{error.value:.2g}" if few_samples else str(error),
                    "RMSE, RNA taken for cells": rmse(known, as_if),
                    "signature genes": f"{len(rna.genes)} of {len(rna.genes) + len(rna.missing)}",
                    "fit (mean r)": float(rna.quality["correlation"].mean()),
                }
            )
            points.append(_points(mixture, rna.method, known, cells))
    return Validation(numbers, labels, pd.DataFrame(rows), pd.concat(points, ignore_index=True))


def compared(
    mixture: KnownMixture, found: Deconvolution, *, rescale: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return known and estimated fractions of the known types, each (samples, types); rows scaled to 1 where asked."""
    known = mixture.fractions[list(mixture.joined)]
    estimated = mixture.as_known(found.fractions).loc[known.index, known.columns]
    if rescale:
        known, estimated = (table.div(table.sum(axis=1), axis=0) for table in (known, estimated))
    return known.to_numpy(dtype=np.float64), estimated.to_numpy(dtype=np.float64)


def cohort_agreement(
    found: pd.DataFrame, known: pd.DataFrame, *, groups: Any, method: str, seed: int = 0, n_boot: int = 1000
) -> pd.DataFrame:
    """Compare a cohort's estimated fractions with known ones, type by type.

    Parameters
    ----------
    found, known : samples x types, the same samples and types.
    groups : split group of each sample.
    method : for the column `group`.

    Returns
    -------
    Rows for a chart: label (type), group (method), value, low, high (Pearson's r with its interval), n; types that do not
    vary are left out.
    """
    units, _ = resampling_units(groups)
    rows = []
    for kind in known.columns:
        x, y = found.loc[known.index, kind].to_numpy(float), known[kind].to_numpy(float)
        if np.std(x) > 0 and np.std(y) > 0:
            interval = bootstrap(flat_correlation, x, y, groups=units, n_boot=n_boot, seed=seed)
            rows.append({"label": str(kind), "group": method, **interval.to_dict()})
    return pd.DataFrame(rows)


def flat_correlation(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Pearson's correlation over all entries; NaN where one side is constant."""
    x, y = np.ravel(x).astype(float), np.ravel(y).astype(float)
    return float(np.corrcoef(x, y)[0, 1]) if len(x) > 1 and x.std() > 0 and y.std() > 0 else math.nan


def rmse(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Root mean square difference over all entries."""
    return float(np.sqrt(np.mean((np.asarray(x, float) - np.asarray(y, float)) ** 2)))


def _points(mixture: KnownMixture, method: str, known: NDArray[Any], cells: NDArray[Any]) -> pd.DataFrame:
    samples, kinds = list(mixture.fractions.index), list(mixture.joined)
    return pd.DataFrame(
        {
            "mixture": mixture.name,
            "method": method,
            "sample": np.repeat([str(name) for name in samples], len(kinds)),
            "group": np.tile(kinds, len(samples)),
            "x": known.ravel(),
            "y": cells.ravel(),
        }
    )


def fractions_of(profiles: AnnData) -> pd.DataFrame:
    """Return the fractions that a cohort's `obs` holds (columns `fraction_TYPE`): samples x types, no prefix.

    Raises
    ------
    InputError : the cohort has none, or a sample lacks them.
    """
    names = [column for column in profiles.obs if str(column).startswith("fraction_")]
    if not names:
        raise InputError("profiles", expected="columns obs['fraction_...']", found="none", fix="deconvolve them first")
    table = profiles.obs[names].astype(float)
    if (lost := table.isna().any(axis=1)).any():
        raise InputError(f"sample {table.index[lost][0]}", expected="fractions of every type", found="none", fix="drop it")
    return table.rename(columns=lambda name: str(name).removeprefix("fraction_")).rename(index=str)


def join_types(fractions: pd.DataFrame, classes: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Add up types to classes: samples x classes that have at least one of their types."""
    present = {name: [kind for kind in kinds if kind in fractions] for name, kinds in classes.items()}
    return pd.DataFrame({name: fractions[kinds].sum(axis=1) for name, kinds in present.items() if kinds})
