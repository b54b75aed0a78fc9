"""The page's own rules: parameters are checked, numbers are finite, results are written once and whole."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from PIL import Image

from rnasynth.errors import InputError
from rnasynth.pages import Page, show
from rnasynth.pages import page as module
from rnasynth.pages.parameters import options_of


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a page displays, as Markdown."""
    said: list[str] = []
    monkeypatch.setattr(show, "display", lambda markdown, page_html: said.append(markdown))
    return said


@pytest.fixture
def page(tmp_path: Path, shown: list[str]) -> Page:
    return Page.open("04_beta_vae", preset="demo", cohort="simulated", seed=3, out=tmp_path / "out", slope=2.0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"preset": "demmo"}, "demmo"),
        ({"cohort": "simulatd"}, "simulatd"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"name": "../x"}, "x"),
    ],
)
def test_unknown_parameters_are_errors_and_make_no_folder(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    values = {"name": "04_beta_vae", "preset": "demo", "cohort": "simulated", "seed": 0, "out": tmp_path / "out", **change}
    with pytest.raises(InputError, match=word):
        Page.open(values.pop("name"), **values)
    assert not (tmp_path / "out").exists()


def test_an_empty_out_is_the_folder_of_cohort_preset_and_page(tmp_path: Path) -> None:
    assert module.build_folder("her2st", "gpu", tmp_path) == tmp_path / "build" / "her2st-gpu"
    assert module.build_folder("some/where/mine.yaml", "demo", tmp_path) == tmp_path / "build" / "mine-demo"


def test_results_hold_numbers_at_full_precision_with_interval_and_provenance(page: Page, shown: list[str]) -> None:
    page.number("third", 1 / 3, label="a third")
    page.number("rho", SimpleNamespace(value=0.5, low=0.25, high=0.75, n=40, method="bootstrap over patients"))
    page.close(runs=["vae-123", SimpleNamespace(id="gan-456")])
    results = json.loads((page.folder / "results.json").read_text())
    assert results["numbers"]["third"]["value"] == 1 / 3
    assert {k: results["numbers"]["rho"][k] for k in ("low", "value", "high", "n")} == {
        "low": 0.25,
        "value": 0.5,
        "high": 0.75,
        "n": 40,
    }
    assert results["runs"] == ["vae-123", "gan-456"]
    facts = results["provenance"]
    assert set(facts) == {
        "commit", "dirty", "cohort_fingerprint", "device", "versions", "started", "seconds", "peak_memory_mb", "command",
    }  # fmt: skip
    assert facts["peak_memory_mb"] > 10 and facts["versions"]["torch"] != "absent"
    assert "--pages 04_beta_vae" in facts["command"] and "--seed 3" in facts["command"] and "slope=2.0" in facts["command"]
    assert facts["command"] in shown[-1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_must_be_finite(page: Page, bad: float) -> None:
    with pytest.raises(InputError, match="finite"):
        page.number("x", bad)


def test_names_are_given_once(page: Page) -> None:
    page.number("x", 1)
    with pytest.raises(InputError, match="new name"):
        page.number("x", 2)


def test_a_figure_is_saved_at_twice_its_size_with_caption_and_alternative_text(page: Page, shown: list[str]) -> None:
    figure, axes = plt.subplots(figsize=(3, 2), dpi=100)
    axes.plot([0, 1])
    page.figure(figure, "line", caption="A\nline.", alt="A rising line.", n="2 points")
    assert not plt.fignum_exists(figure.number)
    with Image.open(page.folder / "figures" / "line.png") as image:
        width = image.width
    assert 500 < width < 700
    assert ":alt: A rising line." in shown[-1] and f":width: {width // 2}px" in shown[-1]
    assert "A line. (n = 2 points, cohort simulated, preset demo, seed 3.)" in shown[-1]
    with pytest.raises(InputError, match="alternative"):
        page.figure(plt.figure(), "other", caption="x", alt=" ")
    plt.close("all")


def test_a_figure_after_a_failed_proof_says_not_converged(page: Page, shown: list[str]) -> None:
    page.not_converged("the RNA does not reach the tile")
    page.figure(plt.figure(), "tiles", caption="Tiles.", alt="Tiles.")
    assert "**Not converged.** Tiles." in shown[-1]
    page.close()
    assert json.loads((page.folder / "results.json").read_text())["not_converged"] == ["the RNA does not reach the tile"]


def test_a_closed_page_takes_nothing_more(page: Page) -> None:
    page.close()
    for call in (lambda: page.number("x", 1), page.close, lambda: page.table(pd.DataFrame(), caption="x")):
        with pytest.raises(InputError, match=r"page\.close"):
            call()


def test_verdicts_are_shown_and_kept(page: Page, shown: list[str]) -> None:
    page.verdicts()
    assert "not attempted, because" in shown[-1]
    page.close()
    verdicts = json.loads((page.folder / "results.json").read_text())["verdicts"]
    assert verdicts and all(verdict["sentence"] for verdict in verdicts)


def test_simulated_data_and_the_demo_preset_are_announced(
    page: Page, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rnasynth.data import cohort as cohorts

    fake = SimpleNamespace(name="simulated", banner="", simulated=True, notes=("C1 is missing",), fingerprint=lambda: "f00")
    monkeypatch.setattr(cohorts, "load_cohort", lambda name, seed: fake)
    assert page.cohort is fake and page.cohort is fake
    assert len(shown) == 2
    assert "SIMULATED DATA" in shown[0] and "Demo preset" in shown[0] and "C1 is missing" in shown[1]


def test_a_page_without_cohort_names_its_data_instead(tmp_path: Path, shown: list[str]) -> None:
    page = Page.open(
        "14_expert_ratings", preset="demo", cohort="her2st", seed=0, out=tmp_path / "out", data="published-scores"
    )
    page.number("rating_real_lung", 2.2667, metric="mean of six pathologists' means")
    page.figure(plt.figure(), "nothing", caption="Nothing.", alt="Nothing.")
    page.verdicts()
    page.close()
    results = json.loads((page.folder / "results.json").read_text())
    assert "data published-scores" in results["figures"][0]["caption"] and "her2st" not in results["figures"][0]["caption"]
    assert {v["id"]: v["kind"] for v in results["verdicts"]}["rating_real_lung"] == "reproduced"
    assert "her2st, fingerprint not loaded; data published-scores" in shown[-1]


def test_options_of_the_builder_are_read_from_a_pages_parameter() -> None:
    assert options_of("") == {}
    assert options_of("profiles=all, sections=C2+C3") == {"profiles": "all", "sections": ["C2", "C3"]}
    for wrong in ("profiles", "=all", "profiles="):
        with pytest.raises(InputError, match="name=value"):
            options_of(wrong)


def test_a_report_is_kept_whole_under_its_own_names_and_labels(tmp_path: Path) -> None:
    page = Page.open("04_beta_vae", preset="demo", cohort="simulated", out=tmp_path)
    page.report(SimpleNamespace(numbers={"one": 1.0, "two": 2.0}, labels={"one": "first", "two": "second"}), unit="s")
    assert [(n.value, n.label, n.unit) for n in page.numbers.values()] == [(1.0, "first", "s"), (2.0, "second", "s")]
    with pytest.raises(KeyError):
        page.report(SimpleNamespace(numbers={"three": 3.0}, labels={}))
