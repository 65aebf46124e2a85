"""Take a picture of every page, light, dark and on a phone: `make screenshots` writes them to build/screenshots.

The store is an invented month (scripts/seed_store.py), the replies are scripted: no model is loaded.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from feedback_store import side_by_sides
from feedback_store.access import sessions, users
from feedback_store.access.accounts import link_account
from feedback_store.access.keys import add_key
from feedback_store.access.providers import providers_of
from feedback_store.access.roles import Role
from feedback_store.annotation_labels import next_assignment
from feedback_store.audit import ERASED_RATER, Act, record
from feedback_store.dashboard.visit import cookie_name
from feedback_store.inbox import catch_up
from feedback_store.inbox_search import InboxFilter, search
from feedback_store.raters import staff_rater_id
from feedback_store.settings import DiscordSignInSettings, GithubSignInSettings
from scripts.seed_store import seed_store
from scripts.seeded_rounds import AFTER
from tests.web.rated import Rated
from tests.web.running import Running, running

TARGET = Path("build/screenshots")
PAGES: dict[str, str] = {
    "overview": "/dashboard/overview",
    "inbox": "/dashboard/inbox",
    "inbox-found": "/dashboard/inbox?verdict=down&q=many",
    "inbox-reply": "/dashboard/inbox/{reply}",
    "annotate": "/dashboard/annotate",
    "annotate-label": "/dashboard/annotate/labels/{label}",
    "rounds": "/dashboard/rounds",
    "round-new": "/dashboard/rounds/new?learning_rate=0.001",
    "round-training": "/dashboard/rounds/7",
    "round-published": "/dashboard/rounds/5",
    "round-rejected": "/dashboard/rounds/2",
    "round-failed": "/dashboard/rounds/6",
    "rounds-compare": "/dashboard/rounds/compare?round=1&round=5",
    "versions": "/dashboard/versions",
    "version": "/dashboard/versions/4",
    "side-by-side": "/dashboard/versions/6/side-by-sides",
    "compared": "/dashboard/versions/4/side-by-sides",
    "people": "/dashboard/people",
    "person": "/dashboard/people/{rater}",
    "erase": "/dashboard/people/erase",
    "erase-person": "/dashboard/people/{rater}/erase",
    "erased": "/dashboard/people/erased/{erased}",
    "settings": "/dashboard/settings",
    "audit": "/dashboard/settings/audit",
    "account": "/dashboard/account",
    "not-found": "/dashboard/nothing",
}
"""Name of the picture → page, as an admin sees it."""
PLAIN = {
    "sign-in": "/dashboard/sign-in", "set-up": "/dashboard/set-up", "join": "/dashboard/join?invitation={invitation}",
    "chat": "/",
}  # fmt: skip
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 860}},
    "dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "device_scale_factor": 2},
    "chinese": {"viewport": {"width": 1280, "height": 860}, "locale": "zh-CN"},
}


def main() -> None:
    """Take the pictures; arguments choose pages by name."""
    TARGET.mkdir(parents=True, exist_ok=True)
    executable = os.environ.get("THUMBWISE_CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as data, running(Path(data)) as site, sync_playwright() as playwright:
        seed_store(site.store, replies=2_400, events=5_000)
        names = _people(site) | _tasks(site)
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for look, options in LOOKS.items():
            _take_all(browser, site, look, options, names, set(sys.argv[1:]))
        browser.close()
    print(f"{len(list(TARGET.glob('*.png')))} pictures in {TARGET}")


def _people(site: Running) -> dict[str, object]:
    """People of each role, what they did, and what the addresses of their pages name."""
    people: tuple[tuple[str, Role], ...] = (("anna", "admin"), ("otto", "operator"), ("nina", "annotator"))
    for name, role in people:
        site.store.write(users.add_user, name, role)
    site.store.write(add_key, "nightly export", ("export", "read"), "anna", days=90)
    site.store.write(record, Act("user:anna", "version.canary", "version 6", "a fifth for some days", {"share": 0.2}))
    details = {"channel": "telegram", "replies": 41, "feedback": 63, "versions": [4, 6]}
    erased = site.store.write(record, Act("user:otto", "rater.erase", ERASED_RATER, details=details))
    invited = site.store.write(users.add_user, "ines", "annotator").user_id
    anna = site.store.read(users.by_name, "anna")
    assert anna is not None
    site.store.write(link_account, anna.user_id, "github", "583231")
    for name in ("anna", "otto", "nina"):
        for pair in range(len(AFTER)):
            choice: side_by_sides.Side = ("left", "right", "tie")[(pair + len(name)) % 3]
            site.store.write(side_by_sides.vote, 4, pair, staff_rater_id(f"user:{name}"), choice)
    github, discord = GithubSignInSettings(client_id="pictures"), DiscordSignInSettings(client_id="1")
    site.parts.providers = providers_of(github, "of the pictures", discord, "of the pictures")
    return {"erased": erased, "invitation": site.store.write(users.invite, invited)}


def _tasks(site: Running) -> dict[str, object]:
    """An inbox that is up to date, and three tasks for annotators, one of them begun by anna."""
    while site.store.write(catch_up):
        pass
    rated = Rated(site, "pictures")
    answers = (
        "Yeast eats sugar and breathes out gas. The dough catches the bubbles and grows.",
        "There are **many** things to consider when it comes to bread, and it depends on the flour.",
        "Because of the yeast.",
    )
    for number in range(3):
        rated.task(f"t{number}", answers[: 3 - number // 2], priority=9.0 - number, question="Why does bread rise?")
    begun = site.store.write(next_assignment, "user:anna")
    assert begun is not None
    reply_id = site.store.read(search, InboxFilter(verdict="down")).items[0].reply_id
    return {"label": begun.label.label_id, "reply": reply_id, "rater": site.store.read(_busiest)}


def _take_all(
    browser: Browser,
    site: Running,
    look: str,
    options: dict[str, Any],
    names: dict[str, object],
    wanted: set[str],
) -> None:
    context = browser.new_context(**options)
    page = context.new_page()
    for name, path in PLAIN.items():
        if not wanted or name in wanted:
            _take(page, site.url + path.format_map(names), f"{name}-{look}")
    anna = site.store.read(users.by_name, "anna")
    assert anna is not None
    token = site.store.write(sessions.begin_session, anna.user_id, 1.0)
    context.add_cookies([{"name": cookie_name(site.parts), "value": token, "url": site.url}])
    for name, path in PAGES.items():
        if not wanted or name in wanted:
            _take(page, site.url + path.format_map(names), f"{name}-{look}")
    context.close()


def _take(page: Page, url: str, name: str) -> None:
    page.goto(url)
    page.wait_for_load_state("load")
    # The inbox is a long list with a bar that stays in view: its picture is what a window shows.
    page.screenshot(path=TARGET / f"{name}.png", full_page=not name.startswith("inbox-"))


def _busiest(connection: Any) -> str:
    from feedback_store.rater_activity import activities

    return activities(connection)[0].rater_id


if __name__ == "__main__":
    main()
