"""Two processes under torchrun equal one with the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rnasynth.engine import Processes, TrainConfig, load_tensors, save_tensors, train
from rnasynth.engine.processes import resolve_precision
from rnasynth.errors import InputError
from tests.engine.toy import Rows, Toy, weights_of

ROOT = Path(__file__).parents[2]
CONFIG = TrainConfig(steps=20, batch_size=8, checkpoint_every=8, grad_clip=0.5, validate_every=5, patience=10)

WORKER = """
import sys
from pathlib import Path
import torch
from rnasynth.engine import Noise, Processes, save_tensors, train
from tests.engine.test_processes import CONFIG
from tests.engine.toy import Rows, Toy, weights_of

torch.set_num_threads(1)
folder, mode = Path(sys.argv[1]), sys.argv[2]
processes = Processes.join("cpu")
if mode == "noise":  # the broken variant: each process draws its own
    original = Noise.__init__
    def own(self, seed, *arguments, **options):
        original(self, seed + 100 * processes.rank, *arguments, **options)
    Noise.__init__ = own
system = Toy(dropout=0.0, seed=processes.rank)  # other first weights: those of process 0 count
train(system, Rows(), CONFIG, folder=folder, validation=Rows(10, seed=1), progress=False)
save_tensors(folder / f"rank{processes.rank}.safetensors", weights_of(system))
"""


def two_processes(folder: Path, mode: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    folder.mkdir()
    script = folder / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(
        [*command, str(folder), mode], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return load_tensors(folder / "rank0.safetensors"), load_tensors(folder / "rank1.safetensors")


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Relative, by tensor."""
    assert one.keys() == other.keys()
    return max(float((one[k] - other[k]).norm() / other[k].norm()) for k in one)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    single = Toy(dropout=0.0)
    train(single, Rows(), CONFIG, folder=tmp_path / "one", validation=Rows(10, seed=1), progress=False)
    expected = weights_of(single)
    first, second = two_processes(tmp_path / "two", "as it is")
    assert largest_difference(first, expected) < 1e-5
    assert largest_difference(second, first) == 0.0
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("one", "two")
    )
    assert [record["step"] for record in theirs] == list(range(1, 21))
    for one, two in zip(ours, theirs, strict=True):
        for name in ("auto_loss", "scale_loss", "auto_gradient_norm"):
            assert two[name] == pytest.approx(one[name], rel=1e-5)
    broken, _ = two_processes(tmp_path / "broken", "noise")  # a noise by process is noticed
    assert largest_difference(broken, expected) > 1e-3


def test_a_batch_that_cannot_be_shared_is_an_error() -> None:
    cpu = torch.device("cpu")
    assert Processes(1, 2, cpu).rows(8) == slice(4, 8)
    with pytest.raises(InputError, match="a multiple of the 3 processes"):
        Processes(0, 3, cpu).rows(8)


def test_precision_that_is_asked_for_is_used() -> None:
    cpu = torch.device("cpu")
    assert [resolve_precision(name, cpu) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    assert resolve_precision("auto", cpu) in ("fp32", "bf16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InputError, match="a GPU that torch can use"):
        train(Toy(), Rows(), TrainConfig(steps=1, device="cuda"), folder=None, progress=False)


def test_pickles_and_archives_are_refused(tmp_path: Path) -> None:
    from rnasynth.errors import RunError

    torch.save({"x": torch.ones(1)}, tmp_path / "weights.pt")
    for name in ("weights.pt", "renamed.safetensors"):
        path = tmp_path / name
        path.write_bytes((tmp_path / "weights.pt").read_bytes())
        with pytest.raises(RunError, match="a pickle or an archive"):
            load_tensors(path)
    (tmp_path / "old.safetensors").write_bytes(b"\x80\x04\x95" + bytes(40))
    with pytest.raises(RunError, match="a pickle or an archive"):
        load_tensors(tmp_path / "old.safetensors")
    save_tensors(tmp_path / "good.safetensors", {"x": torch.ones(3)})
    whole = (tmp_path / "good.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[:-2])
    with pytest.raises(RunError, match="damaged"):
        load_tensors(tmp_path / "short.safetensors")
    assert torch.equal(load_tensors(tmp_path / "good.safetensors")["x"], torch.ones(3))


def test_shared_and_strided_tensors_are_saved_whole(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    save_tensors(tmp_path / "a.safetensors", {"whole": base, "same": base, "turned": base.t(), "part": base[1]})
    read = load_tensors(tmp_path / "a.safetensors")
    assert torch.equal(read["turned"], base.t()) and torch.equal(read["part"], base[1]) and torch.equal(read["same"], base)
