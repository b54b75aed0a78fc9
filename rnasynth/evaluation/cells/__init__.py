"""Nuclei and cells in tiles: models, what they are judged by, and compositions compared."""
