"""Operators read the loop and act on it in a real browser: each page's main task, by mouse, by keys, live."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect

from feedback_store import audit
from feedback_store.records import Round
from feedback_store.rounds import add_metrics, cancel_round, get_round, list_rounds
from feedback_store.versions import deployments, live_version
from tests.web.parts import Site, Watch, check_page
from tests.web.seeded import curve, seed

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
DARK = {"color_scheme": "dark", "viewport": {"width": 1600, "height": 900}}


@pytest.fixture(scope="module")
def training(site: Site) -> Iterator[Round]:
    """The round that is training, in a store with some history."""
    round_ = site.store.write(seed)
    site.engine.make_live(2)
    yield round_
    for open_round in site.store.read(list_rounds, 10):
        if open_round.ended_at is None:
            site.store.write(cancel_round, open_round.round_id, "the tests")


@contextmanager
def without_script(page: Page) -> Iterator[None]:
    """Nothing of ours runs: the pages must do without."""
    page.route("**/*.js", lambda route: route.abort())
    yield
    page.unroute("**/*.js")


def test_the_overview_says_how_it_goes_and_what_is_missing(training: Round, open_as: Callable[..., Page]) -> None:
    page = open_as("operator", "/dashboard/overview")
    figures = page.locator(".figure")
    expect(figures.first).to_contain_text("Live version2")
    expect(figures.filter(has_text="Thumbs up")).to_contain_text("95 % interval")
    expect(page.locator(".requirement", has_text="of 200 thumbs")).to_be_visible()
    expect(page.locator("figure.chart", has_text="Thumbs up")).to_be_visible()
    page.get_by_role("link", name="24 hours").click()
    expect(page.get_by_role("link", name="24 hours")).to_have_attribute("aria-current", "true")
    check_page(page)


def test_curves_grow_while_it_trains_and_are_read_by_pointer_and_keys(
    training: Round, open_as: Callable[..., Page], site: Site
) -> None:
    page = open_as("operator", f"/dashboard/rounds/{training.round_id}")
    expect(page.locator("[aria-current=step]")).to_have_text("training")
    loss = page.locator("figure.chart", has_text="Loss")
    expect(loss.locator(".latest")).to_contain_text("step 12")
    page.locator("#cancel summary").click()
    page.get_by_label("Why").fill("I am still typing this")
    site.store.write(add_metrics, curve(training.round_id, range(13, 15)))
    # Promised within 2 s of the trainer's step. The store was written before this line.
    expect(loss.locator(".latest")).to_contain_text("step 14", timeout=2_000)
    expect(page.get_by_label("Why")).to_have_value("I am still typing this")
    page.keyboard.press("Escape")
    loss.locator("svg").focus()
    page.keyboard.press("ArrowLeft")
    expect(loss.locator(".latest")).to_contain_text("step 13")
    loss.locator("svg").hover(position={"x": 40, "y": 60})
    expect(loss.locator(".latest")).to_contain_text("step 1")
    loss.get_by_text("Numbers").click()
    expect(loss.locator("tbody tr")).to_have_count(14)
    check_page(page)


def test_the_gate_is_a_table_with_intervals_verdicts_and_replies_before_and_after(
    training: Round, open_as: Callable[..., Page]
) -> None:
    page = open_as("operator", f"/dashboard/rounds/{training.round_id - 1}")
    expect(page.get_by_text("A step twice as long was refused: one opening in 31% of replies")).to_be_visible()
    rows = page.get_by_role("region", name="The gate's checks").locator("tbody tr")
    auc = rows.filter(has_text="Prefers what held-out raters preferred")
    expect(auc).to_contain_text("0.713")
    expect(auc).to_contain_text("0.604 to 0.812")
    expect(rows.first).to_contain_text("(warns only)")  # what failed comes first
    expect(rows.filter(has_text="Right on held-out choices")).to_contain_text("too little evidence")
    sample = page.locator(".sample")
    expect(sample.first).to_contain_text("How do I make tea for 1?")
    expect(sample.first.locator(".side").last).to_contain_text("Boil water, pour it")
    expect(sample.last).to_contain_text("<b>before</b>")
    check_page(page)


def test_a_round_is_cancelled_and_another_one_planned_by_keys_alone(
    training: Round, open_as: Callable[..., Page], site: Site, watch: Watch
) -> None:
    watch.allowed.append("409")
    page = open_as("operator", f"/dashboard/rounds/{training.round_id}")
    page.keyboard.press("x")
    page.keyboard.type("the wrong data")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("cancelled")
    assert site.store.read(get_round, training.round_id).state == "cancelled"
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(page.get_by_role("heading", name="Rounds", exact=True)).to_be_visible()
    page.keyboard.press("n")
    expect(page.get_by_role("heading", name="Plan a round")).to_be_visible()
    page.get_by_label("on replies of all versions").check()
    page.keyboard.press("l")
    expect(page.locator(".figure", has_text="Rows to train on").locator("strong")).not_to_have_text("0")
    page.keyboard.press("s")
    expect(page.get_by_role("alert")).to_contain_text("not ready")
    check_page(page)
    page.get_by_label("Even if there is too little feedback").check()
    page.keyboard.press("s")
    expect(page.get_by_role("heading", name=f"Round {training.round_id + 1}")).to_be_visible()
    asked = site.store.read(get_round, training.round_id + 1)
    assert asked.settings == {"data": {"fresh_only": False}, "force": True}


def test_of_two_operators_the_late_one_sees_a_conflict_and_the_way_back(
    training: Round, open_as: Callable[..., Page], site: Site, watch: Watch
) -> None:
    watch.allowed.append("409")
    otto, anna = open_as("operator", "/dashboard/versions"), open_as("admin", "/dashboard/versions")
    for page in (otto, anna):
        page.get_by_role("heading", name="Versions", exact=True).wait_for()
        page.get_by_text("Roll back", exact=True).first.click()
        page.get_by_label("Why").first.fill(f"{'otto' if page is otto else 'anna'} was first")
    otto.locator("#roll-back").get_by_role("button", name="Roll back").click()
    expect(otto.get_by_role("status")).to_contain_text("The version before is live again.")
    anna.locator("#roll-back").get_by_role("button", name="Roll back").click()
    expect(anna.get_by_role("heading", name="Somebody was first")).to_be_visible()
    check_page(anna)
    assert site.store.read(live_version).version == 1
    assert site.store.read(deployments, 1)[0].reason == "otto was first"
    anna.get_by_role("link", name="Look at how it stands now").click()
    anna.get_by_role("link", name="Promote …").first.click()
    anna.get_by_role("heading", name="Version 2").wait_for()
    anna.keyboard.press("p")
    anna.keyboard.type("a second look")
    anna.keyboard.press("Tab")
    anna.keyboard.press("Enter")
    expect(otto.locator(".weights + p")).to_contain_text("version 2")  # otto's page follows by itself
    assert site.store.read(live_version).version == 2
    check_page(otto)


def test_an_admin_invites_somebody_makes_a_key_and_reads_the_log(
    training: Round, open_as: Callable[..., Page], site: Site
) -> None:
    page = open_as("admin", "/dashboard/settings")
    invite = page.locator("form", has_text="Invite somebody")
    invite.get_by_label("Name").fill("Lea")
    invite.get_by_label("Role").select_option("annotator")
    invite.get_by_role("button", name="Invite").click()
    expect(page.locator(".secret code")).to_contain_text("/dashboard/join?invitation=")
    page.get_by_label("What for").fill("nightly export")
    page.get_by_label("export", exact=False).last.check()
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator(".secret code")).to_contain_text("tw-")
    check_page(page)
    page.get_by_role("link", name="The log of acts").click()
    expect(page.locator("tbody tr").first).to_contain_text("key.add")
    check_page(page)
    assert site.store.read(audit.entries, limit=1)[0].actor == "user:anna"


def test_people_are_listed_by_hash_and_left_out_with_a_reason(training: Round, open_as: Callable[..., Page]) -> None:
    page = open_as("operator", "/dashboard/people")
    check_page(page)
    with page.expect_navigation():
        page.locator("tbody a").first.click()
    page.keyboard.press("q")
    page.keyboard.type("a burst")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("left out of rounds")
    expect(page.get_by_role("region", name="Decisions")).to_contain_text("a burst")
    check_page(page)


def test_every_act_works_without_a_script(
    training: Round, open_as: Callable[..., Page], site: Site, watch: Watch
) -> None:
    watch.allowed.append("ERR_FAILED")
    page = open_as("operator", "/dashboard/account")
    with without_script(page):
        other = 3 - site.store.read(live_version).version
        page.goto(f"{site.url}/dashboard/versions/{other}")
        page.locator("#promote summary").click()
        page.locator("#promote").get_by_label("Why").fill("without a script")
        page.locator("#promote").get_by_role("button", name="Promote").click()
        expect(page.get_by_role("status")).to_contain_text("It is live")
    assert site.store.read(deployments, 1)[0].reason == "without a script"


@pytest.mark.parametrize("look", [PHONE, DARK], ids=["phone", "dark and wide"])
def test_every_page_is_for_everybody(training: Round, open_as: Callable[..., Page], site: Site, look: dict) -> None:
    page = open_as("admin", "/dashboard/overview", **look)
    paths = ("overview", "rounds", "rounds/1", "rounds/new", "rounds/compare?round=1&round=2", "versions", "versions/2",
             "people", "settings", "settings/audit", "account")  # fmt: skip
    for path in paths:
        page.goto(f"{site.url}/dashboard/{path}")
        check_page(page)


def test_the_language_is_switched_and_kept(open_as: Callable[..., Page], site: Site) -> None:
    page = open_as("operator", "/dashboard/rounds", locale="zh-CN")
    expect(page.get_by_role("heading", name="轮次", exact=True)).to_be_visible()
    page.keyboard.press("m")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="Rounds", exact=True)).to_be_visible()
    page.goto(site.url + "/dashboard/versions")
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_a_page_says_that_the_server_is_away_and_goes_on_by_itself(open_as: Callable[..., Page], watch: Watch) -> None:
    watch.allowed += ["ERR_INTERNET_DISCONNECTED", "Failed to load"]
    page = open_as("operator", "/dashboard/rounds")
    page.wait_for_function("document.documentElement.dataset.script === ''")
    page.context.set_offline(True)
    # Its stream of events was open before and stays so: the first event may come after a look that found nobody.
    look_and_ask = (
        "() => { document.dispatchEvent(new Event('look')); return document.getElementById('offline').hidden; }"
    )
    page.wait_for_function(f"() => !({look_and_ask})()", polling=200)
    page.context.set_offline(False)
    page.wait_for_function(look_and_ask, polling=200)
