"""Take the README's pictures of a running server: the chat page after a turn, and the page of its newest round.

    .venv/bin/python scripts/screenshots.py http://127.0.0.1:8080 data/admin.token

The replies are the live model's own. Run it after a round has been judged, or there is no gate to show.
"""

import os
import secrets
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).parent.parent / "docs"
TURNS = ("Why do cats purr?",)


def chat(page: Page, url: str) -> None:
    """A turn, and a thumb for it."""
    page.goto(url)
    page.get_by_role("button", name="I agree").click()
    for number, text in enumerate(TURNS):
        page.get_by_label("Your message").fill(text)
        page.get_by_label("Your message").press("Enter")
        page.locator("#turns > li.assistant").nth(number).locator(".rating, .verdict").wait_for(timeout=120_000)
        verdict = page.locator("#turns > li.assistant").nth(number).get_by_role("button", name="A is better")
        if verdict.count():
            verdict.click()
    page.locator("#turns > li.assistant").first.get_by_role("button", name="Good reply").click()
    page.wait_for_timeout(500)
    page.screenshot(path=DOCS / "screenshot-chat.png")


def newest_round(page: Page, url: str, token: str) -> None:
    """Set up an admin and open the first round of the list."""
    page.goto(f"{url}/dashboard/set-up")
    page.get_by_label("Admin token").fill(token)
    page.get_by_label("Name").fill("pictures")
    page.get_by_label("Password").fill(secrets.token_urlsafe(16))
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Rounds").click()
    page.get_by_role("link", name="Round ").first.click()
    page.set_viewport_size({"width": 1280, "height": 1560})  # facts, curves and the gate's table; not every example
    page.wait_for_timeout(2500)
    page.screenshot(path=DOCS / "screenshot-round.png")


def main() -> None:
    """Open a browser, take both pictures."""
    url, token = sys.argv[1].rstrip("/"), Path(sys.argv[2]).read_text().strip()
    executable = os.environ.get("THUMBWISE_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        chat(page, url)
        newest_round(page, url, token)
        browser.close()


if __name__ == "__main__":
    main()
