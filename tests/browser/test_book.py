"""The rendered book in headless Chromium, opened from a folder, with every request written down."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--allow-file-access-from-files",
]


@pytest.fixture(scope="module")
def html() -> Path:
    """Folder of the rendered book, from $RNASYNTH_BOOK; `.ci/run` sets it, so that nothing is skipped there."""
    where = os.environ.get("RNASYNTH_BOOK")
    if not where:
        pytest.skip("no rendered book ($RNASYNTH_BOOK)")
    folder = Path(where).resolve()
    assert (folder / "index.html").is_file(), f"no book in {folder}"
    return folder


def documents(html: Path) -> list[Path]:
    """All documents that the front page's navigation leads to, the front page first."""
    text = (html / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'class="reference internal" href="([^"#]+\.html)"', text)
    return [html / "index.html", *(html / link for link in dict.fromkeys(links))]


def only_local(requests: list[str]) -> list[str]:
    """Requests that would leave the machine."""
    return [url for url in requests if not url.startswith(("file://", "data:", "blob:", "about:"))]


def test_every_document_opens_without_a_complaint_and_asks_no_other_machine(html: Path, tab: Any) -> None:
    found = documents(html)
    assert sum("notebooks/" in str(path) for path in found) >= 5
    modules = sorted(html.glob("api/*.html"))
    assert len(modules) > 100
    found += modules[::25]  # made alike, from docstrings
    for path in found:
        tab.goto(path.as_uri(), wait_until="load")
        assert tab.locator("article h1").first.is_visible(), path
        assert not tab.complaints, f"{path.name}: {tab.complaints}"
    assert any(url.startswith("file://") for url in tab.requests)
    assert only_local(tab.requests) == []


def test_every_figure_of_a_page_that_ran_is_seen_with_a_text_beside_it(html: Path, tab: Any) -> None:
    ran = [
        path
        for path in documents(html)
        if path.parent.name == "notebooks" and "did not run on the cohort" not in path.read_text()
    ]
    assert ran
    for path in ran:
        tab.goto(path.as_uri(), wait_until="load")
        images = tab.locator("article img")
        assert images.count() >= 1, path.name
        for number in range(images.count()):
            image = images.nth(number)
            image.scroll_into_view_if_needed()
            assert image.evaluate("image => image.complete && image.naturalWidth > 0"), f"{path.name}, image {number}"
            assert image.bounding_box()["width"] > 50, f"{path.name}, image {number}"
            assert len(image.get_attribute("alt") or "") > 10, f"{path.name}, image {number}"
        assert tab.locator("article figcaption").count() >= 1, path.name
        assert tab.locator("article table").count() >= 1, path.name


def test_search_finds_a_word(html: Path, tab: Any) -> None:
    tab.goto(f"{(html / 'search.html').as_uri()}?q=critic", wait_until="load")
    tab.wait_for_selector("#search-results ul.search li", timeout=20_000)
    tab.wait_for_load_state("networkidle")  # each result fetches its document for the summary; leaving now would abort it
    assert "glossary" in tab.locator("#search-results").inner_html()
    tab.goto(f"{(html / 'search.html').as_uri()}?q=zzqqxx", wait_until="load")
    tab.wait_for_function("document.querySelector('#search-results p.search-summary')?.innerText.includes('did not match')")
    assert tab.locator("#search-results ul.search li").count() == 0
    assert only_local(tab.requests) == [] and not tab.complaints


def test_mathematics_is_typeset_without_a_network(html: Path, tab: Any) -> None:
    with_maths = [path for path in documents(html) if 'class="math' in path.read_text(encoding="utf-8")]
    if not with_maths:
        with_maths = [path for path in html.rglob("api/*.html") if 'class="math' in path.read_text(encoding="utf-8")]
    assert with_maths, "no document has mathematics"
    tab.goto(with_maths[0].as_uri(), wait_until="load")
    tab.wait_for_selector("mjx-container", timeout=20_000)
    assert any("mathjax" in url for url in tab.requests)
    assert only_local(tab.requests) == [] and not tab.complaints


def test_a_request_to_another_machine_would_be_seen(tab: Any, tmp_path: Path) -> None:
    page = tmp_path / "leak.html"
    page.write_text("<h1>leak</h1><img src='https://example.org/a.png'>", encoding="utf-8")
    tab.goto(page.as_uri(), wait_until="load")
    assert only_local(tab.requests) == ["https://example.org/a.png"]
    assert tab.complaints
