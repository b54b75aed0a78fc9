"""Widen a model's draws by each gene's own noise, measured on validation samples.

What comes out of a decoder has less noise than a patient: one gene's own variation is in no short latent and in no tile.
Draws without it are too sure, however good the model; adding it repairs coverage and leaves the mean as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnasynth.engine import mixed_seed
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.profiles.pairs import Inputs, Pairs, ProfileModel


@dataclass(frozen=True, eq=False)
class WithNoise:
    """A model with normal noise of its own for each gene.

    Attributes
    ----------
    model : whose draws are widened.
    sd : shape (genes,), z-scores.
    """

    model: ProfileModel
    sd: NDArray[np.float32]

    @property
    def name(self) -> str:
        """The model's name, and that noise was added."""
        return f"{self.model.name} + noise"

    @property
    def genes(self) -> tuple[str, ...]:
        """Order of the columns."""
        return self.model.genes

    def mean(self, inputs: Inputs, n: int = 16, seed: int = 0) -> NDArray[np.float32]:
        """Return the model's own mean: noise has none."""
        return self.model.mean(inputs, n, seed)

    def sample(self, inputs: Inputs, n: int, seed: int = 0) -> NDArray[np.float32]:
        """Return the model's draws with noise, keyed by (seed, sample id, number); shape (N, n, genes)."""
        out = np.array(self.model.sample(inputs, n, seed), dtype=np.float32)
        for row, sample in enumerate(inputs.sample_ids):
            for number in range(n):
                generator = np.random.default_rng(mixed_seed("gene noise", seed, sample, number))
                out[row, number] += self.sd * generator.standard_normal(len(self.sd), dtype=np.float32)
        return out


def with_noise(model: ProfileModel, val: Pairs, *, n: int = 16, seed: int = 0) -> WithNoise:
    """Measure what a model's draws lack on validation samples: mean squared error of the mean, less the draws' variance.

    Parameters
    ----------
    val : validation samples, not the ones that coverage is then measured on.
    n : draws a sample, 2 or more.

    Raises
    ------
    SplitError : training or test samples. InputError : fewer than two draws, or other genes.

    Notes
    -----
    Where a real value is a draw from the model plus noise, the mean of n draws errs by noise + (1 + 1/n) variance. A gene
    whose draws vary more than that gets no noise; it stays too wide.
    """
    if val.split != "val":
        raise SplitError("noise of a model", expected="validation samples", found=f"split {val.split!r}")
    if n < 2 or model.genes != val.genes:
        raise InputError("noise of a model", expected="2 draws or more, and the model's genes", found=f"{n} draws")
    draws = np.asarray(model.sample(val.inputs, n, seed), dtype=np.float64)
    error = np.square(val.z - draws.mean(axis=1)).mean(axis=0)
    spread = draws.var(axis=1, ddof=1).mean(axis=0)
    return WithNoise(model, np.sqrt(np.maximum(error - (1 + 1 / n) * spread, 0.0)).astype(np.float32))


def drawn_wider(model: ProfileModel, val: Pairs, test: Pairs, n: int, *, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return the name of a model with noise (see `with_noise`) -> its draws for test samples, shape (N, n, genes)."""
    wide = with_noise(model, val, seed=seed)
    return {wide.name: wide.sample(test.inputs, n, seed)}
