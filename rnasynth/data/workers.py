"""Independent tasks on Dask workers: a local cluster, or any scheduler's address."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from typing import Literal, TypeVar

from rnasynth.errors import InputError

CONNECT_S = 30  # a scheduler that does not answer within this is not there
END_S = 60.0  # a worker without work may take so long to end, on a busy machine, before it is killed with a warning
Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


def on_dask(
    function: Callable[[Task], Outcome],
    tasks: Sequence[Task],
    *,
    died: Callable[[Task], Outcome],
    workers: int,
    scheduler: str | None = None,
) -> Generator[Outcome, None, None]:
    """Yield outcomes in the order in which they come; a worker that dies is replaced, and its task given out again.

    Parameters
    ----------
    function : importable by the workers, takes one task.
    tasks : what is given to it, one call each; they must survive a copy to another process.
    died : the outcome of a task whose workers died several times.
    workers : processes of a local cluster, at most one a task.
    scheduler : address of a Dask scheduler; `workers` is then not used.

    Raises
    ------
    InputError : no scheduler at that address.
    """
    if not tasks:
        return
    from dask.distributed import Client, LocalCluster, Nanny, as_completed
    from distributed.scheduler import KilledWorker

    logging.getLogger("distributed").setLevel(logging.getLogger().level)  # importing it set it to INFO
    all_done = False

    class PatientNanny(Nanny):
        """Waits longer for a worker that has nothing left to do; one that works on is killed after Dask's own 5 s."""

        async def close(self, timeout: float = 5, reason: str = "nanny-close") -> Literal["OK"]:  # type: ignore[override]
            return await super().close(END_S if all_done else timeout, reason)

    with ExitStack() as stack:
        if scheduler is None:
            scheduler = stack.enter_context(
                LocalCluster(
                    n_workers=min(workers, len(tasks)),
                    threads_per_worker=1,
                    worker_class=PatientNanny,
                    dashboard_address=None,
                )
            ).scheduler_address
        try:
            client = stack.enter_context(Client(scheduler, timeout=CONNECT_S))
        except (ValueError, OSError) as error:
            expected = "the address of a Dask scheduler, such as tcp://HOST:8786"
            raise InputError(
                f"scheduler {scheduler}", expected=expected, found=str(error)[:200], fix="start it first"
            ) from None
        futures = {client.submit(function, task, pure=False): task for task in tasks}
        for future in as_completed(futures):
            try:
                yield future.result()
            except KilledWorker:
                yield died(futures[future])
        all_done = True
