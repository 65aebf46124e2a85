"""An operator reads the loop and moves the live pointer in a real browser, over the public API alone."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from feedback_store.records import Round
from feedback_store.rounds import add_metrics, cancel_round, get_round, list_rounds
from feedback_store.versions import deployments, live_version, start_canary, stop_canary
from tests.web.parts import ADMIN_TOKEN, Site, Watch
from tests.web.seeded import curve, seed
from tests.web.test_reach import check_names

pytestmark = pytest.mark.browser

NOT_READY = {
    "ready": False,
    "method": None,
    "reason": "not ready for KTO: thumbs 12 of 200",
    "requirements": {
        "common": [{"name": "raters", "value": 25, "wanted": 20, "met": True}],
        "kto": [
            {"name": "thumbs", "value": 12, "wanted": 200, "met": False},
            {"name": "share of rarer thumbs", "value": 0.05, "wanted": 0.1, "met": False},
        ],
    },
    "counts": {"thumbs": 12},
}


@pytest.fixture(scope="module")
def training(site: Site) -> Iterator[Round]:
    """The round that is training, in a store with some history."""
    site.context.readiness = lambda: NOT_READY
    round_ = site.store.write(seed)
    site.engine.make_live(2)
    yield round_
    for open_round in site.store.read(list_rounds, 10):
        if open_round.ended_at is None:
            site.store.write(cancel_round, open_round.round_id, "the tests")


def go(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()
    page.get_by_role("heading", name=name, exact=True).wait_for()


def test_a_wrong_token_is_refused_and_a_right_one_lasts_as_long_as_the_tab(
    open_page: Callable[..., Page], watch: Watch
) -> None:
    watch.allowed += ["401", "403"]
    page = open_page("/dashboard")
    page.get_by_label("Admin token").fill("guess")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("This is not the admin token.")
    page.get_by_label("Admin token").fill(ADMIN_TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    assert page.evaluate("JSON.stringify(localStorage)").find(ADMIN_TOKEN) == -1
    page.get_by_role("button", name="Sign out").click()
    page.reload()
    expect(page.get_by_label("Admin token")).to_be_visible()


def test_the_overview_says_what_is_live_and_what_is_missing(training: Round, dashboard: Page) -> None:
    figures = dashboard.locator(".figure")
    expect(figures.first).to_contain_text("Live version2")
    expect(figures.filter(has_text="Thumbs up")).to_contain_text("95 % interval")
    expect(dashboard.locator(".requirement")).to_have_text(
        ["25 of 20 ratersenough", "12 of 200 thumbs", "5 % of 10 % share of rarer thumbs"]
    )
    check_names(dashboard)


def test_a_rounds_curves_grow_while_it_trains(training: Round, dashboard: Page, site: Site) -> None:
    go(dashboard, "Rounds")
    expect(dashboard.get_by_role("button", name="Start a round")).to_be_disabled()
    dashboard.get_by_role("link", name=f"Round {training.round_id}").click()
    expect(dashboard.locator("[aria-current=step]")).to_have_text("training")
    loss = dashboard.locator(".chart", has_text="loss")
    expect(loss.locator(".latest")).to_contain_text("at step 12")
    site.store.write(add_metrics, curve(training.round_id, range(13, 15)))
    expect(loss.locator(".latest")).to_contain_text("at step 14")
    loss.locator("svg").focus()
    dashboard.keyboard.press("ArrowLeft")
    expect(loss.locator(".latest")).to_contain_text("at step 13")
    loss.locator("svg").hover(position={"x": 56, "y": 60})
    expect(loss.locator(".latest")).to_contain_text("at step 1")
    check_names(dashboard)


def test_the_gate_is_a_table_with_intervals_and_reasons(training: Round, dashboard: Page) -> None:
    go(dashboard, "Rounds")
    dashboard.get_by_role("link", name=f"Round {training.round_id - 1}").click()
    rows = dashboard.get_by_role("region", name="The gate's checks").locator("tbody tr")
    expect(rows.first.locator("td").nth(0)).to_have_text("Held out preference")
    expect(rows.first.locator("td").nth(2)).to_have_text("0.713 (0.604 to 0.812)")
    expect(rows.nth(2).locator("td").nth(0)).to_contain_text("warns only")
    expect(rows.nth(2).locator("td").nth(3)).to_have_text("33.1 to 81.2")
    expect(rows.nth(3).locator("td").nth(2)).to_have_text("–")
    expect(rows.nth(3)).to_contain_text("too little evidence")
    sample = dashboard.locator(".sample")
    expect(sample.first).to_contain_text("How do I make tea for 1?")
    expect(sample.first.locator(".side").last).to_contain_text("Boil water, pour it")
    expect(sample.last).to_contain_text("<b>before</b>")
    check_names(dashboard)


def test_a_round_is_cancelled_and_another_one_forced(
    training: Round, dashboard: Page, site: Site, watch: Watch
) -> None:
    watch.allowed.append("409")
    dashboard.goto(f"{site.url}/dashboard#/rounds/{training.round_id}")
    dashboard.get_by_role("button", name="Cancel the round").click()
    dashboard.get_by_role("dialog").get_by_role("button", name="Cancel the round").click()
    expect(dashboard.locator(".badge", has_text="cancelled")).to_be_visible()
    assert site.store.read(get_round, training.round_id).state == "cancelled"
    go(dashboard, "Rounds")
    dashboard.get_by_role("button", name="Start a round").click()
    dialog = dashboard.get_by_role("dialog")
    dialog.get_by_role("button", name="Start").click()
    expect(dialog.get_by_role("alert")).to_contain_text("too little feedback")
    dialog.get_by_label("Even if there is too little feedback").check()
    dialog.get_by_role("button", name="Start").click()
    expect(dashboard.get_by_role("heading", name=f"Round {training.round_id + 1}")).to_be_visible()


def test_roll_back_and_promote_need_a_reason_and_the_version_that_was_seen(
    training: Round, dashboard: Page, site: Site, watch: Watch
) -> None:
    watch.allowed.append("409")
    go(dashboard, "Versions")
    dialog = dashboard.get_by_role("dialog")
    dashboard.get_by_role("button", name="Roll back").click()
    dialog.get_by_role("button", name="Roll back").click()  # without a reason nothing happens
    assert site.store.read(live_version).version == 2
    dialog.get_by_label("Why").fill("replies too short")
    dialog.get_by_role("button", name="Roll back").click()
    expect(dashboard.locator("tr", has_text="the base model").first).to_contain_text("live")
    [move, *_] = site.store.read(deployments, 5)
    assert (move.action, move.version, move.reason) == ("rollback", 1, "replies too short")

    dashboard.get_by_role("button", name="Promote").click()
    dialog.get_by_label("Why").fill("a second look")
    other = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    body = {"reason": "somebody was first", "expected_live": 1}
    assert dashboard.request.post(f"{site.url}/v1/versions/2/promote", headers=other, data=body).ok
    dialog.get_by_role("button", name="Promote").click()
    expect(dialog.get_by_role("alert")).to_be_visible()
    assert [move.reason for move in site.store.read(deployments, 1)] == ["somebody was first"]


def test_a_canary_is_told_apart_from_moves_of_the_live_pointer(training: Round, dashboard: Page, site: Site) -> None:
    go(dashboard, "Versions")
    other = 3 - site.store.read(live_version).version
    site.store.write(start_canary, other, 0.25, actor="admin", reason="a quarter for a day")
    move = dashboard.get_by_role("row").filter(has_text="a quarter for a day")
    expect(move).to_contain_text("canary (25 %)")
    expect(move).to_contain_text(f"{other} beside {3 - other}")
    site.store.write(stop_canary, actor="admin", reason="seen enough")
    expect(dashboard.get_by_role("row").filter(has_text="seen enough")).to_contain_text("stop canary")


def test_no_view_is_wider_than_a_phone(training: Round, dashboard: Page) -> None:
    dashboard.set_viewport_size({"width": 360, "height": 740})
    views = ("overview", "Overview"), ("rounds", "Rounds"), ("rounds/1", "Round 1"), ("versions", "Versions")
    for path, title in (*views, ("feedback", "Feedback")):
        dashboard.evaluate("path => { location.hash = `#/${path}` }", path)
        dashboard.get_by_role("heading", name=title, exact=True).wait_for()
        assert dashboard.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        check_names(dashboard)
