"""Headless Chromium for the browser tests: one browser a module, and tabs that write down requests and complaints."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

ARGUMENTS = ("--no-sandbox", "--no-first-run", "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND")


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The distribution's Chromium, unable to resolve any host name; a module's `ARGUMENTS` are added.

    `.ci/run` sets $RNASYNTH_BOOK, so that nothing is skipped there.
    """
    from playwright.sync_api import sync_playwright

    program = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
    if program is None and not os.environ.get("RNASYNTH_BOOK"):
        pytest.skip("no Chromium")
    assert program is not None, "RNASYNTH_BOOK is set, but there is no Chromium"
    arguments = [*ARGUMENTS, *getattr(request.module, "ARGUMENTS", ())]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, headless=True, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def new_tab(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens tabs that keep each request and each complaint in `tab.requests` and `tab.complaints`."""
    contexts = []

    def opened(**options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.requests, page.complaints = [], []
        context.on("request", lambda request: page.requests.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("requestfailed", lambda request: page.complaints.append(f"failed: {request.url}"))
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def tab(new_tab: Callable[..., Any]) -> Any:
    """One such tab, 1280 x 900 px."""
    return new_tab()
