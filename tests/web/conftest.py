"""A real browser over the real application: only the model is scripted.

The browser is the Chromium of the machine ($CHROMIUM, then the usual names), else Playwright's own; where there is none,
the tests skip and say so.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright
from tests.web.scripted_engine import ScriptedEngine

from bot.web import WebSettings, mount_web_chat
from feedback_store.dashboard import mount_dashboard
from feedback_store.store import Store
from feedback_store.versions import bootstrap
from serving.api.app import create_app
from serving.api.context import ApiContext

ADMIN_TOKEN = "an admin token of the tests"  # noqa: S105 - a test's
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium(playwright: Playwright) -> str | None:
    """Return the browser to drive: $CHROMIUM, one on the path, or Playwright's own if it is installed."""
    named = os.environ.get("CHROMIUM")
    found = named or next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)
    own = playwright.chromium.executable_path
    return found or (own if Path(own).exists() else None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        executable = find_chromium(playwright)
        if executable is None:
            pytest.skip("no Chromium: set CHROMIUM to one, install chromium, or run `playwright install chromium`")
        # --no-sandbox: containers forbid Chromium's own sandbox; the pages under test are ours.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@dataclass(slots=True)
class Site:
    """A running server and its parts."""

    url: str
    context: ApiContext
    engine: ScriptedEngine

    @property
    def store(self) -> Store:
        return self.context.store


def serve(app: FastAPI) -> tuple[uvicorn.Server, threading.Thread, int]:
    """Run `app` on a free port in a thread until its `should_exit`."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none", timeout_graceful_shutdown=2))
    started = threading.Event()
    run_startup = server.startup

    async def startup(sockets: Any = None) -> None:
        await run_startup(sockets=sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    if not started.wait(30):
        raise TimeoutError("the test's server did not start within 30 s")
    return server, thread, server.servers[0].sockets[0].getsockname()[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server a test file; each test is its own rater, because each has a fresh browser context."""
    data = tmp_path_factory.mktemp("site")
    store = Store.open(f"sqlite:///{data / 'thumbwise.db'}")
    store.write(bootstrap, "scripted")
    engine = ScriptedEngine()
    context = ApiContext(store=store, engine=engine, rater_key=b"k" * 32, admin_token=ADMIN_TOKEN, data_dir=data)
    app = create_app(context)
    mount_web_chat(app, WebSettings(compare_share=0))
    mount_dashboard(app)
    server, thread, port = serve(app)
    yield Site(f"http://127.0.0.1:{port}", context, engine)
    server.should_exit = True
    thread.join(30)


@dataclass(slots=True)
class Watch:
    """What a page must not do; `allowed` are parts of console messages that a test provokes."""

    problems: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def found(self) -> list[str]:
        return [problem for problem in self.problems if not any(part in problem for part in self.allowed)]


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def open_page(browser: Browser, site: Site, watch: Watch) -> Iterator[Callable[..., Page]]:
    """Open a path in a fresh context (a new rater); every console error, exception and foreign request is a failure."""
    contexts: list[BrowserContext] = []

    def open_one(path: str = "/", **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        note = watch.problems.append
        page.on("console", lambda message: note(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: note(f"exception: {error}"))
        page.on("request", lambda request: None if request.url.startswith(site.url) else note(f"foreign: {request.url}"))
        page.on("dialog", lambda dialog: (note(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(site.url + path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert watch.found() == []


@pytest.fixture
def chat(open_page: Callable[..., Page]) -> Page:
    """The chat page of a new rater who declined to have their words kept."""
    page = open_page("/")
    page.get_by_role("button", name="No, thanks").click()
    page.locator("#consent-notice").wait_for(state="hidden")
    return page


def say(page: Page, text: str) -> None:
    """Send a message and wait until its reply is complete."""
    page.get_by_label("Your message").fill(text)
    page.get_by_label("Your message").press("Enter")
    page.locator("#turns > li.assistant:last-child").locator(".rating, .verdict").wait_for()
