"""Errors say what to do, and survive the way back from a worker."""

from __future__ import annotations

import errno
import os
import pickle
import shutil

import pytest

from rnasynth.errors import DiskFull, InputError, PartialFailure, RnasynthError, SlideError, of_system


def test_message_names_subject_expectation_finding_and_remedy() -> None:
    error = SlideError("slide A", expected="um/px", found="none", fix="give --slide-mpp")
    assert str(error) == "slide A; expected um/px; found none; give --slide-mpp" and error.exit_code == 2


@pytest.mark.parametrize(
    "error",
    [
        InputError("a", expected="b", found="c", fix="d"),
        PartialFailure("tiling", {"s1": "broken", "s2": "gone"}, fix="again"),
    ],
)
def test_errors_survive_a_worker(error: RnasynthError) -> None:
    back = pickle.loads(pickle.dumps(error))  # noqa: S301, this very line's own bytes; Dask does the same
    assert type(back) is type(error) and str(back) == str(error) and back.exit_code == error.exit_code


def test_partial_failure_lists_each_failure_and_its_reason() -> None:
    error = PartialFailure("tiling", {"s1": "broken", "s2": "gone"})
    assert "2 failed" in str(error) and "s1: broken" in str(error) and error.failures["s2"] == "gone"


def test_a_full_disk_is_known_in_the_words_of_a_copied_folder() -> None:
    missed = [("a", "b", str(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "b")))]
    found = of_system(shutil.Error(missed))
    assert isinstance(found, DiskFull) and found.exit_code == 1 and found.subject == "b"
    assert of_system(shutil.Error("Destination path 'b' already exists")).subject == "input or output"
    denied = [("a", "b", str(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "b")))]
    assert not isinstance(of_system(shutil.Error(denied)), DiskFull)
