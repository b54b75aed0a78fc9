"""One loop for all systems: phases, batches, noise, schedule, averages, divergence, early stopping."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rnasynth.engine import Noise, TrainConfig, mixed_seed, seeded, train, warmup_cosine
from rnasynth.engine.batches import Batches
from rnasynth.engine.processes import kept_memory
from rnasynth.engine.watch import EarlyStopping, gradient_norm
from rnasynth.errors import DivergedError, InputError
from tests.engine.toy import Rows, Toy, same_bits, weights_of


def config(**changes: object) -> TrainConfig:
    return TrainConfig.from_dict({"steps": 6, "batch_size": 8, "checkpoint_every": 2, **changes})


def run(system: Toy | None = None, folder: Path | None = None, **changes: object) -> Toy:
    system = system or Toy()
    train(system, Rows(), config(**changes), folder=folder, progress=False)
    return system


# ---------------------------------------------------------------------- batches and noise
def test_each_sample_is_seen_once_an_epoch() -> None:
    batches = Batches(Rows(10), 4, seed=3, rows=slice(0, 4))
    stream = np.concatenate([batches.indices(number) for number in range(10)])
    for epoch in stream.reshape(4, 10):
        assert sorted(epoch) == list(range(10))
    assert not np.array_equal(stream[:10], stream[10:20])


def test_batches_have_no_state_but_their_number() -> None:
    whole = [Batches(Rows(10), 4, seed=3, rows=slice(0, 4)).indices(number) for number in range(6)]
    later = Batches(Rows(10), 4, seed=3, rows=slice(0, 4), start=4)
    assert np.array_equal(later.next()[0], whole[4]) and np.array_equal(later.next()[0], whole[5])
    later.close()


def test_a_batch_larger_than_the_data_wraps() -> None:
    indices = Batches(Rows(3), 8, seed=0, rows=slice(0, 8)).indices(0)
    assert np.array_equal(np.sort(np.bincount(indices)), [2, 3, 3])


def test_batches_fetched_ahead_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    inline = run()
    monkeypatch.setattr("rnasynth.engine.batches.WORTH_A_THREAD_S", -1.0)
    assert same_bits(weights_of(run()), weights_of(inline))


def test_every_phase_gets_its_own_batch() -> None:
    rows = Rows()
    train(Toy(), rows, config(steps=2), folder=None, progress=False)
    first, second, third = rows.fetched[:3]
    assert not np.array_equal(first, second) and not np.array_equal(second, third)


def test_no_data_is_an_error() -> None:
    with pytest.raises(InputError, match="at least one sample"):
        train(Toy(), Rows(0), config(), folder=None, progress=False)


@pytest.mark.parametrize("draw", ["normal", "uniform", "integers"])
def test_noise_of_a_position_does_not_depend_on_the_processes(draw: str) -> None:
    def drawn(rows: slice) -> Tensor:
        noise = Noise(1, 2, 3, 6, rows=rows)
        calls = {"normal": lambda: noise.normal(3), "uniform": lambda: noise.uniform(-0.3, 0.3, 3)}
        return torch.cat([calls.get(draw, lambda: noise.integers(0, 99, 3))().double() for _ in range(2)], dim=1)

    whole = drawn(slice(0, 6))
    assert torch.equal(whole, torch.cat([drawn(slice(0, 3)), drawn(slice(3, 6))]))
    assert not torch.equal(whole[:, :3], whole[:, 3:])  # two calls differ
    assert not torch.equal(whole[0], whole[1])


def test_noise_differs_by_seed_step_and_phase() -> None:
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (11, 1, 0), (1, 11, 0)]
    draws = [Noise(*key, 4).normal(2) for key in keys]
    assert all(not torch.equal(draws[i], draws[j]) for i in range(6) for j in range(i))
    assert mixed_seed(1, 11) != mixed_seed(11, 1) and 0 <= mixed_seed("a", 1) < 2**63


def test_uniform_noise_keeps_its_range() -> None:
    values = Noise(0, 0, 0, 1000).uniform(-0.3, 0.3, 10)
    assert values.min() >= -0.3 and values.max() < 0.3 and abs(float(values.mean())) < 0.01


# ---------------------------------------------------------------------- the steps
def test_a_step_equals_one_written_by_hand() -> None:
    """Two steps of Toy without dropout, against plain torch."""
    system = run(Toy(dropout=0.0), steps=2)
    other = Toy(dropout=0.0)
    auto, scale = other.networks["auto"], other.networks["scale"]
    adam = torch.optim.Adam(auto.parameters(), lr=1e-2)
    sgd = torch.optim.SGD(scale.parameters(), lr=0.05, momentum=0.9)
    rows, number = Rows(), 0
    batches = Batches(rows, 8, seed=0, rows=slice(0, 8))
    for step in range(2):
        for phase in range(3):
            x = rows.x[torch.as_tensor(batches.indices(number))]
            number += 1
            error = (auto(x + 0.1 * Noise(0, step, phase, 8).normal(5)) - x).square().mean(1, keepdim=True)
            if phase < 2:
                adam.param_groups[0]["lr"] = 1e-2 * warmup_cosine(step, 2, 3)
                adam.zero_grad()
                error.mean().backward()
                adam.step()
            else:
                sgd.zero_grad()
                (scale(x) - error.detach()).square().mean().backward()
                sgd.step()
    for name, tensor in other.networks.state_dict().items():
        torch.testing.assert_close(system.networks.state_dict()[name], tensor, rtol=1e-5, atol=1e-7)


def test_a_phase_trains_its_network_only() -> None:
    class Leaky(Toy):
        def phases(self, step: int) -> list[str]:
            return ["auto"]

        def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
            return self.networks["scale"](self.networks["auto"](batch["x"])).square().mean(), {}

    before = Leaky().networks["scale"].weight.clone()
    system = run(Leaky())
    assert torch.equal(system.networks["scale"].weight, before)
    assert system.networks["scale"].weight.grad is None
    assert not torch.equal(system.networks["auto"][0].weight, Leaky().networks["auto"][0].weight)


def test_moving_average_follows_its_recurrence() -> None:
    system = Toy(dropout=0.0)
    expected: list[Tensor] = [system.networks["auto"][0].weight.detach().clone()]

    def follow(step: int, current: object) -> None:
        decay = min(0.9, step / (9 + step))
        expected[0] = decay * expected[0] + (1 - decay) * system.networks["auto"][0].weight.detach()

    train(system, Rows(), config(), folder=None, progress=False, on_step=follow)
    torch.testing.assert_close(system.averaged["auto"][0].weight, expected[0])
    assert not any(p.requires_grad for p in system.averaged["auto"].parameters())


def test_clipping_bounds_the_step() -> None:
    class Steep(Toy):
        def optimizer(self, key: str) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.networks[key].parameters(), lr=1.0)

        def schedule(self, key: str, step: int) -> float:
            return 1.0

        def phases(self, step: int) -> list[str]:
            return ["scale"]

    start = torch.cat([p.detach().reshape(-1) for p in Steep().networks["scale"].parameters()])
    system = run(Steep(), steps=1, grad_clip=0.01)
    end = torch.cat([p.detach().reshape(-1) for p in system.networks["scale"].parameters()])
    assert float((end - start).norm()) == pytest.approx(0.01, rel=1e-3)


def test_warmup_then_one_cosine() -> None:
    factors = [warmup_cosine(step, 100, 10) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == factors[9] == factors[10] == 1.0
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert factors[55] == pytest.approx(0.5) and factors[-1] < 0.001


def test_epochs_become_steps() -> None:
    assert TrainConfig(epochs=3, batch_size=10).steps_for(25) == 8
    assert TrainConfig(epochs=3, batch_size=10).steps_for(25, 2) == 4
    assert TrainConfig(steps=5).steps_for(1000) == 5
    with pytest.raises(InputError, match=r"one of them.*train\.epochs=null"):
        TrainConfig(steps=5, epochs=1.0)
    with pytest.raises(InputError, match="one of them"):
        TrainConfig()


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run()
    with seeded(1):
        torch.rand(3)
    assert torch.equal(torch.rand(1), expected)


def test_bf16_differs_and_learns() -> None:
    exact, rough = run(steps=20), run(steps=20, precision="bf16")
    one, other = exact.networks["auto"][0].weight, rough.networks["auto"][0].weight
    assert other.dtype == torch.float32 and not torch.equal(one, other)
    torch.testing.assert_close(one, other, rtol=0.2, atol=0.05)


# ---------------------------------------------------------------------- numbers
def test_metrics_hold_each_phase(tmp_path: Path) -> None:
    run(folder=tmp_path)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    names = {"auto_loss", "auto_largest", "auto_gradient_norm", "scale_loss", "auto_rate", "seconds", "samples_per_s"}
    assert names | {"wait_share"} <= set(records[0])
    run(folder=tmp_path / "thinned", log_every=3, checkpoint_every=0)
    thinned = [json.loads(line) for line in (tmp_path / "thinned/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert thinned[0]["auto_loss"] == pytest.approx(np.mean([r["auto_loss"] for r in records[:3]]), rel=1e-5)


class Diverging(Toy):
    """Turns bad at step 5 (counted from 1), in the loss or in the gradient alone."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.calls = where, 0

    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = super().loss(phase, batch, noise)
        self.calls += 1
        if self.calls != 4 * 3 + 2:  # the second phase of the fifth step
            return loss, metrics
        if self.where == "loss":
            return loss * math.inf, metrics
        weight = self.networks["auto"][0].weight
        return loss + 0 * (weight - weight.detach()).abs().sum().sqrt(), metrics  # gradient 0 * inf


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_divergence_names_step_phase_and_samples(tmp_path: Path, where: str) -> None:
    rows = Rows()
    with pytest.raises(DivergedError) as caught:
        train(Diverging(where), rows, config(steps=9), folder=tmp_path, progress=False)
    message = str(caught.value)
    assert "toy, step 5, phase 'auto'" in message and f"expected a finite {where}" in message
    assert str(Batches(rows, 8, seed=0, rows=slice(0, 8)).indices(13).tolist()) in message
    assert "step-000000004" in message
    whole = run(steps=9, folder=tmp_path / "other")
    resumed = run(folder=tmp_path, steps=9)  # the last good checkpoint is intact
    assert same_bits(weights_of(resumed), weights_of(whole))


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    class Wild(Toy):
        def schedule(self, key: str, step: int) -> float:
            return math.inf if step == 3 and key == "scale" else 1.0

    with pytest.raises(DivergedError, match="finite weights"):
        run(Wild(), folder=tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000002"]


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
def test_gradient_norm_is_the_norm_and_shows_any_bad_number(layout: str) -> None:
    gradients = [torch.randn(30, 7), torch.randn(5)]
    if layout == "strided":
        gradients = [gradients[0].t(), gradients[1]]
    expected = torch.cat([g.reshape(-1) for g in gradients]).norm()
    assert float(gradient_norm(gradients)) == pytest.approx(float(expected), rel=1e-6)
    for bad in (math.nan, math.inf, -math.inf):
        gradients[0][3, 4] = bad
        assert not math.isfinite(float(gradient_norm(gradients)))
    assert float(gradient_norm([])) == 0.0


# ---------------------------------------------------------------------- early stopping
def test_patience_counts_and_a_bad_number_is_never_the_best() -> None:
    stopping = EarlyStopping(2)
    assert [stopping.better(step, loss) for step, loss in enumerate([3.0, math.nan, 2.0, 2.0])] == [True, False, True, False]
    assert not stopping.stopped
    stopping.better(4, 5.0)
    assert stopping.stopped and stopping.best == {"step": 2, "loss": 2.0, "file": None}
    assert not EarlyStopping(None).better(0, 1.0)


def test_a_training_that_has_hardly_begun_is_not_stopped() -> None:
    stopping = EarlyStopping(2, earliest=5)
    for step in range(5):
        stopping.better(step, 1.0 + step)
    assert not stopping.stopped and stopping.best is not None and stopping.best["step"] == 0
    stopping.better(5, 9.0)
    stopping.better(6, 9.0)
    assert stopping.stopped


@pytest.mark.parametrize("on_disk", [True, False])
def test_early_stopping_keeps_the_best_weights(tmp_path: Path, on_disk: bool) -> None:
    class Worsening(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[dict[str, Tensor]] = []
            self.losses = iter([3.0, 1.0, 2.0, 4.0, 0.0])

        def validate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            self.seen.append({k: v.clone() for k, v in self.networks.state_dict().items()})
            return {"loss": torch.tensor(next(self.losses))}

    system = Worsening()
    folder = tmp_path if on_disk else None
    summary = train(
        system,
        Rows(),
        config(steps=5, validate_every=1, patience=2),
        folder=folder,
        validation=Rows(4),
        progress=False,
    )
    assert summary["stopped_early"] and summary["steps"] == 4 and summary["best_step"] == 2
    assert same_bits(dict(system.networks.state_dict()), system.seen[1])


def test_patience_without_validation_is_an_error() -> None:
    with pytest.raises(InputError, match="validation data"):
        run(patience=3)


def test_kept_memory_gives_the_same_numbers() -> None:
    with kept_memory(torch.device("cpu")):
        kept = weights_of(run())
    assert same_bits(kept, weights_of(run()))


def test_fp16_scales_the_loss_and_survives_a_resume(tmp_path: Path) -> None:
    whole = run(folder=tmp_path / "whole", precision="fp16", steps=8)

    def stop(step: int, current: object) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        part = config(steps=8, precision="fp16")
        train(Toy(), Rows(), part, folder=tmp_path / "part", progress=False, on_step=stop)
    resumed = run(folder=tmp_path / "part", precision="fp16", steps=8)
    assert same_bits(weights_of(resumed), weights_of(whole))
    assert all(torch.isfinite(value).all() for value in weights_of(whole).values())
    records = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert records[-1]["scale_loss"] < records[0]["scale_loss"]
