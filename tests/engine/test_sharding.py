"""Networks that are divided over the processes (FSDP2) are trained as whole ones are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rnasynth.engine import Processes, TrainConfig, load_tensors, save_tensors, train
from rnasynth.engine.sharding import Placement, Shardable, compile_units
from rnasynth.errors import InputError
from rnasynth.nets.unet import UNet
from rnasynth.runs import run_id
from tests.engine.test_processes import largest_difference
from tests.engine.toy import Rows, Toy, ToyConfig, same_bits, weights_of

ROOT = Path(__file__).parents[2]
CONFIG = TrainConfig(
    steps=20, batch_size=8, checkpoint_every=8, grad_clip=0.3, validate_every=2, patience=2, device="cpu", sharding="fsdp2"
)


class Divisible(nn.Module):
    """The toy's autoencoder in units; a weight of one row, of which the second process has nothing, is in none."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.factor = layers, nn.Parameter(torch.ones(1, 1))

    def shard_units(self) -> list[nn.Module]:
        return [layer for layer in self.layers.children() if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x) * self.factor
        return out


class DivisibleToy(Toy):
    """One network is divided, the other stays whole."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(dropout=0.0, seed=seed)
        self.networks["auto"] = Divisible(self.networks["auto"])

    def validate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give the mean square of what comes out: it falls to step 6, and rises then."""
        return {"loss": self.networks["auto"](batch["x"]).square().mean()}


def work(folder: Path) -> None:
    """Train in this process of two, and write what it ends with."""
    torch.set_num_threads(1)
    processes = Processes.join("cpu")
    broadcast = Processes.broadcast
    for mode in ("folder", "memory", "broken"):
        if mode == "broken":  # every process goes on with its own first weights
            Processes.broadcast = lambda self, tensors: None  # type: ignore[method-assign]
        system = DivisibleToy(seed=processes.rank)
        where = folder / mode if mode == "folder" else None
        summary = train(system, Rows(), CONFIG, folder=where, validation=Rows(10, seed=1), progress=False)
        assert summary["sharding"] == "fsdp2" and summary["best_step"] == 6 < summary["steps"]
        assert not any(p.is_meta for p in [*system.networks.parameters(), *system.averaged["auto"].parameters()])
        save_tensors(folder / f"{mode}-{processes.rank}.safetensors", weights_of(system))
    Processes.broadcast = broadcast  # type: ignore[method-assign]


@pytest.mark.slow
def test_divided_and_whole_networks_together_equal_one_process(tmp_path: Path) -> None:
    """First weights of process 0, validation, and the best weights put back from a file and from memory."""
    single = DivisibleToy()
    summary = train(single, Rows(), CONFIG, folder=tmp_path / "one", validation=Rows(10, seed=1), progress=False)
    assert summary["best_step"] == 6 < summary["steps"] and summary["sharding"] == "none"
    expected = weights_of(single)
    script = tmp_path / "work.py"
    script.write_text(f"import sys\nfrom pathlib import Path\nfrom {__name__} import work\nwork(Path(sys.argv[1]))\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run([*command, str(tmp_path)], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr, done.stderr[-3000:]
    for mode in ("folder", "memory"):
        first, second = (load_tensors(tmp_path / f"{mode}-{rank}.safetensors") for rank in (0, 1))
        assert largest_difference(first, expected) < 1e-5 and same_bits(first, second)
    assert largest_difference(load_tensors(tmp_path / "broken-0.safetensors"), expected) > 1e-3
    for place in ("one", "folder"):  # what is written is whole in either layout
        kept = load_tensors(max((tmp_path / place / "checkpoints").glob("step-*")) / "optimizers.safetensors")
        assert kept["auto/0/exp_avg"].shape == (1, 1) and kept["auto/1/exp_avg_sq"].shape == (8, 5)


def test_one_process_divides_nothing() -> None:
    plain = TrainConfig.from_dict({**CONFIG.to_dict(), "sharding": "none"})
    whole, alone = DivisibleToy(), DivisibleToy()
    train(whole, Rows(), plain, folder=None, validation=Rows(10, seed=1), progress=False)
    train(alone, Rows(), CONFIG, folder=None, validation=Rows(10, seed=1), progress=False)
    assert same_bits(weights_of(whole), weights_of(alone))
    names = [run_id("toy", ToyConfig(train=train_config), "cohort") for train_config in (plain, CONFIG)]
    assert names[0] == names[1]  # how a run is executed does not name it


def test_what_cannot_be_divided_is_an_error() -> None:
    with pytest.raises(InputError, match="shard_units"):
        Placement(Toy(), CONFIG, Processes(0, 2, torch.device("cpu")))
    with pytest.raises(InputError, match="none with precision fp16"):
        TrainConfig.from_dict({**CONFIG.to_dict(), "precision": "fp16"})


def test_units_of_the_unet_hold_nearly_all_of_it() -> None:
    """Its stages, none inside another; what is left over is put together for the whole pass, and must be small."""
    net = UNet(
        width=32,
        multipliers=(1, 2, 3),
        blocks=(2, 2, 2),
        self_attention=(False, False, True),
        cross_attention=(False, True, True),
        condition_dim=8,
    )
    assert isinstance(net, Shardable)
    inside = [id(p) for unit in net.shard_units() for p in unit.parameters()]
    assert len(inside) == len(set(inside))
    numbers = {id(p): p.numel() for p in net.parameters()}
    assert sum(numbers[number] for number in inside) > 0.95 * sum(numbers.values())


def test_units_are_compiled_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What puts a unit together stays outside of what is compiled; its shapes are fixed."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def recorded(function: Any, **options: Any) -> Any:
        asked.append((function.__name__, options))
        return lambda x: function(x) + 1

    monkeypatch.setattr(torch, "compile", recorded)
    network = Divisible(nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)))
    before = network.layers(torch.zeros(1, 5))
    compile_units(network)
    assert asked == [("forward", {"dynamic": False})] * 2
    assert not torch.equal(network.layers(torch.zeros(1, 5)), before)
