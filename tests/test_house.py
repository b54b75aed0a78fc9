"""The rules of the house: what may import what, what a page may hold, and that the lists of dependencies agree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from rnasynth.pages.checks import check_page
from rnasynth.pages.notebooks import read_pages

ROOT = Path(__file__).resolve().parents[1]

# A module imports from rows above its own, wherever in its text; or from its own row, without a circle on loading.
ROWS: tuple[tuple[str, ...], ...] = (
    ("rnasynth",),  # the package itself: a docstring and a version
    ("errors", "files", "config"),
    ("data",),
    ("nets",),
    ("engine",),
    ("runs",),
    ("features",),
    ("systems",),
    ("evaluation",),
    ("perturb",),
    ("plots",),
    ("pages",),
    ("doctor", "cli_ratings", "cli"),
)
NEVER = {"nets": ("data", "files", "runs", "systems")}  # networks know nothing of files and data


def modules() -> dict[str, Path]:
    """Modules of the library by dotted name."""
    found = {}
    for path in sorted((ROOT / "rnasynth").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    """First part below the package."""
    return module.split(".")[1] if "." in module else module


def row(module: str) -> int:
    """Number of the row that a module stands in."""
    return next(number for number, names in enumerate(ROWS) if room(module) in names)


def imports(text: str, module: str, known: set[str], *, on_load: bool = False) -> set[str]:
    """Modules of the library that a module's text imports; all of them, or those that its loading needs."""
    found: set[str] = set()
    tree = ast.parse(text)
    if on_load:
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
                isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            ):
                node.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            base = node.module or ""
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names}
    return {name for name in found if name in known} - {module}


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports that go up, or into a room that is closed to the importer."""
    return [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in others
        if row(other) > row(module) or room(other) in NEVER.get(room(module), ())
    ]


def circles(graph: dict[str, set[str]]) -> set[str]:
    """Modules that stand in a circle of imports, or only wait for one."""
    left = {module: set(others) for module, others in graph.items()}
    while ready := [module for module, others in left.items() if not others & set(left)]:
        for module in ready:
            del left[module]
    return set(left)


def graph_of_imports(*, on_load: bool = False) -> dict[str, set[str]]:
    """Who imports whom."""
    known = modules()
    return {
        name: imports(path.read_text(encoding="utf-8"), name, set(known), on_load=on_load) for name, path in known.items()
    }


def test_every_module_stands_in_a_row() -> None:
    for module in modules():
        row(module)


def test_imports_go_downward() -> None:
    assert upward(graph_of_imports()) == []


def test_imports_have_no_circle() -> None:
    assert circles(graph_of_imports(on_load=True)) == set()


def test_an_upward_import_and_a_circle_would_be_seen() -> None:
    assert upward({"rnasynth.nets.vae": {"rnasynth.data.tiles"}}) == ["rnasynth.nets.vae imports rnasynth.data.tiles"]
    assert upward({"rnasynth.data.tiles": {"rnasynth.plots"}}) and not upward({"rnasynth.plots": {"rnasynth.data.tiles"}})
    assert circles({"a": {"b"}, "b": {"a"}, "c": set()}) == {"a", "b"}


def exported_twice(init: str, modules: set[str], package: str) -> set[str]:
    """Names that a package takes from a module of the same name: the book's index would describe them twice."""
    taken = [node for node in ast.walk(ast.parse(init)) if isinstance(node, ast.ImportFrom) and node.module != package]
    return {alias.asname or alias.name for node in taken for alias in node.names} & modules


def test_no_package_exports_a_name_that_one_of_its_modules_has() -> None:
    for init in (ROOT / "rnasynth").rglob("__init__.py"):
        modules = {path.stem for path in init.parent.iterdir()}
        package = ".".join(init.parent.relative_to(ROOT).parts)
        assert exported_twice(init.read_text(encoding="utf-8"), modules, package) == set(), package
    assert exported_twice("from a.release import release", {"release"}, "a") == {"release"}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py")))
def test_page_has_the_structure_of_a_page_and_defines_nothing(name: str) -> None:
    assert check_page(read_pages(ROOT / "notebooks")[name]) == []


def test_the_books_contents_list_exactly_the_pages() -> None:
    text = (ROOT / "book" / "_toc.yml").read_text(encoding="utf-8")
    assert re.findall(r"notebooks/(\w+)", text) == sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))


def test_environment_equals_the_dependencies_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    pip = next(entry["pip"] for entry in environment if isinstance(entry, dict))
    assert [entry for entry in pip if not entry.startswith("--")] == project["dependencies"]
    assert f"python{project['requires-python']}" in environment


def test_constraints_are_portable_and_cover_every_dependency() -> None:
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert [line for line in lines if "+" in line or "@" in line or "/" in line] == []
    named = {_normal(re.split(r"[<>=]", line)[0]) for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {_normal(re.split(r"[<>=\[]", entry)[0]) for entry in project["dependencies"]}
    assert wanted <= named, sorted(wanted - named)
    assert "torch>=2.11,<2.14" in lines


def test_what_only_tests_import_stands_in_the_extra_of_developers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entries = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    told = {_normal(re.split(r"[<>=\[]", entry)[0]) for entry in entries}
    known, packages = packages_distributions(), third_party(ROOT / "tests") - third_party(ROOT / "rnasynth")
    assert "pytest" in packages
    assert [name for name in sorted(packages) if not {_normal(each) for each in known.get(name, [])} & told] == []


def third_party(folder: Path) -> set[str]:
    """Packages outside the standard library and this repository that the modules below a folder import."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"rnasynth", "tests", "benchmarks"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def tracked() -> list[Path]:
    """Text files in git, or those of the folders that would be, where there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git")
    paths = [ROOT / line for line in done.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path.suffix not in (".png", ".jpg", ".h5ad", ".svs", ".parquet")]


def test_no_package_index_and_no_path_of_a_machine_is_written_down() -> None:
    forbidden = re.compile(r"--(extra-)?index-" + r"url|/ro" + r"ot/|/ho" + r"me/\w+/|/wo" + "rk/")
    found = []
    for path in tracked():
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in forbidden.finditer(text)]
    assert found == []


def test_nothing_is_unpickled() -> None:
    found = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads"):
                found.append(f"{name}:{node.lineno}")
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) == "True":
                found.append(f"{name}:{node.value.lineno}")
    assert found == []


def test_pages_in_git_hold_no_outputs() -> None:
    assert list((ROOT / "notebooks").rglob("*.ipynb")) == []


def test_every_citation_has_one_reference() -> None:
    keys = re.findall(r"^@\w+\{([^,\s]+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(keys) == len(set(keys)), sorted(key for key in set(keys) if keys.count(key) > 1)
    texts = [path.read_text(encoding="utf-8") for pattern in ("book/*.md", "notebooks/*.py") for path in ROOT.glob(pattern)]
    cited = {key.strip() for text in texts for group in re.findall(r"\{cite\}`([^`]+)`", text) for key in group.split(",")}
    assert cited <= set(keys), sorted(cited - set(keys))
