"""A person chats, rates, compares and corrects in a real browser; the store then holds what they did."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.web.parts import Site, agree, newest, say

pytestmark = pytest.mark.browser
UP, DOWN = "Good reply", "Bad reply"


def test_a_reply_streams_in_and_the_next_turn_knows_it(chat: Page, site: Site) -> None:
    site.engine.gate.clear()
    chat.get_by_label("Your message").fill("echo: **First** words arrive")
    chat.get_by_label("Your message").press("Enter")
    growing = chat.locator(".assistant .prose")
    expect(growing.locator("strong")).to_have_text("First")
    expect(growing).to_have_attribute("aria-busy", "true")
    expect(chat.get_by_role("button", name="Stop the reply")).to_be_visible()
    site.engine.gate.set()
    expect(growing).to_have_text("First words arrive")
    expect(chat.locator(".rating")).to_be_visible()
    expect(chat.locator("#announcer")).to_have_text("**First** words arrive")
    say(chat, "And now?")
    expect(chat.locator(".assistant .prose").last).to_contain_text("after 3 messages")


def test_a_thumb_is_stored_changed_and_taken_back(chat: Page, site: Site) -> None:
    say(chat, "Hello")
    for button, stored, pressed in ((UP, "up", UP), (DOWN, "down", DOWN), (DOWN, None, None)):
        with chat.expect_response("**/v1/feedback") as answered:
            chat.get_by_role("button", name=button).click()
        assert answered.value.ok
        [act] = newest(site)
        assert (act.kind, act.thumb, act.channel) == ("thumb", stored, "web")
        for name in (UP, DOWN):
            expected = "true" if name == pressed else "false"
            expect(chat.get_by_role("button", name=name)).to_have_attribute("aria-pressed", expected)


def test_reasons_differ_for_up_and_down_and_are_stored_with_a_note(open_page: Callable[..., Page], site: Site) -> None:
    page = open_page("/")
    agree(page)
    say(page, "Hello")
    page.get_by_role("button", name=UP).click()
    expect(page.locator(".chip")).to_have_text(["Correct", "Clear", "Right length", "Good tone"])
    page.get_by_role("button", name=DOWN).click()
    expect(page.locator(".chip")).to_have_text(["Wrong", "Missed the point", "Too long", "Hard to read", "Harmful"])
    page.get_by_role("button", name="Too long").click()
    page.get_by_role("button", name="Wrong").click()
    page.get_by_label("A note, if you like").fill("names a bird twice")
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#announcer")).to_contain_text("stored")
    [act] = newest(site)
    assert (act.thumb, act.reason) == ("down", "wrong,too_long: names a bird twice")


@pytest.mark.parametrize(("choice", "goes_on"), [("A is better", 0), ("B is better", 1), ("Tie", 0), ("Both bad", 0)])
def test_a_verdict_is_stored_and_its_reply_goes_on(chat: Page, site: Site, choice: str, goes_on: int) -> None:
    chat.get_by_role("button", name="Compare two replies").click()
    say(chat, "Two, please")
    shown = chat.locator(".card .prose").all_inner_texts()
    assert len(set(shown)) == 2
    chat.get_by_role("button", name=choice).click()
    expect(chat.locator(".assistant > .prose")).to_have_text(shown[goes_on])
    [act] = newest(site)
    assert act.kind == "verdict" and act.comparison_id is not None
    words = {"Tie": "tie", "Both bad": "both_bad"}
    assert act.verdict == words.get(choice, f"{act.comparison_id}-{goes_on}")
    expect(chat.get_by_role("button", name=UP)).to_be_visible()  # the reply that goes on can be rated too


def test_a_verdict_can_be_taken_back_and_given_again(chat: Page, site: Site) -> None:
    chat.get_by_role("button", name="Compare two replies").click()
    say(chat, "Two, please")
    chat.get_by_role("button", name="A is better").click()
    chat.get_by_role("button", name="Change").click()
    expect(chat.locator(".card")).to_have_count(2)
    assert newest(site)[0].verdict is None
    chat.get_by_role("button", name="Tie").click()
    expect(chat.locator(".verdict-line")).to_contain_text("a tie")
    assert newest(site)[0].verdict == "tie"


def test_writing_on_without_a_verdict_goes_on_with_the_first_and_stores_none(chat: Page, site: Site) -> None:
    chat.get_by_role("button", name="Compare two replies").click()
    say(chat, "Two, please")
    first = chat.locator(".card .prose").first.inner_text()
    before = len(newest(site, 100))
    chat.get_by_role("button", name="Compare two replies").click()
    say(chat, "Go on")
    expect(chat.locator(".assistant > .prose").first).to_have_text(first)
    assert len(newest(site, 100)) == before


def test_a_better_answer_needs_consent_and_is_stored_with_it(chat: Page, site: Site) -> None:
    say(chat, "echo: The sky is green.")
    chat.get_by_role("button", name="Write a better answer").click()
    expect(chat.locator(".panel")).to_contain_text("only be kept and learned from if you agree")
    chat.locator(".panel").get_by_role("button", name="Settings and privacy").click()
    with chat.expect_response("**/v1/consent"):
        chat.get_by_role("switch").check()
    chat.get_by_role("button", name="Close the settings").click()
    say(chat, "echo: The sky is green, again.")
    last = chat.locator("#turns > li").last
    last.get_by_role("button", name="Write a better answer").click()
    box = last.get_by_label("Your better answer")
    expect(box).to_have_value("The sky is green, again.")
    box.fill("The sky is blue.")
    with chat.expect_response("**/v1/feedback"):
        last.get_by_role("button", name="Save").click()
    expect(last.locator(".corrected")).to_contain_text("The sky is blue.")
    [act] = newest(site)
    assert (act.kind, act.correction) == ("correction", "The sky is blue.")


def test_consent_is_off_until_given_and_can_be_revoked(open_page: Callable[..., Page], site: Site) -> None:
    page = open_page("/")
    notice = page.locator("#consent-notice")
    expect(notice).to_be_visible()
    page.get_by_role("button", name="Settings and privacy").click()
    expect(page.get_by_role("switch")).not_to_be_checked()
    page.get_by_role("button", name="Close the settings").click()
    say(page, "Hello")  # chat works before any answer
    agree(page)
    page.reload()
    expect(page.locator("#empty")).to_be_visible()
    expect(notice).to_be_hidden()
    page.get_by_role("button", name="Settings and privacy").click()
    expect(page.get_by_role("switch")).to_be_checked()
    with page.expect_response("**/v1/consent") as answered:
        page.get_by_role("switch").uncheck()
    assert answered.value.json()["consent"] is False


def test_earlier_conversations_come_back_with_their_votes(chat: Page) -> None:
    say(chat, "First conversation")
    with chat.expect_response("**/v1/feedback"):
        chat.get_by_role("button", name=UP).click()
    chat.get_by_role("button", name="New conversation").first.click()
    expect(chat.locator("#empty")).to_be_visible()
    say(chat, "Second conversation")
    chat.reload()
    history = chat.locator("#history button")
    expect(history).to_have_text(["Second conversation", "First conversation"])
    history.last.click()
    expect(chat.locator(".said")).to_have_text("First conversation")
    expect(chat.get_by_role("button", name=UP)).to_have_attribute("aria-pressed", "true")


def test_with_consent_history_comes_back_from_the_server(open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    agree(page)
    say(page, "Keep this")
    with page.expect_response("**/v1/feedback"):
        page.get_by_role("button", name=DOWN).click()
    page.get_by_role("button", name="Compare two replies").click()
    say(page, "And two of these")
    page.get_by_role("button", name="B is better").click()
    page.locator(".verdict-line").wait_for()  # the chosen reply takes the cards' place once the verdict is stored
    chosen = page.locator(".assistant > .prose").last.inner_text()
    page.evaluate(
        "for (const key of Object.keys(localStorage)) if (key.includes('.conversation.')) localStorage.removeItem(key)"
    )
    page.reload()
    page.locator("#history button").click()
    expect(page.locator(".said")).to_have_text(["Keep this", "And two of these"])
    expect(page.get_by_role("button", name=DOWN).first).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".assistant > .prose").last).to_have_text(chosen)
    expect(page.locator(".verdict-line")).to_contain_text("You chose B")


def test_forgetting_removes_everything_from_the_browser(chat: Page) -> None:
    say(chat, "Hello")
    rater = chat.evaluate("localStorage.getItem('thumbwise.rater')")
    assert len(rater) == 32
    chat.get_by_role("button", name="Settings and privacy").click()
    chat.get_by_role("button", name="Forget me in this browser").click()
    expect(chat.locator("#history button")).to_have_count(0)
    assert chat.evaluate("localStorage.getItem('thumbwise.rater')") != rater


def test_a_share_of_turns_asks_for_a_choice_by_itself(open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    page.evaluate("Math.random = () => -1")  # below any share, 0 included
    say(page, "Hello")
    expect(page.locator(".card")).to_have_count(2)


def test_an_example_starts_the_conversation(chat: Page) -> None:
    example = chat.locator(".example").first
    text = example.inner_text()
    example.click()
    expect(chat.locator(".said")).to_have_text(text)
    chat.locator(".rating").wait_for()
