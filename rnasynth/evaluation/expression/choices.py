"""What a published choice of the beta-VAE does to its error: each trained beside this library's own, over several seeds.

Every model's output is made linear and brought to the z-scores of the library's default transform, so that a model with
another transform is measured on the same scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from rnasynth.data.genes import align, dense
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError
from rnasynth.evaluation.expression.reconstruction import ACTIVE_NATS, latent_divergence, reconstruction_report
from rnasynth.evaluation.stats import Interval
from rnasynth.systems.training import train_preset

MIN_SEEDS = 3


@dataclass(frozen=True)
class Choice:
    """A published choice: its id, what it is, and the fields that it sets."""

    id: str
    label: str
    overrides: tuple[str, ...]
    linear_only: bool = False  # says nothing of profiles that come as z-scores


CHOICES = (
    Choice("beta", "beta 0.005 (both papers)", ("beta=0.005",)),
    Choice("lr_rna_gan", "learning rate 5e-5 (RNA-GAN)", ("lr=5e-5",)),
    Choice("lr_rna_cdm", "learning rate 3e-3 (RNA-CDM)", ("lr=3e-3",)),
    Choice("tanh", "tanh as the last activation (RNA-GAN's code)", ("output=tanh",)),
    Choice("log_of_zero", "log(0) := 0 (RNA-GAN's code)", ("transform=paper_rna_gan",), linear_only=True),
)


@dataclass(frozen=True)
class ChoicesReport:
    """The error of each choice beside the library's own.

    Attributes
    ----------
    numbers : "rmse_change_ID" -> change of the test RMSE by the choice, interval over seeds of training; above 0 it hurts.
    labels : name -> what it is.
    table : a row a choice: RMSE, change, active latent dimensions (means over seeds).
    changes : rows for a chart: label, value, low, high, n.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    table: pd.DataFrame
    changes: pd.DataFrame


HEALTHY_PAIRS = (("Brain - Cortex", "Lung"), ("cortex-like", "lung-like"))  # RNA-GAN's first model, and its stand-in


@dataclass(frozen=True)
class PublishedReport:
    """The published models, each on its own tissues.

    Attributes
    ----------
    table : a row a model: tissues, errors with intervals, baselines, active dimensions.
    errors : rows for a chart of RMSE: label (model), group (beta-VAE or baseline), value, low, high, n.
    numbers : "rmse_MODEL", "mae_MODEL" -> interval; with "mean_" before it, the same of the mean training profile.
    runs : the trained runs.
    samples : for each run the errors of its test samples, as `ReconstructionReport.samples`.
    below_mean : labels of the models that do not beat the mean training profile.
    """

    table: pd.DataFrame
    errors: pd.DataFrame
    numbers: dict[str, Interval]
    runs: list[Any]
    samples: list[pd.DataFrame]
    below_mean: list[str]

    def kept(self) -> list[tuple[str, Any, pd.DataFrame]]:
        """Return (name, run, errors of its test samples) of each model."""
        return list(zip(map(str, self.table.index), self.runs, self.samples, strict=True))


def published_models(
    cohort: Any, preset: str, *, seed: int = 0, folder: str | Path | None = None, progress: bool = True
) -> PublishedReport:
    """Train the published beta-VAEs: RNA-GAN's of two tissues (where the cohort has them) and of all, and RNA-CDM's of all.

    Parameters
    ----------
    cohort : with its splits; z-scored profiles are taken as they are.
    preset : "demo" for the published choices at a width for two CPU cores, else the published widths.
    seed, folder, progress : as in `train_preset`.
    """
    size = "demo" if preset == "demo" else "paper"
    tissues = set(cohort.profiles.obs["tissue"].astype(str))
    plans: list[tuple[str, str, str, tuple[str, ...]]] = [
        ("rna_gan_two_tissues", "RNA-GAN's, two tissues", f"{size}-rna-gan", pair)
        for pair in HEALTHY_PAIRS
        if set(pair) <= tissues
    ]
    plans += [
        ("rna_gan", "RNA-GAN's, all tissues", f"{size}-rna-gan", ()),
        ("rna_cdm", "RNA-CDM's, all tissues", f"{size}-rna-cdm", ()),
    ]
    overrides = [f"train.seed={seed}"]
    if cohort.profiles.uns.get("unit") == "zscore":
        overrides.append("transform=none")
    rows: list[dict[str, str]] = []
    errors: list[dict[str, Any]] = []
    numbers: dict[str, Interval] = {}
    runs: list[Any] = []
    samples: list[pd.DataFrame] = []
    below: list[str] = []
    for name, label, chosen, pair in plans:
        part = cohort.of_tissues(*pair) if pair else cohort
        run = train_preset("beta-vae", part, chosen, overrides=overrides, folder=folder, progress=progress)
        report = reconstruction_report(run.load(), part, seed=seed)
        runs.append(run)
        samples.append(report.samples)
        numbers |= {f"{key}_{name}": report.numbers[f"{key}_test"] for key in ("rmse", "mae")}
        numbers |= {f"mean_{key}_{name}": report.numbers[f"{key}_test_mean"] for key in ("rmse", "mae")}
        if not report.beats_mean:
            below.append(label)
        widths = ", ".join(f"{width:,}" for width in (*run.config.hidden, run.config.latent))
        rows.append(
            {
                "model": label,
                "widths": widths,
                "steps": f"{int(run.metrics()['step'].max()):,}",
                "RMSE": str(report.numbers["rmse_test"]),
                "MAE": str(report.numbers["mae_test"]),
                "RMSE, PCA": str(report.numbers["rmse_test_pca"]),
                "RMSE, mean profile": str(report.numbers["rmse_test_mean"]),
                "active dimensions": f"{report.active_dimensions} of {run.config.latent:,}",
            }
        )
        for group, key in (("beta-VAE", ""), ("PCA of that size", "_pca"), ("mean training profile", "_mean")):
            errors.append({"label": label, "group": group, **report.numbers[f"rmse_test{key}"].to_dict()})
    return PublishedReport(pd.DataFrame(rows).set_index("model"), pd.DataFrame(errors), numbers, runs, samples, below)


def measure_choices(
    cohort: Any,
    preset: str,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    choices: Sequence[Choice] = CHOICES,
    epochs: int = 0,
    folder: str | Path | None = None,
    progress: bool = True,
) -> ChoicesReport:
    """Train the preset's beta-VAE and each choice on the cohort's training patients; compare the error on the test ones.

    Parameters
    ----------
    cohort : with its splits, the same for all.
    preset : whose configuration is changed, one choice at a time; "demo" or "gpu" ("paper" holds the choices already).
    seeds : of training (start and order of batches), three or more.
    choices : which ones; those about the logarithm are left out where profiles come as z-scores.
    epochs : of each training; 0: the preset's own number.
    folder, progress : as in `train_preset`.

    Raises
    ------
    InputError : fewer than three seeds, or preset "paper".
    """
    if len(set(seeds)) < MIN_SEEDS:
        raise InputError("seeds", expected=f"{MIN_SEEDS} or more different ones", found=str(list(seeds)))
    if preset.startswith("paper"):
        raise InputError(
            "preset", expected="demo or gpu", found=preset, fix="the published choices are measured against these"
        )
    if cohort.profiles.uns.get("unit") == "zscore":
        choices = [choice for choice in choices if not choice.linear_only]
    shorter = [f"train.epochs={epochs}"] if epochs else []
    errors: dict[str, list[float]] = {}
    active: dict[str, list[int]] = {}
    reference: Transform | None = None
    for choice in (Choice("", "this library's", ()), *choices):
        for seed in seeds:
            run = train_preset(
                "beta-vae",
                cohort,
                preset,
                overrides=[*choice.overrides, *shorter, f"train.seed={seed}"],
                folder=folder,
                progress=progress,
            )
            system = run.load()
            reference = system.transform if reference is None else reference
            error, used = _measured(system, cohort, reference)
            errors.setdefault(choice.id, []).append(error)
            active.setdefault(choice.id, []).append(used)
    numbers, labels, rows, changes = {}, {}, [], []
    rows.append({"choice": "this library's", "RMSE": np.mean(errors[""]), "change": "", "active": np.mean(active[""])})
    for choice in choices:
        change = _over_seeds(np.subtract(errors[choice.id], errors[""]))
        numbers[f"rmse_change_{choice.id}"] = change
        labels[f"rmse_change_{choice.id}"] = f"change of the test RMSE by {choice.label}"
        rows.append(
            {
                "choice": choice.label,
                "RMSE": np.mean(errors[choice.id]),
                "change": str(change),
                "active": np.mean(active[choice.id]),
            }
        )
        changes.append({"label": choice.label, **change.to_dict()})
    table = pd.DataFrame(rows).set_index("choice").rename(columns={"active": "active latent dimensions"})
    return ChoicesReport(numbers, labels, table, pd.DataFrame(changes))


def _measured(system: Any, cohort: Any, reference: Transform) -> tuple[float, int]:
    """Return the RMSE on test samples in the z-scores of `reference`, and the number of active latent dimensions."""
    test = cohort.only("test").profiles
    real = dense(reference.apply(test))
    made = system.reconstruct(test)
    if system.transform != reference:
        linear = test[:, [str(gene) for gene in system.transform.genes]].copy()
        linear.X = system.transform.inverse(made)
        made = dense(reference.apply(align(linear, reference.genes), allow_small=True))
    divergence = latent_divergence(system, test)
    return float(np.sqrt(np.square(real - made).mean())), int((divergence > ACTIVE_NATS).sum())


def _over_seeds(values: np.ndarray) -> Interval:
    """Mean over seeds with its interval by Student's t."""
    n = len(values)
    half = float(scipy.stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    mean = float(np.mean(values))
    return Interval(mean, mean - half, mean + half, n, f"Student's t over {n} seeds of training, 95 %")
