"""People compare a candidate's replies blindly, see what was said, and veto it, in a real browser."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from feedback_store import side_by_sides, versions
from feedback_store.connection import Connection
from tests.web.parts import Site, Watch, check_page
from tests.web.seeded import GATE_REPORT
from tests.web.test_dashboard import DARK, PHONE

pytestmark = pytest.mark.browser

SEEN = [{"prompt_reply_id": None, "prompt": "What is tea?", "before": "A leaf.", "after": "A warm drink."}]


def add(connection: Connection, letter: str) -> int:
    """A candidate whose gate drew two pairs on new prompts, and one on a prompt that it learnt from."""
    versions.bootstrap(connection, "scripted")
    return versions.add_candidate(
        connection, base_model="scripted", adapter_sha256=letter * 64, parent=1, method="kto", round_id=None,
        gate_report=GATE_REPORT | {"seen_examples": SEEN}, metrics={},
    ).version  # fmt: skip


def at_pair(page: Page, place: int) -> None:
    """Wait for the page of a pair, and for its keys."""
    expect(page.get_by_text(f"pair {place} of 3")).to_be_visible()
    page.wait_for_load_state()


def test_three_keys_compare_three_pairs_blindly_and_then_say_which_was_which(
    site: Site, open_as: Callable[..., Page]
) -> None:
    number = site.store.write(add, "6")
    page = open_as("operator", f"/dashboard/versions/{number}")
    expect(page.get_by_text("3 pairs without your vote")).to_be_visible()
    page.keyboard.press("b")
    at_pair(page, 1)
    for word in ("Before", "After", "candidate's reply"):
        expect(page.locator(".candidate", has_text=word)).to_have_count(0)
    check_page(page)
    left = page.locator(".candidate .words").first.inner_text()
    page.keyboard.press("1")
    at_pair(page, 2)
    page.keyboard.press("t")
    at_pair(page, 3)
    expect(page.get_by_text("The candidate learnt from feedback on this prompt")).to_be_visible()
    page.keyboard.press("p")
    at_pair(page, 2)
    expect(page.locator("button[value=tie]")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("n")
    at_pair(page, 3)
    page.keyboard.press("b")
    expect(page.get_by_role("heading", name="What people said")).to_be_visible()
    result = site.store.read(side_by_sides.side_by_side_result, number)
    liked = "Boil water" in left
    assert (result.after, result.before, result.ties, result.viewers) == (int(liked), int(not liked), 1, 1)
    assert result.trained_on["both_bad"] == 1
    chosen = page.locator(".side", has_text="your choice")
    expect(chosen).to_contain_text(left.split()[0])
    expect(chosen).to_contain_text("After" if liked else "Before")
    expect(page.get_by_text("On prompts it was trained on")).to_be_visible()
    check_page(page)


def test_two_people_see_one_version_and_a_typed_veto_keeps_it_from_serving(
    site: Site, open_as: Callable[..., Page], watch: Watch
) -> None:
    watch.allowed.append("409")
    number = site.store.write(add, "7")
    otto, anna = open_as("operator", f"/dashboard/versions/{number}"), open_as("admin", f"/dashboard/versions/{number}")
    for page, reason in ((otto, "it is rude to beginners"), (anna, "me too")):
        page.keyboard.press("V")
        page.keyboard.type(reason)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    expect(otto.get_by_role("status")).to_contain_text("It is vetoed")
    expect(anna.get_by_role("heading", name="Somebody was first")).to_be_visible()
    expect(otto.get_by_text("Vetoed: it is rude to beginners")).to_be_visible()
    check_page(otto)
    otto.keyboard.press("p")
    otto.keyboard.type("all the same")
    otto.keyboard.press("Tab")
    otto.keyboard.press("Enter")
    expect(otto.get_by_text("was vetoed by otto")).to_be_visible()
    otto.goto(f"{site.url}/dashboard/versions/{number}")
    otto.get_by_role("button", name="Lift the veto").click()
    expect(otto.get_by_role("status")).to_contain_text("The veto is lifted")
    assert site.store.read(side_by_sides.why_blocked, number) is None


@pytest.mark.parametrize("look", [PHONE, DARK], ids=["phone", "dark and wide"])
def test_the_pages_are_for_everybody(site: Site, open_as: Callable[..., Page], look: dict) -> None:
    number = site.store.write(add, "8" if look is PHONE else "9")
    page = open_as("operator", f"/dashboard/versions/{number}/side-by-sides", **look)
    check_page(page)
    page.goto(f"{site.url}/dashboard/versions/{number}/side-by-sides?result=yes")
    expect(page.get_by_text("Nobody has compared its replies yet.")).to_be_visible()
    check_page(page)
    page.goto(f"{site.url}/dashboard/versions/{number}/side-by-sides?pair=2")
    expect(page.get_by_text("pair 2 of 3")).to_be_visible()


def test_a_version_without_a_gate_says_that_there_is_nothing_to_compare(
    site: Site, open_as: Callable[..., Page], watch: Watch
) -> None:
    page = open_as("operator", "/dashboard/versions/1/side-by-sides")
    expect(page.get_by_text("There is nothing to compare.")).to_be_visible()
    check_page(page)
