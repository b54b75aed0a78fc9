"""Two processes train GeMM-GAN and the flow as one does, also after an interruption; broken variants are noticed.

Dropout draws from each process's own generator (`engine.training`), so it is off where one process is compared with two;
what is interrupted and goes on with as many processes is the same to the last bit, dropout included.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rnasynth.engine import Noise, Processes, TrainConfig
from rnasynth.engine.training import Training
from rnasynth.runs import Run, get_or_train
from rnasynth.systems.beta_vae import BetaVAEConfig
from tests.systems.gan_cohort import small_cohort
from tests.systems.test_gemm import small

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TRAIN = TrainConfig(steps=5, batch_size=8, checkpoint_every=2, validate_every=0, device="cpu")
VAE = BetaVAEConfig(hidden=(16,), latent=4, n_genes=50, train=dataclasses.replace(TRAIN, steps=4))
SYSTEMS = ("gemm-gan", "gemm-flow")
LOSS = {"gemm-gan": "critic_loss", "gemm-flow": "train_loss"}
DROPOUT = 0.1
ZERO = "in_proj_bias"  # no gradient reaches a key's bias (softmax is blind to it): what moves it is rounding


def trained(folder: Path, name: str, mode: str, dropout: float = 0.0) -> Run:
    """Train on the cohort in `folder` and the beta-VAE in `folder/<mode>`, where the run comes to lie."""
    cohort = small_cohort(folder / "cohort", patients=15, tiles=3)
    below = [get_or_train("beta-vae", VAE, cohort, folder=folder / mode, progress=False)] if name == "gemm-flow" else []
    changes: dict[str, Any] = {"train": TRAIN, "ema_decay": 0.9, "keep_tiles": 0.7, "feature_noise": 0.1, "dropout": dropout}
    if name == "gemm-flow":
        changes["flow_dropout"] = dropout
    return get_or_train(name, small(name, **changes), cohort, upstream=below, folder=folder / mode, progress=False)


class Crash(Exception):
    """Ends a training in all processes at once."""


def work(folder: Path) -> None:
    """Train in this process of two: as it should be, with each process's own noise, and broken off after step 3."""
    torch.set_num_threads(1)
    processes = Processes.join("cpu")
    take, noise = Training._phase, Noise.__init__

    def ended(self: Training, number: int, phase: str) -> None:
        if self.step == 3:
            raise Crash
        take(self, number, phase)

    def own(self: Noise, seed: int, *arguments: Any, **options: Any) -> None:
        noise(self, seed + 100 * processes.rank, *arguments, **options)

    for name in SYSTEMS:
        trained(folder, name, "two")
        trained(folder, name, "two", DROPOUT)
        Noise.__init__ = own  # type: ignore[method-assign]
        trained(folder, name, "noise")
        Noise.__init__ = noise  # type: ignore[method-assign]
        Training._phase = ended  # type: ignore[method-assign]
        with pytest.raises(Crash):
            trained(folder, name, "crashed", DROPOUT)
        Training._phase = take  # type: ignore[method-assign]
        processes.barrier()
        assert processes.rank or not list((folder / "crashed").glob(f"{name}-*/manifest.json"))
        trained(folder, name, "crashed", DROPOUT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process in "one", of two in the other modes."""
    folder = tmp_path_factory.mktemp("gemm-processes")
    for name in SYSTEMS:
        trained(folder, name, "one")
    for mode in ("two", "noise", "crashed"):
        for encoder in (folder / "one").glob("beta-vae-*"):
            shutil.copytree(encoder, folder / mode / encoder.name)
    script = folder / "work.py"
    script.write_text(f"import sys\nfrom pathlib import Path\nfrom {__name__} import work\nwork(Path(sys.argv[1]))\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script), str(folder)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def weights_of(run: Run) -> dict[str, Tensor]:
    """All weights and moving averages."""
    kept = {"weights": run.networks(ema=False), "averages": run.networks()}
    return {
        f"{kind}/{key}/{name}": tensor
        for kind, networks in kept.items()
        for key, tensors in networks.items()
        for name, tensor in tensors.items()
    }


def largest_difference(one: Run, other: Run) -> float:
    """Relative, by tensor."""
    mine, theirs = weights_of(one), weights_of(other)
    assert mine.keys() == theirs.keys() and all(mine[key].shape == theirs[key].shape for key in mine)
    names = [name for name in mine if not name.endswith(ZERO)]
    return max(float((mine[k] - theirs[k]).norm() / theirs[k].norm().clamp(min=1e-6)) for k in names)


@pytest.mark.parametrize("name", SYSTEMS)
def test_two_processes_equal_one(folder: Path, name: str) -> None:
    one, two = trained(folder, name, "one"), trained(folder, name, "two")
    assert one.id == two.id and two.versions["processes"] == 2
    assert largest_difference(two, one) < 1e-3
    for column in ("step", LOSS[name]):
        assert two.metrics()[column].tolist() == pytest.approx(one.metrics()[column].tolist(), rel=1e-3, abs=1e-4), column


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_interrupted_training_of_two_processes_goes_on_with_the_same_bits(folder: Path, name: str) -> None:
    whole, after = (weights_of(trained(folder, name, mode, DROPOUT)) for mode in ("two", "crashed"))
    assert all(torch.equal(after[key], whole[key]) for key in whole)


@pytest.mark.parametrize("name", SYSTEMS)
def test_profiles_of_two_processes_are_those_of_one(folder: Path, name: str) -> None:
    cohort = small_cohort(folder / "cohort", patients=15, tiles=3)
    one, two = (trained(folder, name, mode).load() for mode in ("one", "two"))
    inputs = one.inputs(cohort, "test")
    np.testing.assert_allclose(two.sample(inputs, 3), one.sample(inputs, 3), atol=1e-3)


@pytest.mark.parametrize("name", SYSTEMS)
def test_noise_that_depends_on_the_process_is_noticed(folder: Path, name: str) -> None:
    assert largest_difference(trained(folder, name, "noise"), trained(folder, name, "one")) > 1e-3
