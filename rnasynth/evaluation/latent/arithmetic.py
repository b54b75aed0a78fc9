"""Arithmetic in the latent: a tissue's centroid, profiles made around it, patients moved to another tissue, ways between.

Everything here takes a trained system with `transform`, `encode` and `decode` (the beta-VAE, or any other) and AnnData,
raw or transformed by that system; it returns AnnData of z-scores that carry `uns["transform"]`. Linear values come from
`system.transform.inverse(made.X)`.

Examples
--------
From a run to profiles of a tissue, and to a patient moved there::

    system = run.load()
    centres = centroids(system, cohort.only("train").profiles)
    made = generate(system, centres, n=100, seed=0, tissues=["lung"])
    moved = shift(system, cohort.only("test").profiles, centres, target="lung")

Source: RNA-GAN (Cell Reports Methods 2023, Results, first section, and Fig. 2).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage

from rnasynth.data.genes import few, only_training
from rnasynth.data.transform import Transform
from rnasynth.engine import mixed_seed
from rnasynth.errors import InputError

Draws = Literal["tissue", "prior"]
KEPT = ("patient_id", "split_group", "split", "cohort")  # columns that follow a sample when it is moved


class LatentSystem(Protocol):
    """What a system must offer."""

    transform: Transform

    def encode(self, profiles: AnnData | NDArray[np.float32]) -> NDArray[np.float32]:
        """Return latents, shape (n, latent)."""
        ...

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return z-scores, shape (n, genes)."""
        ...


@dataclass(frozen=True, eq=False)
class Centroids:
    """Where each tissue's training samples lie in the latent, and how they spread there.

    Attributes
    ----------
    tissues : k names, sorted.
    mean : shape (k, latent), float32.
    deviations : k arrays of shape (samples of the tissue, latent), float32: its samples less its mean.
    shrinkage : shape (k,), in [0, 1]: how far the covariance is drawn towards a multiple of the identity (Ledoit and Wolf,
        J Multivariate Anal 2004). Latents often outnumber patients, and the plain covariance then misses directions.
    by : the column of `obs` that the tissues come from.
    """

    tissues: tuple[str, ...]
    mean: NDArray[np.float32]
    deviations: tuple[NDArray[np.float32], ...]
    shrinkage: NDArray[np.float64]
    by: str = "tissue"

    @property
    def counts(self) -> dict[str, int]:
        """Training samples of each tissue."""
        return {tissue: len(part) for tissue, part in zip(self.tissues, self.deviations, strict=True)}

    def place(self, tissue: str) -> int:
        """Return the row of a tissue.

        Raises
        ------
        InputError : no such tissue.
        """
        if tissue not in self.tissues:
            raise InputError(
                f"tissue {tissue!r}",
                expected=f"one with a centroid: {', '.join(self.tissues)}",
                found="none",
                fix="it needs training samples",
            )
        return self.tissues.index(tissue)

    def covariance(self, tissue: str) -> NDArray[np.float64]:
        """Return a tissue's shrunk covariance, shape (latent, latent): (1 - s) S + s tr(S) / latent I."""
        row = self.place(tissue)
        deviations, shrunk = self.deviations[row].astype(np.float64), self.shrinkage[row]
        empirical = deviations.T @ deviations / len(deviations)
        return (1 - shrunk) * empirical + shrunk * np.trace(empirical) / len(empirical) * np.eye(len(empirical))

    def draw(self, tissue: str, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw one latent from N(mean, covariance) of a tissue, shape (latent,).

        The samples' own deviations, mixed by independent normals, have their covariance exactly; so the matrix of
        (latent, latent) is never built.
        """
        row = self.place(tissue)
        deviations, shrunk = self.deviations[row].astype(np.float64), self.shrinkage[row]
        n, size = deviations.shape
        along = generator.standard_normal(n) @ deviations / np.sqrt(n)
        everywhere = generator.standard_normal(size) * np.sqrt(np.square(deviations).sum() / (n * size))
        return self.mean[row] + np.sqrt(1 - shrunk) * along + np.sqrt(shrunk) * everywhere


def centroids(system: LatentSystem, profiles: AnnData, *, by: str = "tissue") -> Centroids:
    """Encode training profiles and describe each tissue's place in the latent.

    Parameters
    ----------
    system : trained, with `encode`.
    profiles : training profiles, raw or transformed by the system.
    by : column of `obs` with the tissue.

    Raises
    ------
    SplitError : a sample is not for training.
    InputError : no such column, a sample without tissue, no samples, or genes that do not match the system's.
    """
    only_training(profiles)
    names = labels_of(profiles, by)
    latents = np.asarray(system.encode(profiles), dtype=np.float32)
    tissues = tuple(sorted(set(names)))
    means = [latents[names == tissue].mean(axis=0, dtype=np.float64).astype(np.float32) for tissue in tissues]
    deviations = tuple(latents[names == tissue] - mean for tissue, mean in zip(tissues, means, strict=True))
    shrinkage = np.array([_shrinkage(part) for part in deviations])
    return Centroids(tissues, np.stack(means), deviations, shrinkage, by)


def generate(
    system: LatentSystem,
    centres: Centroids,
    *,
    n: int,
    seed: int,
    draws: Draws = "tissue",
    tissues: Iterable[str] | None = None,
) -> AnnData:
    """Make `n` profiles of each tissue.

    Parameters
    ----------
    n : profiles a tissue. Profile number i of a tissue depends on (seed, tissue, i) only, whatever `n` and `tissues` are.
    draws : "tissue": from the normal with the tissue's mean and shrunk covariance.
        "prior": the centroid plus a draw from N(0, I), as published ("add this centroid vector to randomly drawn samples
        from the latent distribution"); around a tissue that is narrower than the prior it spreads too far.
    tissues : which; None: all that have a centroid.

    Returns
    -------
    Z-scores; `obs`: sample_id, tissue, draws.

    Raises
    ------
    InputError : unknown tissue or kind of draws, `n` below 1, or one sample only where its covariance is asked for.
    """
    if n < 1 or draws not in get_args(Draws):
        raise InputError("generate", expected=f"n of 1 or more, draws one of {get_args(Draws)}", found=f"{n}, {draws!r}")
    wanted = centres.tissues if tissues is None else tuple(tissues)
    latents, rows = [], []
    for tissue in wanted:
        row = centres.place(tissue)
        if draws == "tissue" and centres.counts[tissue] < 2:
            raise InputError(
                f"tissue {tissue!r}",
                expected="at least 2 training samples, to know its spread",
                found="1",
                fix='use draws="prior", or leave the tissue out',
            )
        for number in range(n):
            generator = np.random.default_rng(mixed_seed("latent", draws, seed, tissue, number))
            if draws == "tissue":
                latents.append(centres.draw(tissue, generator))
            else:
                latents.append(centres.mean[row] + generator.standard_normal(centres.mean.shape[1]))
            rows.append({"sample_id": f"{tissue} {draws} {number}", "tissue": tissue, "draws": draws})
    return _decoded(system, np.array(latents), pd.DataFrame(rows, columns=["sample_id", "tissue", "draws"]))


def shift(system: LatentSystem, profiles: AnnData, centres: Centroids, *, target: str, source: str | None = None) -> AnnData:
    """Move samples to another tissue: latent + centroid of `target` - centroid of their own tissue, decoded.

    Parameters
    ----------
    profiles : raw or transformed by the system.
    target : the wanted tissue.
    source : the tissue that they are from; None: each sample's own (column `centres.by`).

    Returns
    -------
    Z-scores in the order of `profiles`; `obs`: sample_id ("SAMPLE to TARGET"), tissue (the target), source (tissue),
    source_sample, and patient_id, split_group, split, cohort of the sample, where known.

    Raises
    ------
    InputError : a tissue without centroid, a sample without tissue, or genes that do not match the system's.
    """
    own = labels_of(profiles, centres.by) if source is None else np.full(profiles.n_obs, source)
    return _moved(system, profiles, centres, own, np.arange(profiles.n_obs), np.full(profiles.n_obs, target))


def shift_to_others(
    system: LatentSystem, profiles: AnnData, centres: Centroids, *, limit: int | None = None, seed: int = 0
) -> AnnData:
    """Move each sample to each other tissue that has a centroid.

    Parameters
    ----------
    limit : at most so many profiles, chosen by `seed` among all (sample, tissue); None: all of them, which is the number of
        samples times that of the other tissues.

    Returns
    -------
    As `shift` gives them.

    Raises
    ------
    InputError : as in `shift`; only one tissue has a centroid.
    """
    if len(centres.tissues) < 2:
        raise InputError("shift to other tissues", expected="two or more tissues", found=few(centres.tissues))
    own = labels_of(profiles, centres.by)
    pairs = [(row, tissue) for row in range(profiles.n_obs) for tissue in centres.tissues if tissue != own[row]]
    if limit is not None and len(pairs) > limit:
        chosen = np.random.default_rng(mixed_seed("shift", seed)).choice(len(pairs), max(limit, 1), replace=False)
        pairs = [pairs[number] for number in sorted(chosen)]
    rows = np.array([row for row, _ in pairs])
    return _moved(system, profiles, centres, own, rows, np.array([tissue for _, tissue in pairs]))


def interpolate(system: LatentSystem, start: AnnData, end: AnnData, steps: int) -> AnnData:
    """Walk from one sample to another in equal steps of the latent.

    Parameters
    ----------
    start, end : one sample each, raw or transformed by the system.
    steps : 2 or more; the first is the reconstruction of `start`, the last that of `end`.

    Returns
    -------
    Z-scores of `steps` profiles; `obs`: sample_id, share (of the way, 0 to 1), start, end (sample ids).

    Raises
    ------
    InputError : not one sample each, or fewer than two steps.
    """
    if start.n_obs != 1 or end.n_obs != 1 or steps < 2:
        raise InputError(
            "interpolate",
            expected="one sample at each end, 2 steps or more",
            found=f"{start.n_obs} and {end.n_obs} samples, {steps} steps",
        )
    first, last = (np.asarray(system.encode(each), dtype=np.float64) for each in (start, end))
    share = np.linspace(0, 1, steps)
    names = str(start.obs_names[0]), str(end.obs_names[0])
    obs = pd.DataFrame({"sample_id": [f"{names[0]} to {names[1]}, {part:.3f}" for part in share], "share": share})
    obs["start"], obs["end"] = names
    return _decoded(system, first + share[:, None] * (last - first), obs)


def reconstructed(system: LatentSystem, profiles: AnnData) -> AnnData:
    """Return what comes back of each sample through the latent: z-scores, `obs` that of `profiles`.

    Raises
    ------
    InputError : genes that do not match the system's.
    """
    return system.transform.wrap(system.decode(system.encode(profiles)), profiles.obs.copy())


def scores(system: LatentSystem, profiles: AnnData) -> NDArray[np.float32]:
    """Return z-scores of profiles that are raw, or transformed by the system already; shape (n, genes), float32.

    Raises
    ------
    InputError : transformed by another transform, or genes that do not match.
    """
    if "transform" not in profiles.uns:
        return np.asarray(system.transform.apply(profiles).X, dtype=np.float32)
    if Transform.from_dict(dict(profiles.uns["transform"])) != system.transform:
        raise InputError("profiles", expected="raw, or of the system's own transform", found="another transform")
    return np.asarray(profiles[:, list(system.transform.genes)].X, dtype=np.float32)


def labels_of(profiles: AnnData, by: str = "tissue") -> NDArray[np.str_]:
    """Return a column of `obs` as text, shape (n,).

    Raises
    ------
    InputError : no samples, no such column, or a sample without a value.
    """
    if not profiles.n_obs:
        raise InputError("profiles", expected="at least one sample", found="none")
    if by not in profiles.obs:
        raise InputError(f"column {by!r}", expected="a column of obs", found=f"only {few(profiles.obs.columns)}")
    column = profiles.obs[by]
    if (empty := (column.isna() | (column.astype(str).str.strip() == "")).to_numpy()).any():
        raise InputError(f"sample {few(profiles.obs_names[empty])}", expected=f"a value of {by!r}", found="none")
    return column.astype(str).to_numpy(dtype=str)


def _shrinkage(deviations: NDArray[np.float32]) -> float:
    spread = np.square(deviations, dtype=np.float64).sum()
    if len(deviations) < 2 or spread == 0:
        return 0.0
    return float(ledoit_wolf_shrinkage(deviations.astype(np.float64), assume_centered=True))


def _moved(
    system: LatentSystem,
    profiles: AnnData,
    centres: Centroids,
    own: Sequence[str] | NDArray[np.str_],
    rows: NDArray[np.intp],
    targets: NDArray[np.str_],
) -> AnnData:
    """Decode samples `rows` moved from their own tissue to `targets`, one each."""
    place = {name: centres.place(str(name)) for name in itertools.chain(dict.fromkeys(own), dict.fromkeys(targets))}
    latents = np.asarray(system.encode(profiles), dtype=np.float64)[rows]
    start = [place[own[row]] for row in rows]
    end = [place[name] for name in targets]
    names = profiles.obs_names.astype(str)
    obs: dict[str, Any] = {
        "sample_id": [f"{names[row]} to {target}" for row, target in zip(rows, targets, strict=True)],
        "tissue": [str(target) for target in targets],
        "source": [str(own[row]) for row in rows],
        "source_sample": [names[row] for row in rows],
    }
    obs |= {name: profiles.obs[name].to_numpy()[rows] for name in KEPT if name in profiles.obs}
    return _decoded(system, latents + (centres.mean[end] - centres.mean[start]), pd.DataFrame(obs))


def _decoded(system: LatentSystem, latents: NDArray[Any], obs: pd.DataFrame) -> AnnData:
    obs.index = pd.Index(obs["sample_id"].astype(str), name=None)
    return system.transform.wrap(system.decode(np.asarray(latents, dtype=np.float32)), obs)
