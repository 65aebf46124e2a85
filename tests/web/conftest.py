"""A real browser over the real application: only the model is scripted.

The browser is the Chromium of the machine ($THUMBWISE_CHROMIUM, then the usual names), else Playwright's own; where
there is none, the tests skip and say so.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Playwright, expect, sync_playwright

from feedback_store.access.roles import Role
from tests.web.parts import PATIENCE_MS, Site, Watch, sign_in_as
from tests.web.running import running

expect.set_options(timeout=PATIENCE_MS)
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium(playwright: Playwright) -> str | None:
    """Return the browser to drive: $THUMBWISE_CHROMIUM, one on the path, or Playwright's own if it is installed."""
    named = os.environ.get("THUMBWISE_CHROMIUM")
    found = named or next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)
    own = playwright.chromium.executable_path
    return found or (own if Path(own).exists() else None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        executable = find_chromium(playwright)
        if executable is None:
            pytest.skip("no Chromium: install it, set THUMBWISE_CHROMIUM, or run `playwright install chromium`")
        # --no-sandbox: containers forbid Chromium's own sandbox; the pages under test are ours.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all tests: each test is its own rater, because each begins with an empty browser storage."""
    with running(tmp_path_factory.mktemp("site"), "scripted") as site:
        yield site


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="session")
def usual_context(browser: Browser) -> Iterator[BrowserContext]:
    """The context of tests that ask for nothing special: sharing it keeps the pages' files in its cache."""
    with browser.new_context() as context:
        yield context


@pytest.fixture
def open_page(
    browser: Browser, usual_context: BrowserContext, site: Site, watch: Watch
) -> Iterator[Callable[..., Page]]:
    """Open a path as a new rater; every console error, exception and request to elsewhere is a failure."""
    pages: list[Page] = []
    contexts: list[BrowserContext] = []

    def open_one(path: str = "/", **options: Any) -> Page:
        context = usual_context
        if options:
            context = browser.new_context(**options)
            contexts.append(context)
        page = context.new_page()
        pages.append(page)
        page.set_default_timeout(PATIENCE_MS)
        watch_over(page, site.url, watch)
        page.goto(site.url + path)
        return page

    yield open_one
    for page in pages:
        page.context.set_offline(False)
        page.evaluate("localStorage.clear()")
        page.close()
    for context in contexts:
        context.close()
    assert watch.found() == []


def watch_over(page: Page, url: str, watch: Watch) -> None:
    """Note whatever a page of `url` does that no page of ours may do."""
    note = watch.problems.append
    page.on("console", lambda message: note(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: note(f"exception: {error}"))
    page.on("request", lambda sent: None if sent.url.startswith(url) else note(f"foreign: {sent.url}"))

    def refuse(dialog: Dialog) -> None:
        note(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("dialog", refuse)


@pytest.fixture
def chat(open_page: Callable[..., Page]) -> Page:
    """The chat page of a new rater who declined to have their words kept."""
    page = open_page("/")
    page.get_by_role("button", name="No, thanks").click()
    page.locator("#consent-notice").wait_for(state="hidden")
    return page


@pytest.fixture
def open_as(browser: Browser, site: Site, watch: Watch) -> Iterator[Callable[..., Page]]:
    """Open a path of the dashboard as a person of a role: `open_as("operator", "/dashboard/rounds", **options)`.

    Each call is a browser of its own, so two calls are two people. What a page must not do is watched over.
    """
    contexts: list[BrowserContext] = []

    def open_one(role: Role, path: str, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        sign_in_as(context, site, role)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        watch_over(page, site.url, watch)
        page.goto(site.url + path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert watch.found() == []
