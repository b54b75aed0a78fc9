"""The stream of batches: which samples, and fetched one ahead in a thread."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from rnasynth.engine.system import Dataset
from rnasynth.errors import InputError

WORTH_A_THREAD_S = 0.001  # a fetch shorter than this costs less than handing it to a thread


class Batches:
    """An endless stream of batches, each epoch in the order of a permutation keyed by (seed, epoch).

    Batch number k holds the positions k * batch_size ... of the stream, so there is no state but the number, no batch
    is short, and each sample is seen once an epoch (a batch may reach over the end of one).

    Parameters
    ----------
    dataset : what is read from.
    batch_size : samples of the global batch.
    seed : of the permutations.
    rows : the rows of this process in the global batch.
    start : number of the first batch.
    device : where the batch is moved.
    channels_last : memory layout of four-dimensional tensors.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        *,
        rows: slice,
        start: int = 0,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
    ) -> None:
        if len(dataset) == 0:
            raise InputError("training data", expected="at least one sample", found="none", fix="check the split")
        self.dataset, self.batch_size, self.seed, self.rows = dataset, batch_size, seed, rows
        self.device, self.channels_last = torch.device(device), channels_last
        self.number = start
        self._orders: dict[int, np.ndarray] = {}
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._ahead: Future[dict[str, Tensor]] | None = None
        self._fetch_seconds = 0.0  # of the last batch

    def indices(self, number: int) -> np.ndarray:
        """Return the samples of global batch `number`, shape (batch_size,), int64."""
        positions = np.arange(number * self.batch_size, (number + 1) * self.batch_size)
        epochs, places = np.divmod(positions, len(self.dataset))
        for epoch in np.unique(epochs):
            if int(epoch) not in self._orders:
                self._orders[int(epoch)] = np.random.default_rng([self.seed, int(epoch)]).permutation(len(self.dataset))
        for old in [epoch for epoch in self._orders if epoch < epochs[0]]:
            del self._orders[old]
        parts = [self._orders[int(epoch)][places[epochs == epoch]] for epoch in np.unique(epochs)]
        return np.concatenate(parts).astype(np.int64)

    def next(self) -> tuple[np.ndarray, dict[str, Tensor], float]:
        """Return the global indices, this process's rows on the device, and the seconds waited for them."""
        began = time.perf_counter()
        indices = self.indices(self.number)
        batch = self._ahead.result() if self._ahead is not None else self._fetch(indices)
        waited = time.perf_counter() - began
        self.number += 1
        self._ahead = None
        if self._fetch_seconds > WORTH_A_THREAD_S:
            self._ahead = self._pool.submit(self._fetch, self.indices(self.number))
        return indices, move(batch, self.device, self.channels_last), waited

    def _fetch(self, indices: np.ndarray) -> dict[str, Tensor]:
        began = time.perf_counter()
        batch = self.dataset.fetch(indices[self.rows])
        self._fetch_seconds = time.perf_counter() - began
        return {k: v.pin_memory() for k, v in batch.items()} if self.device.type == "cuda" else batch

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def move(batch: dict[str, Tensor], device: torch.device, channels_last: bool = False) -> dict[str, Tensor]:
    """Return the batch on the device, images in the wanted layout."""
    moved = {}
    for name, tensor in batch.items():
        layout = torch.channels_last if channels_last and tensor.dim() == 4 else torch.preserve_format
        moved[name] = tensor.to(device, non_blocking=True, memory_format=layout)
    return moved
