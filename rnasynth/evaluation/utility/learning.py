"""One training on a pile of tiles, by the engine: with classes, or without them (SimCLR); the same for the same seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnasynth.engine import TrainConfig, seeded, train
from rnasynth.errors import InputError
from rnasynth.evaluation.utility.piles import Pile
from rnasynth.systems.classifier import ClassifierSystem, load_start
from rnasynth.systems.classifier_config import ClassifierConfig
from rnasynth.systems.simclr import SimCLRConfig, SimCLRSystem
from rnasynth.systems.tile_labels import STOP_SHARE

Weights = dict[str, Tensor]


def learn(
    pile: Pile,
    config: ClassifierConfig,
    task: dict[str, Any],
    *,
    seed: int,
    encoder: Weights | None = None,
    whole: Weights | None = None,
    folder: Path | None = None,
) -> ClassifierSystem:
    """Train a classifier on a pile.

    Parameters
    ----------
    pile : what it learns from; where `config.train.patience` is set, early stopping looks at a fifth of its groups.
    config : network and training; a batch is at most the pile. `config.start` counts where no weights are given.
    task : see `piles.task_of`.
    seed : of the first weights, the order of the tiles and their flips: two trainings of one seed differ in the tiles alone.
    encoder : weights of the residual network to start from; the last layer starts anew.
    whole : weights of encoder and last layer to start from.
    folder : where the training can be resumed; None: in memory.

    Returns
    -------
    The trained system, in evaluation mode.

    Raises
    ------
    InputError : a pile of fewer than two classes. Others: see `engine.train`.
    """
    if len(set(pile.numbers.tolist())) < 2:
        raise InputError("training tiles", expected="two or more classes", found=f"{len(pile)} tiles of fewer")
    with seeded("utility", seed):
        system = ClassifierSystem(config, task)
    if config.start and encoder is None and whole is None:
        load_start(system.encoder, config.start)
    if encoder is not None:
        system.encoder.load_state_dict(encoder)
    if whole is not None:
        system.networks["classifier"].load_state_dict(whole)
    stopped_by = None
    if config.train.patience is not None:
        names = sorted(set(pile.groups.tolist()))
        count = max(1, round(STOP_SHARE * len(names)))
        held = [names[row] for row in np.random.default_rng(seed).permutation(len(names))[:count]]
        inside = np.isin(pile.groups, held)
        pile, stopped_by = pile.rows(np.flatnonzero(~inside)), pile.rows(np.flatnonzero(inside))
    train(system, pile, fitting(config.train, len(pile), seed), folder=folder, validation=stopped_by, progress=False)
    return system


def contrast(pile: Pile, config: SimCLRConfig, *, tile_um: float, seed: int, folder: Path | None = None) -> Weights:
    """Train a network on a pile without its classes (SimCLR), and return the weights before the projection."""
    with seeded("utility", seed):
        system = SimCLRSystem(config, {"tile_um": tile_um})
    train(system, pile, fitting(config.train, len(pile), seed), folder=folder, progress=False)
    return weights_of(system.encoder)


def fitting(config: TrainConfig, tiles: int, seed: int) -> TrainConfig:
    """Return a training for so many tiles: a batch is no larger than they are."""
    return replace(config, batch_size=min(tiles, config.batch_size), seed=seed)


def weights_of(network: torch.nn.Module) -> Weights:
    """Return a network's weights as copies on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def named_by(system: ClassifierSystem, pile: Pile, *, batch: int = 256) -> NDArray[np.float32]:
    """Name the tiles of a pile: probabilities, shape (n, classes)."""
    device = next(system.parameters()).device
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pile), batch):
            tiles = pile.fetch(np.arange(start, min(start + batch, len(pile))))["tile"].to(device)
            parts.append(system.logits(tiles).softmax(dim=1).cpu().numpy())
    return np.concatenate(parts).astype(np.float32)
