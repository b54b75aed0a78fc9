"""Checks of the pages in git, and of the book after its build: each returns what is wrong, in words, and fixes nothing."""

from __future__ import annotations

import ast
import json
import re
from html.parser import HTMLParser
from pathlib import Path

from rnasynth.pages.notebooks import REQUIRED_PARAMETERS, PageSource, parameter_cells

MAX_CODE_LINES = 150
MAX_FUNCTION_LINES = 10
HEADINGS = ("take-aways", "limits")
LOADS = {  # attributes that make a browser fetch something when the page opens
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "audio": ("src",),
    "video": ("src", "poster"),
    "embed": ("src",),
    "object": ("data",),
    "link": ("href",),
}
_LINK_LOADS = {"stylesheet", "preload", "prefetch", "modulepreload", "icon", "manifest", "preconnect", "dns-prefetch"}
_REMOTE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
_CSS_REMOTE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])\s*((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)

_NO_TEXT = re.compile(r"\s*|\S+\.(png|svg|jpe?g|gif|webp)", re.IGNORECASE)  # Sphinx puts a path where no text is given


def check_page(page: PageSource) -> list[str]:
    """Return how a page departs from the structure that ARCHITECTURE's section "A page" asks for."""
    problems = [*_check_text(page), *_check_code(page)]
    cells = parameter_cells(page.notebook)
    for line in cells[0].source.splitlines():
        if line.strip() and not line.strip().startswith("#") and "  # " not in line:
            problems.append(f"parameter without a comment: {line.strip()}")
    if page.parameters["out"] != "":
        problems.append("the parameter out is not empty by default")
    if list(page.parameters)[: len(REQUIRED_PARAMETERS) - 1] != list(REQUIRED_PARAMETERS[:-1]):
        problems.append(f"the parameters do not begin with {', '.join(REQUIRED_PARAMETERS[:-1])}")
    return problems


def _check_text(page: PageSource) -> list[str]:
    problems = []
    first = page.notebook.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        problems.append("the first cell is not a title")
    texts = [cell.source for cell in page.notebook.cells if cell.cell_type == "markdown"]
    whole = "\n".join(texts)
    if len(re.findall(r"^# ", whole, re.MULTILINE)) != 1:
        problems.append("there is not exactly one title")
    if not page.question.endswith("?") or _plain(page.question) not in _plain(first.source):
        problems.append("the first cell does not ask the question of the header")
    if "what you will see" not in whole.lower():
        problems.append("it does not say what you will see")
    headings = [line.lstrip("# ").strip().lower() for line in whole.splitlines() if line.startswith("#")]
    problems += [f"no section {wanted}" for wanted in HEADINGS if not any(wanted in heading for heading in headings)]
    if page.demo_seconds <= 0:
        problems.append("demo_seconds is not positive")
    if any(cell.get("outputs") for cell in page.notebook.cells):
        problems.append("it holds outputs")
    return problems


def _check_code(page: PageSource) -> list[str]:
    problems = []
    tree = ast.parse(page.code())
    lines = [line for line in page.code().splitlines() if line.strip() and not line.strip().startswith("#")]
    if len(lines) >= MAX_CODE_LINES:
        problems.append(f"{len(lines)} code lines; a page has fewer than {MAX_CODE_LINES}")
    if any(isinstance(node, ast.ClassDef) for node in ast.walk(tree)):
        problems.append("it defines a class; the library is the place for it")
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    if len(functions) > 1:
        problems.append(f"it defines {len(functions)} functions; a page has at most one tiny one")
    for function in functions:
        if (function.end_lineno or 0) - function.lineno + 1 > MAX_FUNCTION_LINES:
            problems.append(f"its function {function.name} is longer than {MAX_FUNCTION_LINES} lines")
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    on_page: dict[str, list[ast.Call]] = {}
    for call in calls:
        assert isinstance(call.func, ast.Attribute)
        if isinstance(call.func.value, ast.Name) and call.func.value.id in ("page", "Page"):
            on_page.setdefault(call.func.attr, []).append(call)
    for wanted in ("open", "number", "figure", "verdicts", "close"):
        if wanted not in on_page:
            problems.append(f"it never calls page.{wanted}")
    for call in on_page.get("figure", []):
        given = {keyword.arg for keyword in call.keywords}
        if not {"caption", "alt"} <= given:
            problems.append("a figure lacks its caption or alternative text")
    for call in on_page.get("open", []):
        name = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
        if name != page.name:
            problems.append(f"it opens itself as {name!r}, its file is {page.name}")
        passed = {keyword.arg for keyword in call.keywords}
        if missing := [parameter for parameter in REQUIRED_PARAMETERS if parameter not in passed]:
            problems.append(f"Page.open is not given {', '.join(missing)}")
    code_cells = [cell.source for cell in page.notebook.cells if cell.cell_type == "code"]
    if "page.close(" not in code_cells[-1]:
        problems.append("its last cell does not close the page")
    if len(code_cells) > 1 and "Page.open(" not in code_cells[1]:
        problems.append("the cell after the parameters does not open the page")
    return problems


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).lower().strip()


def check_outputs(notebook: Path) -> list[str]:
    """Return the errors, cells that did not run and messages on standard error that an executed page holds."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    problems = []
    for number, cell in enumerate(content["cells"], start=1):
        if cell["cell_type"] != "code":
            continue
        if cell.get("execution_count") is None and "".join(cell["source"]).strip():
            problems.append(f"cell {number} did not run")
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                problems.append(f"cell {number}: {output['ename']}: {output['evalue']}")
            elif output.get("name") == "stderr":
                said = "".join(output["text"]).strip().splitlines()
                problems.append(f"cell {number} wrote to standard error: {said[-1] if said else ''}")
    return problems


class _Loads(HTMLParser):
    """Collects what a browser would fetch when it opens a page, links, images without a text, and error outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.unseen: list[str] = []  # images without a text for who cannot see them
        self.errors = 0
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        relations = set(values.get("rel", "").lower().split())
        if tag != "link" or relations & _LINK_LOADS:
            self.loads += [values[name] for name in LOADS.get(tag, ()) if name in values]
        if tag == "a":
            self.links.append(values.get("href", ""))
        if tag == "img" and _NO_TEXT.fullmatch(values.get("alt", "")):
            self.unseen.append(values.get("src", ""))
        if {"output", "traceback"} <= set(values.get("class", "").split()):
            self.errors += 1
        self._style = tag == "style"
        self.loads += _CSS_REMOTE.findall(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self._style:
            self.loads += _CSS_REMOTE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._style = False


def check_html(folder: Path, documents: list[str]) -> list[str]:
    """Return what is wrong with a rendered book.

    Parameters
    ----------
    folder : the book's html folder.
    documents : the documents it must have, such as "index" or "notebooks/01_cohorts".

    Returns
    -------
    Missing documents, error outputs, missing local files, links that lead nowhere, images without alternative text, and
    everything that would be loaded from another machine.
    """
    there: dict[Path, bool] = {}  # most documents link to the same others
    problems = [f"{name}.html is missing" for name in documents if not (folder / f"{name}.html").is_file()]
    for path in sorted(folder.rglob("*.html")):
        shown = path.relative_to(folder)
        if shown.parts[0] == "_static":  # fragments that come with the theme, never opened by themselves
            continue
        parser = _Loads()
        parser.feed(path.read_text(encoding="utf-8"))
        if parser.errors:
            problems.append(f"{shown} holds an error output")
        problems += [f"{shown} shows {image[:80]} without alternative text" for image in parser.unseen]
        for link in parser.links:
            if link and not link.startswith("#") and not re.match(r"[a-z][a-z0-9+.-]*:|//", link, re.IGNORECASE):
                target = _local(path.parent, link)
                if not there.setdefault(target, target.exists()):
                    problems.append(f"{shown} links to {link}, which does not exist")
        for load in parser.loads:
            if _REMOTE.match(load):
                problems.append(f"{shown} loads {load} from another machine")
            elif load and not load.startswith(("data:", "#")) and not _local(path.parent, load).exists():
                problems.append(f"{shown} loads {load}, which does not exist")
    for path in sorted(folder.rglob("*.css")):
        for load in _CSS_REMOTE.findall(path.read_text(encoding="utf-8")):
            problems.append(f"{path.relative_to(folder)} loads {load} from another machine")
    return problems


def _local(folder: Path, link: str) -> Path:
    from urllib.parse import unquote

    return folder / unquote(re.split(r"[?#]", link, maxsplit=1)[0])
