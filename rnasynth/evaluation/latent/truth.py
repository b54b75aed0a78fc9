"""What a shift from one tissue to another did to the genes, against real differences and against the simulator's truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.genes import only_training
from rnasynth.data.simulate import counterfactual_profiles, stored_config
from rnasynth.errors import InputError
from rnasynth.evaluation.expression.reconstruction import rmse
from rnasynth.evaluation.latent.arithmetic import Centroids, LatentSystem, labels_of, scores, shift_to_others
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units

CONTROL_ROWS = 500  # shifted profiles at most that random directions are tried on


@dataclass(frozen=True, eq=False)
class MarkerReport:
    """Whether a shift moves the genes that tell two tissues apart.

    Attributes
    ----------
    numbers : markers_cosine, markers_right_sign and markers_slope of the shift (change on real difference, through
        the origin: 1 is the full way), and markers_cosine_random, the first for random directions of equal length.
    labels : the same keys -> words.
    points : a row a marker and ordered pair of tissues: x (real difference of the test means), y (mean change of the
        shifted patients), gene, source, group (the target).
    holds : the whole interval of the cosine lies above that of random directions.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    points: pd.DataFrame
    holds: bool


def marker_change(
    system: LatentSystem,
    centres: Centroids,
    train: AnnData,
    test: AnnData,
    shifted: AnnData,
    *,
    n_markers: int = 20,
    n_random: int = 20,
    n_boot: int = 300,
    seed: int = 0,
) -> MarkerReport:
    """Compare what a shift did to marker genes with how the two tissues' real test patients differ.

    Parameters
    ----------
    centres : by which the profiles were shifted.
    train : the markers of each pair of tissues are its genes of largest standardised difference here.
    test : real samples, whose means give the difference that a shift should make.
    shifted : these samples moved, as `latent.shift_to_others` gives them. The change is the shifted profile less the
        sample's own reconstruction: less its real profile, it would share that one's noise with the real difference, and a
        decoder's pull towards the mean would pass for a shift.
    n_random : random directions of the latent, one a pair of tissues each time, as long as the true shift.

    Returns
    -------
    MarkerReport; intervals resample the test patients, that of random directions is the middle 95 % of directions.

    Raises
    ------
    SplitError : a sample of `train` is not for training.
    InputError : a tissue without training or test samples, or shifted profiles of other samples than `test`.
    """
    only_training(train)
    z_train, z_test, z_shifted = (scores(system, part) for part in (train, test, shifted))
    rows = test.obs_names.get_indexer(shifted.obs["source_sample"].astype(str))
    if (rows < 0).any():
        raise InputError("shifted profiles", expected="of the test samples given", found="others")
    own, trained = labels_of(test), labels_of(train)
    moves = list(zip(labels_of(shifted, "source").tolist(), labels_of(shifted).tolist(), strict=True))
    pairs = sorted(set(moves))
    tissues = sorted({tissue for pair in pairs for tissue in pair})
    if absent := sorted(set(tissues) - (set(own) & set(trained))):
        raise InputError(f"tissue {absent[0]!r}", expected="training and test samples of it", found="none")
    pair_of_row = np.array([pairs.index(move) for move in moves])
    ends = np.array([[tissues.index(source), tissues.index(target)] for source, target in pairs])
    genes = _markers(z_train, trained, pairs, n_markers)
    every, place = np.unique(genes, return_inverse=True)
    place = place.reshape(genes.shape)
    tissue_of_row = np.array([tissues.index(name) if name in tissues else len(tissues) for name in own])
    real = z_test[:, every].astype(np.float64)
    latents = np.asarray(system.encode(test), dtype=np.float32)
    before = np.asarray(system.decode(latents)[:, every], dtype=np.float64)

    def differences(made: NDArray[Any], at: NDArray[np.intp], weight: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Real differences and changes of the markers, (pairs, markers); `made` are moved samples number `at`."""
        mean = _means(real, tissue_of_row, weight, len(tissues))
        change = _means(made[:, every] - before[rows[at]], pair_of_row[at], weight[rows[at]], len(pairs))
        found = np.take_along_axis(mean[ends[:, 1]] - mean[ends[:, 0]], place, 1)
        return found, np.take_along_axis(change, place, 1)

    everyone, once = np.arange(len(rows)), np.ones(test.n_obs)

    def interval(number: Callable[[NDArray[Any], NDArray[Any]], float]) -> Interval:
        return bootstrap(
            lambda drawn: number(*differences(z_shifted, everyone, np.bincount(drawn, minlength=test.n_obs))),
            np.arange(test.n_obs),
            groups=_patients(test),
            n_boot=n_boot,
            seed=seed,
        )

    numbers = {
        "markers_cosine": _around(interval(lambda x, y: float(np.arctanh(_cosine(x, y))))),
        "markers_right_sign": interval(_right_sign),
        "markers_slope": interval(_slope),
    }
    generator = np.random.default_rng(seed)
    at = everyone
    if len(at) > CONTROL_ROWS:
        at = np.sort(generator.choice(len(at), CONTROL_ROWS, replace=False))
    steps = np.array([centres.mean[centres.place(b)] - centres.mean[centres.place(a)] for a, b in pairs])
    control = []
    for _ in range(n_random):
        direction = generator.standard_normal(steps.shape)
        direction *= np.linalg.norm(steps, axis=1, keepdims=True) / np.linalg.norm(direction, axis=1, keepdims=True)
        made = system.decode((latents[rows[at]] + direction[pair_of_row[at]]).astype(np.float32))
        control.append(_cosine(*differences(made, at, once)))
    low, middle, high = (float(value) for value in np.nanquantile(control, [0.025, 0.5, 0.975]))
    method = f"median and middle 95 % of {n_random} random directions"
    numbers["markers_cosine_random"] = Interval(middle, low, high, n_random, method)
    labels = {
        "markers_cosine": "cosine of the markers' change and the real difference (1: one direction, 0: none)",
        "markers_right_sign": "share of the markers that move to the right side",
        "markers_slope": "share of the way that the markers move (slope through the origin)",
        "markers_cosine_random": "the same cosine for random directions of equal length",
    }
    x, y = differences(z_shifted, everyone, once)
    symbols = np.array([symbol or gene for symbol, gene in zip(_symbols(system), system.transform.genes, strict=True)])
    points = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "gene": symbols[genes.ravel()]})
    points["source"], points["group"] = np.repeat(np.array(pairs), genes.shape[1], axis=0).T
    points = points.dropna(subset=["x", "y"])
    return MarkerReport(numbers, labels, points, bool(numbers["markers_cosine"].low > high))


@dataclass(frozen=True, eq=False)
class TruthReport:
    """A shift beside what the simulator makes of the same patients in the other tissue.

    Attributes
    ----------
    numbers : of each way of shifting (see `shift_against_truth`; no suffix is the system's): truth_rmse, truth_change (mean
        over profiles of the correlation over genes of the change with the true change) and truth_own (see there).
    labels : the same keys -> words.
    table : the same as text, a row a way of shifting.
    summary : one sentence that says what the two truth_gain numbers (RMSE of another way less the system's) allow to say.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    table: pd.DataFrame
    summary: str


def shift_against_truth(
    system: LatentSystem, cohort: Any, centres: Centroids, *, n_boot: int = 500, seed: int = 0
) -> TruthReport:
    """Compare shifted test patients of a simulated cohort with `data.simulate.counterfactual_profiles` of them.

    Beside the system stand three ways of shifting that need no latent: the target's mean training profile for everybody;
    the patient's own profile plus the difference of the two tissues' mean training profiles; and the profile unshifted.
    What is a patient's own: within each pair of tissues, the profile less the mean of that pair's profiles; truth_own is
    its correlation with the same of the truth, over patients and genes. Whoever gives everybody the same profile has none.

    Parameters
    ----------
    cohort : simulated, with `only(split)` and `folder`.
    centres : of the system, on this cohort's training split.

    Raises
    ------
    InputError : not a simulated cohort, fewer than two tissues, or genes that do not match.
    """
    if not cohort.simulated:
        raise InputError(f"cohort {cohort.name}", expected="a simulated one", found="real patients, whose truth is unknown")
    config = stored_config(cohort.folder)
    train, test = cohort.only("train").profiles, cohort.only("test").profiles
    moved = shift_to_others(system, test, centres)
    rows = test.obs_names.get_indexer(moved.obs["source_sample"])
    wanted = list(zip(moved.obs["patient_id"].astype(str), moved.obs["tissue"].astype(str), strict=True))
    truth = scores(system, counterfactual_profiles(config, wanted)).astype(np.float64)
    own = scores(system, test).astype(np.float64)[rows]
    z_train, trained = scores(system, train), labels_of(train)
    mean = {tissue: z_train[trained == tissue].mean(axis=0, dtype=np.float64) for tissue in centres.tissues}
    target = np.array([mean[str(tissue)] for tissue in moved.obs["tissue"]])
    source = np.array([mean[str(tissue)] for tissue in moved.obs["source"]])
    pair = (moved.obs["source"].astype(str) + " to " + moved.obs["tissue"].astype(str)).to_numpy(dtype=str)
    made = {
        "": ("shift in the latent", np.asarray(moved.X, dtype=np.float64)),
        "_difference": ("own profile plus the difference of mean profiles", own + target - source),
        "_mean": ("target's mean profile", target),
        "_unshifted": ("own profile, unshifted", own),
    }
    patients = _patients(moved)
    common: dict[str, Any] = {"n_boot": n_boot, "seed": seed}
    numbers: dict[str, Interval] = {}
    labels: dict[str, str] = {}
    table = {}
    true_own = _own(truth, pair)
    for suffix, (words, values) in made.items():
        found = {"truth_rmse": rmse(truth, values, patients=patients, **common)}
        if suffix != "_unshifted":  # it changes nothing
            change = _row_correlation(values - own, truth - own)
            found["truth_change"] = bootstrap(np.mean, change, groups=patients, **common)
        if suffix != "_mean":  # it has nothing of the patient's own
            found["truth_own"] = _pooled_correlation(_own(values, pair), true_own, patients, **common)
        numbers |= {f"{name}{suffix}": interval for name, interval in found.items()}
        titles = {"truth_rmse": "RMSE to the truth", "truth_change": "correlation of the change with the true change"}
        titles["truth_own"] = "correlation of what is the patient's own with the truth"
        labels |= {f"{name}{suffix}": f"{titles[name]}: {words}" for name in found}
        table[words] = {title: str(found[name]) if name in found else "none" for name, title in titles.items()}
    error = {suffix: np.square(values - truth).mean(axis=1) for suffix, (_, values) in made.items()}
    for suffix in ("_mean", "_difference"):
        numbers[f"truth_gain{suffix}"] = bootstrap(
            lambda other, ours: float(np.sqrt(other.mean()) - np.sqrt(ours.mean())),
            error[suffix],
            error[""],
            groups=patients,
            **common,
        )
        labels[f"truth_gain{suffix}"] = (
            f"RMSE of the {made[suffix][0]} less that of the shift in the latent (above 0: worse)"
        )
    said = [f"{_beside(numbers[f'truth_gain{suffix}'])} the {made[suffix][0]}" for suffix in ("_mean", "_difference")]
    summary = f"Measured by RMSE to the truth, the shift in the latent is {said[0]}, and {said[1]}."
    shown = pd.DataFrame.from_dict(table, orient="index").rename_axis("way of shifting")
    return TruthReport(numbers, labels, shown, summary)


def _beside(gain: Interval) -> str:
    """Words for an interval of (their error - ours)."""
    if gain.low > 0:
        return "nearer than"
    return "farther than" if gain.high < 0 else "neither clearly nearer nor farther than"


def _patients(profiles: AnnData) -> NDArray[np.str_]:
    return resampling_units(profiles.obs["split_group" if "split_group" in profiles.obs else "sample_id"])[0]


def _symbols(system: LatentSystem) -> tuple[str, ...]:
    return system.transform.symbols or system.transform.genes


def _markers(z: NDArray[np.float32], names: NDArray[np.str_], pairs: list[tuple[str, str]], count: int) -> NDArray[np.intp]:
    """Genes of largest difference of means over the pooled SD, for each pair; shape (pairs, count)."""
    mean = {tissue: z[names == tissue].mean(axis=0, dtype=np.float64) for tissue in {t for pair in pairs for t in pair}}
    spread = {tissue: z[names == tissue].var(axis=0, dtype=np.float64) for tissue in mean}
    chosen = []
    for a, b in pairs:
        pooled = np.sqrt((spread[a] + spread[b]) / 2)
        size = np.divide(np.abs(mean[b] - mean[a]), pooled, out=np.zeros(z.shape[1]), where=pooled > 1e-6)
        chosen.append(np.argsort(-size, kind="stable")[:count])
    return np.array(chosen)


def _means(x: NDArray[Any], group: NDArray[np.intp], weight: NDArray[Any], k: int) -> NDArray[np.float64]:
    """Weighted mean of the rows of each group 0..k-1, shape (k, genes); NaN for a group without weight."""
    order = np.argsort(group, kind="stable")
    sums, total = np.zeros((k + 1, x.shape[1])), np.bincount(group, weights=weight, minlength=k + 1)
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) > 0])
    sums[group[order][starts]] = np.add.reduceat((x * weight[:, None])[order], starts, axis=0)
    return np.divide(sums, total[:, None], out=np.full(sums.shape, np.nan), where=total[:, None] > 0)[:k]


def _around(fisher: Interval) -> Interval:
    """Turn an interval of Fisher's z into one of the cosine, centred on the value.

    Means of resampled patients are noisier than the means, so that resampled cosines near 1 lie below the value.
    """
    half = (fisher.high - fisher.low) / 2
    value, low, high = (float(np.tanh(fisher.value + step)) for step in (0, -half, half))
    return Interval(value, low, high, fisher.n, f"{fisher.method}, of Fisher's z, centred on the value")


def _finite(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], y[known]


def _cosine(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Correlation about zero. About the means, markers that fall as they should and others that stay would be perfect."""
    x, y = _finite(x, y)
    norm = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    if norm == 0:
        return float("nan")
    return float(np.clip((x * y).sum() / norm, -1 + 1e-12, 1 - 1e-12))  # Fisher's z of it stays finite


def _right_sign(x: NDArray[Any], y: NDArray[Any]) -> float:
    x, y = _finite(x, y)
    return float(np.mean(np.sign(x) == np.sign(y)))


def _slope(x: NDArray[Any], y: NDArray[Any]) -> float:
    x, y = _finite(x, y)
    return float((x * y).sum() / np.square(x).sum())


def _own(values: NDArray[np.float64], pair: NDArray[np.str_]) -> NDArray[np.float64]:
    """Each profile less the mean of its pair of tissues."""
    out = np.empty_like(values)
    for name in set(pair.tolist()):
        out[pair == name] = values[pair == name] - values[pair == name].mean(axis=0)
    return out


def _row_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation over genes of each row, shape (n,)."""
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), norm, out=np.zeros(len(a)), where=norm > 0)


def _pooled_correlation(a: NDArray[np.float64], b: NDArray[np.float64], groups: NDArray[Any], **common: Any) -> Interval:
    """Correlation of two centred matrices over all entries, by resampling groups of rows."""
    return bootstrap(
        lambda ab, aa, bb: float(ab.sum() / np.sqrt(aa.sum() * bb.sum())) if aa.sum() * bb.sum() > 0 else float("nan"),
        *((x * y).sum(axis=1) for x, y in ((a, b), (a, a), (b, b))),
        groups=groups,
        **common,
    )
