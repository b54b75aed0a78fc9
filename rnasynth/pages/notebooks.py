"""Read the pages: their header, their parameters cell, and the modules of the library that they stand on.

A page is jupytext's percent text. Its YAML header holds, under `jupyter: rnasynth:`, what the runner must know::

    question: How much of a profile survives the latent?
    cohorts: [all]            # names, or: all, images (has tiles), paired (has tiles and profiles)
    needs: [02_expression]    # pages that run before it
    demo_seconds: 60          # expected time of the demo preset on two CPU cores
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rnasynth.config import sources_folder
from rnasynth.errors import InputError
from rnasynth.files import write_text
from rnasynth.pages.parameters import REQUIRED_PARAMETERS, check_values, literals

HEADER = ("question", "cohorts", "needs", "demo_seconds")
PARAMETERS_TAG = "parameters"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_PARSING = threading.Lock()  # Python 3.11 keeps the depth of its syntax trees per process: two threads may not parse at once


@dataclass(frozen=True, kw_only=True)
class PageSource:
    """One page as it stands in git."""

    name: str
    """File name without suffix, such as "04_beta_vae"."""
    path: Path
    notebook: Any
    """nbformat notebook, without outputs."""
    question: str
    cohorts: tuple[str, ...]
    needs: tuple[str, ...]
    demo_seconds: float
    parameters: Mapping[str, Any]
    """Literal defaults of the parameters cell, in its order."""

    @property
    def title(self) -> str:
        """Text of the first heading, or the page's name."""
        for cell in self.notebook.cells:
            if cell.cell_type == "markdown" and cell.source.startswith("# "):
                return str(cell.source.splitlines()[0][2:].strip())
        return self.name

    def code(self) -> str:
        """Return the page's code cells as one Python text."""
        return "\n\n".join(cell.source for cell in self.notebook.cells if cell.cell_type == "code")

    def suits(self, cohort: str, *, has_profiles: bool, has_tiles: bool) -> str:
        """Return why the page is not meant for a cohort, or "" if it is."""
        kinds = {"all": True, "images": has_tiles, "paired": has_tiles and has_profiles}
        if cohort in self.cohorts or any(kinds.get(word, False) for word in self.cohorts):
            return ""
        wanted = {"images": "a cohort with images", "paired": "a cohort with images and profiles"}
        words = [wanted.get(word, word) for word in self.cohorts]
        return f"it is meant for {', '.join(words)}"


def notebooks_folder() -> Path:
    """Folder of the pages in the checkout or in the installed package."""
    return sources_folder("notebooks")


def read_page(path: str | Path) -> PageSource:
    """Read one page.

    Raises
    ------
    InputError : the header lacks a field, or the parameters cell is missing, doubled or holds more than literals.
    """
    import jupytext

    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), expected="a page, NN_name.py", found="no such file")
    notebook = jupytext.read(path)
    header = notebook.metadata.get("rnasynth")
    if header is None and notebook.cells and notebook.cells[0].cell_type == "raw":
        front = yaml.safe_load(notebook.cells[0].source.strip().strip("-")) or {}
        header = front.get("rnasynth")
        notebook.cells = notebook.cells[1:]
    if not isinstance(header, dict) or (missing := [field for field in HEADER if field not in header]):
        raise InputError(
            f"page {path.name}",
            expected=f"a YAML header with rnasynth: {', '.join(HEADER)}",
            found="no header" if not isinstance(header, dict) else f"no {', '.join(missing)}",
            fix="copy the header of another page",
        )
    return PageSource(
        name=path.stem,
        path=path,
        notebook=notebook,
        question=str(header["question"]),
        cohorts=_names(header["cohorts"]),
        needs=_names(header["needs"]),
        demo_seconds=float(header["demo_seconds"]),
        parameters=_parameters(path, notebook),
    )


def read_pages(folder: Path | None = None) -> dict[str, PageSource]:
    """Read all pages of a folder, by name.

    Raises
    ------
    InputError : no page, or one that cannot be read.
    """
    folder = folder or notebooks_folder()
    found = {path.stem: read_page(path) for path in sorted(folder.glob("[0-9][0-9]_*.py"))}
    if not found:
        raise InputError(str(folder), expected="pages NN_name.py", found="none", fix="install rnasynth again")
    return found


def choose(pages: Mapping[str, PageSource], wanted: list[str] | None) -> list[str]:
    """Return names in dependency order of the pages that `wanted` (names or two digits; None: all) asks for.

    Raises
    ------
    InputError : an unknown page, one that needs an unknown page, or a circle of needs.
    """
    for page in pages.values():
        if unknown := [need for need in page.needs if _resolve(pages, need) is None]:
            raise InputError(f"page {page.name}", expected="needs among the pages", found=f"unknown {', '.join(unknown)}")
    chosen = set(pages)
    if wanted is not None:
        resolved = {text: _resolve(pages, text) for text in wanted}
        if missing := [text for text, name in resolved.items() if name is None]:
            raise InputError(f"pages {', '.join(missing)}", expected=f"among {', '.join(sorted(pages))}", found="unknown")
        chosen = {name for name in resolved.values() if name is not None}
    order: list[str] = []
    waiting = sorted(pages)
    while waiting:
        ready = [name for name in waiting if all(_resolve(pages, need) in order for need in pages[name].needs)]
        if not ready:
            raise InputError("needs of the pages", expected="no circle", found=f"one among {', '.join(waiting)}")
        order.append(ready[0])
        waiting.remove(ready[0])
    return [name for name in order if name in chosen]


def needs_of(pages: Mapping[str, PageSource], name: str) -> list[str]:
    """Return the full names of the pages that a page needs directly."""
    return [found for need in pages[name].needs if (found := _resolve(pages, need)) is not None]


def _resolve(pages: Mapping[str, PageSource], text: str) -> str | None:
    if text in pages:
        return text
    return next((name for name in pages if name.split("_", 1)[0] == text), None)


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    items = [value] if isinstance(value, (str, int)) else list(value)
    return tuple(f"{item:02d}" if isinstance(item, int) else str(item) for item in items)


def parameter_cells(notebook: Any) -> list[Any]:
    """Return the code cells tagged `parameters`."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and PARAMETERS_TAG in cell.metadata.get("tags", [])]


def _parameters(path: Path, notebook: Any) -> dict[str, Any]:
    cells = parameter_cells(notebook)
    subject = f"page {path.name}, parameters cell"
    if len(cells) != 1:
        raise InputError(subject, expected="one code cell tagged parameters", found=f"{len(cells)}")
    found = literals(subject, cells[0].source)
    if missing := [name for name in REQUIRED_PARAMETERS if name not in found]:
        raise InputError(subject, expected=", ".join(REQUIRED_PARAMETERS), found=f"no {', '.join(missing)}")
    return found


def check_parameters(page: PageSource, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values`, each of the type of the page's default.

    Raises
    ------
    InputError : a parameter that the page does not have (papermill would only warn), or one of another type.
    """
    return check_values(page.name, page.parameters, values)


def write_notebooks(to: str | Path, pages: Mapping[str, PageSource] | None = None) -> list[Path]:
    """Write pages as notebooks, `NN_name.ipynb`, to be run by papermill or opened in Jupyter; equal pages, equal bytes.

    Parameters
    ----------
    to : folder; files of these names are replaced.
    pages : by name; None: all.

    Returns
    -------
    The files, in the order of the pages. Their kernel is `python3`, which is the environment that papermill or Jupyter is
    started from; they hold no outputs.
    """
    import nbformat

    written = []
    for name, page in (pages or read_pages()).items():
        notebook = nbformat.from_dict({**page.notebook, "metadata": {"kernelspec": dict(KERNEL)}})
        notebook.nbformat, notebook.nbformat_minor = 4, 5
        for number, cell in enumerate(notebook.cells, start=1):
            cell["id"] = f"cell-{number:02d}"
        nbformat.validate(notebook)
        written.append(Path(to) / f"{name}.ipynb")
        write_text(written[-1], nbformat.writes(notebook) + "\n")
    return written


def modules_of(code: str, package: Path | None = None) -> dict[str, Path]:
    """Return the modules of the library that a Python text imports, directly or through others, with their files.

    Imports inside functions count, and so do module names in texts (registries import by name).
    """
    package = package or Path(__file__).resolve().parent.parent
    known = _known_modules(package)
    found: dict[str, Path] = {}
    with _PARSING:
        waiting = _of_package(_imports(code), known)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found[name] = known[name]
                waiting |= _of_package(_imports_of_file(known[name], known[name].stat().st_mtime_ns), known) - set(found)
    return dict(sorted(found.items()))


@cache
def _known_modules(package: Path) -> dict[str, Path]:
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        if "_packaged" not in parts:
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


@cache
def _imports_of_file(path: Path, modified_ns: int) -> frozenset[str]:
    return _imports(path.read_text(encoding="utf-8"))


def _imports(code: str) -> frozenset[str]:
    """Return every name that may be a module: imported ones, attributes of them, and short texts."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.replace(".", "a").isidentifier():
            names.add(node.value)
    return frozenset(names)


def _of_package(names: frozenset[str], known: Mapping[str, Path]) -> set[str]:
    """Return those of the names that are modules of the library, and the packages that they lie in."""
    with_parents = {".".join(name.split(".")[:end]) for name in names for end in range(1, name.count(".") + 2)}
    return {name for name in with_parents if name in known}
