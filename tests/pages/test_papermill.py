"""The pages under plain papermill: written as notebooks, run from any folder, explained, strict, and complete alone."""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

from rnasynth.errors import InputError
from rnasynth.pages.notebooks import read_pages, write_notebooks
from rnasynth.pages.page import Page
from rnasynth.pages.parameters import check_cells
from tests.small_simulated import write_small_simulated

FAST = "01_cohorts"
PAPERMILL = Path(sys.executable).with_name("papermill")
OWN = 'preset: str = "demo"  # which\ncohort: str = "simulated"\nseed: int = 0\nslope: float = 2.0\nout: str = ""\n'
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the notebooks, a small simulated cohort, and a kernel of another environment that would fail."""
    folder = tmp_path_factory.mktemp("papermill")
    write_notebooks(folder / "notebooks")
    write_small_simulated(folder / "data")
    stranger = folder / "jupyter" / "kernels" / "python3"
    stranger.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "another", "language": "python"}
    (stranger / "kernel.json").write_text(json.dumps(spec))
    return folder


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start papermill in a new folder far from the checkout, with nothing of this environment on the PATH."""
    elsewhere = home / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RNASYNTH", "PYTHON"))}
    environment |= {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "JUPYTER_DATA_DIR": str(home / "jupyter")}
    environment |= {f"RNASYNTH_{name}": str(home / name.lower()) for name in ("HOME", "DATA", "RUNS")}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "encoding": "utf-8"}
    return subprocess.Popen([str(PAPERMILL), *arguments], cwd=elsewhere, env=environment, **pipes)


def page(home: Path, name: str = FAST) -> str:
    return str(home / "notebooks" / f"{name}.ipynb")


@pytest.fixture(scope="module")
def executed(home: Path) -> Iterator[dict[str, Any]]:
    """Page 01 as papermill leaves it, and two calls with a mistake; all at the same time."""
    calls = {
        "good": start(home, page(home), "out.ipynb", "-p", "preset", "demo", "-p", "cohort", "simulated"),
        "misspelt": start(home, page(home), "misspelt.ipynb", "-p", "presett", "gpu"),
        "wrong type": start(home, page(home), "type.ipynb", "-p", "seed", "abc"),
    }
    yield {name: (call.communicate(timeout=280)[0], call.returncode) for name, call in calls.items()}
    for call in calls.values():
        call.kill()


def pictures(notebook: Any) -> list[bytes]:
    """Return the PNG bytes that a notebook's viewer shows."""
    shown = [out["data"].get("text/html", "") for cell in notebook.cells for out in cell.get("outputs", []) if "data" in out]
    return [base64.b64decode(found) for html in shown for found in re.findall(r"data:image/png;base64,([^\"]+)", html)]


def test_every_page_is_written_as_a_valid_notebook_without_outputs(home: Path) -> None:
    pages = read_pages()
    files = sorted((home / "notebooks").iterdir())
    assert [file.stem for file in files] == list(pages)
    for file in files:
        notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
        assert sum("parameters" in each for each in tags) == 1, file
        assert all(not cell.get("outputs") for cell in notebook.cells), file
        code = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
        assert code == pages[file.stem].code()


def test_written_twice_is_the_same(home: Path, tmp_path: Path) -> None:
    for file in write_notebooks(tmp_path):
        assert file.read_bytes() == Path(page(home, file.stem)).read_bytes()


def test_papermill_knows_each_parameter_with_its_type_and_an_explanation(home: Path) -> None:
    for name, source in read_pages().items():
        known = papermill.inspect_notebook(page(home, name))
        assert list(known) == list(source.parameters), f"{name}: papermill reads no line with a second equals sign"
        for parameter, default in source.parameters.items():
            told = known[parameter]
            assert told["inferred_type_name"] == type(default).__name__, (name, parameter)
            assert len(told["help"]) > 5, (name, parameter)


def test_help_of_a_page_is_shown_on_the_command_line(home: Path) -> None:
    text, code = (call := start(home, "--help-notebook", page(home, "06_gan"))).communicate(timeout=60)[0], call.wait()
    assert code == 0
    words = " ".join(text.split())
    assert "seeds: int (default 3) trainings of each generator" in words
    assert 'network: str (default "stain-texture") feature network' in words


@pytest.mark.slow
def test_a_page_runs_from_any_folder_in_the_environment_of_papermill(home: Path, executed: dict[str, Any]) -> None:
    text, code = executed["good"]
    assert code == 0, text
    assert (home / "home" / "build" / "simulated-demo" / FAST / "results.json").is_file()
    notebook = nbformat.read(home / "elsewhere" / "out.ipynb", as_version=4)
    errors = [out for cell in notebook.cells for out in cell.get("outputs", []) if out["output_type"] == "error"]
    assert not errors
    assert notebook.metadata["papermill"]["parameters"] == {"preset": "demo", "cohort": "simulated"}


@pytest.mark.slow
def test_an_executed_notebook_stands_alone(home: Path, executed: dict[str, Any], tmp_path: Path) -> None:
    notebook = nbformat.read(home / "elsewhere" / "out.ipynb", as_version=4)
    made = home / "home" / "build" / "simulated-demo" / FAST / "figures"
    kept = [path.read_bytes() for path in sorted(made.glob("*.png"))]
    assert kept and sorted(pictures(notebook)) == sorted(kept) and all(png.startswith(PNG) for png in kept)
    last = notebook.cells[-1].outputs[-1]["data"]["text/html"]
    for fact in ("python ", "torch ", "rnasynth ", "fingerprint", "commit", "started", "rnasynth book --cohort simulated"):
        assert fact in last, fact
    bare = copy.deepcopy(notebook)  # what a notebook would be that only points to its figures
    for cell in bare.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("text/html", None)
    assert not pictures(bare)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "notebook", "words"),
    [
        ("misspelt", "misspelt", "parameter presett; expected one of preset, cohort, seed, out; found unknown"),
        ("wrong type", "type", "parameter seed; expected int; found 'abc'"),
    ],
)
def test_a_mistaken_parameter_fails(home: Path, executed: dict[str, Any], call: str, notebook: str, words: str) -> None:
    text, code = executed[call]
    assert code != 0
    assert f"InputError: page {FAST}, {words}" in text
    cells = nbformat.read(home / "elsewhere" / f"{notebook}.ipynb", as_version=4).cells
    assert not any(cell.get("outputs") for cell in cells[-6:])  # it stopped there


@pytest.mark.parametrize(
    ("put_in", "words"),
    [
        ("presett = 'gpu'", "presett.*unknown.*spelling"),
        ("seed = 'abc'", "seed.*expected int"),
        ("seed = True", "seed.*expected int"),
        ("seed = 1.5", "seed.*expected int"),
        ("cohort = 7", "cohort.*expected str.*-r"),
        ("slope = float('nan')", "slope.*literal"),
        ("import os", "name = value"),
    ],
)
def test_what_papermill_puts_in_is_checked(put_in: str, words: str) -> None:
    with pytest.raises(InputError, match=f"(?s)page 02_line.*{words}"):
        check_cells("02_line", ["", OWN, f"# Parameters\n{put_in}\n", "import json"])
    # what the check would miss: the same cell without papermill's mark, and a page that has such a parameter
    check_cells("02_line", ["", OWN, f"{put_in}\n", "import json"])


def test_what_is_known_and_of_its_type_passes() -> None:
    check_cells("02_line", [OWN, "# Parameters\npreset = 'gpu'\nseed = 3\nslope = 3\n"])
    check_cells("02_line", [OWN + 'presett: str = ""\n', "# Parameters\npresett = 'gpu'\n"])
    check_cells("02_line", ["%matplotlib inline", "!ls", "x: int = 1"])
    again = [OWN, "# Parameters\nseed = 'abc'\n", OWN, "# Parameters\nseed = 1\n"]  # mended and run again
    with pytest.raises(InputError, match="above"):
        check_cells("02_line", ["# Parameters\nseed = 1\n", OWN])  # the tag was lost: papermill writes at the top
    check_cells("02_line", again)


def test_a_page_in_plain_python_has_no_cells_to_check(tmp_path: Path) -> None:
    Page.open("02_line", preset="demo", cohort="simulated", out=tmp_path)
