"""What one system tells the engine: its networks, its phases, one loss, its optimisers; and the noise it is handed."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnasynth.config import Config, check
from rnasynth.engine.alarms import Alarm
from rnasynth.errors import InputError

# fields that change how a training is executed but not what is computed; a run is the same run whatever they are
EXECUTION_FIELDS = ("device", "log_every", "checkpoint_every", "snapshot_every", "compile", "channels_last", "sharding")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """How long and how a system is trained; what is trained is the system's own configuration."""

    steps: int | None = None
    """Steps (each is all phases of the system once); exactly one of `steps` and `epochs` is given."""
    epochs: float | None = None
    """Passes over the training data, counted by the batches of one phase; rounded up to whole steps."""
    batch_size: int = 64
    """Samples of one batch, over all processes together."""
    seed: int = 0
    """Of the order of the data, the noise, dropout and (by `runs.get_or_train`) the first weights."""
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    """Of the forward pass (weights stay fp32); `auto` is bf16 where the device computes in it, else fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is the GPU where there is one."""
    grad_clip: float | None = None
    """Largest 2-norm of a phase's gradient; None: no clipping."""
    checkpoint_every: int = 500
    """Steps between checkpoints; 0: only at the end."""
    snapshot_every: int = 0
    """Steps between snapshots: the weights that sampling uses, and a grid of sample tiles, for good; also at the last step.
    0: none."""
    log_every: int = 1
    """Steps that one line of metrics.jsonl averages over; on a GPU, larger spares synchronisation."""
    validate_every: int | None = None
    """Steps between validations; None: once an epoch; 0: never."""
    patience: int | None = None
    """Validations without a better loss after which training stops, not counting the first fifth of the steps; the best
    weights are kept. None: no early stopping."""
    channels_last: bool = False
    """Memory layout of images and convolutions; faster on recent GPUs."""
    compile: bool = False
    """Compile the networks with torch.compile; those that `sharding` divides, unit by unit."""
    sharding: Literal["none", "fsdp2"] = "none"
    """`fsdp2`: several processes divide weights, moving averages and optimiser state among them, where those do not fit
    into one GPU; more communication, the same training. Not with fp16."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise InputError(
                "TrainConfig",
                expected="steps or epochs, one of them",
                found=f"train.steps={self.steps}, train.epochs={self.epochs}",
                fix="set train.epochs=null beside train.steps=N, or the other way round",
            )
        check(self, "steps", self.steps is None or self.steps >= 0, "at least 0")
        check(self, "epochs", self.epochs is None or self.epochs > 0, "more than 0")
        check(self, "batch_size", self.batch_size >= 1, "at least 1")
        check(self, "seed", self.seed >= 0, "at least 0")
        check(self, "grad_clip", self.grad_clip is None or self.grad_clip > 0, "more than 0, or none")
        check(self, "sharding", self.sharding == "none" or self.precision != "fp16", "none with precision fp16")
        check(self, "checkpoint_every", self.checkpoint_every >= 0, "at least 0")
        check(self, "snapshot_every", self.snapshot_every >= 0, "at least 0")
        check(self, "log_every", self.log_every >= 1, "at least 1")
        check(self, "validate_every", self.validate_every is None or self.validate_every >= 0, "at least 0")
        check(self, "patience", self.patience is None or self.patience >= 1, "at least 1, or none")

    def steps_for(self, samples: int, batches_per_step: int = 1) -> int:
        """Return the number of steps for a training set of `samples`, when one step takes so many batches."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, -int(-self.epochs * samples // (self.batch_size * batches_per_step)))


class Noise:
    """Random numbers for one phase of one step, the same for a sample however many processes share the batch.

    Each call draws for the whole global batch from a generator keyed by (seed, step, phase number, call number) and
    hands out the rows of this process.

    Parameters
    ----------
    seed, step, phase_number : the key.
    batch_size : samples of the global batch.
    rows : the rows of this process in it; None: all.
    device : where the numbers are drawn; a GPU and a CPU give different numbers.
    """

    def __init__(
        self,
        seed: int,
        step: int,
        phase_number: int,
        batch_size: int,
        *,
        rows: slice | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.key = (seed, step, phase_number)
        self.batch_size = batch_size
        self.rows = slice(0, batch_size) if rows is None else rows
        self.device = torch.device(device)
        self._calls = 0

    def generator(self) -> torch.Generator:
        """Return a fresh generator, another at each call, equal in all processes."""
        self._calls += 1
        return torch.Generator(self.device).manual_seed(mixed_seed(*self.key, self._calls))

    def normal(self, *shape: int) -> Tensor:
        """Draw N(0, 1), shape (B_local, *shape), float32."""
        full = torch.randn((self.batch_size, *shape), generator=self.generator(), device=self.device)
        return full[self.rows]

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw from [low, high), shape (B_local, *shape), float32."""
        full = torch.rand((self.batch_size, *shape), generator=self.generator(), device=self.device)
        return full[self.rows] * (high - low) + low

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Draw whole numbers from [low, high), shape (B_local, *shape), int64."""
        full = torch.randint(low, high, (self.batch_size, *shape), generator=self.generator(), device=self.device)
        return full[self.rows]


def mixed_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2^63) from whole numbers and words: another for any other parts, the same everywhere."""
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "little") >> 1


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Run a block with torch's global generators seeded from `parts`, and put them back afterwards."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(mixed_seed(*parts))
        yield


class Dataset(Protocol):
    """What the engine reads from: a length, and any rows by number."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def fetch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Return the rows `indices`, each tensor with the batch first; called from another thread."""
        ...


class System(nn.Module):
    """Base of every trained system; a subclass gives the networks, the loss of each phase and the optimisers.

    Attributes
    ----------
    networks : the networks by key, trained or frozen; exactly these are saved.
    ema : decay per step of the networks of which a moving average is kept, e.g. {"generator": 0.999}; early in the
        training the decay is (1 + step) / (10 + step) where that is less.
    averaged : the moving averages by key, filled by the engine; of `networks`' type, without gradients.
    total_steps : set by the engine before the first step, for schedules.
    """

    name: ClassVar[str] = ""
    step_version: ClassVar[int] = 1  # raised whenever the mathematics of a step changes
    Config: ClassVar[type[Config]]
    upstream: ClassVar[tuple[str, ...]] = ()  # systems whose runs, of the same cohort and preset, this one builds on

    networks: nn.ModuleDict
    ema: dict[str, float]
    averaged: dict[str, nn.Module]

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleDict()
        self.ema = {}
        self.averaged = {}
        self.total_steps = 0

    # ------------------------------------------------------------------ what a subclass must give
    def phases(self, step: int) -> list[str]:
        """Return the phases of step `step` (from 0) in order, e.g. five times "critic", then "generator"."""
        return ["train"]

    def trained(self, phase: str) -> str:
        """Return the key of the network that a phase trains."""
        return next(iter(self.networks))

    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar mean over the local batch, and scalars to log (detached)."""
        raise NotImplementedError

    def optimizer(self, key: str) -> torch.optim.Optimizer:
        """Return the optimiser of network `key`."""
        raise NotImplementedError

    def schedule(self, key: str, step: int) -> float:
        """Return the factor on the learning rate of network `key` at step `step` (from 0)."""
        return 1.0

    def validate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return means over a validation batch, among them "loss"; an empty dict: nothing to validate."""
        return {}

    def sampled(self) -> tuple[str, ...]:
        """Return the keys of the networks that the trained system is used with: those with a moving average, else all."""
        return tuple(self.ema) or tuple(self.networks)

    def samples(self) -> NDArray[np.uint8] | None:
        """Return tiles to watch the training by, uint8 RGB, shape (rows, columns, H, W, 3); None: nothing to see.

        From the same noise and the same samples at each call, by the networks of `sampled` in evaluation mode, and
        without drawing from a global generator.
        """
        return None

    def alarms(self) -> tuple[Alarm, ...]:
        """Return the signs that stop a training which is still finite, but beyond help; see `engine.alarms`."""
        return ()

    def identity(self, config: TrainConfig, samples: int) -> dict[str, Any]:
        """Return what a checkpoint must agree in with the training that goes on from it."""
        computed = {name: value for name, value in config.to_dict().items() if name not in EXECUTION_FIELDS}
        return {"system": self.name, "step_version": self.step_version, "samples": samples, **computed}

    # ------------------------------------------------------------------ what runs asks for
    @classmethod
    def preset(cls, name: str) -> Any:
        """Return the configuration of a preset: "demo", "gpu" or "paper"."""
        raise NotImplementedError

    @classmethod
    def upstream_preset(cls, preset: str) -> str:
        """Return the preset of the systems that this one builds on in `preset`: the same, unless it needs another."""
        return preset

    @classmethod
    def from_cohort(cls, config: Any, cohort: Any, upstream: tuple[Any, ...] = ()) -> System:
        """Build an untrained system for a cohort; whatever is fitted, is fitted on its training patients."""
        raise NotImplementedError

    @classmethod
    def from_run(cls, run: Any) -> Any:
        """Return the trained system's public object from a finished run."""
        raise NotImplementedError

    def dataset(self, cohort: Any, split: str) -> Dataset:
        """Return the samples of one split as this system eats them."""
        raise NotImplementedError

    def fitted(self) -> dict[str, Any]:
        """Return what was fitted beside the weights (transform, gene order, ...), as plain JSON types."""
        return {}


SYSTEMS: dict[str, type[System]] = {}
SystemType = TypeVar("SystemType", bound=type[System])


def register(system: SystemType) -> SystemType:
    """Class decorator: make a system known by its `name`."""
    SYSTEMS[system.name] = system
    return system


def system_class(name: str) -> type[System]:
    """Return the system of that name.

    Raises
    ------
    InputError : there is none.
    """
    importlib.import_module("rnasynth.systems")  # the systems register themselves when imported
    if name not in SYSTEMS:
        raise InputError(f"system {name!r}", expected=f"one of {', '.join(sorted(SYSTEMS))}", found="unknown")
    return SYSTEMS[name]


def adam(network: nn.Module, lr: float, *, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
    """Return Adam in its fused form: one pass over the weights instead of about ten, on CPU and GPU."""
    return torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=lr, betas=betas, fused=True)


def warmup_cosine(step: int, total_steps: int, warmup_steps: int) -> float:
    """Linear warm-up to 1, then one half cosine down to 0 at `total_steps`; `step` from 0.

    Examples
    --------
    >>> [round(warmup_cosine(step, 6, 2), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return float(0.5 * (1.0 + np.cos(np.pi * min(1.0, progress))))
