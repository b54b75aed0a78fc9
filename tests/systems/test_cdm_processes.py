"""Several processes train a diffusion stage as one does: whole networks, divided ones (FSDP2), and after a kill."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from rnasynth import files
from rnasynth.engine import Noise, Processes, TrainConfig
from rnasynth.engine.sharding import Placement
from rnasynth.engine.training import Training
from rnasynth.engine.watch import gradient_norm
from rnasynth.runs import Run, get_or_train
from rnasynth.systems.beta_vae import BetaVAEConfig
from tests.systems.cdm_stages import SMALL
from tests.systems.gan_cohort import small_cohort

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TRAIN = TrainConfig(steps=5, batch_size=8, checkpoint_every=2, validate_every=0, grad_clip=0.1, device="cpu")
BASE = dataclasses.replace(SMALL, warmup_share=0.0, ema_decay=0.9, train=TRAIN)
UPPER = dataclasses.replace(BASE, tile_px=32, low_px=16, checkpointing=True)  # computes each stage twice
STAGES = {"cdm-base": BASE, "cdm-sr": UPPER}
VAE = BetaVAEConfig(hidden=(16,), latent=4, n_genes=50, train=TrainConfig(steps=4, batch_size=8, device="cpu"))


def trained(folder: Path, name: str, mode: str, *, sharding: Literal["none", "fsdp2"] = "none") -> Run:
    """Train stage `name` on the cohort and beta-VAE in `folder`; the run lies in `folder/<mode>`."""
    cohort = small_cohort(folder / "cohort", patients=15, tiles=2)
    encoder = get_or_train("beta-vae", VAE, cohort, folder=folder / "encoder", progress=False)
    config = STAGES[name]
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, sharding=sharding))
    return get_or_train(name, config, cohort, upstream=[encoder], folder=folder / mode, progress=False)


def weights_of(run: Run) -> dict[str, Tensor]:
    """All weights and moving averages."""
    tensors = {f"n/{name}": tensor for name, tensor in run.networks(ema=False)["unet"].items()}
    return tensors | {f"a/{name}": tensor for name, tensor in run.networks()["unet"].items()}


def largest_difference(one: Run, other: Run) -> float:
    """Relative, by tensor."""
    mine, theirs = weights_of(one), weights_of(other)
    assert mine.keys() == theirs.keys() and all(mine[k].shape == theirs[k].shape for k in mine)
    return max(float((mine[k] - theirs[k]).norm() / theirs[k].norm()) for k in mine)


# ---------------------------------------------------------------------- in the processes
class Crash(Exception):
    """Ends a training in all processes at once."""


def held(training: Training) -> dict[str, list[int]]:
    """Numbers that this process holds, and numbers there are: of weights, averages and the optimiser's state."""
    system = training.system
    states = [t for o in training.optimizers.values() for s in o.state.values() for t in s.values() if t.dim()]
    groups: dict[str, list[Any]] = {
        "weights": list(system.networks.parameters()),
        "averages": [p for network in system.averaged.values() for p in network.parameters()],
        "states": states,
    }
    return {
        name: [sum(t.numel() for t in training.placement.local(tensors)), sum(t.numel() for t in tensors)]
        for name, tensors in groups.items()
    }


def work(folder: Path, modes: list[str]) -> None:
    """Train what the modes say, in this process of two."""
    torch.set_num_threads(1)
    processes = Processes.join("cpu")
    finish, take, noise, norm = Training._finish, Training._phase, Noise.__init__, Placement.norm

    def counted(self: Training) -> dict[str, Any]:
        files.write_json(folder / mode / f"{self.system.name}-{processes.rank}.json", held(self))
        return finish(self)

    def ended(self: Training, number: int, phase: str) -> None:
        if self.step == 3 and mode == "crashed":
            raise Crash
        if self.step == 3 and processes.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        take(self, number, phase)

    def own(self: Noise, seed: int, *arguments: Any, **options: Any) -> None:
        noise(self, seed + 100 * processes.rank, *arguments, **options)

    for mode in modes:
        sharding: Literal["none", "fsdp2"] = "fsdp2" if "fsdp2" in mode and not mode.startswith("on-whole") else "none"
        Training._finish = counted  # type: ignore[method-assign]
        if mode in ("crashed", "killed-fsdp2"):
            Training._phase = ended  # type: ignore[method-assign]
        if mode == "noise":  # broken: each process draws its own
            Noise.__init__ = own  # type: ignore[method-assign]
        if mode == "norm-fsdp2":  # broken: each process clips by the norm of its own part
            Placement.norm = lambda self, tensors: gradient_norm(self.local(tensors))  # type: ignore[method-assign]
        with pytest.raises(Crash) if mode == "crashed" else nullcontext():
            for name in STAGES if mode in ("whole", "fsdp2") else ["cdm-base"]:
                trained(folder, name, mode, sharding=sharding)
        if mode == "crashed" and processes.rank == 0:
            copy_of_unfinished(folder, mode)
        processes.barrier()
        Noise.__init__, Placement.norm, Training._phase = noise, norm, take  # type: ignore[method-assign]


def copy_of_unfinished(folder: Path, mode: str) -> None:
    """Make copies of a training that was broken off, to go on with in any layout."""
    assert len(list((folder / mode).glob("cdm-base-*/checkpoints/step-000000002/state.json"))) == 1
    assert not list((folder / mode).glob("cdm-base-*/manifest.json"))
    for layout in ("whole", "fsdp2", "one"):
        shutil.copytree(folder / mode, folder / f"on-{layout}-after-{mode}")


def start(folder: Path, *modes: str) -> subprocess.Popen[str]:
    script = folder / f"work-{modes[0]}.py"
    script.write_text(
        f"import sys\nfrom pathlib import Path\nfrom {__name__} import work\nwork(Path(sys.argv[1]), sys.argv[2:])\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    return subprocess.Popen(
        [*command, str(folder), *modes], env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process and of two, by mode; both stages of one process in "one"."""
    folder = tmp_path_factory.mktemp("processes")
    for name in STAGES:
        trained(folder, name, "one")
    process = start(folder, "killed-fsdp2")
    said = process.communicate(timeout=200)[1]
    assert process.returncode != 0 and "SIGKILL" in said, said[-3000:]
    copy_of_unfinished(folder, "killed-fsdp2")
    process = start(
        folder,
        *("whole", "fsdp2", "noise", "norm-fsdp2", "crashed", "on-whole-after-crashed", "on-fsdp2-after-crashed"),
        *("on-whole-after-killed-fsdp2", "on-fsdp2-after-killed-fsdp2"),
    )
    said = process.communicate(timeout=280)[1]
    assert process.returncode == 0, said[-3000:]
    return folder


def steps_of(run: Run) -> dict[str, list[float]]:
    table = run.metrics()
    return {name: table[name].tolist() for name in ("step", "train_loss", "train_gradient_norm")}


@pytest.mark.parametrize("mode", ["whole", "fsdp2"])
@pytest.mark.parametrize("name", list(STAGES))
def test_two_processes_equal_one(folder: Path, name: str, mode: str) -> None:
    one, two = trained(folder, name, "one"), trained(folder, name, mode)
    assert one.id == two.id and two.versions["processes"] == 2
    assert two.versions["sharding"] == ("fsdp2" if mode == "fsdp2" else "none")
    assert largest_difference(two, one) < 1e-5
    ours, theirs = steps_of(one), steps_of(two)
    assert theirs["step"] == [1, 2, 3, 4, 5] and min(ours["train_gradient_norm"]) > TRAIN.grad_clip  # type: ignore[operator]
    for what, values in ours.items():
        assert theirs[what] == pytest.approx(values, rel=1e-5), what


@pytest.mark.parametrize("mode", ["noise", "norm-fsdp2"])
def test_a_broken_training_of_two_processes_is_noticed(folder: Path, mode: str) -> None:
    assert largest_difference(trained(folder, "cdm-base", mode), trained(folder, "cdm-base", "one")) > 1e-4


@pytest.mark.parametrize("name", list(STAGES))
def test_each_process_holds_its_half(folder: Path, name: str) -> None:
    for mode, low, high in (("whole", 1.0, 1.0), ("fsdp2", 0.48, 0.52)):
        first, second = (json.loads((folder / mode / f"{name}-{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1))
        assert first["weights"][1] > 20_000 and first["states"][1] == 2 * first["weights"][1]  # Adam: two moments
        for what, (here, whole) in first.items():
            assert low <= here / whole <= high and low <= second[what][0] / whole <= high, (mode, what)
            assert mode == "whole" or here + second[what][0] == whole


@pytest.mark.parametrize(
    ("mode", "processes"),
    [
        ("on-whole-after-crashed", 2),
        ("on-fsdp2-after-crashed", 2),
        ("on-whole-after-killed-fsdp2", 2),
        ("on-fsdp2-after-killed-fsdp2", 2),
        ("on-one-after-killed-fsdp2", 1),
    ],
)
def test_a_training_that_was_broken_off_goes_on_in_any_layout(folder: Path, mode: str, processes: int) -> None:
    one, after = trained(folder, "cdm-base", "one"), trained(folder, "cdm-base", mode)
    assert after.versions["processes"] == processes
    assert after.versions["sharding"] == ("fsdp2" if mode.startswith("on-fsdp2") else "none")
    assert largest_difference(after, one) < 1e-5
    ours, theirs = steps_of(one), steps_of(after)
    for what, values in ours.items():
        assert theirs[what] == pytest.approx(values, rel=1e-5), what
    assert not (after.path / "checkpoints").exists()
    assert {path.suffix for path in after.path.iterdir() if not path.name.startswith(".")} == {
        ".safetensors",
        ".json",
        ".jsonl",
    }
