"""The U-Net against diffusers' UNet2DModel of as many parameters: training step, sampling and peak memory.

Both have about 22 M parameters and see 64-px tiles. A training step is forward and backward of a mean square; sampling is
deterministic Heun, by the same code for both: four tiles in 63 evaluations, and many at once, as `generate` makes them, in
a few. Precision is float32, and bfloat16 by autocast.
What is compared is the rate of useful arithmetic, since the two nets need different amounts of it: floating-point
operations as `torch.utils.flop_counter` counts them (attention written out, so that it is counted), over seconds by the
clock. Our weights lie in channels_last; the alternative is timed in both layouts, and the faster counts. The note holds
seconds and operations an image.

`python -m benchmarks.unet [--device cuda] [--short]`: on a GPU also the share of its measured bf16 matrix rate that a
training step of the published base U-Net reaches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import Row, peak_memory_mb, print_table
from rnasynth.engine.processes import cpu_computes_bf16
from rnasynth.nets.edm import EDM, denoise
from rnasynth.nets.samplers import heun, karras_sigmas
from rnasynth.nets.unet import UNet

PX, CONDITION, STEPS = 64, 200, 32
MANY, STEPS_OF_MANY = 32, 4  # half of what `generate` makes at once, in a few steps
TARGET, SHARE_TARGET = 0.95, 0.45
ALTERNATIVE = "diffusers UNet2DModel"
CONTENDERS = ("ours", "other", "other, channels_last")


@dataclass(frozen=True)
class Setting:
    """How much is timed: tiles in a training step, in sampling and in sampling many at once; Heun steps, turns."""

    device: str
    batch: int
    samples: int
    many: int
    steps: int
    turns: int


def setting(device: str, *, short: bool = False) -> Setting:
    """Return the sizes for a device."""
    batch = 64 if device == "cuda" else 8
    samples = batch if device == "cuda" else 4
    many = 4 * batch if short or device == "cuda" else MANY
    return Setting(device, batch, samples, many, steps=2 if short else STEPS, turns=2 if short else 3)


class Diffusers(nn.Module):
    """The alternative, called as our own net is."""

    def __init__(self, *, channels_last: bool) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        net: Any = UNet2DModel(
            sample_size=PX,
            block_out_channels=(64, 128, 192, 256),
            layers_per_block=2,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            attention_head_dim=64,
        )
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.net = net.to(memory_format=self.layout)

    def forward(self, image: Tensor, level: Tensor, condition: Tensor, **_: Any) -> Tensor:
        """Look at noisy tiles; this net takes no condition."""
        out: Tensor = self.net(image.contiguous(memory_format=self.layout), level).sample
        return out


def network(contender: str, device: str) -> nn.Module:
    """Make a net of about 22 M parameters."""
    torch.manual_seed(0)
    if contender != "ours":
        return Diffusers(channels_last=contender.endswith("channels_last")).to(device)
    attention = (False, False, True, True)
    net: Any = UNet(
        width=64,
        multipliers=(1, 2, 3, 4),
        blocks=(2, 2, 2, 3),
        self_attention=attention,
        cross_attention=attention,
        condition_dim=CONDITION,
    )
    made: nn.Module = net.to(device, memory_format=torch.channels_last)
    return made


def inputs(n: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy tiles, levels and conditions."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((n, 3, PX, PX), (n,), (n, CONDITION))
    image, level, condition = (torch.randn(shape, generator=generator).to(device) for shape in shapes)
    return image, level, condition


def training_step(net: nn.Module, n: int, device: str, precision: str) -> Callable[[], None]:
    """Return a call that runs forward and backward once."""
    given = inputs(n, device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            out = net(*given)
        out.float().square().mean().backward()
        net.zero_grad(set_to_none=True)

    return step


def sampling(net: nn.Module, n: int, device: str, precision: str, steps: int) -> Callable[[], None]:
    """Return a call that makes `n` tiles by Heun's method."""
    start, _, condition = inputs(n, device)
    edm = EDM()
    sigmas = karras_sigmas(steps)

    def sample() -> None:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            heun(lambda noisy, sigma: denoise(net, edm, noisy, sigma, condition), start * edm.sigma_max, sigmas)

    return sample


def gigaflops(call: Callable[[], None]) -> float:
    """Billions of floating-point operations of a call, those of attention among them."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def seconds_in_turns(calls: dict[str, Callable[[], None]], turns: int, device: str) -> dict[str, float]:
    """Median seconds of calls that take turns; they have run before."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns):
        for name in list(calls) if turn % 2 == 0 else list(calls)[::-1]:
            began = time.perf_counter()
            calls[name]()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def rate_row(what: str, calls: dict[str, Callable[[], None]], work: dict[str, float], images: int, of: Setting) -> Row:
    """Compare the rates of arithmetic of one kind of call, from the GFLOP of each."""
    seconds = seconds_in_turns(calls, of.turns, of.device)
    rate = {name: work[name] / seconds[name] for name in calls}
    best = max((name for name in calls if name != "ours"), key=lambda name: rate[name])
    layout = "channels_last" if best.endswith("channels_last") else "as it comes"
    note = (
        f"{ALTERNATIVE}, {layout}; an image: {seconds['ours'] / images:.3g} s and {work['ours'] / images:.4g} GFLOP here, "
        f"{seconds[best] / images:.3g} s and {work[best] / images:.4g} GFLOP there"
    )
    return Row(
        name=what, ours=rate["ours"], alternative=rate[best], ratio=rate["ours"] / rate[best], unit="GFLOP/s",
        target=TARGET, note=note,
    )  # fmt: skip


def rates(of: Setting) -> Iterator[Row]:
    """Rows of the training step and of sampling, in each precision that the device computes."""
    precisions = ("fp32", "bf16") if of.device == "cuda" or cpu_computes_bf16() else ("fp32",)
    for precision in precisions:
        nets = {name: network(name, of.device) for name in CONTENDERS}
        steps = {name: training_step(net, of.batch, of.device, precision) for name, net in nets.items()}
        work = {name: gigaflops(call) for name, call in steps.items()}
        for call in steps.values():
            call()
        yield rate_row(f"U-Net training step, {precision}, {of.device}", steps, work, of.batch, of)
        for tiles, heun_steps in ((of.samples, of.steps), (of.many, min(of.steps, STEPS_OF_MANY))):
            one, samples = (
                {name: sampling(net, tiles, of.device, precision, taken) for name, net in nets.items()}
                for taken in (1, heun_steps)
            )
            evaluations = 2 * heun_steps - 1
            work = {name: gigaflops(call) * evaluations for name, call in one.items()}  # one step is one evaluation
            for call in one.values():
                call()
            what = f"U-Net sampling, {tiles} tiles at once, {evaluations} evaluations, {precision}, {of.device}"
            yield rate_row(what, samples, work, tiles, replace(of, turns=min(of.turns, 2)))


def peak_mb(contender: str, of: Setting, precision: str) -> float:
    """Peak memory of a process that trains two steps, MB (on a GPU: of its memory)."""
    step = training_step(network(contender, of.device), of.batch, of.device, precision)
    step()
    step()
    return torch.cuda.max_memory_allocated() / 1e6 if of.device == "cuda" else peak_memory_mb()


def memory_row(of: Setting) -> Row:
    """Compare the peak memory of a training step, each in a process of its own; the layout as it comes."""
    precision = "bf16" if of.device == "cuda" or cpu_computes_bf16() else "fp32"
    found = []
    for contender in CONTENDERS[:2]:
        command = [sys.executable, "-m", "benchmarks.unet", "--device", of.device, "--peak", contender, precision]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(float(json.loads(done.stdout.splitlines()[-1])))
    return Row(
        name=f"U-Net peak memory of the process, batch {of.batch}, {precision}", ours=found[0], alternative=found[1],
        ratio=found[1] / found[0], unit="MB", target=0.0, note=ALTERNATIVE,
    )  # fmt: skip


def matrix_rate(size: int = 8192, repeats: int = 30) -> float:
    """Measured GFLOP/s of a GPU's bf16 matrix product."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def products() -> None:
        for _ in range(repeats):
            torch.mm(a, b)

    products()
    seconds = seconds_in_turns({"product": products}, 5, "cuda")
    return 2 * size**3 * repeats / seconds["product"] / 1e9


def share_row(*, batch: int = 256, turns: int = 3) -> Row:
    """Share of the matrix rate that a training step of the published base U-Net reaches."""
    attention = (False, True, True, True)
    net = UNet(
        width=256,
        multipliers=(1, 2, 3, 4),
        blocks=(3, 3, 3, 3),
        self_attention=attention,
        cross_attention=attention,
        condition_dim=CONDITION,
    ).cuda()
    work = gigaflops(training_step(net, 2, "cuda", "bf16")) * batch / 2
    step = training_step(net, batch, "cuda", "bf16")
    step()
    torch.cuda.synchronize()
    seconds = seconds_in_turns({"step": step}, turns, "cuda")["step"]
    peak, rate = matrix_rate(), work / seconds
    note = f"the aim; {rate / 1e3:.0f} of {peak / 1e3:.0f} measured TFLOP/s, {seconds:.3g} s a step"
    return Row(
        name=f"base U-Net training step, batch {batch}: share of matrix rate", ours=rate / peak, alternative=SHARE_TARGET,
        ratio=rate / peak / SHARE_TARGET, unit="", target=1.0, note=note,
    )  # fmt: skip


def run(device: str = "", *, short: bool = False) -> list[Row]:
    """Run on the processor, or on the named device ("cpu" or "cuda"), and return the rows."""
    of = setting(device or "cpu", short=short)
    rows = [*rates(of), memory_row(of)]
    if of.device == "cuda":
        rows.append(share_row())
    elif not device and torch.cuda.is_available():
        rows += run("cuda", short=short)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--short", action="store_true", help="few turns and 3 evaluations: whether it runs, not a measurement"
    )
    parser.add_argument("--peak", nargs=2, metavar=("CONTENDER", "PRECISION"), help="print peak memory, MB")
    arguments = parser.parse_args()
    if arguments.peak:
        print(json.dumps(peak_mb(arguments.peak[0], setting(arguments.device), arguments.peak[1])))
    else:
        print_table(run(arguments.device, short=arguments.short))
