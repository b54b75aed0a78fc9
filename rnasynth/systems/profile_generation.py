"""Patients in, profiles out: a trained system of `systems.gemm` or `systems.profile_baselines` as an object.

Every sample of a profile has a random generator of its own, keyed by (seed, sample id, number of the draw): it is the same
profile whatever else stands in the batch (on one machine; other batches may move the last digits by rounding).
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor

from rnasynth.data.cohort import Cohort
from rnasynth.data.patients import PatientInputs
from rnasynth.data.transform import Transform
from rnasynth.engine import mixed_seed
from rnasynth.errors import InputError

BATCH = 64  # patients told at a time, and rows drawn at a time


class ProfileSystem(Protocol):
    """What a system gives to be drawn from."""

    name: ClassVar[str]
    transform: Transform

    def inputs(self, cohort: Cohort, split: str | None = None) -> PatientInputs: ...

    def told(self, inputs: PatientInputs) -> Tensor:
        """Return the condition vectors of samples, shape (N, c)."""
        ...

    def draw(self, told: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Return a profile's z-scores for every row of the condition, shape (B, genes)."""
        ...

    def expected(self, told: Tensor) -> Tensor | None:
        """Return the mean of the profiles, shape (B, genes), where the system has a way to it but drawing."""
        ...

    def eval(self) -> Any: ...

    def to(self, device: str) -> Any: ...


class ProfileGenerator:
    """A trained system that makes profiles of patients.

    Parameters
    ----------
    system : with trained weights.
    run_id : the run that it comes from, for tables.

    Attributes
    ----------
    genes : order of the genes, as in `transform`.
    transform : z-scores <-> linear profiles.
    name : of the system, e.g. "gemm-flow".
    """

    def __init__(self, system: ProfileSystem, *, run_id: str = "") -> None:
        self.system, self.run_id = system, run_id
        self.transform = system.transform
        self.genes = system.transform.genes
        self.name = str(system.name)
        system.eval()

    def to(self, device: str = "auto") -> Self:
        """Move the networks to "cpu", "cuda" or ("auto") the GPU if there is one; noise is drawn on the CPU in any case."""
        self.system.to(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        return self

    def inputs(self, cohort: Cohort, split: str | None = None) -> PatientInputs:
        """Return a cohort's samples as this system reads them: its feature network, um/px, number and choice of tiles."""
        return self.system.inputs(cohort, split)

    def sample(self, inputs: PatientInputs, n: int, seed: int = 0, *, batch: int = BATCH) -> NDArray[np.float32]:
        """Draw profiles of every sample.

        Parameters
        ----------
        inputs : of N samples; see `inputs`.
        n : profiles of each.
        seed : of the noise.
        batch : samples, and profiles, at a time.

        Returns
        -------
        Shape (N, n, genes), float32, z-scores.

        Raises
        ------
        InputError : features of another network, a text or tiles where the run never saw any, an unknown label.
        """
        if n < 1:
            raise InputError("profiles of a sample", expected="at least 1", found=str(n))
        told = self._told(inputs, batch)
        rows = np.repeat(np.arange(len(inputs)), n)
        out = np.empty((len(rows), len(self.genes)), np.float32)
        with torch.inference_mode():
            for start in range(0, len(rows), batch):
                mine = range(start, min(start + batch, len(rows)))
                generators = [profile_generator(seed, inputs.sample_ids[rows[row]], row % n) for row in mine]
                made = self.system.draw(told[rows[start : start + batch]], generators)
                out[start : start + batch] = made.float().cpu().numpy()
        return out.reshape(len(inputs), n, len(self.genes))

    def mean(self, inputs: PatientInputs, n: int = 16, seed: int = 0, *, batch: int = BATCH) -> NDArray[np.float32]:
        """Return the expected profile of every sample, shape (N, genes), float32, z-scores.

        A system that learnt the mean (gemm-flow) decodes it, whatever `n` and `seed`; else the mean of `n` draws, whose own
        noise is a draw's divided by the root of `n`.
        """
        told = self._told(inputs, batch)
        out = np.empty((len(inputs), len(self.genes)), np.float32)
        with torch.inference_mode():
            for start in range(0, len(inputs), batch):
                made = self.system.expected(told[start : start + batch])
                if made is None:
                    part = inputs.take(slice(start, start + batch))
                    out[start : start + batch] = self.sample(part, n, seed, batch=batch).mean(axis=1)
                else:
                    out[start : start + batch] = made.float().cpu().numpy()
        return out

    def profiles(self, inputs: PatientInputs, n: int = 16, seed: int = 0) -> AnnData:
        """Return expected profiles with their uncertainty, for a file.

        Returns
        -------
        AnnData as `Transform.wrap` makes it, N rows; `X` = `mean`; `layers["sd"]`, `layers["low"]` and `layers["high"]`
        (5th and 95th percentile of `n` draws), all in z-scores; `layers["linear"]`: X in the transform's unit;
        `obs`: sample_id, n_tiles, has_text; `uns["run"]`.
        """
        draws = self.sample(inputs, n, seed)
        obs = pd.DataFrame(
            {
                "sample_id": list(inputs.sample_ids),
                "n_tiles": [0 if bag is None else len(bag) for bag in inputs.bags],
                "has_text": [bool(text.strip()) for text in inputs.texts],
            },
            index=pd.Index(list(inputs.sample_ids), dtype=object),
        )
        made = self.transform.wrap(self.mean(inputs, n, seed), obs)
        made.layers["sd"] = draws.std(axis=1)
        made.layers["low"], made.layers["high"] = np.quantile(draws, [0.05, 0.95], axis=1).astype(np.float32)
        made.layers["linear"] = self.transform.inverse(np.asarray(made.X))
        made.uns["run"] = self.run_id
        return made

    def _told(self, inputs: PatientInputs, batch: int) -> Tensor:
        if not len(inputs):
            raise InputError("patient inputs", expected="at least one sample", found="none")
        with torch.inference_mode():
            parts = [self.system.told(inputs.take(slice(s, s + batch))) for s in range(0, len(inputs), batch)]
        return torch.cat(parts)


def profile_generator(seed: int, sample: str, number: int) -> torch.Generator:
    """Return the random generator of draw `number` of a sample: the same in whatever batch or order it is drawn."""
    return torch.Generator().manual_seed(mixed_seed("profile", seed, sample, int(number)))
