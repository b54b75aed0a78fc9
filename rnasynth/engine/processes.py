"""The processes that train together, and the memory of one process.

One process by default; several where torchrun started them (it sets RANK, WORLD_SIZE and LOCAL_RANK). Gradients are
averaged by plain all-reduce after the whole backward pass, which holds for losses that differentiate twice (gradient
penalties) and for several networks trained in turn; `sharding` divides networks that do not fit.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from rnasynth.errors import InputError

BUCKET_NUMBERS = 32 << 20  # numbers of one all-reduce: large enough to fill a network, small beside the weights
# glibc's mallopt parameters (malloc.h) and their defaults
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
DEFAULT_TRIM_BYTES, DEFAULT_MMAP_MAX = 128 * 1024, 65536


@dataclass(frozen=True)
class Processes:
    """This process among those that train together: number `rank` of `size`, computing on `device`."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: str = "auto") -> Processes:
        """Join the processes that torchrun started, or be the only one.

        Parameters
        ----------
        device : "auto" (the GPU where there is one), "cpu" or "cuda".

        Raises
        ------
        InputError : "cuda" where there is no GPU.
        """
        kind = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        if kind == "cuda" and not torch.cuda.is_available():
            raise InputError("device 'cuda'", expected="a GPU that torch can use", found="none", fix="choose cpu or auto")
        if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            dist.init_process_group("nccl" if kind == "cuda" else "gloo")
            atexit.register(dist.destroy_process_group)
        rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if kind == "cuda":
            number = int(os.environ.get("LOCAL_RANK", "0"))
            torch.cuda.set_device(number)
            return cls(rank, size, torch.device("cuda", number))
        return cls(rank, size, torch.device("cpu"))

    def rows(self, batch_size: int) -> slice:
        """Return the rows of this process in a global batch.

        Raises
        ------
        InputError : the batch cannot be shared equally, so the mean of means would not be the mean.
        """
        if batch_size % self.size:
            raise InputError(
                f"batch_size {batch_size}",
                expected=f"a multiple of the {self.size} processes",
                found=f"a remainder of {batch_size % self.size}",
            )
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes; a missing one counts as zero."""
        if self.size == 1:
            return
        bucket: list[Tensor] = []
        numbers = 0
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter.grad)
            numbers += parameter.numel()
            if numbers >= BUCKET_NUMBERS:
                self._average(bucket)
                bucket, numbers = [], 0
        if bucket:
            self._average(bucket)

    def _average(self, gradients: list[Tensor]) -> None:
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of `value` over the processes."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of `value` over the processes."""
        return self.sum(value) / self.size if self.size > 1 else value

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)).item())

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors with those of process 0."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.data, src=0)

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


def reseed(seed: int, device: torch.device) -> None:
    """Seed torch's global generators of the CPU and of `device`.

    `torch.manual_seed` also queues a call with a stack trace for GPUs that are not there, at each call.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return "fp32", "bf16" or "fp16"; "auto" is bf16 where the device has instructions for it, else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if cpu_computes_bf16() else "fp32"


def cpu_computes_bf16() -> bool:
    """Whether the processor multiplies bf16 numbers itself (AMX, AVX-512 BF16; known on Linux only)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "amx_bf16" in text or "avx512_bf16" in text


@contextmanager
def kept_memory(device: torch.device) -> Iterator[None]:
    """Let a training on the CPU keep the memory that it frees, so that the next step need not fault it in again.

    glibc hands blocks above 32 MiB back to the kernel when freed; activations and gradients of a large network are
    then zeroed page by page in every step, which costs about as much as the arithmetic. The defaults are put back,
    and the memory is returned, at the end. Nothing is done on other C libraries or for a GPU.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" and device.type == "cpu" else None
    mallopt = getattr(library, "mallopt", None)
    malloc_trim = getattr(library, "malloc_trim", None)
    if mallopt is None or malloc_trim is None:
        yield
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM_BYTES)
        malloc_trim(0)
