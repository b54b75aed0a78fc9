"""The GTEx v8 matrix at its full size: 19,198 genes of all 17,382 samples must be read in less than 3 GB.

The file is made of compressed blocks that repeat (a gzip file may hold many members), so it is there in a minute: 56,200
genes, about 1.6 GB, 6 GB of text.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from isal import igzip_threaded, isal_zlib

from benchmarks.common import Row, limit_row, peak_memory_mb, print_table
from benchmarks.gct import GENES, gene_names
from rnasynth.data.expression import read_expression

SAMPLES = 17_382
WANTED_GENES = 19_198
LIMIT_MB = 3000.0
BLOCKS = 64  # different lines of values


def wanted_genes() -> list[str]:
    """Unversioned ids to read, spread over the file."""
    chosen = np.sort(np.random.default_rng(1).choice(GENES, WANTED_GENES, replace=False))
    ids = gene_names()
    return [ids[number].split(".")[0] for number in chosen]


def line_values() -> np.ndarray:
    """Values of the lines, shape (BLOCKS, SAMPLES), TPM-like: a third zeros, four digits, a long tail."""
    generator = np.random.default_rng(0)
    values = generator.gamma(0.3, 40, size=(BLOCKS, SAMPLES))
    return np.where(generator.random(values.shape) < 0.3, 0, np.float32(np.char.mod("%.4g", values).astype(np.float64)))


def write_gct(path: Path) -> None:
    """Write the file; line n holds block n % BLOCKS of `line_values`."""

    def packed(text: bytes) -> bytes:
        return isal_zlib.compress(text, level=3, wbits=31)

    tails = [packed(b"\t".join(b"%g" % value for value in row) + b"\n") for row in line_values()]
    names = "\t".join(["Name", "Description", *(f"GTEX-{number:05d}-0126-SM-{number:05d}" for number in range(SAMPLES))])
    with open(path, "wb") as handle:
        handle.write(packed(f"#1.2\n{GENES}\t{SAMPLES}\n{names}\n".encode()))
        for number, name in enumerate(gene_names()):
            handle.write(packed(f"{name}\tSYM{number}\t".encode()))
            handle.write(tails[number % BLOCKS])


def read(path: Path) -> None:
    """Read the wanted genes of all samples, check some values, and print seconds and peak memory in MB."""
    started = time.perf_counter()
    adata = read_expression(path, kind="gct", unit="tpm", genes=wanted_genes())
    seconds, peak = time.perf_counter() - started, peak_memory_mb()
    assert adata.shape == (SAMPLES, WANTED_GENES)
    truth, x = line_values(), np.asarray(adata.X)
    for number in range(0, WANTED_GENES, 1000):
        line = int(str(adata.var_names[number]).removeprefix("ENSG"))
        np.testing.assert_allclose(x[:, number], truth[line % BLOCKS], rtol=1e-6)
    print(seconds, peak)


def inflate(path: Path) -> float:
    """Seconds to inflate the file and look at nothing: no reader can be faster."""
    started = time.perf_counter()
    with igzip_threaded.open(path, "rb", threads=1) as handle:
        while handle.read(1 << 20):
            pass
    return time.perf_counter() - started


def run() -> list[Row]:
    """Make the file, then measure in a process that does nothing else."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "gene_tpm.gct.gz"
        write_gct(path)
        size = path.stat().st_size / 1e9
        call = [sys.executable, "-m", "benchmarks.gtex_size", str(path)]
        done = subprocess.run(
            call, check=True, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1]
        ).stdout
        seconds, peak = map(float, done.split())
        floor = inflate(path)
    what = f"GCT {GENES:,} x {SAMPLES:,} ({size:.1f} GB), {WANTED_GENES:,} genes of all samples"
    return [
        Row(name=what, ours=seconds, alternative=floor, ratio=floor / seconds, unit="s", target=0.0, note="inflating alone"),
        limit_row("the same, peak memory of the process", peak, LIMIT_MB, unit="MB"),
    ]


if __name__ == "__main__":
    if len(sys.argv) == 2:
        read(Path(sys.argv[1]))
    else:
        print_table(run())
