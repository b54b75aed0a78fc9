"""Real cells against the RNA of the same patients: labelled nuclei of NuCLS and marker scores of TCGA-BRCA.

A control that the comparison of RNA and image can work at all, without any model: the nuclei were labelled by people, the
RNA was measured, though on another piece of the tumour.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rnasynth.data.expression import read_expression
from rnasynth.data.manifests import check_at_hand, fetch
from rnasynth.errors import InputError, PartialFailure
from rnasynth.evaluation.deconvolution.follow import FollowReport, correlate
from rnasynth.evaluation.deconvolution.inputs import nucls_fractions, read_marker_lists, read_panglao
from rnasynth.evaluation.deconvolution.methods import marker_scores

TABLE = "tcga_brca_all_clean.csv.zip"
#: Marker lists (MCP-counter's, and PanglaoDB's for the epithelium) beside the nuclei that they should follow; set before
#: any correlation was seen.
PAIRS = (
    ("Epithelial cells", "tumour"),
    ("T cells", "lymphocyte"),
    ("B lineage", "lymphocyte"),
    ("Fibroblasts", "fibroblast"),
    ("Monocytic lineage", "macrophage"),
    ("Endothelial cells", "endothelium"),
)


def nuclei_against_rna(
    signatures: Path, porpoise: Path, *, n_boot: int = 1000, n_permutations: int = 999, seed: int = 0
) -> FollowReport:
    """Correlate marker scores of TCGA-BRCA profiles with shares of labelled nuclei of the same patients.

    Parameters
    ----------
    signatures : folder of the manifest `signatures`.
    porpoise : folder of the manifest `porpoise`; its BRCA profiles are z-scored, so that only marker scores make sense.

    Returns
    -------
    FollowReport of one source, "NuCLS"; all patients are of one tissue, so "within" equals the whole.

    Raises
    ------
    InputError : a file is not there, or fewer than ten patients are in both.
    """
    if not (porpoise / TABLE).is_file():
        raise InputError(str(porpoise / TABLE), expected="a file", found="none there", fix="run `rnasynth fetch porpoise`")
    nuclei = nucls_fractions(signatures / "nucls_v4_FINAL_CORE.sqlite.gz")
    profiles = read_expression(porpoise / TABLE, kind="porpoise")
    both = [name for name in nuclei.index if name in set(profiles.obs_names)]
    if len(both) < 10:
        raise InputError("NuCLS", expected="ten patients with RNA or more", found=str(len(both)))
    lists = read_marker_lists(signatures / "MCPcounter_genes.txt")
    lists |= read_panglao(signatures / "PanglaoDB_markers_27_Mar_2020.tsv.gz", ["Epithelial cells"])
    scores = marker_scores(profiles[both].copy(), {kind: lists[kind] for kind, _ in PAIRS}).scores
    pairs = [pair for pair in PAIRS if pair[0] in scores]
    seen: dict[str, pd.DataFrame] = {"NuCLS": nuclei.loc[both]}
    return correlate(
        scores,
        seen,
        pairs,
        tissues=["BRCA"] * len(both),
        groups=both,
        n_boot=n_boot,
        n_permutations=n_permutations,
        seed=seed,
    )


def nuclei_if_there(*, mirror: Path | None = None, seed: int = 0, n_boot: int = 1000) -> tuple[FollowReport | None, str]:
    """Fetch (or verify) the files and do the same; or return None and, in words, why it cannot be done here."""
    try:
        for name in ("signatures", "porpoise"):
            check_at_hand(name, mirror=mirror)
        signatures = fetch("signatures", mirror=mirror, progress=False, known_only=True).folder
        porpoise = fetch("porpoise", mirror=mirror, progress=False, known_only=True).folder
        return nuclei_against_rna(signatures, porpoise, seed=seed, n_boot=n_boot), ""
    except (InputError, PartialFailure) as error:
        return None, f"Labelled nuclei and their RNA are not there: {str(error).splitlines()[0]}"
