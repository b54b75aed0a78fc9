"""A GAN's training: cut and resumed, in half precision, over two processes, and compiled (which it refuses)."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rnasynth.data.cohort import Cohort
from rnasynth.engine import TrainConfig, load_tensors, seeded, train
from rnasynth.errors import InputError
from rnasynth.systems.gan import RNAGAN
from tests.systems.gan_cohort import Components, small_cohort, small_config

ROOT = Path(__file__).parents[2]
TRAIN = TrainConfig(
    steps=6, batch_size=8, checkpoint_every=2, validate_every=0, grad_clip=20.0, device="cpu", snapshot_every=3
)


def trained(cohort: Cohort, folder: Path, on_step: Any = None, **changes: Any) -> dict[str, Tensor]:
    """Weights and averages after the training of a small RNA-GAN."""
    config = small_config(train=dataclasses.replace(TRAIN, **changes), ema_decay=0.9)
    with seeded("first weights", 0):
        system = RNAGAN.from_cohort(config, cohort, (Components(cohort),))
    train(system, system.dataset(cohort, "train"), config.train, folder=folder, progress=False, on_step=on_step)
    weights = {f"n/{name}": tensor for name, tensor in system.networks.state_dict().items()}
    return weights | {f"a/{name}": tensor for name, tensor in system.averaged["generator"].state_dict().items()}


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Largest relative difference of a network's weights."""
    assert one.keys() == other.keys()
    kinds = ("n/generator", "n/critic", "a/")
    flat = [[torch.cat([w[k].reshape(-1) for k in sorted(w) if k.startswith(kind)]) for kind in kinds] for w in (one, other)]
    return max(float((mine - theirs).norm() / theirs.norm()) for mine, theirs in zip(*flat, strict=True))


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_gan_cut_in_two_ends_with_the_same_bits(gan_cohort: Cohort, tmp_path: Path) -> None:
    def stop(step: int, system: object) -> None:
        if step == 5:
            raise RuntimeError("cut")

    whole = trained(gan_cohort, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="cut"):
        trained(gan_cohort, tmp_path / "cut", stop)
    resumed = trained(gan_cohort, tmp_path / "cut")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    names = [
        f"{kind}/00000000{step}.{suffix}"
        for step in (3, 6)
        for kind, suffix in (("snapshots", "safetensors"), ("samples", "png"))
    ]
    assert all((tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes() for name in names)


@pytest.mark.parametrize(("precision", "limit"), [("bf16", 0.05), ("fp16", 0.1)])  # fp16 first skips steps that overflow
def test_half_precision_trains_alike(gan_cohort: Cohort, tmp_path: Path, precision: str, limit: float) -> None:
    exact, rough = trained(gan_cohort, tmp_path / "fp32"), trained(gan_cohort, tmp_path / precision, precision=precision)
    assert 0 < apart(rough, exact) < limit
    assert all(value.dtype == torch.float32 for value in rough.values())
    one, other = lines(tmp_path / "fp32")[0], lines(tmp_path / precision)[0]
    for name in ("critic_spread",) if precision == "fp16" else ("critic_wasserstein", "critic_penalty", "critic_spread"):
        assert other[name] == pytest.approx(one[name], rel=0.1, abs=0.1)


def test_compiling_is_refused_for_the_penalty_is_differentiated_twice(gan_cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not differentiate twice"):
        trained(gan_cohort, tmp_path, compile=True)


WORKER = """
import sys
from pathlib import Path
import torch
from rnasynth.engine import Noise, Processes, save_tensors
from tests.systems.gan_cohort import small_cohort
from tests.systems.test_gan_training import trained
torch.set_num_threads(1)
folder = Path(sys.argv[1])
processes, original = Processes.join("cpu"), Noise.__init__
cohort = small_cohort(folder / "cohort", patients=15, tiles=2)
def own(self, seed, *arguments, **options):
    original(self, seed + 100 * processes.rank, *arguments, **options)
for mode in ("two", "noise"):
    Noise.__init__ = own if mode == "noise" else original
    weights = trained(cohort, folder / mode)
    if processes.rank == 0:
        save_tensors(folder / f"{mode}.safetensors", weights)
"""


@pytest.mark.slow
def test_two_processes_train_rna_gan_as_one_does(tmp_path: Path) -> None:
    whole = trained(small_cohort(tmp_path / "cohort", patients=15, tiles=2), tmp_path / "one")
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(tmp_path / "worker.py"),
    ]
    done = subprocess.run([*command, str(tmp_path)], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    two, broken = (load_tensors(tmp_path / f"{mode}.safetensors") for mode in ("two", "noise"))
    # Adam's first steps are signs: where a gradient is rounding, a weight goes the other way
    assert apart(two, whole) < 0.01 < apart(broken, whole)
    assert lines(tmp_path / "two")[0]["critic_wasserstein"] == pytest.approx(
        lines(tmp_path / "one")[0]["critic_wasserstein"], rel=1e-4
    )
    assert sorted(path.name for path in (tmp_path / "two" / "samples").iterdir()) == ["000000003.png", "000000006.png"]
