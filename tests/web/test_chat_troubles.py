"""What a person sees when something is wrong: plain words, a way on, and nothing shown as stored that is not."""

import threading

import pytest
from playwright.sync_api import Page, Route, expect

from tests.web.parts import Site, Watch, newest, say

pytestmark = pytest.mark.browser


def send(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_label("Your message").press("Enter")


def test_a_full_queue_says_when_to_try_again(chat: Page, watch: Watch) -> None:
    watch.allowed.append("429")
    send(chat, "queue full")
    failure = chat.locator(".failure")
    expect(failure).to_contain_text("the queue is full")
    expect(failure.get_by_role("button")).to_have_text("Try again in 2 s")
    expect(failure.get_by_role("button")).to_be_disabled()
    expect(failure.get_by_role("button")).to_have_text("Try again")
    expect(failure.get_by_role("button")).to_be_enabled()


def test_a_stopping_server_is_told_in_plain_words_and_the_message_can_be_sent_again(
    chat: Page, site: Site, watch: Watch
) -> None:
    watch.allowed.append("503")
    site.context.stopping = True
    try:
        send(chat, "echo: Still there?")
        expect(chat.locator(".failure")).to_contain_text("The model is not ready")
    finally:
        site.context.stopping = False
    chat.get_by_role("button", name="Try again").click()
    expect(chat.locator(".assistant .prose")).to_have_text("Still there?")
    expect(chat.locator(".said")).to_have_count(1)


def test_a_server_that_is_away_is_told_and_an_unstored_vote_is_taken_back(chat: Page, watch: Watch) -> None:
    watch.allowed.append("ERR_INTERNET_DISCONNECTED")
    say(chat, "Hello")
    chat.context.set_offline(True)
    thumb = chat.get_by_role("button", name="Good reply")
    thumb.click()
    expect(chat.locator(".rating .problem")).to_contain_text("not stored")
    expect(thumb).to_have_attribute("aria-pressed", "false")
    send(chat, "Anybody?")
    expect(chat.locator(".failure")).to_contain_text("cannot be reached")
    chat.context.set_offline(False)
    thumb.click()
    expect(thumb).to_have_attribute("aria-pressed", "true")


def test_a_stream_that_breaks_off_is_no_reply(chat: Page) -> None:
    body = 'data: {"id": "x", "choices": [{"index": 0, "delta": {"content": "Half a"}}]}\n\n'
    chat.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    send(chat, "Hello")
    expect(chat.locator(".failure")).to_contain_text("broke off")
    expect(chat.locator(".rating")).to_have_count(0)


def test_a_stopped_reply_stays_says_so_and_can_be_rated(chat: Page, site: Site) -> None:
    send(chat, "slowly")
    expect(chat.locator(".assistant .prose")).to_contain_text("and on and on")
    chat.get_by_role("button", name="Stop the reply").click()
    expect(chat.locator(".ending")).to_have_text("Stopped.")
    with chat.expect_response("**/v1/feedback") as answered:
        chat.get_by_role("button", name="Bad reply").click()
    assert answered.value.ok, answered.value.text()
    say(chat, "echo: Next.")
    expect(chat.locator(".assistant .prose").last).to_have_text("Next.")


def test_stopping_before_the_first_word_gives_the_message_back(chat: Page) -> None:
    chat.route("**/v1/chat/completions", lambda route: None)  # an answer that never comes
    send(chat, "Wait, what I meant was")
    chat.keyboard.press("Escape")
    expect(chat.get_by_label("Your message")).to_have_value("Wait, what I meant was")
    expect(chat.locator("#empty")).to_be_visible()


def test_a_reply_cut_off_by_its_length_says_so(chat: Page) -> None:
    say(chat, "cut off")
    expect(chat.locator(".ending")).to_contain_text("length limit")


def test_two_quick_clicks_are_stored_in_the_order_of_the_clicks(chat: Page, site: Site) -> None:
    say(chat, "Hello")
    held: list[Route] = []
    released = threading.Event()
    chat.route("**/v1/feedback", lambda route: route.continue_() if released.is_set() else held.append(route))
    chat.evaluate("for (const thumb of document.querySelectorAll('.thumb')) thumb.click()")
    # This goes out after whatever the two clicks have sent, so when it is answered, they have been seen.
    assert chat.evaluate("fetch('/healthz').then(answer => answer.status)") == 200
    assert len(held) == 1, "the second vote must wait until the first is acknowledged"
    released.set()
    held[0].continue_()
    expect(chat.locator("#announcer")).to_contain_text("bad")
    expect(chat.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "true")
    assert [act.thumb for act in newest(site, 2)] == ["up", "down"]


def test_a_vote_whose_answer_was_lost_is_sent_again_and_stored_once(chat: Page, site: Site, watch: Watch) -> None:
    watch.allowed.append("ERR_FAILED")
    say(chat, "Hello")
    before = len(newest(site, 200))
    answers = []

    def lose_the_first(route: Route) -> None:
        answers.append(route.fetch().json())
        if len(answers) == 1:
            route.abort()
        else:
            route.fulfill(json=answers[-1])

    chat.route("**/v1/feedback", lose_the_first)
    chat.get_by_role("button", name="Good reply").click()
    expect(chat.locator("#announcer")).to_contain_text("good reply")
    assert [answer["duplicate"] for answer in answers] == [False, True]
    assert len(newest(site, 200)) == before + 1
