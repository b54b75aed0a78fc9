"""H&E tissue tiles from RNA profiles, and RNA profiles from tiles and clinical text.

The library is thin on purpose: networks know nothing of files, systems nothing of figures, pages nothing of loops.
`CONTRIBUTING.md` has the map of the house.
"""

__version__ = "0.1.0"
