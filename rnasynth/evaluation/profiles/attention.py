"""Attention pooling: a small network that learns which tiles of a sample tell its profile.

Source: the task is that of HE2RNA (Schmauch et al., Nat Commun 2020): bulk profiles from features of unlabelled tiles; the
pooling is the gated attention of Ilse et al. (ICML 2018, eq. 9) instead of its mean over the highest-scoring tiles.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnasynth.engine import seeded
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.profiles.baselines import Baseline
from rnasynth.evaluation.profiles.pairs import Inputs, Pairs, check_disjoint

ATTENTION = "attention pooling"
WIDTH = 64
BATCH = 32


class AttentionNet(nn.Module):
    """Features of tiles (B, n, dim) and which are there (B, n) -> profiles (B, genes).

    Parameters
    ----------
    mean, sd : of the training tiles' features, shape (dim,), by which they are standardised.
    start : mean training profile, shape (genes,): what training starts from, and what a sample without tiles is given.
    """

    def __init__(self, mean: Tensor, sd: Tensor, start: Tensor) -> None:
        super().__init__()
        dim, genes = len(mean), len(start)
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)
        self.value = nn.Sequential(nn.Linear(dim, WIDTH), nn.GELU())
        self.gate, self.score_of = nn.Linear(dim, WIDTH), nn.Linear(dim, WIDTH)
        self.score = nn.Linear(WIDTH, 1)
        self.straight = nn.Linear(dim, genes, bias=False)
        self.head = nn.Linear(WIDTH, genes)
        self.dropout = nn.Dropout(0.2)
        self.nothing = nn.Parameter(start.clone())
        for layer in (self.straight, self.head):
            nn.init.zeros_(layer.weight)
        with torch.no_grad():
            self.head.bias.copy_(start)

    def weights(self, bags: Tensor, mask: Tensor) -> Tensor:
        """Return each tile's share, shape (B, n): adds up to 1 over the tiles that are there."""
        x = self._standard(bags)
        score = self.score(torch.tanh(self.score_of(x)) * torch.sigmoid(self.gate(x))).squeeze(-1)
        score = score.masked_fill(~mask, -1e9)
        return torch.softmax(score, dim=1) * mask

    def forward(self, bags: Tensor, mask: Tensor) -> Tensor:
        """Return z-scores, shape (B, genes)."""
        x = self.dropout(self._standard(bags))
        share = self.weights(bags, mask).unsqueeze(-1)
        made = self.head((share * self.value(x)).sum(dim=1)) + self.straight((share * x).sum(dim=1))
        return torch.where(mask.any(dim=1, keepdim=True), made, self.nothing.expand_as(made))

    def _standard(self, bags: Tensor) -> Tensor:
        mean, sd = self.get_buffer("mean"), self.get_buffer("sd")
        return (bags - mean) / sd


def attention_pooling(
    train: Pairs, val: Pairs, *, epochs: int = 120, patience: int = 15, lr: float = 1e-3, seed: int = 0
) -> Baseline:
    """Train attention pooling by squared error; the weights of the best validation error are kept.

    Parameters
    ----------
    train, val : with tiles.
    epochs, patience : most passes over the training samples, and how many without a better validation error.
    lr : of AdamW, weight decay 0.01.
    seed : of weights, order and dropout; the same seed gives the same network.

    Returns
    -------
    A baseline whose draws add the residues of one validation sample.

    Raises
    ------
    InputError : no training sample has tiles. SplitError : not training samples, test samples to stop by, a group in both.
    """
    if train.split != "train" or val.split == "test":
        raise SplitError("attention pooling", expected="train and validation", found=f"{train.split} and {val.split}")
    check_disjoint(train, val)
    tiles = [bag for bag in train.inputs.bags if bag is not None and len(bag)]
    if not tiles:
        raise InputError("tile features", expected="training samples with tiles", found="none")
    every = np.concatenate(tiles).astype(np.float64)
    if not np.isfinite(every).all():
        raise InputError("tile features", expected="finite values", found="NaN or infinity")
    sd = np.where(every.std(axis=0) > 1e-6, every.std(axis=0), 1.0)
    dim = every.shape[1]
    with seeded("attention", seed):
        statistics = (every.mean(axis=0), sd, train.z.mean(axis=0, dtype=np.float64))
        network = AttentionNet(*(torch.from_numpy(each).float() for each in statistics))
        optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01)
        bags, mask = padded(train.inputs, dim)
        wanted = torch.from_numpy(np.ascontiguousarray(train.z))
        best, kept, since = math.inf, network.state_dict(), 0
        for _ in range(epochs):
            network.train()
            for rows in torch.randperm(len(wanted)).split(BATCH):
                optimiser.zero_grad()
                (network(bags[rows], mask[rows]) - wanted[rows]).square().mean().backward()
                optimiser.step()
            error = float(np.square(_predict(network, val.inputs, dim) - val.z).mean())
            since += 1
            if error < best - 1e-5:
                best, since = error, 0
                kept = {name: value.clone() for name, value in network.state_dict().items()}
            if since >= patience:
                break
    network.load_state_dict(kept)
    network.eval()

    def predict(inputs: Inputs) -> NDArray[np.float32]:
        return _predict(network, inputs, dim)

    return Baseline(ATTENTION, train.genes, predict, {"": val.z - predict(val.inputs)})


def padded(inputs: Inputs, dim: int) -> tuple[Tensor, Tensor]:
    """Return bags as one tensor (N, n, dim), zeros where there is no tile, and which are there, (N, n) bool.

    Raises
    ------
    InputError : features of another width.
    """
    sizes = [0 if bag is None else len(bag) for bag in inputs.bags]
    bags, mask = np.zeros((len(inputs), max(1, *sizes), dim), np.float32), np.zeros((len(inputs), max(1, *sizes)), bool)
    for row, bag in enumerate(inputs.bags):
        if bag is None or not len(bag):
            continue
        if bag.shape[1] != dim:
            raise InputError(f"sample {inputs.sample_ids[row]}", expected=f"{dim} features", found=str(bag.shape[1]))
        bags[row, : len(bag)], mask[row, : len(bag)] = bag, True
    return torch.from_numpy(bags), torch.from_numpy(mask)


@torch.no_grad()
def _predict(network: AttentionNet, inputs: Inputs, dim: int) -> NDArray[np.float32]:
    network.eval()
    bags, mask = padded(inputs, dim)
    return np.concatenate([network(b, m).numpy() for b, m in zip(bags.split(256), mask.split(256), strict=True)])
