"""Which cohorts may be compared with which, in words."""

from __future__ import annotations

import pandas as pd


def comparability() -> pd.DataFrame:
    """Return who may be compared with whom: index cohort; columns unit, tissues, comparable, images, survival."""
    rows = [
        ("simulated", "TPM", "five invented", "with other simulated cohorts of the same biology", "yes", "yes"),
        ("her2st", "counts of a spot", "breast tumour", "spots within it, after scaling to 10,000 counts", "yes", "no"),
        (
            "tcga-xena",
            "TPM",
            "BLCA, STAD, COADREAD",
            "its cancers with each other; gtex and geo by shared genes",
            "no",
            "yes",
        ),
        ("tcga-tiles", "z-scores within a cancer", "nine cancers", "only within one cancer", "a few patients", "yes"),
        ("porpoise", "z-scores within a cancer", "nine cancers", "only within one cancer", "no", "yes"),
        ("rtcga", "RSEM, normalised", "ACC, UVM, CHOL", "its cancers with each other", "no", "no"),
        ("cognoma", "RSEM, normalised", "thirty cancers", "within it; rtcga by symbol", "no", "no"),
        (
            "gtex",
            "TPM",
            "healthy, by default five",
            "its tissues with each other; external ones by shared genes",
            "by hand",
            "no",
        ),
        ("tcga", "TPM (STAR)", "as fetched", "its cancers with each other", "yes", "no"),
        (
            "geo",
            "TPM (NCBI recompute)",
            "lung, brain, colon",
            "judged by a model of another cohort, never trained on",
            "no",
            "no",
        ),
    ]
    table = pd.DataFrame(rows, columns=["cohort", "unit", "tissues", "comparable", "images", "survival"])
    return table.set_index("cohort")
