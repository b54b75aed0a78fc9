"""Tile many slides with workers that SLURM starts: python book/server/tile_slurm.py --jobs 40 -- SLIDES --out STORE.

What follows `--` goes to `rnasynth tile` as it is. The workers must see the slides and the store under the same paths. The
same command goes on where it was interrupted. Needs dask-jobqueue (pip install dask-jobqueue).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys

from dask_jobqueue import SLURMCluster


def main() -> int:
    """Start the workers, let `rnasynth tile` give them the slides, and return its exit code."""
    parser = argparse.ArgumentParser(description="Tile many slides with workers that SLURM starts.")
    parser.add_argument("--jobs", type=int, default=40, help="SLURM jobs; each is one worker with one slide at a time")
    parser.add_argument("--memory", default="8GB", help="of a worker")
    parser.add_argument("--walltime", default="08:00:00", help="of a job; a slide in work then starts where it was")
    parser.add_argument("--queue", help="SLURM partition")
    parser.add_argument("--account", help="whom SLURM bills")
    parser.add_argument("--interface", help="network interface that nodes share, such as ib0")
    parser.add_argument("tile", nargs="+", metavar="SLIDES --out STORE", help="arguments of rnasynth tile, after --")
    given = parser.parse_args()
    if shutil.which("sbatch") is None:
        parser.error("no SLURM here: sbatch is not found; on one machine: rnasynth tile SLIDES --out STORE --workers N")
    with SLURMCluster(
        cores=1,
        processes=1,
        memory=given.memory,
        walltime=given.walltime,
        queue=given.queue,
        account=given.account,
        interface=given.interface,
        python=sys.executable,
    ) as cluster:
        cluster.scale(jobs=given.jobs)
        command = [sys.executable, "-m", "rnasynth.cli", "tile", *given.tile, "--scheduler", cluster.scheduler_address]
        return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
