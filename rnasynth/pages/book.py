"""Assemble and render the book from what the pages left; nothing is executed here, and warnings are errors."""

from __future__ import annotations

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
from rnasynth.files import read_json, replace, write_bytes, write_text
from rnasynth.pages import checks, provenance, quiz, stamps
from rnasynth.pages.notebooks import PageSource, read_pages
from rnasynth.pages.parameters import build_folder
from rnasynth.pages.tables import markdown_table

OUTCOMES = "pages.json"  # written by the runner: what became of each page
# (page, figure) that may stand on the front page, best first
FRONT_FIGURES = (("09_rna_cdm", "samples"), ("07_rna_gan", "samples"), ("03_tiles", "tiles"), ("03_tiles", "section"))
_KEPT_METADATA = ("kernelspec", "language_info")


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
    for name, page in pages.items():
        if (folder / name / "page.ipynb").is_file():
            _copy_page(folder / name, to / "notebooks", name)
        else:
            write_text(to / "notebooks" / f"{name}.md", _stub(page, outcomes.get(name, {}), cohort))
    modules = _write_api(to / "api")
    write_text(to / "status.md", (to / "status.md").read_text(encoding="utf-8").replace(
        "%STATUS%", status_markdown(pages, folder, outcomes, cohort=cohort, preset=preset)
    ))  # fmt: skip
    text = (to / "quiz.md").read_text(encoding="utf-8")
    write_text(to / "quiz.md", quiz.fill(text, pages, folder, outcomes, cohort=cohort))
    ledger = (to / "decisions.md").read_text(encoding="utf-8").replace("%LEDGER%", ledger_markdown(folder))
    write_text(to / "decisions.md", ledger)
    _fill_front(to / "index.md", folder, cohort, preset)
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


def _copy_page(made: Path, to: Path, name: str) -> None:
    """Copy an executed page with its figures; its outputs lose the form that is meant for notebook viewers."""
    notebook = read_json(made / "page.ipynb")
    notebook["metadata"] = {key: notebook["metadata"][key] for key in _KEPT_METADATA if key in notebook["metadata"]}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/markdown" in data:
                output["data"] = {"text/markdown": data["text/markdown"]}
        tags = cell["metadata"].get("tags", [])
        cell["metadata"] = {"tags": tags} if tags else {}
    write_text(to / f"{name}.ipynb", json.dumps(notebook, indent=1, ensure_ascii=False))
    shutil.copytree(made / "figures", to / name / "figures")


def _stub(page: PageSource, outcome: Mapping[str, Any], cohort: str) -> str:
    why = outcome.get("reason") or "it has not been run yet"
    return (
        f"# {page.title}\n\n**Question.** {page.question}\n\n:::{{note}}\nThis page did not run on {cohort}: {why}.\n:::\n\n"
        f"To run it: `rnasynth book --cohort {cohort} --pages {page.name.split('_', 1)[0]}`\n"
    )


def status_markdown(
    pages: Mapping[str, PageSource], folder: Path, outcomes: Mapping[str, Any], *, cohort: str, preset: str
) -> str:
    """Return the status table: page, preset, cohort, time beside the declared one, memory, result, commit."""
    rows = []
    for name, page in pages.items():
        link = f"[{name}](notebooks/{name})"
        stamp = stamps.read_stamp(folder / name)
        if stamp is None or not (folder / name / "results.json").is_file():
            why = outcomes.get(name, {}).get("reason") or "not run yet"
            rows.append((link, preset, cohort, "", "", f"did not run: {why}", ""))
            continue
        results = read_json(folder / name / "results.json")
        memory = results["provenance"]["peak_memory_mb"]
        declared = f" (declared {page.demo_seconds:.0f} s)" if preset == "demo" else ""
        rows.append(
            (
                link,
                preset,
                cohort,
                f"{stamp['seconds']:.0f} s{declared}",
                f"{memory:,.0f} MB",
                summary(results),
                provenance.short_commit(stamp["commit"], stamp["dirty"]) + f", {stamp['finished'][:10]}",
            )
        )
    columns = ["page", "preset", "cohort", "time", "memory", "result", "commit and date"]
    table = markdown_table(pd.DataFrame(rows, columns=columns))
    return re.sub(r"\\\[(.+?)\\\]\(notebooks/(.+?)\)", lambda m: f"[{_bare(m[1])}](notebooks/{_bare(m[2])})", table)


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
    """Return a page's result in words: its count of numbers, its verdicts by kind, and whether it converged."""
    count = len(results["numbers"])
    kinds = Counter(verdict["kind"] for verdict in results["verdicts"])
    parts = [f"{count} number{'' if count == 1 else 's'}", *(f"{times} {kind}" for kind, times in sorted(kinds.items()))]
    if results["not_converged"]:
        parts.append("NOT CONVERGED")
    return ", ".join(parts)


def _fill_front(index: Path, folder: Path, cohort: str, preset: str) -> None:
    """Put the best figure of the pages that ran on the front page, with its own caption and alternative text."""
    for name, wanted in FRONT_FIGURES:
        results = folder / name / "results.json"
        figures = read_json(results)["figures"] if results.is_file() else []
        figure = next((entry for entry in figures if entry["name"] == wanted), None)
        if figure is None:
            continue
        write_bytes(index.parent / "front.png", (folder / name / figure["file"]).read_bytes())
        text = (
            f":::{{figure}} front.png\n:alt: {figure['alt']}\n\n{figure['caption']} From [its page](notebooks/{name}).\n:::"
        )
        break
    else:
        text = ""
    text = index.read_text(encoding="utf-8").replace("%PICTURE%", text)
    write_text(index, text.replace("%COHORT%", cohort).replace("%PRESET%", preset))


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
    for name in sorted(names):
        body = f"```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :member-order: bysource\n```"
        write_text(to / f"{name}.md", f"# {name}\n\n{body}\n")
    return sorted(names)


def _numbered(problems: list[str]) -> dict[str, str]:
    return {f"{number:3d}": problem for number, problem in enumerate(problems, start=1)}


def _render(assembled: Path) -> Path:
    """Run Sphinx by Jupyter Book with nitpicking, warnings as errors, no execution; return the html folder."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(assembled)]
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
