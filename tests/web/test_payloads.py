"""200 hostile texts through every text that people, models and operators write: nothing runs, loads or is computed.

An inline script, a foreign address or a dialog is a console error or a request, which fails a test by itself (`Watch`).
"""

import csv
import io
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from feedback_store import feedback, review, saved_views
from feedback_store.access.keys import add_key
from feedback_store.annotation_labels import next_assignment, save, skip
from feedback_store.audit import Act, record
from feedback_store.connection import Connection
from feedback_store.records import NewFeedback
from feedback_store.review import Target
from tests.web.parts import Site, agree, say
from tests.web.payloads import PAYLOADS
from tests.web.rated import Rated

pytestmark = pytest.mark.browser

FOREIGN = (
    "script, iframe, img, object, embed, base, meta, style, link, video, source, math, template, [onload], [onerror]"
)
"""What no text of ours draws inside a page's main part."""


def check(page: Page, *, shows: tuple[str, ...]) -> None:
    """The page holds these texts as they were written, and nothing that they would have made."""
    main = page.locator("main")
    expect(main).to_be_visible()
    words = " ".join(str(main.evaluate("node => node.textContent")).split())
    missing = [text for text in shows if " ".join(text.split()) not in words]
    assert missing == []
    assert main.locator(FOREIGN).count() == 0
    assert (
        main.locator("a[href^='javascript'], form[action^='javascript'], a[href^='//'], a[href^='data:']").count() == 0
    )
    assert page.url.startswith("http://127.0.0.1")


@pytest.fixture(scope="module")
def written(site: Site) -> Rated:
    """Every payload in every text field of the store."""
    rated = Rated(site, "hostile")
    whose = rated.raters[0]

    def write(connection: Connection) -> None:
        for number, text in enumerate(PAYLOADS):
            thumb = NewFeedback("thumb", whose, rated.name, reply_id=reply_id, thumb="down", reason=text)
            feedback.add_feedback(connection, thumb)
            better = NewFeedback("correction", whose, rated.name, reply_id=reply_id, correction=text)
            given = feedback.add_feedback(connection, better).feedback_id
            review.act(connection, "approve", [Target(reply_id, 0, given)], actor="user:otto", reason=text)
            review.note(connection, reply_id, text.strip(), actor="user:otto")
            for action in ("version.hold", "rater.quarantine"):
                target = "version 1" if action == "version.hold" else f"rater {whose}"
                record(connection, Act("user:otto", action, target, text, {"text": text}))
            add_key(connection, text.strip()[:64], ("read",), "anna")
            if number < saved_views.MOST_VIEWS:
                saved_views.save_view(connection, "user:anna", text.strip()[:60], "verdict=down")

    turns = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(PAYLOADS)]
    reply_id = rated.reply("all", "", "\n\n".join(PAYLOADS), messages=tuple(turns), rater_id=whose)
    for number in range(10):
        # The list shows a question, a reply and a reason; twenty texts in each.
        some = "\n".join(PAYLOADS[20 * number : 20 * number + 20])
        rated.thumb(rated.reply(f"some-{number}", some, some), "down", reason=some)
    site.store.write(write)
    rated.taken_up()
    return rated


def test_there_are_200_of_them_and_they_differ() -> None:
    assert len(set(PAYLOADS)) == len(PAYLOADS) == 200


def test_the_inbox_and_a_replys_page(written: Rated, open_as: Callable[..., Page], site: Site) -> None:
    page = open_as("admin", "/dashboard/inbox?channel=hostile")
    check(page, shows=PAYLOADS[:200:20])  # of each the beginning: the list is brief
    page.goto(f"{site.url}/dashboard/inbox/hostile-all")
    check(page, shows=PAYLOADS)
    for region in ("What people said", "What operators did"):
        words = " ".join(str(page.get_by_role("region", name=region).evaluate("node => node.textContent")).split())
        assert [text for text in PAYLOADS if " ".join(text.split()) not in words] == []


def test_searching_for_them(written: Rated, open_as: Callable[..., Page], site: Site) -> None:
    page = open_as("operator", "/dashboard/inbox?channel=hostile")
    for text in PAYLOADS[::53]:
        page.get_by_role("searchbox").fill(text)
        with page.expect_navigation():
            page.get_by_role("searchbox").press("Enter")
        check(page, shows=())
        expect(page.get_by_role("searchbox")).to_have_value(text.strip())


def test_versions_people_settings_and_the_log(written: Rated, open_as: Callable[..., Page], site: Site) -> None:
    page = open_as("admin", "/dashboard/versions/1")
    check(page, shows=())
    page.goto(f"{site.url}/dashboard/people/{written.raters[0]}")
    check(page, shows=PAYLOADS)
    page.goto(f"{site.url}/dashboard/settings")
    check(page, shows=tuple(text.strip()[:64] for text in PAYLOADS))
    page.goto(f"{site.url}/dashboard/settings/audit?action=version.hold")
    check(page, shows=PAYLOADS[100:])
    page.get_by_role("link", name="Earlier").click()
    expect(page.get_by_role("link", name="Earlier")).to_have_count(0)
    check(page, shows=PAYLOADS[:100])


def test_no_cell_of_the_log_as_a_file_is_a_formula(written: Rated, open_as: Callable[..., Page], site: Site) -> None:
    page = open_as("admin", "/dashboard/account")
    answer = page.request.get(f"{site.url}/dashboard/settings/audit?file=csv")
    rows = list(csv.reader(io.StringIO(answer.text(), newline="")))
    assert len(rows) > 400
    cells = [cell for row in rows for cell in row]
    assert [cell for cell in cells if cell.lstrip(" ")[:1] in tuple("=+-@\t\r\n|%")] == []
    reasons = {text for row in rows for text in (row[4], row[4].removeprefix("'"))}
    assert set(PAYLOADS) <= reasons
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_annotating_them(written: Rated, open_as: Callable[..., Page], site: Site) -> None:
    while (left := site.store.write(next_assignment, "user:nina")) is not None:
        site.store.write(skip, "user:nina", left.label.label_id, left.label.revision)
    quarter = len(PAYLOADS) // 4
    texts = tuple("\n\n".join(PAYLOADS[quarter * part : quarter * (part + 1)]) for part in range(4))
    written.task("annotated", texts, priority=9e9, question="\n\n".join(PAYLOADS))
    given = site.store.write(next_assignment, "user:nina")
    assert given is not None
    note = "".join(PAYLOADS[:20])
    site.store.write(save, "user:nina", given.label.label_id, given.label.revision, note=note)
    page = open_as("annotator", f"/dashboard/annotate/labels/{given.label.label_id}")
    check(page, shows=())
    assert page.get_by_label("Note").input_value() == note


def test_chatting_with_them(open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    agree(page)
    say(page, "echo: " + "\n\n".join(PAYLOADS))
    prose = page.locator(".assistant .prose")
    assert prose.locator(FOREIGN).count() == 0
    tags = prose.evaluate("node => [...new Set([...node.querySelectorAll('*')].map(child => child.tagName))]")
    assert set(tags) <= {"P", "UL", "OL", "LI", "PRE", "CODE", "STRONG", "EM", "BR"}
    page.reload()
    page.locator("#history button").first.click()
    expect(page.locator(".assistant .prose")).to_contain_text(PAYLOADS[0])
    assert page.locator("main").locator("script, iframe, object, embed, [onload], [onerror]").count() == 0
