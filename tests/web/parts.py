"""What the browser tests share: the running site, what a page must not do, and acts of a person."""

from dataclasses import dataclass, field

from playwright.sync_api import Page

from feedback_store.feedback import recent_feedback
from feedback_store.records import NewFeedback
from feedback_store.store import Store
from serving.api.context import ApiContext
from tests.web.scripted_engine import ScriptedEngine

ADMIN_TOKEN = "an admin token of the tests"


@dataclass(slots=True)
class Site:
    """A running server and its parts."""

    url: str
    context: ApiContext
    engine: ScriptedEngine

    @property
    def store(self) -> Store:
        return self.context.store


@dataclass(slots=True)
class Watch:
    """What a page must not do; `allowed` are parts of console messages that a test provokes."""

    problems: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def found(self) -> list[str]:
        return [problem for problem in self.problems if not any(part in problem for part in self.allowed)]


def say(page: Page, text: str) -> None:
    """Send a message and wait until its reply is complete."""
    page.get_by_label("Your message").fill(text)
    page.get_by_label("Your message").press("Enter")
    page.locator("#turns > li.assistant:last-child").locator(".rating, .verdict").wait_for()


def newest(site: Site, count: int = 1) -> list[NewFeedback]:
    """Return the last acts, oldest first."""
    return [feedback.act for feedback in site.store.read(recent_feedback, count)][::-1]


def agree(page: Page) -> None:
    """Let one's words be kept."""
    page.get_by_role("button", name="I agree").click()
    page.locator("#consent-notice").wait_for(state="hidden")
