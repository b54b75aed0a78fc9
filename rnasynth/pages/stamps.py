"""The stamp beside a page: hashes of all that its results depend on, so that it is run again only when one changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnasynth.config import canonical_json, manifests_folder
from rnasynth.errors import InputError
from rnasynth.files import read_json, sha256, write_json
from rnasynth.pages import provenance, tables
from rnasynth.pages.notebooks import PageSource, modules_of
from rnasynth.pages.quiz_sheets import QUIZ
from rnasynth.pages.recorded import recorded_folder

STAMP = "stamp.json"
OUTPUTS = ("page.ipynb", "results.json")


def inputs_of(
    page: PageSource,
    *,
    parameters: Mapping[str, Any],
    cohort: str,
    cohort_fingerprint: str,
    upstream: Mapping[str, Path],
    recorded: Path | None = None,
) -> dict[str, str]:
    """Return one hash for each kind of input of a page, by the words in which a change of it is reported.

    Parameters
    ----------
    page : the page.
    parameters : those it is run with, defaults included.
    cohort, cohort_fingerprint : the cohort's name or manifest, and its fingerprint.
    upstream : folder of each page that it needs.
    recorded : folder of recorded results of long runs; `book/recorded/<page>` by default.
    """
    recorded = recorded or recorded_folder(page.name)
    manifest = Path(cohort) if Path(cohort).is_file() else manifests_folder() / f"{cohort}.yaml"
    return {
        "source": sha256(page.path),
        "modules": _hash({name: sha256(path) for name, path in modules_of(page.code()).items()}),
        "manifests": _hash(
            {
                "cohort": sha256(manifest) if manifest.is_file() else "",
                "papers": tables.published(page.name).to_json(orient="records"),
            }
        ),
        "parameters": _hash(dict(parameters)),
        "files that parameters name": _hash({name: sha256(path) for name, path in _named_files(parameters).items()}),
        "cohort": cohort_fingerprint,
        "pages it needs": _hash({name: _results_hash(folder) for name, folder in upstream.items()}),
        "recorded results": _hash(
            {str(path.relative_to(recorded)): sha256(path) for path in sorted(recorded.rglob("*")) if path.is_file()}
        ),
        "package versions": _hash(provenance.versions()),
    }


def _named_files(parameters: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files behind parameters: a path, or the name of a table in data_manifests/papers."""
    texts = {name: value for name, value in parameters.items() if isinstance(value, str) and value}
    places = {name: (manifests_folder() / "papers" / f"{value}.csv", Path(value)) for name, value in texts.items()}
    return {name: path for name, tried in places.items() for path in tried[::-1] if path.is_file()}


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def _results_hash(folder: Path) -> str:
    """Hash what a page found, without when and where: a repeated page with equal results changes nothing downstream."""
    path = folder / "results.json"
    if not path.is_file():
        return "absent"
    results = read_json(path)
    return _hash({"numbers": results.get("numbers", {}), "runs": results.get("runs", [])})


def write_stamp(folder: Path, inputs: Mapping[str, str], *, seconds: float) -> None:
    """Write the stamp of a page that has just run in `folder`."""
    head, dirty = provenance.commit()
    sheets = [str(path.relative_to(folder)) for path in sorted((folder / QUIZ).glob("*"))]
    write_json(
        folder / STAMP,
        {
            "inputs": dict(inputs),
            "outputs": {name: sha256(folder / name) for name in (*OUTPUTS, *sheets)},
            "commit": head,
            "dirty": dirty,
            "seconds": round(seconds, 2),
            "finished": provenance.now(),
        },
    )


def read_stamp(folder: Path) -> dict[str, Any] | None:
    """Return the stamp of a page, or None if it has none that can be read."""
    try:
        stamp = read_json(folder / STAMP)
    except InputError:
        return None
    return stamp if isinstance(stamp, dict) else None


def changed(folder: Path, inputs: Mapping[str, str]) -> list[str]:
    """Return why a page must run, in words; an empty list means that its outputs still stand."""
    stamp = read_stamp(folder)
    if stamp is None:
        return ["it has not run yet"]
    before = stamp.get("inputs", {})
    reasons = [f"{kind} changed" for kind, value in inputs.items() if before.get(kind) != value]
    for name, value in stamp.get("outputs", {}).items():
        path = folder / name
        if not path.is_file() or sha256(path) != value:
            reasons.append(f"{name} is missing or was changed")
    return reasons
