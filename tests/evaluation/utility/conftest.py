"""A small cohort for the studies of usefulness, made once: twelve test patients of five tissues."""

from __future__ import annotations

import pytest

from rnasynth.data.cohort import Cohort
from tests.systems.gan_cohort import small_cohort


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Return sixty patients with two tiles each."""
    return small_cohort(tmp_path_factory.mktemp("usefulness"), patients=60, tiles=2)
