"""Moving in the latent: centroids, draws, shifts and ways between profiles; and what judges them."""

from rnasynth.evaluation.latent.arithmetic import (
    Centroids,
    LatentSystem,
    centroids,
    generate,
    interpolate,
    labels_of,
    reconstructed,
    scores,
    shift,
    shift_to_others,
)

__all__ = [
    "Centroids",
    "LatentSystem",
    "centroids",
    "generate",
    "interpolate",
    "labels_of",
    "reconstructed",
    "scores",
    "shift",
    "shift_to_others",
]
