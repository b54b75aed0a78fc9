"""A small system for the engine's tests: a denoising autoencoder of two networks, trained in turn, with dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from rnasynth.config import Config
from rnasynth.engine import Noise, System, TrainConfig, adam, warmup_cosine


@dataclass(frozen=True, kw_only=True)
class ToyConfig(Config):
    """Of the toy."""

    train: TrainConfig
    width: int = 8


class Rows:
    """Data for the toy."""

    def __init__(self, n: int = 40, width: int = 5, seed: int = 0) -> None:
        self.x = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
        self.fetched: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self.x)

    def fetch(self, indices: np.ndarray) -> dict[str, Tensor]:
        self.fetched.append(np.asarray(indices))
        return {"x": self.x[torch.as_tensor(indices)]}


class Toy(System):
    """Two updates of an autoencoder, then one of a scale that predicts its error."""

    name: ClassVar[str] = "toy"
    step_version: ClassVar[int] = 1
    Config = ToyConfig

    def __init__(self, width: int = 8, *, dropout: float = 0.2, norm: bool = False, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers: list[nn.Module] = [nn.Linear(5, width), nn.LeakyReLU(), nn.Dropout(dropout), nn.Linear(width, 5)]
            if norm:
                layers.insert(1, nn.BatchNorm1d(width))
            self.networks["auto"] = nn.Sequential(*layers)
            self.networks["scale"] = nn.Linear(5, 1)
        self.ema = {"auto": 0.9}

    def phases(self, step: int) -> list[str]:
        return ["auto", "auto", "scale"]

    def trained(self, phase: str) -> str:
        return phase

    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        x = batch["x"]
        error = (self.networks["auto"](x + 0.1 * noise.normal(5)) - x).square().mean(1, keepdim=True)
        if phase == "auto":
            return error.mean(), {"largest": error.detach().max()}
        return (self.networks["scale"](x) - error.detach()).square().mean(), {}

    def optimizer(self, key: str) -> torch.optim.Optimizer:
        if key == "scale":
            return torch.optim.SGD(self.networks[key].parameters(), lr=0.05, momentum=0.9)
        return adam(self.networks[key], 1e-2)

    def schedule(self, key: str, step: int) -> float:
        return warmup_cosine(step, self.total_steps, 3) if key == "auto" else 1.0

    def validate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": (self.networks["auto"](batch["x"]) - batch["x"]).square().mean()}


def weights_of(system: System) -> dict[str, Tensor]:
    """All weights and moving averages."""
    tensors: dict[str, Any] = {f"n/{k}": v.clone() for k, v in system.networks.state_dict().items()}
    for key, network in system.averaged.items():
        tensors |= {f"a/{key}/{k}": v.clone() for k, v in network.state_dict().items()}
    return tensors


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
