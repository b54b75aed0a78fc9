"""The trained systems, registered by name: importing this package imports and so registers each of them.

A new system is a module here with a class decorated by `rnasynth.engine.register`, and one line below.
"""

from __future__ import annotations

from rnasynth.engine import SYSTEMS
from rnasynth.systems import beta_vae, cdm, classifier, gan, gemm, profile_baselines, simclr

__all__ = ["SYSTEMS", "beta_vae", "cdm", "classifier", "gan", "gemm", "profile_baselines", "simclr"]
