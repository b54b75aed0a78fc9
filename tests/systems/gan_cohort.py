"""A small simulated cohort with tiles, an upstream stand-in, and small GAN configurations for the tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from rnasynth.data.cohort import Cohort, load_cohort
from rnasynth.data.transform import Transform
from rnasynth.engine import TrainConfig
from rnasynth.systems.gan_config import GANConfig, demo


def small_cohort(folder: Path, *, patients: int = 25, tiles: int = 4) -> Cohort:
    """Five tissues, 64-px tiles of 64 um."""
    return load_cohort(
        "simulated", folder=folder, patients=patients, tiles_per_patient=tiles, tile_px=64, mpp_um=1.0, genes=120
    )


def small_config(**changes: Any) -> GANConfig:
    """A network of a few thousand weights."""
    values = {
        "width_generator": 8,
        "width_critic": 8,
        "noise_dim": 6,
        "extra_noise": 0,
        "critic_steps": 2,
        "train": TrainConfig(steps=4, batch_size=8, checkpoint_every=0, validate_every=0),
    }
    return dataclasses.replace(demo(), **{**values, **changes})


class Components:
    """Stands for an upstream run: `load().encode(profiles)` gives principal components of the training patients."""

    id = "components"

    def __init__(self, cohort: Cohort, size: int = 5) -> None:
        train = cohort.only("train").profiles
        self.transform = Transform.fit(train)
        self.pca = PCA(size, random_state=0).fit(np.asarray(self.transform.apply(train).X))

    def load(self) -> Components:
        return self

    def encode(self, profiles: AnnData) -> NDArray[np.float32]:
        z = np.asarray(self.transform.apply(profiles).X, dtype=np.float64)
        return np.asarray(self.pca.transform(z), dtype=np.float32)
