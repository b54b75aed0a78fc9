"""The map of page 05: UMAP of 1,016 patients, fitted and the same number placed, beside umap-learn as it comes."""

from __future__ import annotations

import time

import numpy as np
import umap
from anndata import AnnData

from benchmarks.common import Row, limit_row, print_table, seconds_row
from rnasynth.evaluation.latent.projection import fit_umap

PATIENTS, GENES = 1_016, 1_577  # tcga-xena
LIMIT_S = 20.0


def profiles() -> AnnData:
    """Three clusters of z-scores."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(PATIENTS, GENES)) + generator.normal(size=(3, GENES))[np.arange(PATIENTS) % 3]
    adata = AnnData(X=x.astype(np.float32))
    adata.uns["transform"] = {"name": "none"}
    return adata


def run() -> list[Row]:
    """Fit and place once each after a small fit that compiles UMAP's code; single runs, as each takes seconds."""
    given = profiles()
    umap.UMAP(random_state=0, n_jobs=1).fit(np.asarray(given.X)[:50])
    seconds = []
    for fit in (
        lambda: fit_umap(given, seed=0).place(given),
        lambda: umap.UMAP(random_state=0, n_jobs=1).fit(np.asarray(given.X)).transform(np.asarray(given.X)),
    ):
        start = time.perf_counter()
        fit()
        seconds.append(time.perf_counter() - start)
    ours, plain = seconds
    what = f"UMAP of {PATIENTS:,} x {GENES:,}, fitted and as many placed"
    return [
        seconds_row(what, (ours, plain), target=0, note="umap-learn's fit and transform"),
        limit_row("the same, against the limit", ours, LIMIT_S, unit="s"),
    ]


if __name__ == "__main__":
    print_table(run())
