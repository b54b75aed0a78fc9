"""Every command of the server guide is run as it stands there: demo preset, a processor, a stand-in for SLURM.

What is changed, and asserted to be there: the lengths of trainings, which get a few steps. Of papermill's examples the first
page is run, and the parameters of the others are checked (the demo book runs those pages).
"""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from rnasynth.data.manifests import list_manifests, load_manifest
from rnasynth.data.tiles import TileStore
from rnasynth.errors import InputError
from rnasynth.pages import server
from rnasynth.pages.notebooks import check_parameters, read_pages
from rnasynth.runs import load_run
from tests.server_box import KNOWN_OPTIONS, ROOT, write_site

GUIDE = (ROOT / "book" / "server.md").read_text(encoding="utf-8")
FILES = ROOT / "book" / "server"
DASK_JOBQUEUE = importlib.util.find_spec("dask_jobqueue") is not None
CONVERT = FILES / "convert_weights.py"
OWN_COHORT = ("rnasynth fetch", "pack.sh")  # commands that need a cohort of files, not the simulated one
_TRAINING = re.compile(r"(?:rnasynth(?:\.cli)? train|train\w*\.sbatch) (?!beta-vae)\S+")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def sections(guide: str) -> dict[str, list[str]]:
    """Return the blocks of commands below each heading."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^## ", guide, flags=re.MULTILINE):
        blocks = re.findall(r"^```(?:bash|console|sh)\n(.*?)^```", part, flags=re.MULTILINE | re.DOTALL)
        found[part.splitlines()[0]] = [block for block in blocks if "%EXAMPLES%" not in block]
    return {title: blocks for title, blocks in found.items() if blocks}


def shortened(block: str) -> str:
    """Return a block whose trainings take a few steps; beta-VAEs stay whole, they take seconds."""
    lines = []
    for line in block.splitlines():
        if found := _TRAINING.search(line):
            line = re.sub(r"train\.steps=\d+", "train.steps=3", line)
            if "train.steps" not in line:
                line = f"{line[: found.end()]} --set train.steps=3{line[found.end() :]}"
        lines.append(line)
    return "\n".join(lines)


def run(script: str, site: dict[str, str], **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a script of commands in the site's checkout; the first that fails ends it."""
    environment = site | changes
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-x", "-c", script],
        cwd=checkout(site),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=500,
    )


def checkout(site: dict[str, str]) -> Path:
    return Path(site["JOBS"]).parent / "checkout"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_site(tmp_path_factory.mktemp("site"))


@pytest.mark.parametrize("title", sections(GUIDE))
def test_every_command_of_a_section_works(site: dict[str, str], title: str) -> None:
    for block in sections(GUIDE)[title]:
        if "tile_slurm" in block and not DASK_JOBQUEUE:
            pytest.skip("dask-jobqueue is not installed")
        own = {"COHORT": "small.yaml"} if any(words in block for words in OWN_COHORT) else {}
        done = run(shortened(block), site, **own)
        assert done.returncode == 0, f"{title}:\n{done.stdout[-4000:]}"


def test_a_section_with_a_wrong_command_would_fail(site: dict[str, str]) -> None:
    assert run("rnasynth trian beta-vae", site).returncode == 2
    assert run("false | cat", site).returncode != 0


def test_what_the_sections_left_is_where_the_guide_says(site: dict[str, str]) -> None:
    """After the sections above, in the order of the file."""
    runs, home = Path(site["RNASYNTH_RUNS"]), Path(site["RNASYNTH_HOME"])
    trained = sorted(path.name.rpartition("-")[0] for path in runs.iterdir() if (path / "manifest.json").is_file())
    assert trained == ["beta-vae", "beta-vae", "cdm-base", "gan"]  # the second beta-VAE is the cascade's own
    assert load_run(next(runs.glob("gan-*"))).metrics()["step"].max() == 3
    assert (home / "pages" / "simulated-demo" / "01_cohorts.ipynb").is_file()
    assert (home / "pages" / "simulated-demo" / "01_cohorts" / "results.json").is_file()
    one = index_of(checkout(site) / "store")
    assert len(one) > 0 and one["slide_id"].nunique() == 3
    if DASK_JOBQUEUE:
        keys = ["slide_id", "x_px", "y_px"]
        two = index_of(checkout(site) / "store_slurm")
        assert one.sort_values(keys)[keys].to_numpy().tolist() == two.sort_values(keys)[keys].to_numpy().tolist()
        assert any(
            "distributed" in path.read_text() for path in Path(site["JOBS"]).glob("script-*")
        )  # SLURM's workers did it
    python = checkout(site) / "environment" / "bin" / "python"
    assert subprocess.run([python, "-c", "import tinyproject"]).returncode == 0
    assert load_file(checkout(site) / "weights.safetensors")["layer.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


def index_of(store: Path) -> pd.DataFrame:
    return TileStore(store).index


def test_a_pack_that_was_damaged_on_its_way_is_refused(site: dict[str, str]) -> None:
    script = "bash book/server/pack.sh broken small.yaml; {}; bash book/server/unpack.sh broken nowhere"
    done = run(script.format("echo x >>broken/data/small/numbers.bin"), site)
    assert done.returncode != 0 and "numbers.bin: FAILED" in done.stdout
    assert not (checkout(site) / "nowhere").exists()


def test_a_job_that_is_told_to_stop_goes_on_with_the_same_command(site: dict[str, str]) -> None:
    arguments = "exec bash book/server/train.sbatch gan --set train.steps=40 --set train.seed=7"
    runs = Path(site["RNASYNTH_RUNS"])
    before = set(runs.glob("gan-*"))
    job = subprocess.Popen(
        ["bash", "-c", arguments], cwd=checkout(site), env=site, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )

    def lines() -> int:
        new = set(runs.glob("gan-*")) - before
        return max(
            (len(path.read_text().splitlines()) for folder in new for path in folder.glob("metrics.jsonl")), default=0
        )

    deadline = time.monotonic() + 200
    while not lines() and time.monotonic() < deadline and job.poll() is None:
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)  # to the shell that SLURM started, as --signal=B:TERM does
    said = job.communicate(timeout=120)[0].decode()
    assert job.returncode == 128 + signal.SIGTERM, said
    stopped = int(re.findall(r"stopped at step (\d+) of 40 .*run the same command to go on", said)[0])
    assert 0 < stopped < 40
    done = run(arguments, site)
    assert done.returncode == 0, done.stdout[-3000:]
    (finished,) = set(runs.glob("gan-*")) - before
    steps = load_run(finished).metrics()["step"].tolist()
    assert steps == sorted({*range(10, 41, 10), stopped})  # a line every ten steps, one where it stopped, none twice


@pytest.mark.parametrize("path", sorted(FILES.glob("*.sbatch")), ids=lambda path: path.name)
def test_a_job_file_asks_slurm_for_what_slurm_knows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    asked = re.findall(r"^#SBATCH --([\w-]+)", text, flags=re.MULTILINE)
    assert set(asked) <= KNOWN_OPTIONS and "time" in asked
    assert len(asked) == text.count("#SBATCH")
    last = max(number for number, line in enumerate(text.splitlines()) if line.startswith("#SBATCH"))
    first = next(number for number, line in enumerate(text.splitlines()) if line and not line.startswith("#"))
    assert last < first, "SLURM reads no option below the first command"


# ---- what is made of the project


def test_the_guide_shows_every_page_with_parameters_that_it_has() -> None:
    pages = read_pages()
    filled = server.fill(GUIDE, pages)
    assert not re.search(r"%[A-Z]+%", filled)
    commands = [
        shlex.split(line) for line in filled.splitlines() if line.startswith('papermill "$RNASYNTH_HOME"/notebooks/')
    ]
    assert [command[2].removesuffix(".ipynb") for command in commands] == list(pages)
    for command, page in zip(commands, pages.values(), strict=True):
        given = dict(zip(command[4::3], command[5::3], strict=True))
        assert set(command[3::3]) <= {"-p", "-r"} and {"preset", "cohort"} <= set(given)
        typed = {name: type(page.parameters[name])(value) for name, value in given.items()}
        check_parameters(page, typed)
        with pytest.raises(InputError):
            check_parameters(page, typed | {"presett": "gpu"})


def test_disk_sizes_are_the_sums_of_the_manifests() -> None:
    table = server.disk_table().set_index("cohort")
    assert set(table.index) == set(list_manifests())
    for name in table.index:
        sizes = [entry.bytes for entry in load_manifest(name).files]
        known = sum(size for size in sizes if size is not None)
        shown = str(table.loc[name, "MB (10^6 bytes)"])
        assert shown == "not known" if not known else abs(float(shown.replace(",", "")) - known / 1e6) <= 0.05
        assert ("unknown" in str(table.loc[name, "of it not counted"])) == (None in sizes)


def test_trainings_are_those_of_the_paper_preset() -> None:
    table = server.trainings_table().set_index("system")
    assert table.loc["cdm-sr", "samples seen"] == f"{79_000 * 256:,}"
    assert table.loc["cdm-sr", "weights, 10^6"] == "701.1"  # book/decisions.md: 701 million, 14 GB
    assert table.loc["cdm-sr", "GB without activations"] == "14.0"
    assert table.loc["rna-gan", "length"] == "11 passes"


def test_pages_train_what_they_name_and_what_that_builds_on() -> None:
    pages = read_pages()
    assert server.trained_by(pages["01_cohorts"]) == []
    assert server.trained_by(pages["09_rna_cdm"]) == ["beta-vae", "cdm-base", "cdm-sr"]
    assert {"gan", "gan-narrow", "rna-gan", "beta-vae"} <= set(server.trained_by(pages["06_gan"]))


def test_measured_steps_come_from_the_records() -> None:
    table = server.measured_table(read_pages())
    assert {"beta-vae", "rna-gan", "cdm-base", "cdm-sr"} <= set(table["system"])
    assert table["device"].str.contains("CPU").all()  # when a GPU's record comes, the guide's "not measured" must go
    assert "**were not measured**" in GUIDE


# ---- published weights


def convert(*arguments: Any) -> int:
    """Run the recipe as a script, in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr(sys, "argv", [str(CONVERT), *map(str, arguments)])
        runpy.run_path(str(CONVERT), run_name="__main__")
    return int(left.value.code or 0)


@pytest.mark.parametrize("around", [None, "state_dict", "desc"])
def test_weights_come_out_as_they_were(tmp_path: Path, around: str | None) -> None:
    weights = {"a.weight": torch.randn(3, 4), "a.steps": torch.tensor(7)}
    weights["tied"] = weights["a.weight"]
    torch.save(weights if around is None else {around: weights, "epoch": 50}, tmp_path / "published.tar")
    assert convert(tmp_path / "published.tar", tmp_path / "out.safetensors") == 0
    found = load_file(tmp_path / "out.safetensors")
    assert set(found) == set(weights) and all(torch.equal(found[name], weights[name]) for name in weights)


class Mischief:
    """Writes a file when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": Mischief(tmp_path / "ran")}, tmp_path / "published.pth")
    assert convert(tmp_path / "published.pth", tmp_path / "out.safetensors") == 2
    assert "refused" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out.safetensors").exists()
    Mischief(tmp_path / "ran").__reduce__()[0](tmp_path / "ran")  # what a careless loader would have done
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        ([1, 2], "other", "table of tensors"),
        ({"epoch": 3}, "other", "table of tensors"),
        ({"a": torch.ones(1)}, "inception", "missing"),
    ],
)
def test_what_is_no_weights_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, kind: str, words: str
) -> None:
    torch.save(content, tmp_path / "published.pth")
    assert convert(tmp_path / "published.pth", tmp_path / "out.safetensors", "--kind", kind) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()
