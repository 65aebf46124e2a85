"""What the browser tests share: the running site, what a page must not do, and acts of a person."""

from dataclasses import dataclass, field

from playwright.sync_api import BrowserContext, Page

from feedback_store.access import sessions, users
from feedback_store.access.roles import Role
from feedback_store.dashboard.visit import cookie_name
from feedback_store.feedback import recent_feedback
from feedback_store.records import NewFeedback
from tests.web.running import Running

PATIENCE_MS = 45_000
"""How long a condition is waited for: far more than it takes, because the machine may be busy with other things."""
Site = Running
"""A running server and its parts."""

PEOPLE: dict[Role, str] = {"user": "ulla", "annotator": "nina", "operator": "otto", "admin": "anna"}
"""One person of each role; there is no password behind them, their sessions are made in the store."""


def sign_in_as(context: BrowserContext, site: Site, role: Role) -> None:
    """Let everything that this browser does on the dashboard be done by somebody of `role`."""
    person = site.store.read(users.by_name, PEOPLE[role]) or site.store.write(users.add_user, PEOPLE[role], role)
    token = site.store.write(sessions.begin_session, person.user_id, 1.0)
    context.add_cookies([{"name": cookie_name(site.parts), "value": token, "url": site.url}])


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


WIDER = "document.documentElement.scrollWidth > innerWidth"
SMALL_TARGETS = """() => [...document.querySelectorAll('button, select, input, summary')]
  .filter((node) => node.checkVisibility())
  .map((node) => [node.outerHTML.slice(0, 80),
    (node.matches('[type=checkbox], [type=radio]') ? node.closest('label, td') : node).getBoundingClientRect()])
  .filter(([, box]) => box.width && (box.width < 24 || box.height < 24)).map(([html]) => html)"""


def check_page(page: Page) -> None:
    """A page as everybody can use it: axe finds nothing, no target is too small, nothing is wider than the window."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    problems = [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]
    problems += [f"too small: {html}" for html in page.evaluate(SMALL_TARGETS)]
    problems += ["wider than its window"] if page.evaluate(WIDER) else []
    if problems:
        raise AssertionError("\n".join([page.url, *problems]))
