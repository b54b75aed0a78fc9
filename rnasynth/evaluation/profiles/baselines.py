"""What any model must beat: the mean profile, the label's mean, and ridge regression on mean features or on the text.

Fitted on training samples, with what must be chosen chosen by validation samples; all with the interface of a trained
`ProfileGenerator` (`name`, `genes`, `sample`, `mean`), so that every measure takes them as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer

from rnasynth.engine import mixed_seed
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.profiles.pairs import Inputs, Pairs, ProfileModel, check_disjoint

MEAN_PROFILE = "mean profile"
LABEL_MEAN = "label alone"
RIDGE_FEATURES = "ridge, mean features"
RIDGE_TEXT = "ridge, text"
RIDGE_BOTH = "ridge, features and text"
TEXT_HASHES = 1024  # columns that words and pairs of words are hashed to
PENALTIES = np.logspace(-4, 5, 37)  # of columns whose variances add up to 1
BLOCK_WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the text beside the features


@dataclass(frozen=True, eq=False)
class Baseline:
    """A fitted regression, and what it leaves: a draw is its prediction plus the residues of one sample, all genes together.

    Attributes
    ----------
    name, genes : as of every `ProfileModel`.
    predict : inputs -> z-scores, shape (N, genes).
    residues : label -> shape (m, genes): what is added to a prediction; under "" those of any label.
    """

    name: str
    genes: tuple[str, ...]
    predict: Callable[[Inputs], NDArray[np.float32]]
    residues: Mapping[str, NDArray[np.float32]]

    def mean(self, inputs: Inputs, n: int = 16, seed: int = 0) -> NDArray[np.float32]:
        """Return the prediction, shape (N, genes); nothing is drawn, `n` and `seed` change nothing."""
        return np.asarray(self.predict(inputs), dtype=np.float32)

    def sample(self, inputs: Inputs, n: int, seed: int = 0) -> NDArray[np.float32]:
        """Return draws, shape (N, n, genes): keyed by (seed, sample id, number), so the same in any batch.

        Raises
        ------
        InputError : n below 1.
        """
        if n < 1:
            raise InputError("draws", expected="1 or more", found=str(n))
        out = np.repeat(self.mean(inputs)[:, None], n, axis=1)
        for row, (sample, tissue) in enumerate(zip(inputs.sample_ids, inputs.tissues, strict=True)):
            residues = self.residues.get(tissue, self.residues.get(""))
            assert residues is not None
            for number in range(n):
                generator = np.random.default_rng(mixed_seed("baseline", seed, sample, number))
                out[row, number] += residues[generator.integers(len(residues))]
        return out


def mean_profile(train: Pairs) -> Baseline:
    """Return the mean training profile for everyone; its draws are training profiles themselves (so they *are* copies)."""
    centre = _training(train).z.mean(axis=0, dtype=np.float64).astype(np.float32)
    residues = {"": train.z - centre}
    return Baseline(MEAN_PROFILE, train.genes, lambda inputs: np.repeat(centre[None], len(inputs), axis=0), residues)


def label_mean(train: Pairs) -> Baseline:
    """Return the mean training profile of a sample's label; its draws are training profiles of the label.

    What a model knows that knows only the label; `predict` raises InputError for a label that was not in training.
    """
    tissues = _training(train).tissues
    centres = {str(tissue): train.z[tissues == tissue].mean(axis=0, dtype=np.float64) for tissue in np.unique(tissues)}

    def predict(inputs: Inputs) -> NDArray[np.float32]:
        if unknown := sorted(set(inputs.tissues) - set(centres)):
            raise InputError(f"label {unknown[0]!r}", expected=f"one of {', '.join(centres)}", found="none in training")
        return np.array([centres[tissue] for tissue in inputs.tissues], dtype=np.float32)

    residues = {tissue: (train.z[tissues == tissue] - centre).astype(np.float32) for tissue, centre in centres.items()}
    return Baseline(LABEL_MEAN, train.genes, predict, residues)


def ridge_features(train: Pairs, val: Pairs) -> Baseline:
    """Return ridge regression from the mean of a sample's tile features; a sample without tiles has the training mean.

    Raises
    ------
    InputError : no training sample has tiles, or the validation samples' features have another width.
    """
    features = _feature_reader(_training(train).inputs)
    return _ridge(RIDGE_FEATURES, train, val, lambda inputs: [features(inputs)])


def ridge_text(train: Pairs, val: Pairs) -> Baseline:
    """Return ridge regression from hashed words and pairs of words: what the text tells without any image.

    Raises
    ------
    InputError : no training sample has a text.
    """
    if not any(_training(train).inputs.texts):
        raise InputError("clinical texts", expected="some in training", found="none", fix="leave this baseline out")
    return _ridge(RIDGE_TEXT, train, val, lambda inputs: [hashed_words(inputs)])


def ridge_both(train: Pairs, val: Pairs) -> Baseline:
    """Return ridge regression from mean features and hashed words together; errors as in the two."""
    features = _feature_reader(_training(train).inputs)
    return _ridge(RIDGE_BOTH, train, val, lambda inputs: [features(inputs), hashed_words(inputs)])


def fit_baselines(train: Pairs, val: Pairs, *, seed: int = 0) -> dict[str, ProfileModel]:
    """Fit all that the inputs allow, by name: mean, label, ridge on features, on text and on both, attention pooling.

    Raises
    ------
    SplitError : not training and validation samples, or a split group in both.
    """
    from rnasynth.evaluation.profiles.attention import attention_pooling

    check_disjoint(train, val)
    fitted: list[ProfileModel] = [mean_profile(train), label_mean(train)]
    tiles, text = any(bag is not None for bag in train.inputs.bags), any(train.inputs.texts)
    if tiles:
        fitted += [ridge_features(train, val), attention_pooling(train, val, seed=seed)]
    if text:
        fitted.append(ridge_text(train, val))
    if tiles and text:
        fitted.append(ridge_both(train, val))
    return {model.name: model for model in fitted}


def mean_features(inputs: Inputs) -> NDArray[np.float64]:
    """Return the mean of each sample's tile features, shape (N, dim); NaN for a sample without tiles.

    Raises
    ------
    InputError : no sample has tiles, bags of several widths, or values that are not finite.
    """
    widths = {bag.shape[1] for bag in inputs.bags if bag is not None}
    if len(widths) != 1:
        found = "none" if not widths else f"widths {sorted(widths)}"
        raise InputError("tile features", expected="bags of one width, one sample with tiles or more", found=found)
    out = np.full((len(inputs), widths.pop()), np.nan)
    for row, bag in enumerate(inputs.bags):
        if bag is not None and len(bag):
            if not np.isfinite(bag).all():
                raise InputError(
                    f"sample {inputs.sample_ids[row]}", expected="finite tile features", found="NaN or infinity"
                )
            out[row] = bag.mean(axis=0, dtype=np.float64)
    return out


def hashed_words(inputs: Inputs) -> NDArray[np.float64]:
    """Return each text as hashed words and pairs of words, shape (N, 1024), length 1; zeros for no text."""
    words = HashingVectorizer(n_features=TEXT_HASHES, ngram_range=(1, 2), alternate_sign=False)
    return np.asarray(words.transform(list(inputs.texts)).toarray(), dtype=np.float64)


def _feature_reader(train: Inputs) -> Callable[[Inputs], NDArray[np.float64]]:
    """Mean features, standardised by the training samples'; 0, their mean, where a sample has none."""
    known = mean_features(train)
    centre, sd = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
    sd = np.where(sd > 1e-9, sd, 1.0)

    def read(inputs: Inputs) -> NDArray[np.float64]:
        if not any(bag is not None for bag in inputs.bags):
            return np.zeros((len(inputs), len(centre)))
        found = mean_features(inputs)
        if found.shape[1] != len(centre):
            raise InputError("tile features", expected=f"{len(centre)}, as in training", found=str(found.shape[1]))
        return np.nan_to_num((found - centre) / sd, nan=0.0)

    return read


def _ridge(name: str, train: Pairs, val: Pairs, read: Callable[[Inputs], Sequence[NDArray[np.float64]]]) -> Baseline:
    """Fit ridge regression on blocks of columns; the penalty, and how much the second block counts, by validation error.

    `read` gives the blocks of given inputs, shape (N, columns) each. A block is centred and divided by one number, so that
    its columns' variance adds up to 1: a thousand rare words must not outweigh sixty features by their number.
    """
    if val.split == "test":
        raise SplitError("choice of a penalty", expected="validation samples", found="test samples")
    check_disjoint(train, val)
    blocks = read(train.inputs)
    centres = [block.mean(axis=0) for block in blocks]
    sizes = [max(float(np.sqrt(block.var(axis=0).sum())), 1e-9) for block in blocks]

    def columns(inputs: Inputs, weight: float) -> NDArray[np.float64]:
        parts = [(block - centre) / size for block, centre, size in zip(read(inputs), centres, sizes, strict=True)]
        return np.hstack([parts[0], *(weight * part for part in parts[1:])])

    offset = train.z.mean(axis=0, dtype=np.float64)
    best = (np.inf, 1.0, np.zeros((0, 0)))
    for weight in BLOCK_WEIGHTS if len(blocks) > 1 else (1.0,):
        left, values, right = np.linalg.svd(columns(train.inputs, weight), full_matrices=False)
        inner, outer = left.T @ (train.z - offset), columns(val.inputs, weight) @ right.T
        for penalty in PENALTIES:
            shrunk = (values / (values**2 + penalty))[:, None] * inner
            error = float(np.square(outer @ shrunk + offset - val.z).mean())
            if error < best[0]:
                best = (error, weight, right.T @ shrunk)
    _, chosen, slope = best

    def predict(inputs: Inputs) -> NDArray[np.float32]:
        return (columns(inputs, chosen) @ slope + offset).astype(np.float32)

    return Baseline(name, train.genes, predict, {"": val.z - predict(val.inputs)})


def _training(train: Pairs) -> Pairs:
    if train.split != "train":
        raise SplitError("baseline", expected="training samples", found=f"split {train.split!r}", fix="fit on train")
    return train
