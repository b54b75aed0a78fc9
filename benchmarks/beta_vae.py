"""A training step of the beta-VAE at paper size: the engine against a plain loop.

19,198 genes, hidden 6,000 and 4,096, latent 2,048, batch 128: 305 million weights.

The engine does all its bookkeeping (metrics lines, finite checks, schedule, data order, noise keyed by position); no
moving average, as published; no checkpoint falls into the timed steps. The alternative is what a user writes: an fp32
loop with `torch.optim.Adam(model.parameters())`. Each contender runs in processes of its own, in turns, because the
memory that one keeps would help the other; about 6 GB each. Seconds are those of the processor, over all
threads, so that other work on the machine counts little (the other benchmarks measure by the clock).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import Row, engine_steps, limit_row, print_table, seconds_row
from rnasynth.data.transform import Transform
from rnasynth.engine import TrainConfig, seeded
from rnasynth.engine.processes import cpu_computes_bf16
from rnasynth.nets.losses import beta_vae_loss
from rnasynth.nets.vae import BetaVAE
from rnasynth.systems.beta_vae import BetaVAEConfig, BetaVAESystem

GENES, HIDDEN, LATENT, BATCH = 19_198, (6000, 4096), 2048, 128
WARM_UP, STEPS, TURNS = 2, 4, 2
WAIT_LIMIT = 0.05  # share of the time that the device waits for data


class _Profiles:
    def __init__(self) -> None:
        self.z = torch.randn(2 * BATCH, GENES, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.z)

    def fetch(self, indices: np.ndarray) -> dict[str, Tensor]:
        return {"profile": self.z[torch.from_numpy(indices)]}


def plain() -> dict[str, Any]:
    """Seconds of each timed step of a plain fp32 loop with default Adam."""
    data = _Profiles()
    with seeded(0):
        model = BetaVAE(GENES, HIDDEN, LATENT)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
    seconds = []
    for step in range(WARM_UP + STEPS):
        began = time.process_time()
        x = data.fetch(np.random.default_rng(step).integers(len(data), size=BATCH))["profile"]
        reconstruction, mean, logvar = model(x, lambda latent: torch.randn(BATCH, latent))
        loss, _ = beta_vae_loss(x, reconstruction, mean, logvar, beta=0.005)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        seconds.append(time.process_time() - began)
    return {"seconds": seconds[WARM_UP:]}


def ours(precision: Any) -> dict[str, Any]:
    """Seconds of each timed step of the engine, and the share of the time that it waited for data."""
    config = BetaVAEConfig(
        hidden=HIDDEN,
        latent=LATENT,
        train=TrainConfig(steps=WARM_UP + STEPS + 1, batch_size=BATCH, precision=precision, checkpoint_every=0, log_every=1),
    )
    genes = tuple(f"ENSG{number:011d}" for number in range(GENES))
    with seeded(0):
        system = BetaVAESystem(config, Transform(name="log2p1_zscore", genes=genes, mean=np.zeros(GENES), sd=np.ones(GENES)))
    seconds, lines = engine_steps(system, _Profiles(), config.train, warm_up=WARM_UP, steps=STEPS)
    return {"seconds": seconds, "wait_share": lines[-1]["wait_share"]}


def _in_a_process(contender: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.beta_vae", contender]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run() -> list[Row]:
    """Run all contenders in turns and return the rows."""
    contenders = ["plain", "fp32", *(["bf16"] if cpu_computes_bf16() else [])]
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    waits: list[float] = []
    for turn in range(TURNS):
        for name in contenders if turn % 2 == 0 else contenders[::-1]:
            found = _in_a_process(name)
            seconds[name] += found["seconds"]
            waits.append(found.get("wait_share", 0.0))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    note = "plain fp32 loop, torch.optim.Adam as it comes"
    rows = [seconds_row("beta-VAE step at paper size, fp32", (median["fp32"], median["plain"]), target=1.7, note=note)]
    if "bf16" in median:
        pair = (median["bf16"], median["plain"])
        rows.append(seconds_row("beta-VAE step at paper size, bf16", pair, target=2.2, note=note))
    note = "the limit; the largest of all runs"
    rows.append(limit_row("share of that step spent waiting for data", max(waits), WAIT_LIMIT, unit="", note=note))
    return rows


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(plain() if sys.argv[1] == "plain" else ours(sys.argv[1])))
    else:
        print_table(run())
