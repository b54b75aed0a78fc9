"""What becomes of another cohort's profiles in a model of this one: measured before anything is generated from them.

An external profile lacks genes, comes in another unit, by another technology. Each way of bringing it in is measured by
the same numbers, beside this cohort's own test patients.

Source: both papers set the missing genes to zero and use the training cohort's mean and standard deviation (RNA-CDM,
Methods, external cohorts); neither measures what that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.neighbors import NearestCentroid, NearestNeighbors

from rnasynth.data.external import External
from rnasynth.data.genes import align, dense, only_training
from rnasynth.errors import InputError
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.stats import Interval, bootstrap

Correction = Literal["none", "quantile", "moments"]
Missing = Literal["zero", "train_mean"]

MIN_SHARE = 0.05  # of the genes; below it the cohorts share nothing that could be measured
MIN_SAMPLES = 8  # for "moments": the mean and spread of fewer say more of the samples than of the cohort
CLIP = 10.0  # of z-scores that come from elsewhere
QUANTILES = np.linspace(0.02, 0.98, 25)
FLOOR_DRAWS = 20
WAYS: tuple[tuple[str, Missing, Correction], ...] = (
    ("zero (published)", "zero", "none"),
    ("training mean", "train_mean", "none"),
    ("training mean, quantiles", "train_mean", "quantile"),
    ("training mean, moments", "train_mean", "moments"),
)


def bring_in(
    system: Any, profiles: AnnData, train: AnnData, *, missing: Missing = "train_mean", correction: Correction = "none"
) -> AnnData:
    """Return external profiles as a model's input.

    Parameters
    ----------
    system : has `transform`, such as a beta-VAE.
    profiles : raw, in the transform's unit (see `per_million`), or z-scores of their own cohort.
    train : raw training profiles of the model's cohort, the reference of "quantile".
    missing : genes that are not there get the z-score of an expression of zero (published), or of the training mean.
    correction : "none" (published); "quantile": each sample's log values are replaced by the training samples' mean log
        value of the same rank (quantile normalisation); "moments": each gene's mean and standard deviation over the
        external samples become those of training. Both use the present genes only. "moments" takes away every difference
        between the cohorts, true ones of tissue too.

    Returns
    -------
    AnnData of z-scores, samples x genes, `uns["transform"]`, `uns["alignment"]`, `var["present"]`.

    Raises
    ------
    InputError : too few genes in common, too few samples for "moments", or quantiles wanted of z-scores.
    SplitError : `train` holds samples that are not for training.
    """
    only_training(train)
    transform = system.transform
    if profiles.uns.get("unit") == "zscore" and transform.unit != "zscore":
        z = align(profiles, transform.genes, missing="zero", symbols=transform.symbols, min_share=MIN_SHARE)
        z.X = np.clip(dense(z), -CLIP, CLIP)
        if correction == "quantile":
            raise InputError("profiles in z-scores", expected='correction "none" or "moments"', found='"quantile"')
        z.uns["transform"] = transform.to_dict()
    else:
        labelled = profiles.copy()
        labelled.uns["unit"] = transform.unit
        z = transform.apply(labelled, min_share=MIN_SHARE)
    present = z.var["present"].to_numpy(dtype=bool)
    values = dense(z)
    if correction == "quantile":
        reference = np.sort(_log(transform, dense(transform.apply(train)))[:, present], axis=1).mean(axis=0)
        log = _log(transform, values)
        ranks = np.argsort(np.argsort(log[:, present], axis=1, kind="stable"), axis=1, kind="stable")
        log[:, present] = reference[ranks]
        values = _standardised(transform, log)
    elif correction == "moments":
        if len(values) < MIN_SAMPLES:
            raise InputError('correction "moments"', expected=f"at least {MIN_SAMPLES} samples", found=str(len(values)))
        here = values[:, present]
        spread = here.std(axis=0)
        values[:, present] = np.divide(here - here.mean(axis=0), spread, out=np.zeros_like(here), where=spread > 1e-6)
    empty = AnnData(
        X=np.zeros((1, len(transform.genes)), np.float32),
        var=pd.DataFrame(index=list(transform.genes)),
        uns={"unit": transform.unit},
    )
    at_zero = dense(transform.apply(empty, allow_small=True))[0] if transform.unit != "zscore" else np.zeros(values.shape[1])
    values[:, ~present] = at_zero[~present] if missing == "zero" else 0.0
    z.X = values.astype(np.float32)
    return z


def _log(transform: Any, z: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(z, dtype=np.float64) * transform.sd + transform.mean


def _standardised(transform: Any, log: NDArray[np.float64]) -> NDArray[np.float32]:
    sd = transform.sd.astype(np.float64)
    return np.divide(log - transform.mean, sd, out=np.zeros_like(log), where=sd > 0).astype(np.float32)


def quantile_shift(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Mean over genes of the mean distance between two samples' quantiles (2 to 98 %), in the unit of the values.

    Parameters
    ----------
    a, b : shapes (n, genes) and (m, genes). Two draws of one population are above 0, the more so the smaller n is.
    """
    return float(np.abs(np.quantile(a, QUANTILES, axis=0) - np.quantile(b, QUANTILES, axis=0)).mean())


@dataclass(frozen=True)
class ShiftReport:
    """How far other cohorts lie from the training patients, by each way of bringing them in.

    Attributes
    ----------
    table : a row for each cohort and way, and one for this cohort's own test patients.
    distances : rows for a chart: label (cohort), group (way), value, low, high, n: nearest training patient in the latent,
        as a multiple of what this cohort's test patients have.
    named : the same for the share of samples whose nearest centroid is their own tissue (where a tissue is shared).
    numbers, labels : name -> interval, and what it is.
    notes : how each cohort differs, what was not there.
    """

    table: pd.DataFrame
    distances: pd.DataFrame
    named: pd.DataFrame
    numbers: dict[str, Interval]
    labels: dict[str, str]
    notes: list[str]


def shift_report(
    system: Any, cohort: Any, externals: Sequence[External], *, seed: int = 0, n_boot: int = 1000
) -> ShiftReport:
    """Measure external cohorts in a trained beta-VAE, beside the cohort's own test patients.

    Distances are between latent means scaled by their standard deviation over the training samples.

    Raises
    ------
    InputError : no external cohort, or one that shares too few genes.
    """
    if not externals:
        raise InputError("external cohorts", expected="at least one", found="none")
    train, test = cohort.only("train").profiles, cohort.only("test").profiles
    place = _Place(system, train)
    z_test = dense(system.transform.apply(test))
    z_train = dense(system.transform.apply(train))
    common: dict[str, Any] = {"n_boot": n_boot, "seed": seed}
    own = np.median(place.nearest(system.encode(z_test)))
    numbers: dict[str, Interval] = {}
    labels: dict[str, str] = {}
    rows, distances, named = [], [], []

    def measure(label: str, way: str, z: AnnData, obs: pd.DataFrame) -> None:
        values, present = dense(z), z.var["present"].to_numpy(dtype=bool)
        latent = system.encode(values)
        patients = obs["patient_id"].astype(str).to_numpy()
        ratio = bootstrap(lambda d: float(np.median(d) / own), place.nearest(latent), groups=patients, **common)
        tissues = obs["tissue"].astype(str).to_numpy()
        known = np.isin(tissues, place.tissues)
        right = None
        if known.any():
            hit = (place.names(latent[known]) == tissues[known]).astype(float)
            right = bootstrap(np.mean, hit, groups=patients[known], **common)
        floor = _floor(z_test[:, present], z_train[:, present], len(values), seed)
        rows.append(
            {
                "cohort": label,
                "way": way,
                "samples": len(values),
                "genes there": f"{present.mean():.0%}",
                "quantile shift (z-score)": quantile_shift(values[:, present], z_train[:, present]),
                "of as many test patients": floor,
                "distance to training": str(ratio),
                "own tissue named": "no tissue shared" if right is None else str(right),
            }
        )
        slug = key_of(f"{label}_{way}")
        distances.append({"label": label, "group": way, **ratio.to_dict()})
        numbers[f"distance_{slug}"] = ratio
        labels[f"distance_{slug}"] = f"{label}, {way}: nearest training patient, test patients = 1"
        if right is not None:
            named.append({"label": label, "group": way, **right.to_dict()})
            numbers[f"named_{slug}"] = right
            labels[f"named_{slug}"] = f"{label}, {way}: nearest centroid is the own tissue"

    measure("own test patients", "as they are", system.transform.apply(test), test.obs)
    for external in externals:
        for way, missing, correction in WAYS:
            if correction == "quantile" and external.profiles.uns.get("unit") == "zscore":
                continue
            if correction == "moments" and external.profiles.n_obs < MIN_SAMPLES:
                continue
            z = bring_in(system, external.profiles, train, missing=missing, correction=correction)
            measure(external.label, way, z, external.profiles.obs)
    return ShiftReport(
        pd.DataFrame(rows).set_index(["cohort", "way"]),
        pd.DataFrame(distances),
        pd.DataFrame(named),
        numbers,
        labels,
        [f"{external.label}: {external.note}" for external in externals],
    )


def _floor(test: NDArray[Any], train: NDArray[Any], n: int, seed: int) -> float:
    """Quantile shift of `n` test samples drawn from training, mean of draws: what is seen without any shift."""
    generator = np.random.default_rng(seed)
    draws = [test[generator.choice(len(test), n, replace=n > len(test))] for _ in range(FLOOR_DRAWS)]
    return float(np.mean([quantile_shift(draw, train) for draw in draws]))


class _Place:
    """Training samples in the latent, each dimension scaled by its spread over them; and the centroids of their tissues."""

    def __init__(self, system: Any, train: AnnData) -> None:
        only_training(train)
        latent = np.asarray(system.encode(train), dtype=np.float64)
        self.scale = np.maximum(latent.std(axis=0), 1e-6)
        self.tissues = sorted(set(train.obs["tissue"].astype(str)))
        self._neighbours = NearestNeighbors(n_neighbors=1).fit(latent / self.scale)
        self._centroids = NearestCentroid().fit(latent / self.scale, train.obs["tissue"].astype(str).to_numpy())

    def nearest(self, latent: NDArray[Any]) -> NDArray[np.float64]:
        """Distance of each to its nearest training sample, shape (n,)."""
        return np.asarray(self._neighbours.kneighbors(latent / self.scale)[0][:, 0])

    def names(self, latent: NDArray[Any]) -> NDArray[Any]:
        """Tissue of the nearest centroid, shape (n,)."""
        return np.asarray(self._centroids.predict(latent / self.scale))
