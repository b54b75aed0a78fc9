"""Samples with a known truth: a latent that tiles, text and genes follow, each with noise of a known size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rnasynth.evaluation.profiles.pairs import Pairs

TISSUES = ("brain", "lung", "skin")
N_GENES, DIM, LATENT = 60, 12, 4
FOLLOWING = 40  # the first genes follow the latent, the others are noise


@dataclass(frozen=True)
class MadeInputs:
    """The shape of `PatientInputs`."""

    sample_ids: tuple[str, ...]
    bags: tuple[NDArray[np.float32] | None, ...]
    texts: tuple[str, ...]
    tissues: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sample_ids)

    def take(self, rows: list[int]) -> MadeInputs:
        def chosen(values: tuple) -> tuple:  # type: ignore[type-arg]
            return tuple(values[row] for row in rows)

        return MadeInputs(chosen(self.sample_ids), chosen(self.bags), chosen(self.texts), chosen(self.tissues))


def world(
    n: int, split: str, *, seed: int = 0, tiles: int = 5, noise: float = 0.5, by_tissue: float = 1.0
) -> tuple[Pairs, NDArray[np.float64]]:
    """Return samples and their latents; genes have unit scale, `noise` is the SD of each gene's own noise."""
    rules = np.random.default_rng(99)
    loads = rules.normal(size=(LATENT, N_GENES)) / np.sqrt(LATENT)
    loads[:, FOLLOWING:] = 0
    offsets = by_tissue * rules.normal(size=(len(TISSUES), N_GENES))
    offsets[:, FOLLOWING:] = 0
    seen = rules.normal(size=(LATENT, DIM))
    generator = np.random.default_rng((seed, *split.encode()))
    u = generator.normal(size=(n, LATENT))
    tissue = np.arange(n) % len(TISSUES)
    z = u @ loads + offsets[tissue] + noise * generator.normal(size=(n, N_GENES))
    z[:, FOLLOWING:] += np.sqrt(1 - noise**2) * generator.normal(size=(n, N_GENES - FOLLOWING))
    bags = tuple(
        (u[row] @ seen + generator.normal(size=(tiles, DIM)) + 2 * tissue[row]).astype(np.float32) for row in range(n)
    )
    texts = tuple(
        f"stage {'high' if value > 0 else 'low'} noted, age {generator.integers(40, 70)}"
        for row, value in enumerate(u[:, 0])
    )
    names = tuple(f"{split}-{row}" for row in range(n))
    inputs = MadeInputs(names, bags, texts, tuple(TISSUES[number] for number in tissue))
    genes = tuple(f"G{number}" for number in range(N_GENES))
    return Pairs(inputs, z.astype(np.float32), genes, np.array(names), split), u


def with_inputs(pairs: Pairs, **changes: object) -> Pairs:
    """Return pairs with other bags, texts or tissues."""
    return replace(pairs, inputs=replace(pairs.inputs, **changes))  # type: ignore[type-var]
