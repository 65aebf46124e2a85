"""Annotate in a real browser: ranking by keys and by dragging, kept at every step, blind, with a way back."""

import contextlib
import itertools
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import Error as PlaywrightError

from feedback_store import annotation_labels, annotation_queues
from feedback_store.feedback import effective_feedback, history
from feedback_store.raters import staff_rater_id
from tests.web.parts import Site, Watch, check_page, sign_in_as
from tests.web.rated import Rated

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
NUMBERS = itertools.count(1)


@pytest.fixture
def tasks(site: Site) -> Rated:
    """A name for tasks. What other tests have left to these people is skipped, so that theirs come first."""
    for person in ("user:nina", "user:otto"):
        while (left := site.store.write(annotation_labels.next_assignment, person)) is not None:
            site.store.write(annotation_labels.skip, person, left.label.label_id, left.label.revision)
    return Rated(site, f"tasks-{next(NUMBERS)}")


def add(rated: Rated, *texts: str, question: str = "Which bird sings at night?") -> str:
    number = next(NUMBERS)
    return rated.task(f"t{number}", texts, priority=1000.0 * number, question=question)


def begin(page: Page) -> None:
    page.keyboard.press("n")
    page.locator("form[data-label]").wait_for()


def letter_of(page: Page, text: str) -> str:
    card = page.locator("[data-candidate]").filter(has_text=text)
    return str(card.locator(".letter").text_content())


def key_of(page: Page, text: str) -> str:
    return str("ABCD".index(letter_of(page, text)) + 1)


def saved(page: Page) -> None:
    expect(page.locator("[data-state]")).to_have_text("Saved")


def kill(page: Page) -> None:
    """End what draws the page as a crash does: no handler of it runs, nothing is sent any more."""
    with page.expect_event("crash"), contextlib.suppress(PlaywrightError):
        page.goto("chrome://crash")


def said(site: Site, comparison_id: str) -> list[object]:
    return [
        entry.act.verdict or entry.act.ranking
        for entry in site.store.read(effective_feedback)
        if entry.act.comparison_id == comparison_id
    ]


def test_a_pair_is_ranked_by_two_keys_and_becomes_a_verdict_of_the_annotator(
    site: Site, tasks: Rated, open_as: Open
) -> None:
    pair = add(tasks, "The nightingale.", "A lark, at dawn.")
    page = open_as("annotator", "/dashboard/annotate")
    begin(page)
    expect(page.locator(".asked-card")).to_contain_text("Which bird sings at night?")
    page.keyboard.press(key_of(page, "nightingale"))
    expect(page.locator("[data-place='1']")).to_contain_text("nightingale")
    page.get_by_label("clear").check()
    saved(page)
    page.keyboard.press("n")
    expect(page).not_to_have_url(re.compile(r"labels/\d+.*labels"))
    expect(page.get_by_text("The nightingale.")).to_have_count(0)
    (entry,) = site.store.read(history, comparison_id=pair)
    assert (entry.act.verdict, entry.act.reason, entry.act.channel) == (f"{pair}-0", "clear", "annotate")
    assert entry.act.rater_id == staff_rater_id("user:nina")


def test_four_replies_are_ranked_by_dragging_and_by_keys(site: Site, tasks: Rated, open_as: Open) -> None:
    four = add(tasks, "one wren", "two owls", "three swifts", "four larks")
    page = open_as("annotator", "/dashboard/annotate")
    begin(page)
    slots = page.locator("[data-slot]")
    page.locator("[data-candidate]").filter(has_text="three swifts").drag_to(slots.nth(0))
    expect(slots.nth(0)).to_contain_text(letter_of(page, "three swifts"))
    page.keyboard.press(key_of(page, "one wren"))
    page.keyboard.press(key_of(page, "two owls"))
    slots.nth(2).drag_to(slots.nth(0))  # on second thoughts
    expect(slots.nth(0)).to_contain_text(letter_of(page, "two owls"))
    page.keyboard.press("Backspace")
    expect(slots.nth(2)).not_to_have_class(re.compile("taken"))
    page.keyboard.press(key_of(page, "four larks"))
    saved(page)
    page.keyboard.press("n")
    expect(page.get_by_text("three swifts")).to_have_count(0)
    assert said(site, four) == [tuple(f"{four}-{place}" for place in (1, 2, 3, 0))]


def test_a_browser_that_dies_loses_no_step_and_another_device_goes_on(
    site: Site, tasks: Rated, browser: Browser, open_as: Open
) -> None:
    three = add(tasks, "first robin", "second robin", "third robin")
    dying = browser.new_context()
    sign_in_as(dying, site, "annotator")
    page = dying.new_page()
    page.goto(f"{site.url}/dashboard/annotate")
    begin(page)
    page.keyboard.press(key_of(page, "second robin"))
    page.get_by_label("brief").check()
    page.get_by_label("Note").fill("the second one is shorter")
    saved(page)
    expect(page.locator("[data-state]")).to_have_text("Saved")
    order = page.locator("[data-candidate]").all_text_contents()
    kill(page)
    dying.close()

    page = open_as("annotator", "/dashboard/annotate", viewport={"width": 390, "height": 800})
    begin(page)
    expect(page.locator("[data-place='1']")).to_contain_text("second robin")
    expect(page.get_by_label("brief")).to_be_checked()
    expect(page.get_by_label("Note")).to_have_value("the second one is shorter")
    assert [text.split() for text in page.locator("[data-candidate]").all_text_contents()] == [
        text.split() for text in order
    ]
    page.keyboard.press(key_of(page, "third robin"))
    page.keyboard.press("n")
    expect(page.get_by_text("second robin")).to_have_count(0)
    assert said(site, three) == [tuple(f"{three}-{place}" for place in (1, 2, 0))]


def test_a_second_device_that_is_behind_is_told_and_overwrites_nothing(
    site: Site, tasks: Rated, open_as: Open, watch: Watch
) -> None:
    watch.allowed.append("409")
    pair = add(tasks, "left gull", "right gull")
    pages = [open_as("annotator", "/dashboard/annotate") for _ in range(2)]
    for page in pages:
        begin(page)
    pages[0].keyboard.press(key_of(pages[0], "left gull"))
    saved(pages[0])
    pages[1].keyboard.press("b")
    trouble = pages[1].get_by_role("alert").filter(has_text="changed on another device")
    expect(trouble).to_be_visible()
    trouble.get_by_role("link").click()
    expect(pages[1].locator("[data-place='1']")).to_contain_text("left gull")
    pages[1].keyboard.press("n")
    expect(pages[1].get_by_text("left gull")).to_have_count(0)
    assert said(site, pair) == [f"{pair}-0"]


def test_ties_bad_ones_skipping_and_a_change_of_mind(site: Site, tasks: Rated, open_as: Open) -> None:
    last, middle, first = (add(tasks, f"{name} one", f"{name} other") for name in ("heron", "crane", "stork"))
    page = open_as("annotator", "/dashboard/annotate")
    begin(page)
    page.keyboard.press("t")
    expect(page.get_by_role("button", name="Equally good")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("n")
    page.get_by_text("crane one").wait_for()
    assert said(site, first) == ["tie"]
    page.keyboard.press("b")
    page.keyboard.press("n")
    page.get_by_text("heron one").wait_for()
    page.keyboard.press("p")  # back to the cranes
    page.get_by_text("crane one").wait_for()
    page.keyboard.press(key_of(page, "crane other"))
    page.keyboard.press("n")
    page.get_by_text("heron one").wait_for()
    assert said(site, middle) == [f"{middle}-1"]
    page.keyboard.press("s")
    expect(page.get_by_text("heron one")).to_have_count(0)
    assert said(site, last) == []


def test_nothing_on_the_page_says_which_version_wrote_what(site: Site, tasks: Rated, open_as: Open) -> None:
    add(tasks, "a blind finch", "another finch")
    page = open_as("annotator", "/dashboard/annotate")
    begin(page)
    source = page.content()
    assert tasks.name not in source and "version" not in source.lower()


def test_what_is_asked_for_and_how_far_it_is_stands_on_top(site: Site, tasks: Rated, open_as: Open) -> None:
    pair = add(tasks, "a swan", "a goose")
    site.store.write(
        annotation_queues.ask_for_labels, "uncertain", {pair: 1.0}, wanted=1, purpose="until PPO may run",
        requested_by="trainer",
    )  # fmt: skip
    page = open_as("annotator", "/dashboard/annotate")
    expect(page.get_by_text("0 of 1 labels until PPO may run")).to_be_visible()
    begin(page)
    expect(page.get_by_text("0 of 1 labels until PPO may run")).to_be_visible()
    page.keyboard.press("1")
    page.keyboard.press("n")
    expect(page.get_by_text("a swan")).to_have_count(0)
    watching = open_as("operator", "/dashboard/annotate")
    expect(watching.get_by_text("0 of 1 labels until PPO may run")).to_have_count(0)
    expect(watching.get_by_role("row").filter(has_text="nina")).to_be_visible()


def test_an_operator_fills_a_queue_and_makes_a_gold_item(site: Site, tasks: Rated, open_as: Open) -> None:
    gold = add(tasks, "the right answer", "the wrong answer")
    page = open_as("operator", "/dashboard/annotate")
    begin(page)
    address = page.url
    page.keyboard.press(key_of(page, "the right answer"))
    page.keyboard.press("n")
    expect(page.get_by_text("the right answer")).to_have_count(0)
    page.goto(address)
    page.get_by_role("button", name="Make it a gold item").click()
    page.get_by_text("This is a gold item now").wait_for()
    page.get_by_role("region", name="Disputed").get_by_role("button", name="Add 20").click()
    expect(page.get_by_role("status")).to_contain_text(re.compile("No comparison|new tasks"))
    task = site.store.read(
        annotation_labels.assignment, "user:otto", int(address.split("labels/")[1].split("?")[0])
    ).task
    assert task.gold == (f"{gold}-0", f"{gold}-1")


def test_without_a_script_every_press_is_a_form(site: Site, tasks: Rated, open_as: Open) -> None:
    pair = add(tasks, "a plain dove", "a plain pigeon")
    page = open_as("annotator", "/dashboard/annotate", java_script_enabled=False)
    page.get_by_role("button", name=re.compile("^Rank replies")).click()
    page.locator("[data-candidate]").filter(has_text="a plain pigeon").get_by_role("button").click()
    expect(page.locator("[data-place='1']")).to_contain_text("a plain pigeon")
    page.get_by_role("button", name=re.compile("^Done, next")).click()
    assert said(site, pair) == [f"{pair}-1"]


def test_everybody_can_use_the_pages_and_nothing_that_was_written_runs(site: Site, tasks: Rated, open_as: Open) -> None:
    add(tasks, "<img src=x onerror=alert(1)>", "<script>alert(1)</script>", question='"><svg onload=alert(1)>')
    for options in ({}, {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}):
        page = open_as("annotator", "/dashboard/annotate", **options)
        check_page(page)
        begin(page)
        expect(page.get_by_text("<script>alert(1)</script>")).to_be_visible()
        check_page(page)
