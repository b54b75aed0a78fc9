"""Fixtures of the systems' tests."""

from __future__ import annotations

import pytest

from rnasynth.data.cohort import Cohort
from tests.systems.gan_cohort import small_cohort


@pytest.fixture(scope="session")
def gan_cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """A small simulated cohort with tiles, built once."""
    return small_cohort(tmp_path_factory.mktemp("gan-cohort"))
