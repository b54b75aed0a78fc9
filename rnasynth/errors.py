"""Errors that a user can cause, each with its subject, what was expected, what was found and what to do."""

from __future__ import annotations

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
