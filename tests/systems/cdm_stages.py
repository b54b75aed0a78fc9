"""Small stages of the diffusion cascade for tests: a few hundred weights on 16- and 32-px tiles."""

from __future__ import annotations

import dataclasses

from rnasynth.engine import TrainConfig
from rnasynth.systems.cdm_config import CDMConfig

SHORT = TrainConfig(steps=3, batch_size=8, checkpoint_every=0, validate_every=0)
SMALL = CDMConfig(
    tile_px=16,
    width=8,
    multipliers=(1, 2),
    blocks=(1, 1),
    self_attention=(False, True),
    cross_attention=(False, True),
    tokens=2,
    train=SHORT,
)
SMALL_SR = dataclasses.replace(SMALL, tile_px=32, low_px=16)
