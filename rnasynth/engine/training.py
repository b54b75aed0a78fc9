"""The state of one training, and what each of its steps does; `loop.train` is how it is called."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rnasynth.engine.alarms import Alarms
from rnasynth.engine.batches import Batches, move
from rnasynth.engine.checkpoint import (
    Checkpoint,
    Checkpoints,
    MetricsLog,
    optimizer_tensors,
    restore_optimizer,
    with_prefix,
    without_prefix,
)
from rnasynth.engine.processes import Processes, reseed, resolve_precision
from rnasynth.engine.sharding import Placement
from rnasynth.engine.snapshots import Snapshots
from rnasynth.engine.system import Dataset, Noise, System, TrainConfig, mixed_seed
from rnasynth.engine.watch import EarlyStopping, Record, means
from rnasynth.errors import DivergedError, RunError

CHECKPOINTS = "checkpoints"  # folder inside the run's folder
METRICS = "metrics.jsonl"
EARLY_SHARE = 0.2  # of the steps, in which no validation counts against the patience
SMALLEST_FP16_SCALE = 2.0**-10  # a loss scale below this means that every gradient overflows


class Training:
    """One training, from the last checkpoint if there is one; arguments as of `loop.train`."""

    def __init__(
        self,
        system: System,
        dataset: Dataset,
        config: TrainConfig,
        processes: Processes,
        folder: Path | None,
        validation: Dataset | None,
    ) -> None:
        self.system, self.config, self.processes, self.validation = system, config, processes, validation
        self.device = processes.device
        self.total = system.total_steps = config.steps_for(len(dataset), len(system.phases(0)))
        every = config.validate_every
        self.validate_every = max(1, math.ceil(len(dataset) / config.batch_size)) if every is None else every
        self.precision = resolve_precision(config.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type) if self.precision == "fp16" else None
        self.identity = system.identity(config, len(dataset))

        self.placement = Placement(system, config, processes)
        trained = {system.trained(phase) for step in range(self.total) for phase in system.phases(step)}
        self.parameters = {key: [p for p in system.networks[key].parameters() if p.requires_grad] for key in sorted(trained)}
        untrained = [network for key, network in system.networks.items() if key not in trained]
        self.untrained = [p for network in untrained for p in network.parameters() if p.requires_grad]
        for parameter in self.untrained:
            parameter.requires_grad_(False)
        self.optimizers = {key: system.optimizer(key) for key in self.parameters}
        self.rates = {key: [float(g["lr"]) for g in opt.param_groups] for key, opt in self.optimizers.items()}

        self.step, self.seconds, self.samples, self.waited = 0, 0.0, 0, 0.0
        self.stopping = EarlyStopping(config.patience, earliest=round(EARLY_SHARE * self.total))
        self.alarms = Alarms(system.alarms())
        self.best_in_memory: dict[str, Tensor] = {}
        self.stop_signal: int | None = None
        self.pending: list[Record] = []
        self.checkpoints = Checkpoints(folder / CHECKPOINTS) if folder is not None else None
        found = self.checkpoints.latest() if self.checkpoints is not None else None
        first_batch = self._restore(found) if found is not None else 0
        self.placement.broadcast()
        writes = folder is not None and processes.rank == 0
        self.log = MetricsLog(folder / METRICS, upto_step=self.step) if writes and folder is not None else None
        self.snapshots = Snapshots(folder, upto_step=self.step) if writes and folder is not None else None
        self.batches = Batches(
            dataset,
            config.batch_size,
            config.seed,
            rows=processes.rows(config.batch_size),
            start=first_batch,
            device=self.device,
            channels_last=config.channels_last,
        )

    # ------------------------------------------------------------------ the loop
    def run(self, progress: bool, on_step: Callable[[int, System], None] | None) -> dict[str, Any]:
        """Take the steps that are missing and return the summary."""
        self._training_mode()
        hidden = None if progress and self.processes.rank == 0 else True  # None: shown on a terminal only
        bar = tqdm(total=self.total, initial=self.step, desc=self.system.name, unit="step", disable=hidden, leave=False)
        folder_keeps = self.checkpoints is not None and self.config.snapshot_every > 0
        mark, elapsed = time.perf_counter(), self.seconds
        with bar:
            while self.step < self.total and not self.stopping.stopped:
                for number, phase in enumerate(self.system.phases(self.step)):
                    self._phase(number, phase)
                self._update_averages()
                self.step += 1
                self.seconds = elapsed + time.perf_counter() - mark
                bar.update()
                last = self.step == self.total
                validates = bool(self.validation is not None and self.validate_every)
                values = self._validate() if validates and (self.step % self.validate_every == 0 or last) else {}
                stop = self.processes.any(self.stop_signal is not None)
                every = self.config.checkpoint_every
                due = bool(every and self.step % every == 0 and self.alarms.ringing_since is None)
                saves = last or stop or self.stopping.stopped or due  # not over a good one while an alarm rings
                if saves or values or self.step % self.config.log_every == 0:
                    shown = self._write_metrics(values)
                    losses = {
                        name: f"{value:.4g}" for name, value in shown.items() if name.endswith("loss") and value is not None
                    }
                    bar.set_postfix(losses, refresh=False)
                if folder_keeps and (last or self.stopping.stopped or self.step % self.config.snapshot_every == 0):
                    self._snapshot()
                if saves:
                    self._save()
                if on_step is not None:
                    on_step(self.step, self.system)
                if stop and not (last or self.stopping.stopped):
                    self._leave()
        return self._finish()

    def _phase(self, number: int, phase: str) -> None:
        system, config = self.system, self.config
        key = system.trained(phase)
        optimizer, parameters = self.optimizers[key], self.parameters[key]
        indices, batch, waited = self.batches.next()
        noise = Noise(config.seed, self.step, number, config.batch_size, rows=self.batches.rows, device=self.device)
        for other, theirs in self.parameters.items():
            for parameter in theirs:
                parameter.requires_grad_(other == key)
        optimizer.zero_grad(set_to_none=True)
        reseed(mixed_seed(config.seed, self.step, number, self.processes.rank), self.device)  # dropout
        with self._autocast():
            loss, metrics = system.loss(phase, batch, noise)
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        self.placement.average_gradients(parameters)
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = self.placement.norm(gradients)
        loss = self.processes.mean(loss.detach())
        record = Record(self.step + 1, phase, indices, loss, norm, metrics)
        self.pending.append(record)
        if self.device.type == "cpu":  # elsewhere a look at the numbers would halt the device: later, in _write_metrics
            self._check(record)
        if config.grad_clip is not None:
            factor = (config.grad_clip / (norm + 1e-6)).clamp(max=1.0).to(torch.float32)
            torch._foreach_mul_(self.placement.local(gradients), factor)
        factor_of_rate = system.schedule(key, self.step)
        for group, rate in zip(optimizer.param_groups, self.rates[key], strict=True):
            group["lr"] = rate * factor_of_rate
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        self.samples += len(indices)
        self.waited += waited

    def _autocast(self) -> Any:
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=kinds[self.precision])

    def _training_mode(self) -> None:
        self.system.train()
        for key, network in self.system.networks.items():
            network.train(key in self.parameters)

    @torch.no_grad()
    def _update_averages(self) -> None:
        for key, average in self.system.averaged.items():
            decay = min(self.system.ema[key], (1 + self.step) / (10 + self.step))
            network = self.system.networks[key]
            mine_now, theirs_now = self.placement.local(average.parameters()), self.placement.local(network.parameters())
            torch._foreach_lerp_(mine_now, theirs_now, 1.0 - decay)
            for mine, theirs in zip(average.buffers(), network.buffers(), strict=True):
                mine.copy_(theirs)

    # ------------------------------------------------------------------ numbers
    def _check(self, record: Record) -> None:
        overflow = self.scaler is not None and self.scaler.get_scale() >= SMALLEST_FP16_SCALE
        record.check(self.system.name, self._last_good(), gradient_may_overflow=overflow)

    def _last_good(self, upto_step: int | None = None) -> str:
        none = "no checkpoints are written without a folder"
        return self.checkpoints.newest(upto_step) if self.checkpoints is not None else none

    def _write_metrics(self, validation: dict[str, float]) -> dict[str, float | None]:
        """Check and average what happened since the last line, and write the line."""
        if self.device.type != "cpu":
            for record in self.pending:
                self._check(record)
        names, values = means(self.pending)
        values = self.processes.mean(values.to(self.device)).cpu()
        self.pending.clear()
        line: dict[str, float | None] = {"step": self.step}
        line |= {name: float(value) for name, value in zip(names, values, strict=True)}
        self.alarms.look(self.system.name, line, self._last_good(self.alarms.ringing_since))
        line |= {f"val_{name}": value for name, value in validation.items()}
        line |= {f"{key}_rate": float(optimizer.param_groups[0]["lr"]) for key, optimizer in self.optimizers.items()}
        line |= {"seconds": round(self.seconds, 4), **self._speed()}
        if self.log is not None:
            self.log.write(line)
        return line

    def _speed(self) -> dict[str, float]:
        seconds = max(self.seconds, 1e-9)
        return {
            "samples_per_s": round(self.samples / seconds, 3),
            "wait_share": round(min(1.0, self.waited / seconds), 4),
        }

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Return means over the validation samples, and keep the best weights.

        Each process takes all samples, and those of process 0 count, so that all of them stop at the same step.
        """
        assert self.validation is not None
        self.processes.broadcast(self.system.networks.buffers())
        self.system.eval()
        sums: dict[str, float] = {}
        size = max(1, self.config.batch_size // self.processes.size)
        for start in range(0, len(self.validation), size):
            indices = np.arange(start, min(start + size, len(self.validation)))
            batch = move(self.validation.fetch(indices), self.device, self.config.channels_last)
            with self._autocast():
                values = self.system.validate(batch)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(indices)
        self._training_mode()
        together = torch.tensor(list(sums.values()), dtype=torch.float64, device=self.device) / max(1, len(self.validation))
        self.processes.broadcast([together])
        averages = dict(zip(sums, together.tolist(), strict=True))
        if self.stopping.better(self.step, averages.get("loss", math.nan)):
            assert self.stopping.best is not None
            if self.checkpoints is None:
                self.best_in_memory = {name: tensor.detach().clone() for name, tensor in self.placement.weights().items()}
            else:
                self.stopping.best["file"] = self.checkpoints.best_name(self.step)
                weights = self.placement.weights(keep=self.processes.rank == 0)
                if self.processes.rank == 0:
                    self.checkpoints.save_best(self.step, weights)
        return averages

    # ------------------------------------------------------------------ checkpoints
    def _save(self) -> None:
        self.processes.broadcast(self.system.networks.buffers())
        parameters = [p.detach() for theirs in self.parameters.values() for p in theirs]
        if not math.isfinite(float(self.placement.norm(parameters))):
            raise DivergedError(
                f"{self.system.name}, step {self.step}",
                expected="finite weights",
                found="NaN or infinity",
                fix=self._last_good() + "; lower the learning rate",
            )
        if self.checkpoints is None:
            return
        writes = self.processes.rank == 0
        weights = self.placement.weights(keep=writes)
        optimizers: dict[str, Tensor] = {}
        numbers: dict[str, dict[str, Any]] = {}
        for key, optimizer in self.optimizers.items():
            tensors, numbers[key] = optimizer_tensors(optimizer)
            optimizers |= self.placement.gather(with_prefix(key, tensors), keep=writes)
        if writes:
            state = {
                "identity": self.identity,
                "batches": self.batches.number,
                "seconds": self.seconds,
                "samples": self.samples,
                "waited": self.waited,
                "early_stopping": self.stopping.to_dict(),
                "alarms": self.alarms.to_dict(),
                "optimizer_numbers": numbers,
                "scaler": self.scaler.state_dict() if self.scaler is not None else None,
            }
            self.checkpoints.save(self.step, state, {"weights": weights, "optimizers": optimizers})
        self.processes.barrier()

    @torch.no_grad()
    def _snapshot(self) -> None:
        """Keep the weights that sampling uses, and tiles made by them; all processes take part, process 0 writes."""
        self.processes.broadcast(self.system.networks.buffers())
        self.system.eval()
        tiles = self.system.samples()
        self._training_mode()
        weights = self.placement.sampled(keep=self.snapshots is not None)
        if self.snapshots is not None:
            self.snapshots.save(self.step, weights, tiles)

    def _restore(self, found: Checkpoint) -> int:
        """Take everything from a checkpoint and return the number of the next batch."""
        state = found.state
        if state["identity"] != self.identity:
            changed = sorted(k for k in self.identity if self.identity[k] != state["identity"].get(k))
            raise RunError(
                str(found.path),
                expected="a checkpoint of this training",
                found=f"another {', '.join(changed)}",
                fix="give another folder, or remove this one to start again",
            )
        self.placement.load_weights(found.tensors["weights"])
        for key, optimizer in self.optimizers.items():
            tensors = without_prefix(key, found.tensors["optimizers"])
            tensors = self.placement.optimizer_parts(optimizer, tensors)
            restore_optimizer(optimizer, tensors, state["optimizer_numbers"][key])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.samples = state["step"], state["seconds"], state["samples"]
        self.waited = state["waited"]
        self.stopping.restore(state["early_stopping"])
        if "alarms" in state:  # not in checkpoints of an earlier version
            self.alarms.restore(state["alarms"])
        return int(state["batches"])

    def _leave(self) -> None:
        where = "" if self.checkpoints is None else f" (checkpoint in {self.checkpoints.folder})"
        how = "nothing was kept: no folder was given" if self.checkpoints is None else "run the same command to go on"
        message = f"{self.system.name} stopped at step {self.step} of {self.total}{where}; {how}"
        if self.processes.rank == 0:
            print(message, file=sys.stderr, flush=True)
        if self.stop_signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt(message)

    def _finish(self) -> dict[str, Any]:
        best, divided = self.stopping.best, self.placement.divided
        self.placement.join()
        if best is not None:
            self.processes.barrier()
            kept = self.checkpoints.load_best(best["file"]) if self.checkpoints is not None else self.best_in_memory
            self.placement.load_weights(kept)
        self.system.eval()
        return {
            "steps": self.step,
            "seconds": round(self.seconds, 3),
            **self._speed(),
            "stopped_early": self.stopping.stopped,
            "best_step": best["step"] if best else None,
            "best_loss": best["loss"] if best else None,
            "precision": self.precision,
            "device": self.device.type,
            "processes": self.processes.size,
            "sharding": "fsdp2" if divided else "none",
        }

    def close(self) -> None:
        """Leave the system as a caller expects it, and end thread and file."""
        for parameter in [*self.untrained, *(p for theirs in self.parameters.values() for p in theirs)]:
            parameter.requires_grad_(True)
        self.batches.close()
        if self.log is not None:
            self.log.close()
