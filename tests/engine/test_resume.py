"""A training that is killed, interrupted or damaged goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from rnasynth.engine import TrainConfig, load_tensors, train
from rnasynth.engine.checkpoint import Checkpoints, MetricsLog
from rnasynth.errors import RunError
from tests.engine.toy import Rows, Toy, same_bits, weights_of

CONFIG = TrainConfig(steps=13, batch_size=8, checkpoint_every=4, validate_every=3, patience=4, grad_clip=0.5)
ROOT = Path(__file__).parents[2]

# Forks one child a crash point from a process that has torch loaded; each child trains on until it is killed.
DRIVER = textwrap.dedent(
    """
    import os, random, signal, sys, time
    from pathlib import Path
    import torch
    from rnasynth.engine import TrainConfig, save_tensors, train
    from tests.engine.test_resume import CONFIG
    from tests.engine.toy import Rows, Toy, weights_of

    torch.set_num_threads(1)

    def child(folder, crash_at, result):
        count = 0
        def crashing(original):
            def call(*arguments):
                nonlocal count
                count += 1
                if count == crash_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*arguments)
            return call
        os.fsync, os.replace = crashing(os.fsync), crashing(os.replace)
        system = Toy(norm=True)
        train(system, Rows(), CONFIG, folder=folder, validation=Rows(10, seed=1), progress=False)
        if crash_at == 0:
            save_tensors(result, weights_of(system))
        os._exit(0)

    def run(folder, crash_at, result, kill_after=None):
        pid = os.fork()
        if pid == 0:
            child(folder, crash_at, result)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]

    warm = Toy(norm=True)  # imports what a first step imports, so that no child has to
    train(warm, Rows(), CONFIG, folder=Path(sys.argv[1]) / "warm", validation=Rows(10, seed=1), progress=False)
    out, mode, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if mode == "points":
        number = 0
        while True:
            number += 1
            folder = out / f"point-{number}"
            status = run(folder, number, None)
            assert run(folder, 0, out / f"point-{number}.safetensors") == 0
            if status == 0:
                break
        print(number - 1)
    else:
        chance = random.Random(times)
        begin = time.monotonic()
        assert run(out / "timed", 0, out / "timed.weights") == 0
        whole_seconds = time.monotonic() - begin  # so that most kills come before the end, on any machine
        for number in range(times):
            folder = out / f"kill-{number}"
            kills = 0
            for _ in range(3):
                kills += os.WIFSIGNALED(run(folder, -1, None, kill_after=chance.uniform(0.0, 0.6 * whole_seconds)))
            assert run(folder, 0, out / f"kill-{number}.safetensors") == 0
            print(kills)
    """
)


def storm(tmp_path: Path, mode: str, times: int) -> tuple[list[Path], list[int]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DRIVER, str(tmp_path), mode, str(times)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return sorted(tmp_path.glob("*.safetensors")), [int(line) for line in done.stdout.split()]


def undisturbed(tmp_path: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    system = Toy(norm=True)
    train(system, Rows(), CONFIG, folder=tmp_path / "whole", validation=Rows(10, seed=1), progress=False)
    return weights_of(system), lines(tmp_path / "whole")


def lines(folder: Path) -> list[dict[str, float]]:
    timed = ("seconds", "samples_per_s", "wait_share")
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in record.items() if name not in timed} for record in records]


@pytest.mark.slow
def test_killed_at_each_fsync_and_rename_ends_with_the_same_bits(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole, whole_lines = undisturbed(tmp_path)
    results, (points,) = storm(tmp_path, "points", 0)
    assert points >= 40 and len(results) == points + 1
    for result in results:
        assert same_bits(load_tensors(result), whole), result.name
        assert lines(result.with_suffix("")) == whole_lines, result.name


@pytest.mark.slow
def test_killed_at_random_moments_ends_with_the_same_bits(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole, whole_lines = undisturbed(tmp_path)
    results, kills = storm(tmp_path, "random", 5)
    assert len(results) == 5 and sum(kills) >= 5
    for result in results:
        assert same_bits(load_tensors(result), whole), result.name
        assert lines(result.with_suffix("")) == whole_lines, result.name


@pytest.mark.stress
def test_killed_hundreds_of_times_ends_with_the_same_bits(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole, _ = undisturbed(tmp_path)
    results, _ = storm(tmp_path, "random", 100)
    assert len(results) == 100
    assert all(same_bits(load_tensors(result), whole) for result in results)


class Stop(Exception):
    """Ends a training from `on_step`, as a crash would."""


def stopped_at(step: int, folder: Path, *, config: TrainConfig = CONFIG) -> None:
    def on_step(done: int, system: object) -> None:
        if done == step:
            raise Stop

    with pytest.raises(Stop):
        train(Toy(norm=True), Rows(), config, folder=folder, validation=Rows(10, seed=1), progress=False, on_step=on_step)


def test_resume_after_each_step_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, whole_lines = undisturbed(tmp_path)
    for step in range(1, 13, 3):
        stopped_at(step, tmp_path / str(step))
        system = Toy(norm=True, seed=1 if step >= 4 else 0)  # its first weights do not matter once there is a checkpoint
        train(system, Rows(), CONFIG, folder=tmp_path / str(step), validation=Rows(10, seed=1), progress=False)
        assert same_bits(weights_of(system), whole), step
        assert lines(tmp_path / str(step)) == whole_lines, step


def test_a_resume_that_forgets_the_optimiser_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same comparison on a broken variant: it must fail there."""
    whole, _ = undisturbed(tmp_path)
    stopped_at(9, tmp_path / "broken")
    monkeypatch.setattr("rnasynth.engine.training.restore_optimizer", lambda *_: None)
    system = Toy(norm=True)
    train(system, Rows(), CONFIG, folder=tmp_path / "broken", validation=Rows(10, seed=1), progress=False)
    assert not same_bits(weights_of(system), whole)


def test_a_finished_training_is_read_back_not_repeated(tmp_path: Path) -> None:
    whole, _ = undisturbed(tmp_path)
    steps: list[int] = []
    system = Toy(norm=True)
    summary = train(
        system,
        Rows(),
        CONFIG,
        folder=tmp_path / "whole",
        validation=Rows(10, seed=1),
        progress=False,
        on_step=lambda step, _: steps.append(step),
    )
    assert steps == [] and summary["steps"] == 13
    assert same_bits(weights_of(system), whole)


def test_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    whole, _ = undisturbed(tmp_path)
    stopped_at(9, tmp_path / "run")
    newest = tmp_path / "run/checkpoints/step-000000008/weights.safetensors"
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(bytes(content))
    system = Toy(norm=True)
    with pytest.warns(RuntimeWarning, match="damaged checkpoint removed"):
        train(system, Rows(), CONFIG, folder=tmp_path / "run", validation=Rows(10, seed=1), progress=False)
    assert same_bits(weights_of(system), whole)


def test_two_checkpoints_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    undisturbed(tmp_path)
    names = sorted(path.name for path in (tmp_path / "whole/checkpoints").iterdir())
    assert [name for name in names if name.startswith("step")] == ["step-000000012", "step-000000013"]
    assert 1 <= len([name for name in names if name.startswith("best")]) <= 2
    assert not [name for name in names if name.endswith(".tmp")]
    suffixes = {path.suffix for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json", ".jsonl"}


def test_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    stopped_at(5, tmp_path)
    other = TrainConfig.from_dict({**CONFIG.to_dict(), "seed": 1})
    with pytest.raises(RunError, match="another seed"):
        train(Toy(norm=True), Rows(), other, folder=tmp_path, validation=Rows(10, seed=1), progress=False)


def test_how_a_training_is_executed_may_change_on_resume(tmp_path: Path) -> None:
    whole, _ = undisturbed(tmp_path)
    stopped_at(5, tmp_path / "run")
    other = TrainConfig.from_dict({**CONFIG.to_dict(), "checkpoint_every": 3, "log_every": 2, "device": "cpu"})
    system = Toy(norm=True)
    train(system, Rows(), other, folder=tmp_path / "run", validation=Rows(10, seed=1), progress=False)
    assert same_bits(weights_of(system), whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = undisturbed(tmp_path)

    def interrupt(done: int, system: object) -> None:
        if done == 6:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    system = Toy(norm=True)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
        train(
            system, Rows(), CONFIG, folder=tmp_path / "run", validation=Rows(10, seed=1), progress=False, on_step=interrupt
        )
    assert signal.getsignal(number) is before
    assert "stopped at step 7 of 13" in (said := capsys.readouterr().err) and "run the same command" in said
    assert (tmp_path / "run/checkpoints/step-000000007/state.json").exists()
    train(system, Rows(), CONFIG, folder=tmp_path / "run", validation=Rows(10, seed=1), progress=False)  # the same object
    assert same_bits(weights_of(system), whole)


def test_metrics_keep_whole_lines_up_to_the_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1}\n{"step": 2, "a": 2}\n{"step": 3, "a": 3}\n{"step": 4, "a"', encoding="utf-8")
    log = MetricsLog(path, upto_step=2)
    log.write({"step": 3, "a": float("nan"), "b": float("inf")})
    log.close()
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert records == [{"step": 1, "a": 1}, {"step": 2, "a": 2}, {"step": 3, "a": None, "b": None}]


def test_a_half_removed_checkpoint_does_not_count(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {}, {"weights": {"x": torch.ones(2)}})
    checkpoints.save(2, {}, {"weights": {"x": torch.ones(2)}})
    (tmp_path / "step-000000002/state.json").unlink()
    with pytest.warns(RuntimeWarning, match="damaged"):
        found = checkpoints.latest()
    assert found is not None and found.state["step"] == 1
