"""`python -m benchmarks [NAME...]`: run the benchmarks and print one table of ratios."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    """Run the named benchmarks (all by default); exit code 1 when a ratio misses its target."""
    here = Path(__file__).parent
    known = sorted(path.stem for path in here.glob("*.py") if path.stem not in ("__init__", "__main__", "common"))
    if unknown := sorted(set(names) - set(known)):
        print(f"unknown benchmark {unknown}; there are {known}", file=sys.stderr)
        return 2
    print("| what | here | alternative | ratio | target | note |\n|---|---|---|---|---|---|", flush=True)
    missed = 0
    for name in names or known:
        for row in importlib.import_module(f"benchmarks.{name}").run():  # `ratio`: more is better, in every unit
            target, unit = row["target"], row["unit"]
            missed += row["ratio"] < target
            print(
                f"| {row['name']} | {row['ours']:.4g} {unit} | {row['alternative']:.4g} {unit} "
                f"| {row['ratio']:.2f} | {f'{target:g}' if target else ''} | {row['note']} |",
                flush=True,
            )
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
