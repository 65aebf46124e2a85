"""Inbox in a real browser: finding, excluding, undoing, correcting, and two operators at once."""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import Connection, text

from feedback_store import review
from feedback_store.feedback import effective_feedback
from feedback_store.review import Target
from feedback_store.rounds import cancel_round, list_rounds
from tests.web.parts import Site, Watch, check_page
from tests.web.rated import Rated

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
NUMBERS = itertools.count(1)


@pytest.fixture
def birds(site: Site) -> Iterator[Rated]:
    """Three bad replies about a yak, a good one, and two bad ones about something else."""
    rated = Rated(site, f"birds-{next(NUMBERS)}")
    for name, question, thumb in (
        ("a", "How tall is a yak?", "down"),
        ("b", "Does a yak fly?", "down"),
        ("c", "Where do yaks sleep?", "down"),
        ("d", "What does a yak eat?", "up"),
        ("e", "How tall is a wren?", "down"),
        ("f", "Does a wren fly?", "down"),
    ):
        rated.thumb(rated.reply(name, question, f"About {name}: nobody knows."), thumb)  # type: ignore[arg-type]
    rated.taken_up()
    yield rated
    # What a test leaves must not stand in the way of the next one's words.
    for name in "abcdef":
        site.store.write(forget, f"{rated.name}-{name}")


def forget(connection: Connection, reply_id: str) -> None:
    connection.execute(text("DELETE FROM feedback WHERE reply_id = :one"), {"one": reply_id})
    connection.execute(text("DELETE FROM replies WHERE reply_id = :one"), {"one": reply_id})


def rows(page: Page) -> Locator:
    return page.locator("#acts [data-row]")


@contextmanager
def moving(page: Page) -> Iterator[None]:
    """Do what leads to another page, and wait until that one listens to keys. (The page before shows it as well: it is
    live.)"""
    with page.expect_navigation():
        yield
    page.locator("html[data-script]").wait_for()


def look_again(page: Page) -> None:
    """Let a live page fetch itself, and wait until it has. What it does then is done at once."""
    with page.expect_response(lambda answer: answer.request.resource_type == "xhr" and answer.status == 200) as looked:
        page.evaluate("document.dispatchEvent(new Event('look'))")
    looked.value.finished()


def learnt_from(site: Site, rated: Rated) -> set[str]:
    """The replies of these tests that a round would learn from, by the last letter of their ids."""
    acts = [entry.act for entry in site.store.read(effective_feedback)]
    return {str(act.reply_id)[-1] for act in acts if act.channel == rated.name}


def test_an_operator_finds_all_bad_replies_about_a_word_excludes_three_and_starts_a_round_in_under_12_presses(
    site: Site, birds: Rated, open_as: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = {"possible": True, "by_force": False, "reason": "", "counts": {}, "method": "kto"}
    monkeypatch.setattr(site.parts, "preview", lambda wish: ready)
    page = open_as("operator", "/dashboard/inbox")
    presses = 0

    def press(*keys: str) -> None:
        nonlocal presses
        for key in keys:
            page.keyboard.press(key)
            presses += 1

    page.get_by_role("link", name="Version 1", exact=True).click()
    presses += 1
    expect(page).to_have_url(re.compile("version=1"))
    press("d")
    expect(page).to_have_url(re.compile("verdict=down"))
    press("/", *"yak", "Enter")
    expect(page).to_have_url(re.compile("q=yak"))
    expect(rows(page)).to_have_count(3)
    press("X", "e")
    expect(page.locator("[data-excluded]")).to_have_count(3)
    assert learnt_from(site, birds) == {"d", "e", "f"}
    press("R")
    page.get_by_role("heading", name="Plan a round").wait_for()
    press("s")
    page.get_by_text("The round is asked for.").wait_for()
    assert presses < 12
    (asked,) = [one for one in site.store.read(list_rounds, 10) if one.ended_at is None]
    site.store.write(cancel_round, asked.round_id, "the tests")


def test_keys_move_tick_flag_exclude_and_undo_without_leaving_the_list(site: Site, birds: Rated, open_as: Open) -> None:
    page = open_as("operator", f"/dashboard/inbox?channel={birds.name}")
    expect(rows(page)).to_have_count(6)
    page.keyboard.press("j")
    page.keyboard.press("e")  # nothing is ticked: the reply where the focus is; then on to the next
    expect(rows(page).nth(0)).to_have_attribute("data-excluded", "")
    expect(rows(page).nth(1).get_by_role("link")).to_be_focused()
    page.keyboard.press("e")
    expect(page.locator("[data-excluded]")).to_have_count(2)
    page.keyboard.press("k")
    page.keyboard.press("x")
    expect(page.locator("[data-chosen]")).to_have_text("1 ✓")
    page.get_by_placeholder("Why (may be empty)").fill("look here")
    page.get_by_role("button", name=re.compile("^Flag")).click()
    expect(page.locator("[data-flagged]")).to_have_count(1)
    act = site.store.read(review.recent_acts, 1)[0]
    assert (act.action, act.actor, act.reason) == ("flag", "user:otto", "look here")
    page.keyboard.press("z")
    expect(page.locator("[data-flagged]")).to_have_count(0)
    page.keyboard.press("?")
    keys = page.get_by_role("dialog").locator("dl")
    for help_ in ("next reply, previous reply", "exclude from training, or restore", "only thumbs down", "search"):
        expect(keys).to_contain_text(help_)


def test_filters_stand_in_the_address_as_chips_and_a_list_can_be_saved(birds: Rated, open_as: Open) -> None:
    page = open_as("operator", f"/dashboard/inbox?channel={birds.name}")
    page.get_by_role("searchbox").press_sequentially("wren", delay=20)  # the list follows what is typed
    expect(rows(page)).to_have_count(2)
    expect(page).to_have_url(re.compile(f"q=wren&channel={birds.name}"))
    page.get_by_role("link", name="Thumbs down").click()
    page.get_by_role("link", name="Without: thumbs down").wait_for()
    page.get_by_text("Save this view").click()
    page.get_by_label("Name").fill(f"wrens of {birds.name}")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("The view is saved.").wait_for()
    page.get_by_role("link", name="Clear all").click()
    expect(page).to_have_url(re.compile("/dashboard/inbox$"))
    page.get_by_role("link", name=f"wrens of {birds.name}").click()
    expect(page).to_have_url(re.compile("verdict=down"))
    expect(rows(page)).to_have_count(2)
    page.wait_for_load_state()
    page.get_by_role("link", name="Without: thumbs down").click()
    expect(page).not_to_have_url(re.compile("verdict"))
    page.get_by_role("searchbox").fill("no such word")
    page.get_by_text("No reply is like this.").wait_for()
    page.get_by_role("button", name=f"Delete the view wrens of {birds.name}").click()
    page.get_by_text("The view is gone.").wait_for()


def test_the_late_one_of_two_operators_is_told_who_was_first_and_nothing_is_overwritten(
    site: Site, birds: Rated, open_as: Open, watch: Watch
) -> None:
    watch.allowed.append("409")
    list_ = f"/dashboard/inbox?channel={birds.name}&q=wren"
    otto, anna = open_as("operator", list_), open_as("admin", list_)
    for page in (otto, anna):
        rows(page).first.get_by_role("checkbox").check()
    otto.get_by_placeholder("Why (may be empty)").fill("off topic")
    otto.get_by_role("button", name=re.compile("^Exclude")).click()
    expect(otto.locator("[data-excluded]")).to_have_count(1)
    anna.get_by_role("button", name=re.compile("^Flag")).click()
    conflict = anna.get_by_role("alert").filter(has_text="Somebody was first")
    expect(conflict).to_contain_text("otto: excluded – off topic")
    look_again(anna)
    expect(conflict).to_be_visible()
    expect(anna.locator("[data-flagged]")).to_have_count(0)
    expect(anna.locator("[data-excluded]")).to_have_count(1)
    anna.get_by_role("checkbox").first.check()
    anna.get_by_role("button", name=re.compile("^Flag")).click()  # having seen it, she may
    expect(anna.locator("[data-flagged]")).to_have_count(1)
    expect(otto.locator("[data-flagged]")).to_have_count(1)  # his list follows by itself


def test_the_page_of_a_reply_shows_its_story_and_takes_corrections_notes_and_undo(
    site: Site, birds: Rated, open_as: Open
) -> None:
    target = f"{birds.name}-a"
    birds.correction(target, "A yak is about two metres tall.")
    birds.thumb(target, "up", reason="it made me smile", person=1)
    page = open_as("operator", f"/dashboard/inbox/{target}?channel={birds.name}")
    page.get_by_text("How tall is a yak?").wait_for()
    said = page.get_by_role("region", name="What people said")
    expect(said).to_contain_text("it made me smile")
    with moving(page):
        said.get_by_role("button", name="Approve").click()
    expect(said.get_by_text("approved", exact=True)).to_be_visible()
    page.keyboard.press("c")
    page.get_by_label("What it should have been").fill("Two metres at the shoulder.")
    with moving(page):
        page.get_by_role("button", name="Keep the correction").click()
    expect(said).to_contain_text("Two metres at the shoulder.")
    corrections = [
        entry.act.correction
        for entry in site.store.read(effective_feedback)
        if entry.act.kind == "correction" and entry.act.reply_id == target
    ]
    assert sorted(map(str, corrections)) == ["A yak is about two metres tall.", "Two metres at the shoulder."]
    page.keyboard.press("w")
    page.get_by_label("A note for other operators").fill("Asked three times this week.")
    with moving(page):
        page.get_by_role("button", name="Keep the note").click()
    history = page.get_by_role("region", name="What operators did")
    expect(history).to_contain_text("otto noted")
    with moving(page):
        page.keyboard.press("e")
    page.get_by_text("You: excluded (1)").wait_for()
    with moving(page):
        page.keyboard.press("z")
    expect(history).to_contain_text("undid")
    with moving(page):
        page.keyboard.press("k")  # the reply before it in this list, which is sorted by time
    expect(page).to_have_url(re.compile(f"{birds.name}-b"))
    with moving(page):
        page.keyboard.press("l")
    expect(page).to_have_url(re.compile(f"/dashboard/inbox\\?channel={birds.name}$"))


def test_on_a_replys_page_too_the_late_one_is_told(site: Site, birds: Rated, open_as: Open, watch: Watch) -> None:
    watch.allowed.append("409")
    target = f"{birds.name}-e"
    page = open_as("operator", f"/dashboard/inbox/{target}")
    page.keyboard.press("c")
    page.get_by_label("What it should have been").fill("Ten centimetres.")  # typing: the page stays as it is
    site.store.write(review.act, "exclude", [Target(target, 0)], actor="user:anna", reason="about birds")
    page.get_by_role("button", name="Keep the correction").click()
    expect(page.get_by_role("alert").filter(has_text="Somebody was first")).to_contain_text(
        "anna: excluded – about birds"
    )
    look_again(page)
    expect(page.get_by_role("alert").filter(has_text="Somebody was first")).to_be_visible()
    expect(page).to_have_url(re.compile(f"/dashboard/inbox/{target}"))
    assert not any(entry.act.correction == "Ten centimetres." for entry in site.store.read(effective_feedback))


def test_without_a_script_filters_and_acts_are_forms(site: Site, birds: Rated, open_as: Open) -> None:
    page = open_as("operator", f"/dashboard/inbox?channel={birds.name}", java_script_enabled=False)
    page.get_by_role("searchbox").fill("wren")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(rows(page)).to_have_count(2)
    rows(page).first.get_by_role("checkbox").check()
    page.get_by_role("button", name=re.compile("^Exclude")).click()
    expect(page.locator("[data-excluded]")).to_have_count(1)
    page.get_by_role("button", name=re.compile("^Undo")).click()
    expect(page.locator("[data-excluded]")).to_have_count(0)


PAYLOADS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% set x = 1 %}",
    "[a](javascript:alert(1)) ![b](x)",
    "' onmouseover='alert(1)",
    "</textarea></form><form action=//elsewhere>",
)


def test_whatever_people_write_is_shown_as_they_wrote_it_and_runs_nothing(
    site: Site, open_as: Open, watch: Watch
) -> None:
    rated = Rated(site, "payloads")
    for number, payload in enumerate(PAYLOADS):
        reply_id = rated.reply(f"p{number}", f"question {payload}", f"text {payload}")
        rated.thumb(reply_id, "down", reason=payload)
        rated.correction(reply_id, payload)
        site.store.write(review.note, reply_id, payload, actor="user:otto")
        site.store.write(review.act, "flag", [Target(reply_id, 0)], actor="user:otto", reason=payload)
    page = open_as("operator", "/dashboard/inbox?channel=payloads")
    for payload in PAYLOADS:
        expect(page.get_by_text(f"question {payload}", exact=True)).to_be_visible()
    page.get_by_role("searchbox").fill(PAYLOADS[0])
    page.get_by_role("link", name=f"Without: “{PAYLOADS[0]}”").wait_for()
    for number, payload in enumerate(PAYLOADS):
        page.goto(f"{site.url}/dashboard/inbox/payloads-p{number}?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
        for where in ("What people said", "What operators did"):
            expect(page.get_by_role("region", name=where)).to_contain_text(payload)
        expect(page.get_by_text(f"text {payload}", exact=True).first).to_be_visible()
    assert page.locator("main script, main img[src=x], main svg[onload]").count() == 0


def test_everybody_can_use_the_pages(birds: Rated, open_as: Open) -> None:
    for options in ({}, {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}):
        page = open_as("operator", f"/dashboard/inbox?channel={birds.name}&verdict=down", **options)
        check_page(page)
        page.goto(page.url.replace("inbox?", f"inbox/{birds.name}-a?"))
        check_page(page)


def test_an_address_that_cannot_be_meant_is_refused_in_words(open_as: Open, watch: Watch) -> None:
    watch.allowed += ["400", "404"]
    page = open_as("operator", "/dashboard/inbox?verdict=sideways")
    page.get_by_role("heading", name="This cannot be taken").wait_for()
    page.goto(page.url.split("?")[0] + "/no-such-reply")
    page.get_by_role("heading", name="This is not here").wait_for()
