"""How near made profiles are to real ones: error with intervals over patients, beside baselines that any model must beat.

All numbers are on z-scores (training mean and SD), on samples that were never trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA

from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units

ACTIVE_NATS = 0.01  # a latent dimension below this divergence from its prior carries nothing
MIN_PATIENTS = 2  # of a tissue, to be listed


def rmse(
    real: NDArray[Any], made: NDArray[Any], *, patients: ArrayLike | None = None, n_boot: int = 1000, seed: int = 0
) -> Interval:
    """Root mean squared error over all samples and genes, with its interval over patients.

    Parameters
    ----------
    real, made : z-scores, shape (n, genes).
    patients : one id a sample; None: each sample is a patient.

    Raises
    ------
    InputError : other shapes, no samples, or values that are not finite.
    """
    error = _row_mean(np.square, real, made)
    return bootstrap(lambda rows: float(np.sqrt(rows.mean())), error, groups=patients, n_boot=n_boot, seed=seed)


def mae(
    real: NDArray[Any], made: NDArray[Any], *, patients: ArrayLike | None = None, n_boot: int = 1000, seed: int = 0
) -> Interval:
    """Mean absolute error over all samples and genes, with its interval over patients; arguments as in `rmse`."""
    return bootstrap(np.mean, _row_mean(np.abs, real, made), groups=patients, n_boot=n_boot, seed=seed)


def gene_r2(real: NDArray[Any], made: NDArray[Any]) -> NDArray[np.float64]:
    """Share of each gene's variance over samples that is met: 1 - SSE / SS around the mean of `real`.

    Returns
    -------
    Shape (genes,); at most 1, negative where the mean of `real` would be nearer; NaN for a gene that does not vary.
    """
    real, made = _checked(real, made)
    spread = np.square(real - real.mean(axis=0)).sum(axis=0)
    error = np.square(real - made).sum(axis=0)
    return 1 - np.divide(error, spread, out=np.full(len(spread), np.nan), where=spread > 1e-12)


def retained(
    real: NDArray[Any], made: NDArray[Any], *, patients: ArrayLike | None = None, n_boot: int = 1000, seed: int = 0
) -> Interval:
    """Share of the differences between samples that survives: 1 - SSE / SS around the mean of these samples.

    Given the samples of one tissue, it is what survives *within* the tissue: a model that knows the tissue alone is at
    0 or below. The mean stays that of all samples given, whichever are resampled.
    """
    real, made = _checked(real, made)
    error = np.square(real - made).sum(axis=1)
    spread = np.square(real - real.mean(axis=0)).sum(axis=1)

    def share(error: NDArray[np.float64], spread: NDArray[np.float64]) -> float:
        return 1 - float(error.sum() / spread.sum()) if spread.sum() > 0 else float("nan")

    return bootstrap(share, error, spread, groups=patients, n_boot=n_boot, seed=seed)


def mean_baseline(train: NDArray[Any], test: NDArray[Any]) -> NDArray[np.float32]:
    """Mean training profile for every test sample, shape of `test`."""
    return np.broadcast_to(np.mean(train, axis=0, dtype=np.float64).astype(np.float32), np.shape(test)).copy()


def pca_baseline(train: NDArray[Any], test: NDArray[Any], latent: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Test samples through as many principal components of the training samples as a model has latent dimensions.

    Parameters
    ----------
    latent : number of components; at most the training samples less one and the genes are used.

    Returns
    -------
    Shape of `test`, float32. The best linear code of this size for the training samples, and for them only.
    """
    size = min(latent, len(train) - 1, train.shape[1])
    if size < 1:
        return mean_baseline(train, test)
    components = PCA(size, random_state=seed).fit(np.asarray(train, dtype=np.float32))
    made = components.inverse_transform(components.transform(np.asarray(test, dtype=np.float32)))
    return np.asarray(made, dtype=np.float32)


@dataclass(frozen=True)
class ReconstructionReport:
    """What comes back through a model's latent, on the test patients.

    Attributes
    ----------
    numbers : name -> interval: rmse_test, mae_test, r2_median_test, retained_within_tissue, and the same of the baselines
        with `_pca` and `_mean` appended; rmse_gain_mean is the mean profile's RMSE less the model's (above 0 is better).
    by_tissue : rows for a chart of RMSE: label ("all", then tissues of two patients and more), group (model), value, low,
        high, n.
    table : the same numbers as text, a row a model.
    tissue_table : RMSE and MAE as text, a row a tissue, two columns a model.
    gene_r2 : model -> `gene_r2` of each gene that varies over the test samples.
    samples : a row a test sample: tissue, and mse_ and mae_ with model, pca and mean.
    kl_per_dimension : shape (latent,), nats, mean over the test samples.
    active_dimensions : how many of them are above 0.01 nats.
    beats_mean : the whole interval of `rmse_gain_mean` lies above 0.
    unit : what the intervals resample, see `stats.resampling_units`.
    """

    numbers: dict[str, Interval]
    by_tissue: pd.DataFrame
    table: pd.DataFrame
    tissue_table: pd.DataFrame
    gene_r2: dict[str, NDArray[np.float64]]
    samples: pd.DataFrame
    kl_per_dimension: NDArray[np.float64]
    active_dimensions: int
    beats_mean: bool
    unit: str


def reconstruction_report(system: Any, cohort: Any, *, seed: int = 0, n_boot: int = 1000) -> ReconstructionReport:
    """Compare a trained beta-VAE with its baselines on the cohort's test split.

    Parameters
    ----------
    system : has `transform`, `reconstruct(adata)` and the network `vae` with `encode`; trained on this cohort's train split.
    cohort : has `only(split).profiles`.

    Raises
    ------
    SplitError : a split is empty, or a split group is in both.
    """
    train, test = cohort.only("train").profiles, cohort.only("test").profiles
    for name, adata in (("train", train), ("test", test)):
        if not adata.n_obs:
            raise SplitError(f"split {name}", expected="samples", found="none", fix="make the splits anew")
    if shared := sorted(set(train.obs["split_group"]) & set(test.obs["split_group"])):
        raise SplitError(f"split group {shared[0]}", expected="in one split", found="in train and test")
    z_train, z_test = (np.asarray(system.transform.apply(adata).X) for adata in (train, test))
    divergence = latent_divergence(system, test)
    size = len(divergence)
    made = {
        "beta-VAE": np.asarray(system.reconstruct(test)),
        f"PCA, {size} components": pca_baseline(z_train, z_test, size, seed=seed),
        "mean training profile": mean_baseline(z_train, z_test),
    }
    units, unit = resampling_units(test.obs["split_group"])
    numbers, table, by_tissue = compare(z_test, made, patients=units, tissues=test.obs["tissue"], n_boot=n_boot, seed=seed)
    gain = numbers["rmse_gain_mean"]
    samples = pd.DataFrame({"tissue": test.obs["tissue"].astype(str).to_numpy()})
    for name, values in zip(("model", "pca", "mean"), made.values(), strict=True):
        samples[f"mse_{name}"] = _row_mean(np.square, z_test, values)
        samples[f"mae_{name}"] = _row_mean(np.abs, z_test, values)
    return ReconstructionReport(
        numbers=numbers,
        by_tissue=by_tissue,
        table=table,
        tissue_table=_tissue_table(samples, units, list(made), n_boot=n_boot, seed=seed),
        gene_r2={
            name: r2[np.isfinite(r2)] for name, r2 in ((name, gene_r2(z_test, values)) for name, values in made.items())
        },
        samples=samples,
        kl_per_dimension=divergence,
        active_dimensions=int((divergence > ACTIVE_NATS).sum()),
        beats_mean=bool(gain.low > 0),
        unit=unit,
    )


def _tissue_table(samples: pd.DataFrame, patients: ArrayLike, models: list[str], **common: Any) -> pd.DataFrame:
    """RMSE and MAE with intervals as text, a row a tissue with enough patients."""
    patients, rows = np.asarray(patients, dtype=str), {}
    for tissue, part in samples.groupby("tissue"):
        groups = patients[part.index]
        if len(set(groups)) < MIN_PATIENTS:
            continue
        row: dict[str, str] = {"samples": str(len(part))}
        for short, model in zip(("model", "pca", "mean"), models, strict=True):
            square = bootstrap(lambda e: float(np.sqrt(e.mean())), part[f"mse_{short}"], groups=groups, **common)
            row[f"RMSE, {model}"] = str(square)
            row[f"MAE, {model}"] = str(bootstrap(np.mean, part[f"mae_{short}"], groups=groups, **common))
        rows[str(tissue)] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("tissue")


def latent_divergence(system: Any, profiles: AnnData) -> NDArray[np.float64]:
    """Divergence of each latent dimension from the prior, mean over samples, shape (latent,), nats.

    Near 0 a dimension tells nothing of a profile (posterior collapse).

    Parameters
    ----------
    system : a trained beta-VAE with `transform` and the network `vae`.
    profiles : raw.
    """
    mean, logvar = _encode(system, np.asarray(system.transform.apply(profiles).X))
    return np.asarray(0.5 * (np.square(mean) + np.exp(logvar) - 1 - logvar).mean(axis=0, dtype=np.float64))


def compare(
    real: NDArray[Any],
    made: Mapping[str, NDArray[Any]],
    *,
    patients: ArrayLike,
    tissues: ArrayLike,
    n_boot: int = 1000,
    seed: int = 0,
) -> tuple[dict[str, Interval], pd.DataFrame, pd.DataFrame]:
    """Measure several models on the same samples.

    Parameters
    ----------
    real : z-scores, shape (n, genes).
    made : name -> z-scores of the same shape, in the order: the model, the linear baseline, the mean profile.
    patients, tissues : one a sample.

    Returns
    -------
    (numbers, table, by_tissue) as `ReconstructionReport` has them.
    """
    patients, tissues = np.asarray(patients, dtype=str), np.asarray(tissues, dtype=str)
    numbers: dict[str, Interval] = {}
    rows, points = {}, []
    centred = _within(real, tissues)
    common: dict[str, Any] = {"n_boot": n_boot, "seed": seed}
    for (name, values), suffix in zip(made.items(), ("", "_pca", "_mean"), strict=True):
        r2 = gene_r2(real, values)
        found = {
            "rmse_test": rmse(real, values, patients=patients, **common),
            "mae_test": mae(real, values, patients=patients, **common),
            "r2_median_test": bootstrap(np.median, r2[np.isfinite(r2)], **common),
            "retained_within_tissue": _retained_around(real, values, centred, patients, **common),
        }
        numbers |= {f"{key}{suffix}": interval for key, interval in found.items()}
        rows[name] = {
            "RMSE": str(found["rmse_test"]),
            "MAE": str(found["mae_test"]),
            "median R2 of genes": str(found["r2_median_test"]),
            "retained within tissue": str(found["retained_within_tissue"]),
        }
        points.append({"label": "all", "group": name, **found["rmse_test"].to_dict()})
        for tissue in sorted(set(tissues)):
            here = tissues == tissue
            if len(set(patients[here])) >= MIN_PATIENTS:
                interval = rmse(real[here], values[here], patients=patients[here], **common)
                points.append({"label": tissue, "group": name, **interval.to_dict()})
    model, _, mean = (_row_mean(np.square, real, values) for values in made.values())
    numbers["rmse_gain_mean"] = bootstrap(
        lambda mean, model: float(np.sqrt(mean.mean()) - np.sqrt(model.mean())), mean, model, groups=patients, **common
    )
    return numbers, pd.DataFrame.from_dict(rows, orient="index"), pd.DataFrame(points)


def training_curves(history: pd.DataFrame) -> dict[str, dict[str, tuple[NDArray[Any], NDArray[Any]]]]:
    """Return what a chart of a beta-VAE's training needs from `Run.metrics()`.

    Returns
    -------
    Quantity -> ("training" | "validation" -> (steps, values)); a line is empty where it was not recorded.
    """
    panels = {"squared error (z-score²)": "mse", "divergence from the prior (nats)": "kl"}
    lines: dict[str, dict[str, tuple[NDArray[Any], NDArray[Any]]]] = {}
    for label, name in panels.items():
        train = [str(c) for c in history if str(c).endswith(f"_{name}") and not str(c).startswith("val_")]  # PHASE_mse
        lines[label] = {}
        for split, column in (("training", train[0] if train else name), ("validation", f"val_{name}")):
            values = history[column].to_numpy(float) if column in history else np.full(len(history), np.nan)
            known = np.isfinite(values)
            lines[label][split] = (history["step"].to_numpy()[known], values[known])
    return lines


def _within(real: NDArray[Any], tissues: NDArray[Any]) -> NDArray[np.float64]:
    """Shape (n,): squared distance of each sample from the mean of its tissue."""
    out = np.empty(len(real))
    for tissue in set(tissues):
        here = tissues == tissue
        out[here] = np.square(real[here] - real[here].mean(axis=0)).sum(axis=1)
    return out


def _retained_around(
    real: NDArray[Any], made: NDArray[Any], spread: NDArray[np.float64], patients: NDArray[Any], **common: Any
) -> Interval:
    error = np.square(np.asarray(real, dtype=np.float64) - made).sum(axis=1)
    return bootstrap(
        lambda e, s: 1 - float(e.sum() / s.sum()) if s.sum() > 0 else float("nan"), error, spread, groups=patients, **common
    )


@torch.inference_mode()
def _encode(system: Any, z: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    network = system.vae
    device = next(network.parameters()).device
    parts = [network.encode(part.to(device)) for part in torch.from_numpy(np.ascontiguousarray(z, np.float32)).split(512)]
    mean, logvar = (torch.cat([part[number] for part in parts]).float().cpu().numpy() for number in (0, 1))
    return mean, logvar


def _checked(real: NDArray[Any], made: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    real, made = np.asarray(real, dtype=np.float64), np.asarray(made, dtype=np.float64)
    if real.ndim != 2 or real.shape != made.shape or not real.size:
        raise InputError("profiles to compare", expected="two matrices of one shape", found=f"{real.shape}, {made.shape}")
    if not (np.isfinite(real).all() and np.isfinite(made).all()):
        raise InputError("profiles to compare", expected="finite values", found="NaN or infinite", fix="look at the model")
    return real, made


def _row_mean(function: Any, real: NDArray[Any], made: NDArray[Any]) -> NDArray[np.float64]:
    real, made = _checked(real, made)
    return np.asarray(function(real - made).mean(axis=1))
