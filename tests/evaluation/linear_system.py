"""A system whose latent is known: an orthogonal turn of the z-scores, so that every sum has its closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.transform import Transform
from rnasynth.evaluation.latent.arithmetic import scores

GENES = tuple(f"ENSG{number:011d}" for number in range(1, 13))
TISSUES = ("brain", "lung", "skin")


class LinearSystem:
    """Encodes and decodes by one orthogonal matrix: nothing is lost."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform
        size = len(transform.genes)
        self.turn = np.linalg.qr(np.random.default_rng(7).normal(size=(size, size)))[0].astype(np.float32)

    def encode(self, profiles: AnnData | NDArray[np.float32]) -> NDArray[np.float32]:
        z = scores(self, profiles) if isinstance(profiles, AnnData) else profiles
        return np.asarray(z @ self.turn, dtype=np.float32)

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(latents @ self.turn.T, dtype=np.float32)


def profiles(n: int = 60, *, split: str = "train", seed: int = 0, spread: float = 0.3, start: int = 0) -> AnnData:
    """Raw TPM of three tissues that differ in their first, second and third four genes; one patient a sample."""
    generator = np.random.default_rng((seed, start))
    tissues = [TISSUES[row % 3] for row in range(n)]
    log2 = generator.normal(5, spread, size=(n, len(GENES)))
    for row in range(n):
        log2[row, 4 * (row % 3) : 4 * (row % 3) + 4] += 3
    names = [f"{split}-{start + row}" for row in range(n)]
    obs = pd.DataFrame({"sample_id": names, "patient_id": names, "split_group": names}, index=names)
    obs["tissue"], obs["split"] = tissues, split
    x = (np.exp2(log2) - 1).clip(0).astype(np.float32)
    var = pd.DataFrame({"symbol": [f"G{g}" for g in range(len(GENES))]}, index=list(GENES))
    return AnnData(X=x, obs=obs, var=var, uns={"unit": "tpm"})


def trained(n: int = 60) -> tuple[LinearSystem, AnnData, AnnData]:
    """Return (system, training profiles, test profiles)."""
    train, test = profiles(n), profiles(n // 2, split="test", start=1000)
    return LinearSystem(Transform.fit(train, allow_small=True)), train, test
