"""A GTEx-sized GCT, a part of it wanted: the streaming reader beside `pandas.read_csv(usecols=...)`, and peak memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from isal import igzip

from benchmarks.common import Row, interleaved, limit_row, peak_memory_mb, print_table, seconds_row
from rnasynth.data.expression import read_expression

GENES, SAMPLES = 56_200, 2_000
WANTED_GENES, WANTED_SAMPLES = 19_198, 300
LIMIT_MB = 300.0


def sample_names() -> list[str]:
    """Names of the file's samples."""
    return [f"GTEX-{number:05d}-0126-SM-{number:04d}" for number in range(SAMPLES)]


def gene_names() -> list[str]:
    """Versioned ids of the file's genes."""
    return [f"ENSG{number:011d}.{number % 17 + 1}" for number in range(GENES)]


def wanted() -> tuple[list[str], list[str]]:
    """Genes (unversioned) and samples to read, in the file's order, spread over it."""
    generator = np.random.default_rng(1)
    genes = np.sort(generator.choice(GENES, WANTED_GENES, replace=False))
    samples = np.sort(generator.choice(SAMPLES, WANTED_SAMPLES, replace=False))
    names, ids = sample_names(), gene_names()
    return [ids[number].split(".")[0] for number in genes], [names[number] for number in samples]


def write_gct(path: Path) -> None:
    """Write TPM-like values (a third zeros, at most four decimals, long tail), about 630 MB of text."""
    generator = np.random.default_rng(0)
    values = np.where(generator.random(300_000) < 0.3, 0, np.round(generator.gamma(0.3, 40, size=300_000), 4))
    texts = np.array([b"%g" % value for value in values], dtype=object)
    with igzip.open(path, "wb", compresslevel=1) as handle:
        head = ["Name", "Description", *sample_names()]
        handle.write(f"#1.2\n{GENES}\t{SAMPLES}\n".encode() + "\t".join(head).encode() + b"\n")
        for number, name in enumerate(gene_names()):
            start = int(generator.integers(0, len(texts) - SAMPLES))
            handle.write(f"{name}\tSYM{number}\t".encode() + b"\t".join(texts[start : start + SAMPLES]) + b"\n")


def with_rnasynth(path: Path) -> np.ndarray:
    """Return the wanted part, samples x genes, by our reader."""
    genes, samples = wanted()
    adata = read_expression(path, genes=genes, samples=samples)
    return np.asarray(adata.X)


def with_pandas(path: Path) -> np.ndarray:
    """Return the same by pandas, as its documentation has it: only the wanted columns, then the wanted rows."""
    genes, samples = wanted()
    types = dict.fromkeys(samples, np.float32)
    frame = pd.read_csv(path, sep="\t", skiprows=2, usecols=["Name", *samples], dtype=types, index_col="Name")
    frame.index = frame.index.str.split(".").str[0]
    return frame.loc[genes, samples].to_numpy().T


READERS = {"rnasynth": with_rnasynth, "pandas": with_pandas}


def peak_of(reader: str, path: Path) -> float:
    """Peak memory of a process of its own that does nothing else, MB."""
    call = [sys.executable, "-m", "benchmarks.gct", reader, str(path)]
    done = subprocess.run(call, check=True, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1])
    return float(done.stdout)


def run(repeats: int = 3) -> list[Row]:
    """Make the file, then measure time (in turns) and memory."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "gene_tpm.gct.gz"
        write_gct(path)
        ours_mb = peak_of("rnasynth", path)
        pandas_mb = peak_of("pandas", path)
        np.testing.assert_array_equal(with_rnasynth(path), with_pandas(path))
        seconds = interleaved(lambda: with_rnasynth(path), lambda: with_pandas(path), repeats, warm_up=False)
    what = f"GCT {GENES:,} x {SAMPLES:,}, {WANTED_GENES:,} x {WANTED_SAMPLES} wanted"
    return [
        seconds_row(what, seconds, target=2.5, note="pandas.read_csv(usecols=...)"),
        limit_row(
            "the same, peak memory of the process",
            ours_mb,
            LIMIT_MB,
            unit="MB",
            note=f"the limit; pandas takes {pandas_mb:.0f} MB",
        ),
    ]


if __name__ == "__main__":
    if len(sys.argv) == 3:
        READERS[sys.argv[1]](Path(sys.argv[2]))
        print(peak_memory_mb())
    else:
        print_table(run())
