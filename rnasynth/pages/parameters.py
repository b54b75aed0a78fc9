"""A page's parameters: their literals and types, what papermill put in, and what they stand for (folder, cohort, options).

papermill writes the values of `-p NAME VALUE` into a cell of its own below the parameters cell. It only warns of a name that
the page does not have, and takes any type; `check_cells` makes both an error.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnasynth.config import project_folder
from rnasynth.errors import InputError

REQUIRED_PARAMETERS = ("preset", "cohort", "seed", "out")
PAPERMILL_COMMENT = "# Parameters"


def build_folder(cohort: str, preset: str, root: Path | None = None) -> Path:
    """Return `build/<cohort>-<preset>` in the checkout; a cohort given as a manifest's path goes by its stem."""
    label = Path(cohort).stem if "/" in cohort or cohort.endswith((".yaml", ".yml")) else cohort
    return (root or project_folder()) / "build" / f"{label}-{preset}"


def check_cohort(cohort: str) -> str:
    """Return `cohort`, or raise if it is neither a known name nor a manifest's path.

    Raises
    ------
    InputError : unknown name.
    """
    from rnasynth.data.cohort_building import BUILDERS

    known = ("simulated", *BUILDERS)
    if cohort not in known and not Path(cohort).is_file():
        raise InputError(
            f"cohort {cohort!r}", expected=f"one of {', '.join(known)}, or the path of a manifest", found="unknown"
        )
    return cohort


def options_of(given: str) -> dict[str, Any]:
    """Return {"profiles": "all", "sections": ["C2", "C3"]} of "profiles=all,sections=C2+C3".

    Raises
    ------
    InputError : a part that is not name=value.
    """
    options: dict[str, Any] = {}
    for part in filter(None, (text.strip() for text in given.split(","))):
        name, separator, value = part.partition("=")
        if not separator or not name or not value:
            raise InputError(f"options {given!r}", expected="name=value, name=value+value", found=repr(part))
        options[name] = value.split("+") if "+" in value else value
    return options


def literals(subject: str, cell: str) -> dict[str, Any]:
    """Return the values of a parameters cell, lines like `seed: int = 0  # why`, by name and in their order.

    Raises
    ------
    InputError : another kind of line, or a value that is no literal.
    """
    found: dict[str, Any] = {}
    for statement in ast.parse(cell).body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name) or statement.value is None:
            raise InputError(subject, expected="lines like `seed: int = 0  # why`", found=ast.unparse(statement))
        try:
            found[statement.target.id] = ast.literal_eval(statement.value)
        except ValueError:
            raise InputError(subject, expected="literals only", found=ast.unparse(statement)) from None
    return found


def check_values(page: str, defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values`, each of the type of the page's default; a whole number may stand for a float.

    Raises
    ------
    InputError : a parameter that the page does not have, or one of another type.
    """
    checked: dict[str, Any] = {}
    for name, value in values.items():
        subject = f"page {page}, parameter {name}"
        if name not in defaults:
            fix = "check the spelling"
            raise InputError(subject, expected=f"one of {', '.join(defaults)}", found="unknown", fix=fix)
        default = defaults[name]
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if default is not None and type(value) is not type(default):
            fix = "with papermill give a text that looks like a number by -r, not -p" if isinstance(default, str) else ""
            raise InputError(subject, expected=type(default).__name__, found=f"{value!r}", fix=fix)
        checked[name] = value
    return checked


def check_cells(page: str, cells: Sequence[str]) -> None:
    """Check what papermill put into a running notebook against the notebook's own parameters cell.

    Parameters
    ----------
    page : the page's name.
    cells : sources of the cells that have run. The last one that sets all of preset, cohort, seed and out by annotated
        literals is the parameters cell; those after it that begin with papermill's comment hold what it put in.

    Raises
    ------
    InputError : a name that the page does not have, a value of another type, one that is no literal, or values put in above
        the parameters cell, which would overwrite them.
    """
    trees = [_tree(cell) for cell in cells]
    own = [number for number, tree in enumerate(trees) if set(REQUIRED_PARAMETERS) <= _annotated(tree)]
    if not own:
        return
    if any(cell.lstrip().startswith(PAPERMILL_COMMENT) for cell in cells[: own[0]]):
        fix = "give the parameters cell its tag `parameters` back, or write the notebook anew: rnasynth notebooks"
        raise InputError(
            f"page {page}", expected="papermill's values below the parameters cell", found="them above", fix=fix
        )
    defaults = literals(f"page {page}, parameters cell", cells[own[-1]])
    for number in range(own[-1] + 1, len(cells)):
        if not cells[number].lstrip().startswith(PAPERMILL_COMMENT):
            continue
        for statement in trees[number].body:
            subject = f"page {page}, {ast.unparse(statement)}"
            if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
                raise InputError(subject, expected="name = value", found="another statement")
            try:
                value = ast.literal_eval(statement.value)
            except ValueError:
                raise InputError(subject, expected="a literal", found=ast.unparse(statement.value)) from None
            check_values(page, defaults, {statement.targets[0].id: value})


def cells_so_far() -> list[str]:
    """Return the sources of the cells that have run in this kernel, this one included; none outside a notebook."""
    from IPython import get_ipython

    shell = get_ipython()
    return [] if shell is None else [str(source) for source in shell.user_ns.get("In", [])]


def _tree(cell: str) -> ast.Module:
    """Return a cell's syntax tree; an empty one where it is not plain Python, such as a cell with shell commands."""
    try:
        return ast.parse(cell)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def _annotated(tree: ast.Module) -> set[str]:
    """Return the names that a cell of nothing but annotated assignments sets, else none."""
    targets = [statement.target for statement in tree.body if isinstance(statement, ast.AnnAssign)]
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    return names if len(targets) == len(tree.body) else set()
