"""Watching a training: is every number finite, what were the means, when was it best?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnasynth.errors import DivergedError

SHOWN_SAMPLES = 512  # sample numbers that an error lists


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the 2-norm over all gradients, a scalar on their device; not finite if any of their numbers is not.

    On the CPU each contiguous gradient is reduced by a dot product with itself, which reads it at the speed of the
    memory (twice that of `torch.linalg.vector_norm`); on a GPU all of them in one call, without synchronisation.
    """
    if not gradients:
        return torch.zeros(())
    if gradients[0].device.type != "cpu":
        return torch.nn.utils.get_total_norm(gradients, foreach=True)
    total = 0.0
    for gradient in gradients:
        if gradient.is_contiguous() and gradient.dtype == torch.float32:
            flat = gradient.view(-1)
            total += float(torch.dot(flat, flat))
        else:
            total += float(torch.linalg.vector_norm(gradient, dtype=torch.float32)) ** 2
    return torch.tensor(total, dtype=torch.float64).sqrt()


@dataclass(frozen=True)
class Record:
    """What one phase of one step gave: scalars on the device, and the samples of the global batch."""

    step: int
    phase: str
    indices: np.ndarray
    loss: Tensor
    norm: Tensor
    metrics: Mapping[str, Tensor]

    def check(self, name: str, fix: str, *, gradient_may_overflow: bool = False) -> None:
        """Raise if loss or gradient is not finite.

        Raises
        ------
        DivergedError : naming step, phase and samples.
        """
        loss, norm = float(self.loss), float(self.norm)
        if math.isfinite(loss) and (math.isfinite(norm) or gradient_may_overflow):
            return
        samples = self.indices[:SHOWN_SAMPLES].tolist()
        raise DivergedError(
            f"{name}, step {self.step}, phase {self.phase!r}",
            expected=f"a finite {'gradient' if math.isfinite(loss) else 'loss'}",
            found=f"loss {loss}, gradient norm {norm} on samples {samples}",
            fix=f"{fix}; look at these samples, lower the learning rate or clip the gradient",
        )


def means(records: Iterable[Record]) -> tuple[list[str], Tensor]:
    """Return names "<phase>_<what>" and the means over the records, shape (names,), float32 on the CPU."""
    values: dict[str, list[Tensor]] = {}
    for record in records:
        for name, value in {"loss": record.loss, "gradient_norm": record.norm, **record.metrics}.items():
            values.setdefault(f"{record.phase}_{name}", []).append(torch.as_tensor(value).detach().float().cpu())
    names = sorted(values)
    return names, torch.stack([torch.stack(values[name]).mean() for name in names]) if names else torch.zeros(0)


@dataclass
class EarlyStopping:
    """Stops after `patience` validations without a better loss; None: never, and nothing counts as best.

    Validations before step `earliest` can be the best, but are not counted against a training that has hardly begun:
    there the averages of BatchNorm still follow the start, and a small cohort has one step an epoch.
    """

    patience: int | None
    earliest: int = 0
    best: dict[str, Any] | None = field(default=None)  # {"step", "loss", "file"}
    bad: int = 0

    @property
    def stopped(self) -> bool:
        """Whether the patience is at its end."""
        return self.patience is not None and self.bad >= self.patience

    def better(self, step: int, loss: float) -> bool:
        """Count a validation and return whether it is the best so far; a loss that is not finite never is."""
        if self.patience is None:
            return False
        if math.isfinite(loss) and (self.best is None or loss < self.best["loss"]):
            self.best = {"step": step, "loss": loss, "file": None}
            self.bad = 0
            return True
        self.bad += step >= self.earliest
        return False

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain JSON types."""
        return {"best": self.best, "bad": self.bad}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state from `to_dict`."""
        self.best, self.bad = state["best"], state["bad"]
