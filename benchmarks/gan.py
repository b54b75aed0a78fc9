"""A whole GAN iteration at 256 px, one step of critic and generator: the engine against a plain loop.

Generator (resize-convolution) and critic of width 32, 51 million weights, input of 2,048, batch 8, gradient penalty.

The engine does all its bookkeeping (metrics lines, finite checks, alarms, data order, noise keyed by position) and computes
the penalty in fp32 whatever the precision. The alternative is what a user writes: an eager fp32 loop over the same
networks, each layer as it is defined, with `torch.optim.Adam(network.parameters())`; it is fed the same tiles and noise.
No moving average, no augmentation, no checkpoint among the timed steps. Each contender runs in processes of its own, in
turns, because the memory that one keeps would help the other. Seconds are those of the processor, over all threads, so that
other work on the machine counts little. It must be the same training: a run whose losses differ is an error.
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
from torch import Tensor, nn

from benchmarks.common import Row, engine_steps, peak_memory_mb, print_table, seconds_row
from rnasynth.engine import Noise, TrainConfig, seeded
from rnasynth.engine.batches import Batches
from rnasynth.engine.processes import cpu_computes_bf16
from rnasynth.nets.dcgan import Critic, Generator
from rnasynth.systems.gan import PlainGAN
from rnasynth.systems.gan_config import GANConfig

PX, WIDTH, INPUT, BATCH = 256, 32, 2048, 8
WARM_UP, STEPS, TURNS = 1, 3, 3
FACTS = {"latent_dim": 0, "latent_mean": [], "latent_spread": [], "tissues": [], "tile_um": 128.0}
TARGETS = {"fp32": 1.15, "bf16": 1.6}
AGREES = {
    "fp32": 0.02,
    "bf16": 0.1,
}  # of the largest loss: over the steps, rounding grows through Adam's first, sign-like ones


class _Tiles:
    def __init__(self) -> None:
        noise = torch.rand(2 * BATCH, 3, PX // 8, PX // 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.tiles = nn.functional.interpolate(noise, size=PX, mode="bilinear")

    def __len__(self) -> int:
        return len(self.tiles)

    def fetch(self, indices: np.ndarray) -> dict[str, Tensor]:
        rows = torch.from_numpy(np.ascontiguousarray(indices))
        return {"tile": self.tiles[rows], "condition": torch.zeros(len(rows), 0)}


def configuration(precision: Any) -> GANConfig:
    """Return what all contenders train."""
    return GANConfig(
        tile_px=PX,
        noise_dim=INPUT,
        width_generator=WIDTH,
        width_critic=WIDTH,
        condition_critic="none",
        critic_steps=1,
        ema_decay=0.0,
        flips=False,
        train=TrainConfig(
            steps=WARM_UP + STEPS + 1, batch_size=BATCH, precision=precision, checkpoint_every=0, validate_every=0
        ),
    )


def system_of(config: GANConfig) -> PlainGAN:
    """Return untrained networks, the same at each call."""
    with seeded(0):
        return PlainGAN(config, FACTS)


def as_defined(generator: Generator, inputs: Tensor) -> Tensor:
    """Return tiles, each layer computed as it is defined."""
    maps: Tensor = generator.first_norm(generator.first(inputs[:, :, None, None]))
    for layer in generator.blocks:
        maps = nn.Sequential.forward(layer, maps) if isinstance(layer, nn.Sequential) else layer(maps)
    return torch.tanh(maps)


def plain() -> dict[str, Any]:
    """Seconds and losses of the steps of a plain fp32 loop with default Adam, and its peak memory."""
    config = configuration("fp32")
    system, data = system_of(config), _Tiles()
    generator, critic = system.networks["generator"], system.networks["critic"]
    assert isinstance(generator, Generator) and isinstance(critic, Critic)
    betas = (config.beta1, config.beta2)
    adam_generator = torch.optim.Adam(generator.parameters(), lr=config.lr_generator, betas=betas)
    adam_critic = torch.optim.Adam(critic.parameters(), lr=config.lr_critic, betas=betas)
    batches = Batches(data, BATCH, config.train.seed, rows=slice(0, BATCH))
    seconds, losses = [], []
    for step in range(WARM_UP + STEPS):
        began = time.process_time()
        noise = Noise(config.train.seed, step, 0, BATCH)
        real = data.fetch(batches.indices(2 * step))["tile"]
        fake = as_defined(generator, noise.normal(INPUT)).detach()
        share = noise.uniform(0.0, 1.0).view(-1, 1, 1, 1)
        points = (share * real + (1 - share) * fake).requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
        penalty = ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
        critic_loss = critic(fake).mean() - critic(real).mean() + config.penalty_weight * penalty
        adam_critic.zero_grad()
        critic_loss.backward()
        adam_critic.step()
        noise = Noise(config.train.seed, step, 1, BATCH)
        generator_loss = -critic(as_defined(generator, noise.normal(INPUT))).mean()
        adam_generator.zero_grad()
        generator_loss.backward()
        adam_generator.step()
        losses += [critic_loss.item(), generator_loss.item()]
        seconds.append(time.process_time() - began)
    return {"seconds": seconds[WARM_UP:], "losses": losses, "peak_mb": peak_memory_mb()}


def ours(precision: str) -> dict[str, Any]:
    """Seconds and losses of the engine's steps, and its peak memory."""
    config = configuration(precision)
    seconds, lines = engine_steps(system_of(config), _Tiles(), config.train, warm_up=WARM_UP, steps=STEPS)
    losses = [line[f"{phase}_loss"] for line in lines for phase in ("critic", "generator")]
    return {"seconds": seconds, "losses": losses, "peak_mb": peak_memory_mb()}


def check_agreement(precision: str, losses: list[float], expected: list[float]) -> float:
    """Return the largest difference of losses, as a share of the largest loss.

    Raises
    ------
    ValueError : it is too large: it was another training.
    """
    found, wanted = np.array(losses), np.array(expected)
    share = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not share <= AGREES[precision]:
        raise ValueError(f"{precision}: expected losses {wanted.round(4)}, found {found.round(4)}")
    return share


def _in_a_process(contender: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.gan", contender]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run() -> list[Row]:
    """Run all contenders in turns and return the rows."""
    contenders = ["plain", "fp32", *(["bf16"] if cpu_computes_bf16() else [])]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for turn in range(TURNS):
        for name in contenders if turn % 2 == 0 else contenders[::-1]:
            found[name].append(_in_a_process(name))
    rows: list[Row] = []
    for name in contenders[1:]:
        apart = max(check_agreement(name, one["losses"], found["plain"][0]["losses"]) for one in found[name])
        by_turn = [
            statistics.median(other["seconds"]) / statistics.median(one["seconds"])
            for one, other in zip(found[name], found["plain"], strict=True)
        ]
        medians = [statistics.median(s for one in found[who] for s in one["seconds"]) / BATCH for who in (name, "plain")]
        note = (
            f"plain fp32 loop, torch.optim.Adam as it comes; by turn {min(by_turn):.2f} to {max(by_turn):.2f}; "
            f"losses within {apart:.1%} of it"
        )
        pair = (medians[0], medians[1])
        rows.append(seconds_row(f"GAN iteration an image, {PX} px, {name}", pair, target=TARGETS[name], note=note))
        memory = [max(one["peak_mb"] for one in found[who]) for who in (name, "plain")]
        rows.append(
            Row(
                name=f"the same, {name}, peak memory of the process",
                ours=memory[0],
                alternative=memory[1],
                ratio=memory[1] / memory[0],
                unit="MB",
                target=0,
                note="the same loop",
            )
        )
    return rows


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(plain() if sys.argv[1] == "plain" else ours(sys.argv[1])))
    else:
        print_table(run())
