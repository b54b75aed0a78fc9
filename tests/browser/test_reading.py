"""The rendered book as people read it: on a phone, in the dark, by keyboard and screen reader; its links and downloads."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

ARGUMENTS = ["--allow-file-access-from-files"]
READ = ("index", "systems", "status", "glossary", "quiz", "notebooks/07_rna_gan", "api/rnasynth.evaluation.stats")
WIDTHS = (360, 1280)
OUTSIDE = """() => {  // elements that stick out of the window and stand in no box that scrolls
  const found = [];
  for (const element of document.querySelectorAll("main article *")) {
    const box = element.getBoundingClientRect();
    if (!box.width || box.right <= innerWidth + 1) continue;
    let around = element.parentElement;
    while (around.tagName !== "ARTICLE" && !/auto|scroll|hidden/.test(getComputedStyle(around).overflowX)) {
      around = around.parentElement;
    }
    if (around.tagName === "ARTICLE") found.push(element.outerHTML.slice(0, 80));
  }
  return found;
}"""


@pytest.fixture(scope="module")
def html() -> Path:
    """Folder of the rendered book, from $RNASYNTH_BOOK."""
    where = os.environ.get("RNASYNTH_BOOK")
    if not where:
        pytest.skip("no rendered book ($RNASYNTH_BOOK)")
    return Path(where).resolve()


def findings(tab: Any) -> list[str]:
    """What axe-core calls serious or critical; it is part of the test's own package and fetches nothing."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(tab, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
    return [
        f"{rule['impact']}: {rule['id']}: {rule['nodes'][0]['html'][:200]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def darkened(tab: Any) -> None:
    """Let the book open in dark."""
    tab.add_init_script("localStorage.setItem('mode', 'dark'); localStorage.setItem('theme', 'dark')")


@pytest.mark.parametrize(("width", "mode"), [(360, "dark"), (1280, "light")])
def test_no_serious_finding_and_nothing_sticks_out(html: Path, new_tab: Callable[..., Any], width: int, mode: str) -> None:
    tab = new_tab(viewport={"width": width, "height": 800})
    if mode == "dark":
        darkened(tab)
    for name in READ:
        tab.goto((html / f"{name}.html").as_uri(), wait_until="load")
        assert tab.evaluate("document.documentElement.dataset.theme") == mode
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
        assert tab.evaluate(OUTSIDE) == [], name
        assert findings(tab) == [], name
    assert tab.complaints == []


def test_a_page_that_nobody_could_read_would_be_found(tab: Any, tmp_path: Path) -> None:
    body = "<h1>x</h1><img src='data:,' width=9 height=9><p style='color:#ccc'>pale</p><p style='width:2000px'>wide</p>"
    page = tmp_path / "bad.html"
    page.write_text(f"<!doctype html><html><title>x</title><body><main><article>{body}</article></main></body></html>")
    tab.goto(page.as_uri(), wait_until="load")
    found = " ".join(findings(tab))
    assert all(rule in found for rule in ("image-alt", "color-contrast", "html-has-lang"))
    assert len(tab.evaluate(OUTSIDE)) == 1


def test_figures_keep_legible_text_on_a_phone_and_a_bright_ground_in_the_dark(
    html: Path, new_tab: Callable[..., Any]
) -> None:
    tab = new_tab(viewport={"width": 360, "height": 800})
    darkened(tab)
    tab.goto((html / "notebooks" / "07_rna_gan.html").as_uri(), wait_until="load")
    figures = tab.locator("article figure")
    assert figures.count() >= 3
    for number in range(figures.count()):
        figure = figures.nth(number)
        image = figure.locator("img")
        figure.scroll_into_view_if_needed()
        shown, whole = image.evaluate("image => [image.clientWidth, image.naturalWidth / 2]")
        assert shown >= 0.65 * whole, "10 pt as drawn are 6.5 pt or more as shown"
        wide = figure.evaluate("box => box.scrollWidth > box.clientWidth + 1")
        assert figure.evaluate("box => box.tabIndex") == (0 if wide else -1), "what scrolls is reached by the keyboard"
        ground = image.evaluate("image => getComputedStyle(image).backgroundColor")
        assert min(int(part) for part in re.findall(r"\d+", ground)[:3]) > 200
        assert len(image.get_attribute("alt") or "") > 10


def test_every_link_of_the_prose_pages_resolves(html: Path) -> None:
    prose = [path for path in html.glob("*.html") if path.stem not in ("search", "genindex", "py-modindex")]
    assert {"index", "glossary", "status", "systems", "api"} <= {path.stem for path in prose}
    anchors: dict[Path, set[str]] = {}
    for path in [*prose, *html.glob("notebooks/*.html")]:
        for link in re.findall(r'<a [^>]*?href="([^"]*)"', path.read_text(encoding="utf-8")):
            parts = urlsplit(link.replace("&amp;", "&"))
            if parts.scheme or link in ("", "#"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name}: {link}"
            if parts.fragment and target.suffix == ".html":
                if target not in anchors:
                    anchors[target] = set(re.findall(r'\b(?:id|name)="([^"]*)"', target.read_text(encoding="utf-8")))
                assert unquote(parts.fragment) in anchors[target], f"{path.name}: {link}"
    text = (html / "glossary.html").read_text(encoding="utf-8")
    assert text.count("See: <a") > 50 and len(re.findall(r'href="glossary\.html#', (html / "index.html").read_text())) >= 2


def test_each_page_that_ran_is_downloaded_as_a_notebook_with_its_figures(html: Path, tab: Any) -> None:
    ran = [
        path
        for path in sorted(html.glob("notebooks/*.html"))
        if "did not run on the cohort" not in path.read_text(encoding="utf-8")
    ]
    assert ran
    for path in ran:
        (link,) = re.findall(r'<a class="reference download internal"[^>]*href="([^"]+)"', path.read_text(encoding="utf-8"))
        notebook = json.loads((path.parent / unquote(link)).read_text(encoding="utf-8"))
        shown = [
            "".join(out["data"].get("text/html", ""))
            for cell in notebook["cells"]
            for out in cell.get("outputs", [])
            if "data" in out
        ]
        assert any('src="data:image/png;base64,' in text for text in shown), path.name
        assert "papermill" not in notebook["metadata"]
    tab.goto(ran[0].as_uri(), wait_until="load")
    with tab.expect_download() as expected:
        tab.locator("article a.reference.download").click()
    assert expected.value.suggested_filename == f"{ran[0].stem}.ipynb" and not expected.value.failure()
