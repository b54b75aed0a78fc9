"""Independent tasks on workers: all of them done, and a quiet end."""

from __future__ import annotations

import atexit
import logging
import time

import pytest

from rnasynth.data import workers


def slow_to_end(task: int) -> int:
    """A task whose worker takes longer to end than Dask waits, as on a busy machine."""
    atexit.register(time.sleep, 5.0)
    return 2 * task


@pytest.mark.slow
@pytest.mark.parametrize("patient", [True, False])
def test_a_worker_that_is_slow_to_end_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, patient: bool
) -> None:
    if not patient:
        monkeypatch.setattr(workers, "END_S", 5.0)  # Dask's own patience: the broken variant
    with caplog.at_level(logging.WARNING):
        assert list(workers.on_dask(slow_to_end, [3], died=abs, workers=2)) == [6]
    assert ("still alive" in caplog.text) is not patient
