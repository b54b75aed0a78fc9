"""Are a model's samples as uncertain as they should be? Coverage of intervals, and scores that reward calibration.

A model that always draws the same profile is sharp and wrong; one that draws training profiles whatever it is shown is
calibrated and useless. Coverage tells the first, the continuous ranked probability score (CRPS) both, against draws of
training profiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units

LEVELS = (0.5, 0.8, 0.95)
CURVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
DRAWS = 39  # the smallest number by which 50, 80 and 95 % intervals lie on draws, and so are exact
WIDE = 0.8  # the level whose width is reported
BLOCK = 64  # samples at a time


def needed_draws(level: float) -> int:
    """Return how many draws a central interval of this level needs: 2 / (1 - level) - 1, rounded up."""
    return math.ceil(2 / (1 - level) - 1 - 1e-9)


def inside(real: NDArray[Any], samples: NDArray[Any], level: float) -> NDArray[np.bool_]:
    """Return which real values lie in the central interval of the draws.

    Parameters
    ----------
    real : shape (N, genes).
    samples : draws, shape (N, n, genes).
    level : between 0 and 1.

    Returns
    -------
    Shape (N, genes). The ends are the (1 -+ level) / 2 (n + 1)-th draws: where that is a whole number and real value and
    draws are of one distribution, whatever it is, the value lies inside with exactly this probability (with continuous
    values); between draws they are interpolated.

    Raises
    ------
    InputError : shapes that do not fit, a level outside (0, 1), or fewer draws than it needs.
    """
    x, draws = _checked(real, samples)
    if not 0 < level < 1 or draws.shape[1] < needed_draws(level):
        raise InputError(
            f"interval of {level:.0%}",
            expected=f"a level in (0, 1) and {needed_draws(level) if 0 < level < 1 else 'enough'} draws or more",
            found=f"{draws.shape[1]} draws",
            fix=f"draw {DRAWS} or more",
        )
    out = np.empty(x.shape, dtype=bool)
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        low, high = _ends(np.sort(draws[part], axis=1), level)
        out[part] = (low <= x[part]) & (x[part] <= high)
    return out


def crps(real: NDArray[Any], samples: NDArray[Any]) -> NDArray[np.float64]:
    """Return the continuous ranked probability score of each value, fair for any number of draws.

    Mean distance of draws to the real value less half the mean distance between two draws: 0 is perfect, in the unit of the
    values; for one certain draw the absolute error.

    Parameters
    ----------
    real : shape (N, genes). samples : shape (N, n, genes), n of 2 or more (of 1: the absolute error).

    Source: Gneiting and Raftery, JASA 2007, eq. 20; fair version: Ferro, Q J R Meteorol Soc 2014, eq. 4.
    """
    x, draws = _checked(real, samples)
    out = np.empty(x.shape)
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        out[part] = _score(x[part], np.sort(draws[part], axis=1))
    return out


def energy_score(real: NDArray[Any], samples: NDArray[Any]) -> NDArray[np.float64]:
    """Return the energy score of each whole profile, shape (N,): the CRPS with Euclidean distances over all genes.

    Divided by the root of the number of genes, so that it is in z-scores. Source: Gneiting and Raftery 2007, eq. 22, fair.
    """
    x, draws = _checked(real, samples)
    n = draws.shape[1]
    out = np.empty(len(x))
    for row in range(len(x)):
        mine = draws[row].astype(np.float64)
        squares = np.square(mine).sum(axis=1)
        apart = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * mine @ mine.T, 0.0))
        np.fill_diagonal(apart, 0.0)
        spread = apart.sum() / (2 * n * (n - 1)) if n > 1 else 0.0
        out[row] = np.linalg.norm(mine - x[row], axis=1).mean() - spread
    return out / math.sqrt(x.shape[1])


@dataclass(frozen=True, eq=False)
class CoverageReport:
    """How well several models' uncertainty is calibrated on held-out samples.

    Attributes
    ----------
    numbers : "coverage50_MODEL", "coverage80_MODEL", "coverage95_MODEL": share of values inside; "crps_MODEL";
        "skill_MODEL": 1 - CRPS over that of `reference` (above 0 is better); "energy_skill_MODEL": the same of whole
        profiles; "width_MODEL": mean width of the 80 % interval, in z-scores.
    labels : the same keys -> words.
    rows : for `plots.intervals`: label (model), group (interval wanted), value, low, high, n.
    skill_rows : the same for the skills.
    curves : model -> (wanted, found) shares in percent, for a chart against the diagonal.
    by_gene : index gene; a column "MODEL, LEVEL": share of samples whose value lies inside.
    table : a row a model, as text.
    reference : whose CRPS the skills are over.
    unit : what intervals resample.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    rows: pd.DataFrame
    skill_rows: pd.DataFrame
    curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    by_gene: pd.DataFrame
    table: pd.DataFrame
    reference: str
    unit: str

    def calibrated(self, model: str, *, slack: float = 0.05) -> bool:
        """Whether each level's interval comes within `slack` of the level."""
        for level in LEVELS:
            found = self.numbers[f"coverage{level * 100:.0f}_{key_of(model)}"]
            if not (found.low - slack <= level <= found.high + slack):
                return False
        return True


def coverage_report(
    real: NDArray[Any],
    samples: Mapping[str, NDArray[Any]],
    *,
    genes: Sequence[str],
    groups: ArrayLike,
    reference: str,
    n_boot: int = 1000,
    seed: int = 0,
) -> CoverageReport:
    """Check the draws of several models against held-out samples.

    Parameters
    ----------
    real : z-scores of held-out samples, shape (N, genes).
    samples : model -> draws, shape (N, n, genes), n of 39 or more.
    genes : names of the columns.
    groups : split group of each sample; a patient's genes are drawn together, as they are not independent.
    reference : the model that skills are over: draws of training profiles, which know nothing of the sample.

    Raises
    ------
    InputError : shapes that do not fit, too few draws, or an unknown reference.
    """
    if reference not in samples:
        raise InputError("draws", expected=f"those of {reference!r} among them", found=", ".join(samples) or "none")
    units, unit = resampling_units(groups)
    common: dict[str, Any] = {"groups": units, "n_boot": n_boot, "seed": seed}
    numbers: dict[str, Interval] = {}
    labels: dict[str, str] = {}
    rows, skill_rows, curves, by_gene, table = [], [], {}, {}, {}
    base, base_energy = _measure(real, samples[reference]).score, energy_score(real, samples[reference])
    for model, draws in samples.items():
        key, measured = key_of(model), _measure(real, draws)
        found: dict[str, Interval] = {}
        for level in LEVELS:
            name = f"coverage{level * 100:.0f}"
            found[name] = bootstrap(np.mean, measured.by_sample[level], **common)
            labels[f"{name}_{key}"] = f"share of values inside the {level:.0%} interval: {model}"
            by_gene[f"{model}, {level:.0%}"] = measured.by_gene[level]
            rows.append({"label": model, "group": f"{level:.0%} interval", **found[name].to_dict()})
        score, energy = measured.score, energy_score(real, draws)
        found["crps"] = bootstrap(np.mean, score, **common)
        found["skill"] = bootstrap(_skill, score, base, **common)
        found["energy_skill"] = bootstrap(_skill, energy, base_energy, **common)
        found["width"] = bootstrap(np.mean, measured.width, **common)
        labels |= {
            f"crps_{key}": f"CRPS (z-scores, lower is better): {model}",
            f"skill_{key}": f"share of the CRPS of {reference} that is saved: {model}",
            f"energy_skill_{key}": f"the same of whole profiles (energy score): {model}",
            f"width_{key}": f"mean width of the 80 % interval (z-scores): {model}",
        }
        numbers |= {f"{name}_{key}": interval for name, interval in found.items()}
        shares = [100 * float(measured.by_sample[level].mean()) for level in CURVE]
        curves[model] = (100 * np.array(CURVE), np.array(shares))
        table[model] = {name: str(interval) for name, interval in found.items()}
        if model != reference:
            skill_rows.append({"label": model, "group": "gene by gene (CRPS)", **found["skill"].to_dict()})
            skill_rows.append({"label": model, "group": "whole profile (energy score)", **found["energy_skill"].to_dict()})
    index = pd.Index(list(genes), name="gene")
    frame = pd.DataFrame.from_dict(table, orient="index").rename_axis("model")
    return CoverageReport(
        numbers,
        labels,
        pd.DataFrame(rows),
        pd.DataFrame(skill_rows),
        curves,
        pd.DataFrame(by_gene, index=index),
        frame,
        reference,
        unit,
    )


def _skill(score: NDArray[Any], base: NDArray[Any]) -> float:
    return 1 - float(score.mean() / base.mean()) if base.mean() > 0 else math.nan


@dataclass(frozen=True, eq=False)
class _Measured:
    """One model: per level the shares inside by sample and by gene; CRPS and width of the 80 % interval by sample."""

    by_sample: dict[float, NDArray[np.float64]]
    by_gene: dict[float, NDArray[np.float64]]
    score: NDArray[np.float64]
    width: NDArray[np.float64]


def _measure(real: NDArray[Any], samples: NDArray[Any]) -> _Measured:
    """Sort the draws once for everything that is asked of them."""
    x, draws = _checked(real, samples)
    if draws.shape[1] < DRAWS:
        raise InputError("draws", expected=f"{DRAWS} or more a sample", found=str(draws.shape[1]), fix="draw more")
    by_sample = {level: np.empty(len(x)) for level in CURVE}
    by_gene = {level: np.zeros(x.shape[1]) for level in CURVE}
    score, width = np.empty(len(x)), np.empty(len(x))
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        ordered = np.sort(draws[part], axis=1)
        for level in CURVE:
            low, high = _ends(ordered, level)
            hits = (low <= x[part]) & (x[part] <= high)
            by_sample[level][part] = hits.mean(axis=1)
            by_gene[level] += hits.sum(axis=0) / len(x)
            if level == WIDE:
                width[part] = (high - low).mean(axis=1)
        score[part] = _score(x[part], ordered).mean(axis=1)
    return _Measured(by_sample, by_gene, score, width)


def _ends(ordered: NDArray[Any], level: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """The (1 -+ level) / 2 (n + 1)-th of sorted draws (B, n, genes), between two of them by a straight line."""
    n = ordered.shape[1]
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        place = min(max(share * (n + 1) - 1, 0.0), n - 1.0)
        below = min(math.floor(place + 1e-9), n - 2)
        part = max(0.0, place - below)
        part = 0.0 if part < 1e-9 else part
        ends.append(ordered[:, below] if part == 0 else (1 - part) * ordered[:, below] + part * ordered[:, below + 1])
    return ends[0], ends[1]


def _score(x: NDArray[np.float64], ordered: NDArray[Any]) -> NDArray[np.float64]:
    """Fair CRPS of values (B, genes) by sorted draws (B, n, genes)."""
    n = ordered.shape[1]
    weight = (2 * np.arange(1, n + 1) - n - 1) / max(n * (n - 1), 1)
    apart = np.einsum("n,bng->bg", weight, ordered)
    return np.asarray(np.abs(ordered - x[:, None]).mean(axis=1) - apart, dtype=np.float64)


def _checked(real: NDArray[Any], samples: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[Any]]:
    x, draws = np.asarray(real, dtype=np.float64), np.asarray(samples)
    if x.ndim != 2 or draws.ndim != 3 or draws.shape[::2] != x.shape or not draws.size:
        raise InputError("draws", expected="(N, n, genes) beside real (N, genes)", found=f"{draws.shape}, {x.shape}")
    if not (np.isfinite(x).all() and np.isfinite(draws).all()):
        raise InputError("draws", expected="finite values", found="NaN or infinite", fix="look at the model")
    return x, draws
