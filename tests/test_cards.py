"""Citation, changelog and cards say what the files that they speak of say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from rnasynth import __version__
from rnasynth.data.manifests import list_manifests, load_manifest
from rnasynth.data.schema import Manifest
from rnasynth.systems import SYSTEMS

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
PERMITS = ("Training", "Releasing weights", "Redistribution")


def sections(text: str) -> dict[str, dict[str, str]]:
    """Return the table of each second-level heading: first column -> second."""
    found = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        rows = re.findall(r"^\| ([^|]+) \| (.*) \|$", part, re.MULTILINE)
        found[part.splitlines()[0].strip()] = dict(rows)
    return found


def size_of(manifest: Manifest) -> str:
    """Size as its card must state it."""
    known = [entry.bytes for entry in manifest.files if entry.bytes]
    if not manifest.files:
        return "chosen by you on the GDC portal: no list in the manifest"
    if not known:
        return f"{len(manifest.files)} files; sizes are seen on fetching"
    some = f" in the {len(known)} whose size is known" if len(known) < len(manifest.files) else ""
    return f"{len(manifest.files)} files; {sum(known) / 1e6:.1f} MB{some}"


def faults(card: dict[str, str], manifest: Manifest) -> list[str]:
    """What a data card says otherwise than its manifest."""
    licences = list(dict.fromkeys([manifest.licence, *(entry.licence for entry in manifest.files if entry.licence)]))
    wrong = []
    if card.get("Licence") != "<br>".join(licences):
        wrong.append(f"Licence: {'<br>'.join(licences)}")
    if card.get("Size") != size_of(manifest):
        wrong.append(f"Size: {size_of(manifest)}")
    if card.get("Source") != manifest.citation:
        wrong.append(f"Source: {manifest.citation}")
    wrong += [f"{name}: nothing" for name in ("What", "Who", *PERMITS) if not card.get(name)]
    if any(re.search(r"-NC|non-commercial", licence) for licence in licences):
        wrong += [f"{name}: without its condition" for name in PERMITS if re.match(r"yes(, with attribution)?$", card[name])]
    return wrong


def test_every_cohort_has_a_card_that_says_what_its_manifest_says() -> None:
    cards = sections((BOOK / "data_cards.md").read_text(encoding="utf-8"))
    assert set(cards) == {"simulated", *list_manifests()}
    assert {name: faults(cards[name], load_manifest(name)) for name in list_manifests()} == {n: [] for n in list_manifests()}


def test_a_card_that_hides_a_condition_is_seen() -> None:
    cards = sections((BOOK / "data_cards.md").read_text(encoding="utf-8"))
    manifest = load_manifest("tcga-tiles")
    assert faults(cards["tcga-tiles"] | {"Licence": "CC BY 4.0"}, manifest)
    assert faults(cards["tcga-tiles"] | {"Redistribution": "yes"}, manifest)
    assert faults(cards["her2st"] | {"Size": "1 file"}, load_manifest("her2st"))


def test_every_system_has_a_card_and_every_released_weight_is_shown() -> None:
    text = (BOOK / "model_cards.md").read_text(encoding="utf-8")
    cards = sections(text)
    named = [name.strip() for heading in cards for name in heading.split(",")]
    assert sorted(name for name in named if name in SYSTEMS) == sorted(SYSTEMS)
    for heading, card in cards.items():
        if heading != "Released weights":
            assert {"Intended use", "Input, output", "Measured", "Limits"} <= set(card), heading
            pages = re.findall(r"\(notebooks/(\w+)\)", card["Measured"])
            assert pages and all((ROOT / "notebooks" / f"{page}.py").is_file() for page in pages), heading
    released = [path for path in sorted((BOOK / "released").iterdir()) if (path / "manifest.json").is_file()]
    for path in released:
        assert (path / "MODEL_CARD.md").is_file() and f"{{include}} released/{path.name}/MODEL_CARD.md" in text


def check_person_or_entity(author: object) -> bool:
    """A person has names, an entity a name, as the schema of CFF 1.2.0 has it."""
    return isinstance(author, dict) and ({"family-names", "given-names"} <= set(author) or set(author) == {"name"})


def test_the_citation_is_in_the_citation_file_format() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited) and cited["cff-version"] == "1.2.0"
    assert cited["type"] == "software" and cited["license"] == "MIT" and str(cited["version"]) == __version__
    keys = {"title", "authors", "type", "journal", "year", "doi", "identifiers", "notes"}
    assert [reference["notes"].split(";")[0] for reference in cited["references"]] == ["RNA-GAN", "RNA-CDM", "GeMM-GAN"]
    bibliography = (BOOK / "references.bib").read_text(encoding="utf-8")
    for work in (cited, *cited["references"]):
        assert all(check_person_or_entity(author) for author in work["authors"]) and work["authors"]
    for reference in cited["references"]:
        assert {"title", "authors", "type"} <= set(reference) <= keys and reference["type"] == "article"
        assert isinstance(reference["year"], int) and ("doi" in reference or reference["identifiers"])
        if "doi" in reference:
            assert re.fullmatch(r"10\.\d{4,9}/\S+", reference["doi"]) and reference["doi"] in bibliography
        for identifier in reference.get("identifiers", []):
            assert identifier["type"] in ("doi", "url", "swh", "other") and isinstance(identifier["value"], str)


def test_changelog_licence_and_version_agree() -> None:
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]( - \d{4}-\d{2}-\d{2})?$", log, re.MULTILINE)
    assert headings[0] == ("Unreleased", "") and all(date for name, date in headings[1:])
    kinds = re.findall(r"^### (.+)$", log, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__ and project["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


@pytest.mark.parametrize("name", ["own_study", "data_cards", "model_cards", "responsible_use"])
def test_the_pages_about_use_are_in_the_book(name: str) -> None:
    assert f"- file: {name}\n" in (BOOK / "_toc.yml").read_text(encoding="utf-8")
