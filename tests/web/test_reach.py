"""The pages are for everybody: by keyboard alone, on a phone, with a screen reader, in light and dark."""

import re
from collections.abc import Callable
from importlib import resources

import pytest
from playwright.sync_api import Page, expect

from tests.web.parts import Site, agree, newest, say

pytestmark = pytest.mark.browser

UNNAMED = """() => {
  const kinds = 'button, a, input, textarea, select, [role=region], dialog, nav, aside, svg[role=img]';
  const named = (node) => node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.length
    || document.getElementById(node.getAttribute('aria-labelledby') ?? '');
  return [...document.querySelectorAll(kinds)].filter((node) => node.checkVisibility() && !named(node))
    .map((node) => node.outerHTML.slice(0, 120));
}"""
SMALL_TARGETS = """() => [...document.querySelectorAll('button, select, input')]
  .filter((node) => node.checkVisibility())
  .map((node) => [node.outerHTML.slice(0, 80), node.getBoundingClientRect()])
  .filter(([, box]) => box.width && (box.width < 24 || box.height < 24)).map(([html]) => html)"""
REPEATED_IDS = """() => [...document.querySelectorAll('[id]')].map((node) => node.id)
  .filter((id, at, all) => all.indexOf(id) !== at)"""
FOCUSED = """() => { const node = document.activeElement;
  return node === document.body ? 'nothing' : node.getAttribute('aria-label') || node.textContent.trim() || node.id }"""
FOCUS_IS_SEEN = """() => getComputedStyle(document.activeElement).outlineStyle !== 'none'
  || document.activeElement.matches('.composer:focus-within textarea')"""


def check_names(page: Page) -> None:
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate(SMALL_TARGETS) == []
    assert page.evaluate(REPEATED_IDS) == []
    assert page.evaluate("document.documentElement.lang") == "en"


def test_a_person_can_do_everything_by_keyboard(chat: Page, site: Site) -> None:
    expect(chat.get_by_label("Your message")).to_be_focused()
    chat.keyboard.type("echo: Line one")
    chat.keyboard.press("Shift+Enter")
    chat.keyboard.type("line two")
    chat.keyboard.press("Enter")
    expect(chat.locator(".rating")).to_be_visible()
    expect(chat.locator(".said")).to_have_text("echo: Line one\nline two")
    expect(chat.get_by_label("Your message")).to_be_focused()
    for keys, thumb in (("Alt+ArrowUp", "up"), ("Alt+ArrowDown", "down"), ("Alt+ArrowDown", None)):
        with chat.expect_response("**/v1/feedback"):
            chat.keyboard.press(keys)
        assert newest(site)[0].thumb == thumb
    chat.keyboard.press("Alt+c")
    for keys, verdict in (("Alt+a", "0"), ("Alt+b", "1"), ("Alt+t", "tie"), ("Alt+x", "both_bad")):
        chat.keyboard.type("Two, please")
        chat.keyboard.press("Enter")
        expect(chat.locator(".verdict")).to_be_visible()
        chat.keyboard.press(keys)
        expect(chat.locator(".verdict")).to_be_hidden()
        assert str(newest(site)[0].verdict).endswith(verdict)
        expect(chat.get_by_label("Your message")).to_be_focused()
    chat.keyboard.press("Alt+n")
    expect(chat.locator("#empty")).to_be_visible()


def test_focus_goes_through_the_page_in_reading_order_and_is_seen(chat: Page) -> None:
    say(chat, "Hello")
    chat.locator(".skip").focus()
    order = [chat.evaluate(FOCUSED)]
    for _ in range(11):
        chat.keyboard.press("Tab")
        order.append(chat.evaluate(FOCUSED))
        assert chat.evaluate(FOCUS_IS_SEEN), f"focus is not visible on {order[-1]!r}"
    assert order == [
        "Skip to the message box",
        "New conversation",
        "Hello",
        "Settings and privacy",
        "Conversation",
        "Good reply",
        "Bad reply",
        "Copy the reply",
        "Write a better answer",
        "message",
        "Compare two replies",
        "Send",
    ]


def test_the_settings_keep_focus_inside_and_give_it_back(chat: Page) -> None:
    opener = chat.get_by_role("button", name="Settings and privacy")
    opener.focus()
    chat.keyboard.press("Enter")
    expect(chat.get_by_role("dialog")).to_be_visible()
    for _ in range(8):
        chat.keyboard.press("Tab")
        assert chat.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    chat.keyboard.press("Escape")
    expect(opener).to_be_focused()


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_wider_than_the_screen(open_page: Callable[..., Page], width: int) -> None:
    page = open_page("/", viewport={"width": width, "height": 740})
    agree(page)
    long_word = "w" * 200
    say(page, f"echo: {long_word}\n\n```\n{long_word}\n```\n\n- **{long_word}**")
    page.get_by_role("button", name="Bad reply").click()
    page.get_by_role("button", name="Compare two replies").click()
    say(page, "Two, please")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#log").evaluate("node => node.scrollWidth <= node.clientWidth")
    check_names(page)


def test_on_a_phone_the_list_slides_in_and_out(open_page: Callable[..., Page]) -> None:
    page = open_page("/", viewport={"width": 360, "height": 740}, has_touch=True)
    page.get_by_role("button", name="No, thanks").click()
    say(page, "Hello")
    side = page.locator("#side")
    expect(side).to_be_hidden()
    opener = page.get_by_role("button", name="Show conversations")
    opener.click()
    expect(side).to_be_visible()
    page.keyboard.press("Escape")
    expect(side).to_be_hidden()
    expect(opener).to_be_focused()
    opener.click()
    page.locator("#history button").click()
    expect(side).to_be_hidden()


def test_colours_follow_the_system_and_the_choice(open_page: Callable[..., Page]) -> None:
    page = open_page("/", color_scheme="dark")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Settings and privacy").click()
    page.get_by_label("Colours").select_option("light")
    light = page.evaluate(ground)
    assert (dark, light) == ("rgb(23, 22, 20)", "rgb(251, 250, 248)")
    page.reload()
    assert page.evaluate(ground) == light


def test_the_reply_is_announced_once_and_whole(chat: Page) -> None:
    expect(chat.locator("#announcer")).to_have_attribute("aria-live", "polite")
    expect(chat.locator("#log")).to_have_attribute("aria-live", "off")  # words one by one would be read one by one
    say(chat, "echo: All of it at once.")
    expect(chat.locator("#announcer")).to_have_text("All of it at once.")


def _palette(scheme: int) -> dict[str, str]:
    """Read the palette's light (0) or dark (1) colours from its file."""
    css = resources.files("feedback_store.pages").joinpath("palette.css").read_text(encoding="utf-8")
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    return {name: colours[scheme] for name, *colours in found}


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio, 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_edges_have_enough_contrast_on_every_ground(scheme: int) -> None:
    colours = _palette(scheme)
    grounds = ("ground", "surface", "sunken", "accent-wash", "bad-wash")
    pairs = [(text, ground, 4.5) for text in ("ink", "soft", "accent", "bad", "warn") for ground in grounds]
    pairs += [("edge", ground, 3.0) for ground in ("ground", "surface", "sunken")]
    pairs += [("on-accent", "accent", 4.5), ("soft", "line", 4.5), ("ink", "line", 4.5)]
    low = {
        (text, ground): round(_contrast(colours[text], colours[ground]), 2)
        for text, ground, wanted in pairs
        if _contrast(colours[text], colours[ground]) < wanted
    }
    assert low == {}
