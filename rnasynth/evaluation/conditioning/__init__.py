"""Does the RNA reach the tile? The proof against rivals, retrieval within a tissue, and the ceiling."""
