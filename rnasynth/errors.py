"""Errors that a user can cause, each with its subject, what was expected, what was found and what to do."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping


class RnasynthError(Exception):
    """Base of all errors that a user can cause; the command line prints it without a traceback.

    Parameters
    ----------
    subject : what the error is about: a sample id, slide id or path comes first, so that it can be found.
    expected, found : the rule and what broke it.
    fix : what to do next, in the imperative.
    """

    exit_code = 2  # the call or its input is wrong, nothing was written

    def __init__(self, subject: str, *, expected: str = "", found: str = "", fix: str = "") -> None:
        self.subject, self.expected, self.found, self.fix = subject, expected, found, fix
        parts = [subject]
        if expected:
            parts.append(f"expected {expected}")
        if found:
            parts.append(f"found {found}")
        if fix:
            parts.append(fix)
        super().__init__("; ".join(parts))

    def __reduce__(self) -> tuple[object, ...]:
        """Let Dask carry the error from a worker with its fields."""
        return (_rebuild, (type(self), self.subject, self.expected, self.found, self.fix))


def _rebuild(kind: type[RnasynthError], subject: str, expected: str, found: str, fix: str) -> RnasynthError:
    return kind(subject, expected=expected, found=found, fix=fix)


class InputError(RnasynthError):
    """A file, table or argument is not what the call needs."""


class SlideError(RnasynthError):
    """A slide cannot be read, or says something absurd about itself."""


class StoreError(RnasynthError):
    """A tile store is damaged, locked or of another kind."""


class RunError(RnasynthError):
    """A run folder is incomplete, damaged or of another kind."""


class SplitError(RnasynthError):
    """A patient (split group) would cross splits, or a split is missing."""


class DivergedError(RnasynthError):
    """Training left the numbers it can come back from; the last good checkpoint is intact."""

    exit_code = 1


class DiskFull(RnasynthError):
    """No room to go on writing; what was finished is kept."""

    exit_code = 1


def of_system(error: OSError) -> RnasynthError:
    """Return what the operating system refused, in the words of the other errors.

    A full disk comes in the midst of work (exit code 1); permissions and paths are wrong from the start (2).
    """
    subject = str(error.filename or "input or output")
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        subject = str(error.args[0][0][1])  # of all files that a folder's copy could not write, the first
    if is_full(error):
        return DiskFull(
            subject,
            expected="room on the disk",
            found=error.strerror or os.strerror(errno.ENOSPC),
            fix="free some: what was finished is kept, the same command goes on from there",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(
            subject,
            expected="permission to read or write it",
            found=error.strerror or str(error),
            fix="change its permissions, or give another place",
        )
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return InputError(subject, expected="a folder", found="a file", fix="give another path")
    return InputError(subject, expected="a file or folder that can be used", found=error.strerror or str(error))


def is_full(error: Exception) -> bool:
    """Tell whether an error says that the disk, a quota or a limit of file size is reached, in whatever library's words."""
    code = getattr(error, "errno", None)
    if code is not None:
        return code in _FULL
    said = [
        f"{start}{full}{end}" for full in _FULL for start, end in (("errno = ", ","), ("(os error ", ")"), ("[Errno ", "]"))
    ]
    return any(words in str(error) for words in said)  # HDF5, Rust, shutil's list of all files that it could not copy


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PartialFailure(RnasynthError):
    """Some inputs failed, the rest is done; `failures` maps each failed input to its reason."""

    exit_code = 1

    def __init__(self, subject: str, failures: Mapping[str, str], *, fix: str = "") -> None:
        self.failures = dict(failures)
        self.task = subject
        listed = "".join(f"\n  {name}: {reason}" for name, reason in self.failures.items())
        super().__init__(f"{subject}: {len(self.failures)} failed{listed}", fix=fix)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_partial, (self.task, self.failures, self.fix))


def _rebuild_partial(task: str, failures: Mapping[str, str], fix: str) -> PartialFailure:
    return PartialFailure(task, failures, fix=fix)
