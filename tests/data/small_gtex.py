"""GTEx in small: its tables by their own names, for tests that walk from fetching to a page."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd


def write_gtex(folder: Path, tissues: tuple[str, ...], donors: int = 8, genes: int = 80) -> None:
    """Write the three tables of GTEx in small: every donor has every tissue; the first half of the genes is coding."""
    names = [f"GTEX-AA{i:02d}" for i in range(donors)]
    rows = [(f"{name}-{n:02d}26-SM-1", tissue) for name in names for n, tissue in enumerate(tissues)]
    ids = [f"ENSG{i:011d}.{i % 9}" for i in range(genes)]
    x = np.random.default_rng(0).gamma(0.5, 300, (genes, len(rows))).round(2)
    lines = ["#1.2", f"{genes}\t{len(rows)}", "\t".join(["Name", "Description", *[name for name, _ in rows]])]
    lines += ["\t".join([name, f"S{i}", *map(str, x[i])]) for i, name in enumerate(ids)]
    _zip(folder / "gene_tpm.gct.gz", "\n".join(lines) + "\n")
    table = pd.DataFrame(rows, columns=["SAMPID", "SMTSD"]).assign(SMAFRZE="RNASEQ")
    table.to_csv(folder / "sample_attributes.txt", sep="\t", index=False)
    people = pd.DataFrame({"SUBJID": names, "SEX": "2", "AGE": "50-59"})
    people.to_csv(folder / "subject_phenotypes.txt", sep="\t", index=False)
    kinds = ["protein_coding" if i < genes // 2 else "lncRNA" for i in range(genes)]
    facts = [f'gene_id "{ids[i]}"; gene_type "{kinds[i]}"; gene_name "S{i}";' for i in range(genes)]
    gtf = [f"chr1\tHAVANA\t{what}\t1\t9\t.\t+\t.\t{fact}" for fact in facts for what in ("gene", "transcript")]
    _zip(folder / "genes.gtf.gz", "##format: gtf\n" + "\n".join(gtf) + "\n")


def _zip(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))
