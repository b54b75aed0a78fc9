"""Profiles made from tiles and text: genes, structure, usefulness, calibration, baselines, and the round trip."""
