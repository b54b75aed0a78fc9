"""Tiles -> features: the embedded descriptor, networks by name or file, and statistics of features."""

from __future__ import annotations

from rnasynth.features.tiles import (
    FeatureNetwork,
    FeatureStats,
    StainTexture,
    TileSource,
    TorchFeatures,
    extract,
    same_stain,
)

__all__ = ["FeatureNetwork", "FeatureStats", "StainTexture", "TileSource", "TorchFeatures", "extract", "same_stain"]
