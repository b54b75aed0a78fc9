"""Does the classifier of real tiles name what was generated from profiles of a cohort that was never trained on?

Source: RNA-GAN, Results and STAR Methods (GSE120795, 100 tiles a tissue, a ResNet-18 trained on real tiles); both papers
set genes that the external cohort lacks to zero. What is added: the same classifier on real tiles (the ceiling), on tiles
whose profiles were exchanged and on tiles of the mean profile (chance), the same question asked of the latent without any
image, intervals over patients, and what the missing genes cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rnasynth.data.cohort import Cohort
from rnasynth.data.genes import only_training
from rnasynth.data.pixels import resize
from rnasynth.errors import InputError
from rnasynth.evaluation.conditioning.experiment import tissue_mean_profiles
from rnasynth.evaluation.expression.shift import bring_in
from rnasynth.evaluation.utility.cohorts import ExternalCohort
from rnasynth.evaluation.utility.piles import Maker
from rnasynth.evaluation.utility.scores import Exchanged, Scores, exchanged, score
from rnasynth.features import same_stain
from rnasynth.systems.classifier import TileClassifier

Missing = Literal["zero", "train_mean"]
Correction = Literal["none", "quantile", "moments"]


@dataclass(frozen=True)
class Way:
    """How profiles from outside become a generator's input.

    Attributes
    ----------
    words : for tables and figures.
    complete : all genes are shown, also those that the cohort lacks (a reference that a real cohort cannot have).
    missing, correction : as of `expression.shift.bring_in`.
    """

    words: str
    complete: bool
    missing: Missing
    correction: Correction = "none"


WAYS: dict[str, Way] = {
    "complete": Way("all genes known", True, "train_mean"),
    "mean": Way("missing genes: 0 after z-score", False, "train_mean"),
    "zero": Way("missing genes: 0 before the log", False, "zero"),
}
#: Ways that are asked of the latent alone: they make no image.
LATENT_WAYS: dict[str, Way] = {
    **WAYS,
    "quantile": Way("0 after z-score, quantiles matched", False, "train_mean", "quantile"),
    "moments": Way("0 after z-score, moments matched", False, "train_mean", "moments"),
}
PUBLISHED = "mean"  # RNA-GAN, whose numbers these are: "initialized as zero", before or after is not said; RNA-CDM: "zero"


class Encoding(Maker, Protocol):
    """What makes tiles by way of a latent: a `TileGenerator` with an encoder."""

    encoder: Any
    mpp_um: float

    def conditions(self, profiles: AnnData) -> tuple[NDArray[np.float32], list[str]]:
        """Return what the generator is told of each sample, (N, c), and the sample ids."""
        ...


@dataclass(frozen=True, eq=False)
class Named:
    """Tiles, or latents, that were named.

    Attributes
    ----------
    truth, groups, samples : class, split group and sample of each row, shape (n,).
    probabilities : shape (n, classes).
    """

    truth: NDArray[np.str_]
    groups: NDArray[np.str_]
    samples: NDArray[np.str_]
    probabilities: NDArray[np.float32]

    def scores(self, classes: tuple[str, ...], *, n_boot: int, seed: int) -> Scores:
        """Score them with intervals over groups."""
        given: dict[str, Any] = {"groups": self.groups, "samples": self.samples, "n_boot": n_boot, "seed": seed}
        return score(self.truth, self.probabilities, classes, **given)

    def exchanged(self, classes: tuple[str, ...], *, n_shuffles: int, seed: int) -> Exchanged:
        """Score them after the samples were exchanged."""
        given: dict[str, Any] = {"samples": self.samples, "n_shuffles": n_shuffles, "seed": seed}
        return exchanged(self.truth, self.probabilities, classes, **given)


def told(generator: Encoding, way: Way, external: ExternalCohort, train: AnnData) -> AnnData:
    """Return the external profiles as this generator's encoder reads them: z-scores, missing genes filled.

    Raises
    ------
    InputError : a generator without an encoder of profiles, or all genes wanted of a cohort that lacks some.
    """
    if generator.encoder is None:
        raise InputError("generator", expected="one that is told RNA", found="one without an encoder")
    profiles = external.complete if way.complete else external.profiles
    if profiles is None:
        raise InputError(external.label, expected="all genes", found="a cohort that lacks some", fix="leave this way out")
    z = bring_in(generator.encoder, profiles, train, missing=way.missing, correction=way.correction)
    z.uns["unit"] = generator.encoder.transform.unit
    return z


def named_made(
    generator: Encoding, classifier: TileClassifier, profiles: AnnData, *, tiles: int, seed: int
) -> tuple[Named, NDArray[np.uint8]]:
    """Generate tiles of profiles and name them; profiles whose class is unknown are left out.

    Generated tiles are shown as they are made: where the generator learned from tiles of the common stain, they have it.

    Returns
    -------
    What was named, and the tiles, uint8 (profiles, tiles, px, px, 3).

    Raises
    ------
    InputError : no profile of a known class.
    """
    truth = classifier.labels(profiles.obs)
    known = np.flatnonzero(truth != "")
    if not len(known):
        raise InputError("external profiles", expected="classes of the classifier", found="none")
    chosen = profiles[known].copy()
    made = generator.generate(chosen, tiles, seed=seed)
    p = classifier(made.reshape(-1, *made.shape[2:]), generator.mpp_um)
    return _named(chosen.obs, truth[known], p, tiles), made


def named_mean(
    generator: Encoding, classifier: TileClassifier, profiles: AnnData, train: AnnData, *, tiles: int, seed: int
) -> Named:
    """Name tiles of the mean training profile as if they had been made for each sample: the RNA says nothing of it.

    Parameters
    ----------
    profiles : the external samples, for their classes.
    train : raw training profiles; the geometric mean of the tissues' means is the one profile.
    tiles : made in all, and shown for each sample.
    """
    only_training(train)
    whole = tissue_mean_profiles(train)
    whole.obs["tissue"] = "mean"
    made = generator.generate(tissue_mean_profiles(whole), tiles, seed=seed)
    truth = classifier.labels(profiles.obs)
    known = np.flatnonzero(truth != "")
    p = np.tile(classifier(made[0], generator.mpp_um), (len(known), 1))
    return _named(profiles.obs.iloc[known], truth[known], p, tiles)


def as_shown(classifier: TileClassifier, tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a sample's real tiles as the classifier learned such: at its pixel size first, then of one stain if it did.

    The order matters: averaging takes away the darkest pixels, by which the strength of a stain is measured.
    """
    small = np.stack([resize(tile, classifier.px) for tile in tiles])
    return same_stain(small) if classifier.restained else small


def named_real(classifier: TileClassifier, profiles: AnnData, tiles: Mapping[str, NDArray[np.uint8]] | None) -> Named | None:
    """Name the real tiles of external samples (sample -> uint8 tiles of the classifier's field); None: there are none."""
    if tiles is None:
        return None
    truth = classifier.labels(profiles.obs)
    parts, rows = [], []
    for row, name in enumerate(map(str, profiles.obs_names)):
        if truth[row]:
            parts.append(classifier(as_shown(classifier, tiles[name]), classifier.tile_um / classifier.px))
            rows += [row] * len(parts[-1])
    return _named(profiles.obs.iloc[rows], truth[rows], np.concatenate(parts), 1)


def named_held_out(classifier: TileClassifier, cohort: Cohort, split: str = "test", *, batch: int = 256) -> Named:
    """Name real tiles of held-out samples of the cohort that the classifier was trained on, as its training saw them."""
    data = classifier.system.dataset(cohort, split)
    parts = []
    for start in range(0, len(data), batch):
        tiles = data.fetch(np.arange(start, min(start + batch, len(data))))["tile"]
        pixels = ((tiles + 1.0) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        parts.append(classifier(pixels, classifier.tile_um / classifier.px))
    obs = cohort.profiles.obs.iloc[data.samples]
    return _named(obs, classifier.labels(obs), np.concatenate(parts), 1)


class LatentNamer:
    """Logistic regression from what the generator is told to the class: the same question, without an image.

    Parameters
    ----------
    generator : whose encoder makes the latents.
    cohort : its training profiles of a known class are learned from.
    classifier : whose classes are named.
    """

    def __init__(self, generator: Encoding, cohort: Cohort, classifier: TileClassifier) -> None:
        train = cohort.only("train").profiles
        truth = classifier.labels(train.obs)
        known = truth != ""
        told_of = generator.conditions(train)[0][known]
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000))
        self._model = model.fit(np.asarray(told_of, dtype=np.float64), truth[known])
        self.generator, self.classifier = generator, classifier

    def __call__(self, profiles: AnnData) -> Named:
        """Name raw or transformed profiles of a known class."""
        truth = self.classifier.labels(profiles.obs)
        known = np.flatnonzero(truth != "")
        latents = np.asarray(self.generator.conditions(profiles)[0][known], dtype=np.float64)
        found = self._model.predict_proba(latents)
        p = np.zeros((len(known), len(self.classifier.classes)), dtype=np.float32)
        p[:, [self.classifier.classes.index(str(name)) for name in self._model.classes_]] = found
        return _named(profiles.obs.iloc[known], truth[known], p, 1)


def _named(obs: pd.DataFrame, truth: NDArray[Any], p: NDArray[np.float32], tiles: int) -> Named:
    """Join probabilities with their samples, each of which has `tiles` rows."""
    index = np.repeat(np.arange(len(obs)), tiles)
    groups, samples = (column.to_numpy(dtype=str)[index] for column in (obs["split_group"], obs.index))
    return Named(np.asarray(truth)[index], groups, samples, p)


def ways_of(external: ExternalCohort, ways: Mapping[str, Way]) -> dict[str, Way]:
    """Return the ways that this cohort allows: all genes only where they are known."""
    return {name: way for name, way in ways.items() if external.complete is not None or not way.complete}
