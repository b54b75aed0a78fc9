"""Assemble and render the book from what the pages left; nothing is executed here, and warnings are errors."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from rnasynth.config import manifests_folder, sources_folder
from rnasynth.errors import InputError, PartialFailure
from rnasynth.files import atomic_path, read_json, replace, write_text
from rnasynth.pages import checks, downloads, finish, front, provenance, quiz, reproduction, server, stamps, words
from rnasynth.pages.notebooks import PageSource, read_pages
from rnasynth.pages.parameters import build_folder
from rnasynth.pages.tables import escaped, markdown_table

OUTCOMES = "pages.json"  # written by the runner: what became of each page
NOT_ASKED = "it was not asked for"  # why a page did not run of which the runner left no word
FIGURE_DPI = 200  # of the drawings of the systems, which are shown at half their pixels as every figure is


def build_book(
    cohort: str = "simulated",
    preset: str = "demo",
    *,
    root: Path | None = None,
    notebooks: Path | None = None,
    sources: Path | None = None,
) -> Path:
    """Render the book of a cohort and preset.

    Parameters
    ----------
    cohort, preset : whose pages; `run_pages` made them.
    root, notebooks, sources : folder that holds `build`, folder of the pages, folder of the book; for tests.

    Returns
    -------
    Path of index.html.

    Raises
    ------
    InputError : no page has run yet.
    PartialFailure : the build warned, a page is missing, holds an error, or would load something from elsewhere.
    """
    folder = build_folder(cohort, preset, root)
    pages = read_pages(notebooks)
    if not any((folder / name / "page.ipynb").is_file() for name in pages):
        raise InputError(str(folder), expected="pages that have run", found="none", fix=f"rnasynth book --cohort {cohort}")
    assembled = folder / "book"
    documents = assemble(assembled, folder, pages, cohort=cohort, preset=preset, sources=sources)
    html = _render(assembled)
    finish.finish(html)
    problems = checks.check_html(html, documents)
    ran = [name for name in pages if (folder / name / "page.ipynb").is_file()]
    for name in ran:
        problems += [f"{name}: {problem}" for problem in checks.check_outputs(folder / name / "page.ipynb")]
    if problems:
        raise PartialFailure(f"book in {html}", _numbered(problems))
    final = folder / "html"
    old = folder / "html.old"
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    replace(html, final)
    shutil.rmtree(old, ignore_errors=True)
    print(
        f"{len(ran)} of {len(pages)} pages ran, {len(documents)} documents checked: no error, nothing loaded from elsewhere"
    )
    return final / "index.html"


def assemble(
    to: Path,
    folder: Path,
    pages: Mapping[str, PageSource],
    *,
    cohort: str,
    preset: str,
    sources: Path | None = None,
) -> list[str]:
    """Put together the folder that Sphinx reads: prose, executed pages, quiz, status, API pages.

    Parameters
    ----------
    to : the folder; made anew.
    folder : `build/<cohort>-<preset>`, where the pages ran.
    pages : all pages in git; one that did not run gets a document that says why.
    cohort, preset : for the status page.
    sources : the book's sources in git.

    Returns
    -------
    Names of the documents that the book must have.
    """
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(sources or sources_folder("book"), to, ignore=shutil.ignore_patterns("__pycache__", "_build"))
    outcomes = read_json(folder / OUTCOMES) if (folder / OUTCOMES).is_file() else {}
    glossary = (to / "glossary.md").read_text(encoding="utf-8")
    write_text(to / "glossary.md", words.link_glossary(glossary, pages))
    for name, page in pages.items():
        if (folder / name / "page.ipynb").is_file():
            _copy_page(folder / name, to, name, words.glossary_words(glossary))
        else:
            write_text(to / "notebooks" / f"{name}.md", _stub(page, outcomes.get(name, {}), cohort))
    modules = _write_api(to / "api")
    api = (to / "api.md").read_text(encoding="utf-8")
    write_text(to / "api.md", api.replace("%MODULES%", api_markdown(modules)))
    status = (to / "status.md").read_text(encoding="utf-8")
    status = status.replace("%STATUS%", status_markdown(pages, folder, outcomes, cohort=cohort, preset=preset))
    write_text(to / "status.md", status.replace("%VERDICTS%", reproduction.markdown(pages, folder, cohort=cohort)))
    text = (to / "quiz.md").read_text(encoding="utf-8")
    write_text(to / "quiz.md", quiz.fill(text, pages, folder, outcomes, cohort=cohort))
    guide = (to / "server.md").read_text(encoding="utf-8")
    write_text(to / "server.md", server.fill(guide, pages))
    ledger = (to / "decisions.md").read_text(encoding="utf-8").replace("%LEDGER%", ledger_markdown(folder))
    write_text(to / "decisions.md", ledger)
    text = (to / "index.md").read_text(encoding="utf-8")
    write_text(to / "index.md", front.fill(text, pages, folder, to, cohort=cohort, preset=preset))
    _draw_systems(to, preset)
    toc = yaml.safe_load((to / "_toc.yml").read_text(encoding="utf-8"))
    listed = [toc["root"], *_files(toc)]
    expected = [f"notebooks/{name}" for name in pages]
    if [entry for entry in listed if entry.startswith("notebooks/")] != expected:
        raise InputError("book/_toc.yml", expected=f"the pages {', '.join(expected)}", found=", ".join(listed))
    return [*listed, *(f"api/{name}" for name in modules)]


def _files(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["file"]] if "file" in node else []
        return own + [found for key, value in node.items() if key != "file" for found in _files(value)]
    if isinstance(node, list):
        return [found for item in node for found in _files(item)]
    return []


def _copy_page(made: Path, to: Path, name: str, glossary: list[str]) -> None:
    """Copy an executed page with its figures, and as its own download; here its outputs are the Markdown ones."""
    notebook = read_json(made / "page.ipynb")
    own = downloads.stand_alone(notebook)
    write_text(to / "downloads" / f"{name}.ipynb", json.dumps(own, indent=1, ensure_ascii=False))
    notebook["metadata"] = downloads.plain_metadata(notebook)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/markdown" in data:
                output["data"] = {"text/markdown": data["text/markdown"]}
        tags = cell["metadata"].get("tags", [])
        cell["metadata"] = {"tags": tags} if tags else {}
    words.link_first_uses(notebook["cells"], glossary)
    downloads.offer(notebook["cells"], name)
    write_text(to / "notebooks" / f"{name}.ipynb", json.dumps(notebook, indent=1, ensure_ascii=False))
    shutil.copytree(made / "figures", to / "notebooks" / name / "figures")


def _draw_systems(to: Path, preset: str) -> None:
    """Draw each system as the preset configures it, and put the drawings where systems.md asks for them (%RNA_GAN%)."""
    from rnasynth.plots import systems

    text = (to / "systems.md").read_text(encoding="utf-8").replace("%PRESET%", preset)
    for name, drawing in systems.drawings(preset).items():
        figure = systems.draw(drawing)
        with atomic_path(to / "systems" / f"{name}.png") as path:
            figure.savefig(path, format="png", dpi=FIGURE_DPI, metadata={"Software": None})
        width = round(figure.get_figwidth() * FIGURE_DPI / 2)
        body = f":::{{figure}} systems/{name}.png\n:alt: {drawing.alt}\n:width: {width}px\n\n{drawing.caption}\n:::"
        text = text.replace(f"%{name.upper()}%", body)
    write_text(to / "systems.md", text)


def _stub(page: PageSource, outcome: Mapping[str, Any], cohort: str) -> str:
    why = outcome.get("reason") or NOT_ASKED
    return (
        f"# {page.title}\n\n**Question.** {page.question}\n\n"
        f":::{{note}}\nThis page did not run on the cohort {cohort}: {why}.\n:::\n\n"
        f"To run it: `rnasynth book --cohort {cohort} --pages {page.name.split('_', 1)[0]}`\n"
    )


def status_markdown(
    pages: Mapping[str, PageSource], folder: Path, outcomes: Mapping[str, Any], *, cohort: str, preset: str
) -> str:
    """Return what ran on which cohort and preset: a table of page, time beside the expected one, memory, result, commit."""
    rows = []
    for name, page in pages.items():
        link = f"[{name.split('_', 1)[0]} {page.title}](notebooks/{name})"
        stamp = stamps.read_stamp(folder / name)
        if stamp is None or not (folder / name / "results.json").is_file():
            why = outcomes.get(name, {}).get("reason") or NOT_ASKED
            rows.append((link, "", "", f"did not run: {why}", ""))
            continue
        results = read_json(folder / name / "results.json")
        memory = results["provenance"]["peak_memory_mb"]
        expected = f" (expected: {page.demo_seconds:.0f} s)" if preset == "demo" else ""
        rows.append(
            (
                link,
                f"{stamp['seconds']:.0f} s{expected}",
                f"{memory:,.0f} MB",
                summary(results),
                provenance.short_commit(stamp["commit"], stamp["dirty"]) + f", {stamp['finished'][:10]}",
            )
        )
    columns = ["page", "time", "memory", "result", "commit and date"]
    table = markdown_table(pd.DataFrame(rows, columns=columns))
    table = re.sub(r"\\\[(.+?)\\\]\(notebooks/(.+?)\)", lambda m: f"[{m[1]}](notebooks/{_bare(m[2])})", table)
    return f"All on the cohort {escaped(cohort)}, with the preset {preset}.\n\n{table}"


def ledger_markdown(folder: Path) -> str:
    """Return the ledger of deviations: paper, released code, here, and the effect that the pages of `folder` measured."""
    rows = []
    for entry in pd.read_csv(manifests_folder() / "deviations.csv", dtype=str, keep_default_na=False).itertuples():
        results = folder / str(entry.page) / "results.json"
        numbers = read_json(results)["numbers"] if results.is_file() else {}
        effect = {name: numbers.get(name, {}).get("value") for name in (entry.published_number, entry.here_number) if name}
        values = ["not measured" if value is None else f"{value:.4g}" for value in effect.values()]
        rows.append(
            {
                "what": entry.what,
                "paper": entry.paper,
                "released code": entry.released_code,
                "here": entry.here,
                "effect, measured as": entry.measure,
                "as published": values[0],
                "as here": values[1] if len(values) > 1 else "",
                "page": str(entry.page),
            }
        )
    return markdown_table(pd.DataFrame(rows))


def _bare(text: str) -> str:
    return text.replace("\\", "")


def summary(results: Mapping[str, Any]) -> str:
    """Return a page's result in words: its count of numbers, its verdicts by kind, and whether it converged.

    Examples
    --------
    >>> summary({"numbers": {"a": 1}, "verdicts": [{"kind": "holds"}, {"kind": "shown"}], "not_converged": []})
    '1 number; published claims: direction holds 1, shown beside 1'
    """
    count = len(results["numbers"])
    kinds = Counter(verdict["kind"] for verdict in results["verdicts"])
    parts = [f"{count} number{'' if count == 1 else 's'}"]
    if kinds:
        told = [f"{said} {kinds[kind]}" for kind, said in reproduction.KINDS.items() if kind in kinds]
        parts.append(f"published claims: {', '.join(told)}")
    if results["not_converged"]:
        parts.append("NOT CONVERGED")
    return "; ".join(parts)


def _write_api(to: Path) -> list[str]:
    """Write one document for each module of the library, and return their names."""
    package = Path(__file__).resolve().parent.parent
    names = []
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        if path.name == "__init__.py":
            parts.pop()
        if "_packaged" in parts or any(part.startswith("_") for part in parts[1:]):
            continue
        names.append(".".join(parts))
    for name in names:
        body = f"```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :member-order: bysource\n```"
        # No document of the contents: with 250 of them each document's navigation would be 250 lines long, and the
        # build would spend most of its time on it. api.md has the list.
        write_text(to / f"{name}.md", f"---\norphan: true\n---\n\n[All modules](../api)\n\n# {name}\n\n{body}\n")
    return sorted(names)


def api_markdown(modules: list[str]) -> str:
    """Return the list of modules by package, each with the first sentence of its docstring."""
    rooms: dict[str, list[str]] = {}
    for name in modules:
        rooms.setdefault(name.split(".")[1] if name.count(".") > 1 else "", []).append(name)
    package = Path(__file__).resolve().parent.parent
    parts = []
    for room, names in rooms.items():
        parts.append(f"## {room or 'rnasynth'}\n")
        for name in names:
            path = package.joinpath(*name.split(".")[1:])
            source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            said = (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
            sentence = " ".join(escaped(said.replace("`", "")).split())
            parts.append(f"- [`{name}`](api/{name})" + (f": {sentence}" if sentence else ""))
        parts.append("")
    return "\n".join(parts)


def _numbered(problems: list[str]) -> dict[str, str]:
    return {f"{number:3d}": problem for number, problem in enumerate(problems, start=1)}


def _render(assembled: Path) -> Path:
    """Run Sphinx by Jupyter Book with nitpicking, warnings as errors, no execution; return the html folder."""
    # Sphinx makes millions of small objects that live to the end; to look for garbage among them costs it much of its time.
    start = "import gc; gc.set_threshold(500_000, 50, 100); from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(assembled)]
    command += ["--warningiserror", "--nitpick", "--keep-going", "--all"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, encoding="utf-8", cwd=assembled, stdin=subprocess.DEVNULL
    )
    log = assembled.parent / "book.log"
    write_text(log, done.stdout + done.stderr)
    if done.returncode:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).replace(f"{assembled}/", "").splitlines()
        lines = [line.strip() for line in said if re.search(r"WARNING|ERROR|Error:|exception was raised", line)]
        found = _numbered(list(dict.fromkeys(lines))[:40] or said[-10:])
        raise PartialFailure("the book's build", found, fix=f"the whole log is {log}")
    return assembled / "_build" / "html"
