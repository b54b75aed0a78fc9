"""An installed wheel works outside a checkout: pages, book, manifests and weights are found, nothing is written to it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_MB = 32.0  # of the wheel; released weights of another size are a decision, and this is where it is taken
PACKAGED = ("book", "notebooks", "data_manifests")
NEVER = ("__pycache__", ".ipynb", ".h5ad", ".mdb", "tests/", "benchmarks/", "_packaged/data/", "_packaged/runs/")

STUDY = """name: study
title: Stand-in
description: Simulated patients.
simulated: false
licence: MIT
citation: none
files: []
cohort: {samples: samples.csv, expression: expression.tsv, unit: tpm, slides: slides, slide_mpp: 0.5, banner: SIMULATED}
"""

# What a user does in an empty folder, in one process, because each start costs seconds.
SESSION = """
import sys
from pathlib import Path
import rnasynth
from rnasynth import config
site = Path(sys.argv[1]).resolve()
assert Path(rnasynth.__file__).resolve().is_relative_to(site), rnasynth.__file__
assert config.checkout_folder() is None and config.project_folder() == Path.cwd()

from rnasynth.data.simulate.stand_in import write_study
write_study("study", patients=10, genes=120)
Path("study/study.yaml").write_text(Path("study.yaml").read_text())

from rnasynth.pages.runner import run_pages
print([outcome.line() for outcome in run_pages("study/study.yaml", "demo", ["01"])])

from rnasynth.pages.book import assemble
from rnasynth.pages.notebooks import read_pages
documents = assemble(Path("assembled"), Path("build/study-demo"), read_pages(), cohort="study", preset="demo")
assert "own_study" in documents and len(read_pages()) >= 17, documents

from rnasynth.pages.recorded import read_records
assert read_records("04_beta_vae"), "no recorded results"

from rnasynth.runs import load_run
from rnasynth.features.networks import feature_network
assert load_run("simclr-her2st").path.is_relative_to(site)
assert feature_network("simclr-her2st").dim == 128

from rnasynth.data.cohort import load_cohort
from rnasynth.systems.training import train_preset
cohort = load_cohort("study/study.yaml")
run = train_preset("rna-gan", cohort, "demo", overrides=["train.steps=2"], progress=False)
profiles = cohort.only("test").profiles
profiles.write_h5ad("profiles.h5ad")
Path("run.txt").write_text(run.id)
"""


def environment(site: Path) -> dict[str, str]:
    """The variables of a user who has the package, and no checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RNASYNTH_", "PYTHON"))}
    return {**kept, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


def call(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the installed package."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(site), capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree; without hatchling here, pip fetches it, and the tests are skipped where it cannot."""
    to = tmp_path_factory.mktemp("wheel")
    alone = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *alone, "--wheel-dir", str(to), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and not alone:
        pytest.skip("no hatchling, and none to be fetched")
    assert done.returncode == 0, done.stderr
    return next(to.glob("rnasynth-*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed, and nothing else."""
    to = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(to), str(wheel)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return to


def test_a_wheel_holds_what_the_library_reads_and_no_more(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert wheel.stat().st_size < MOST_MB * 1e6
    assert [name for name in names if any(part in name for part in NEVER)] == []
    for folder in PACKAGED:
        here = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}
        here = {name for name in here if not any(part in name for part in NEVER)}
        packaged = {
            name.removeprefix("rnasynth/_packaged/") for name in names if name.startswith(f"rnasynth/_packaged/{folder}/")
        }
        assert packaged and here == packaged, here ^ packaged
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names) and "rnasynth/py.typed" in names


@pytest.mark.slow
@pytest.mark.timeout(900)  # seconds of a quiet core: below a minute
def test_an_installed_package_works_in_an_empty_folder(site: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    done = call(site, tmp_path, "-c", SESSION, str(site))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "01_cohorts: ran" in done.stdout
    assert (tmp_path / "build/study-demo/01_cohorts/results.json").is_file()  # by a manifest named from here
    assert {path.name for path in tmp_path.iterdir()} >= {"data", "runs", "build"}

    name = (tmp_path / "run.txt").read_text(encoding="utf-8")
    asked = ("-m", "rnasynth.cli", "generate", "--expression", "profiles.h5ad", "--tiles-per-profile", "2", "--out", "made")
    done = call(site, tmp_path, *asked, "--run", name)
    assert done.returncode == 0 and "tiles of" in done.stdout, done.stderr
    assert list((tmp_path / "made").rglob("*.png"))
    assert {path: path.stat().st_mtime_ns for path in site.rglob("*")} == before  # nothing was written to the package


def test_doctor_says_where_things_will_lie(site: Path, tmp_path: Path) -> None:
    done = call(site, tmp_path, "-m", "rnasynth.cli", "doctor")
    assert done.returncode == 0, done.stderr
    assert f"data: {tmp_path / 'data'}" in done.stdout and f"runs: {tmp_path / 'runs'}" in done.stdout
    assert "tomics: 0 of 144 files; get them: rnasynth fetch her2st" in done.stdout and list(tmp_path.iterdir()) == []


def test_a_package_without_its_pages_is_found_out(site: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(site / "rnasynth", bare / "rnasynth")
    read = ("-c", "from rnasynth.pages.notebooks import read_pages; print(len(read_pages()))")
    assert call(bare, tmp_path, *read).returncode == 0
    shutil.rmtree(bare / "rnasynth" / "_packaged" / "notebooks")
    done = call(bare, tmp_path, *read)
    assert done.returncode != 0 and "expected pages NN_name.py" in done.stderr
