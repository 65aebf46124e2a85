"""A model's Markdown on Telegram: whole, within limits, never refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thumbwise.rating.plain_text import utf16_length
from thumbwise.telegram.formatting import parts_of, preview
from thumbwise.telegram.outbox import Outbox
from thumbwise.telegram.reactions import thumb_of


@pytest.mark.parametrize(
    ("markdown", "text", "kinds"),
    [
        ("**bold** and `code`", "bold and code", ["bold", "code"]),
        ("a <b>x</b> & <script>", "a <b>x</b> & <script>", []),
        ("<div>\nhello\n</div>", "<div>\nhello\n</div>", []),
        ("`<b>` and\n```html\n<p>\n```", "<b> and\n<p>", ["code", "pre"]),
        ("[x](javascript:alert(1)) [y](https://example.org)", "x y", ["text_link"]),
        ("**broken `x", "**broken `x", []),
        ("a_b_c * 2 * 3", "a_b_c * 2 * 3", []),
        ("- one\n- two", "• one\n• two", []),
        ("costs $5 and $6", "costs $5 and $6", []),
    ],
)
def test_markdown_becomes_text_and_entities_and_loses_nothing(markdown: str, text: str, kinds: list[str]) -> None:
    ((shown, entities),) = parts_of(markdown)
    assert shown.strip() == text
    assert [str(entity.type) for entity in entities] == kinds


@given(st.text(alphabet="ab *_`#<>[]()|~\n\\👍", max_size=300))
@settings(max_examples=150, deadline=None)
def test_whatever_a_model_writes_every_part_fits_and_every_entity_lies_in_its_text(markdown: str) -> None:
    for text, entities in parts_of(markdown, most_units=64):
        assert 0 < utf16_length(text) <= 64
        for entity in entities:
            assert entity.offset >= 0 and entity.length > 0
            assert entity.offset + entity.length <= utf16_length(text)


def test_a_growing_text_shows_its_end_when_it_no_longer_fits() -> None:
    shown = preview("👍" * 5000)
    assert utf16_length(shown) <= 4096 and shown.startswith("…") and shown.endswith("👍")
    assert preview("short") == "short"


def test_reactions_amount_to_one_thumb_or_none() -> None:
    from telegram import ReactionTypeEmoji

    def thumb(*emojis: str) -> str | None:
        return thumb_of([ReactionTypeEmoji(emoji) for emoji in emojis])

    assert (thumb("👍"), thumb("❤️"), thumb("👎"), thumb("🤔"), thumb()) == ("up", "up", "down", None, None)
    assert thumb("👍", "👎") is None


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_groups_budget_leaves_room_for_what_must_arrive() -> None:
    import asyncio

    clock = Clock()
    outbox = Outbox(clock)
    sent: list[int] = []

    async def send() -> None:
        sent.append(1)

    async def story() -> None:
        for _ in range(30):
            await outbox.try_to_send(-100, send)
        assert len(sent) == 12
        for _ in range(8):
            await outbox.send(-100, send)
        waiting = asyncio.create_task(outbox.send(-100, send))
        await asyncio.sleep(0)
        assert not waiting.done() and len(sent) == 20
        waiting.cancel()
        clock.now_s = 61.0
        await outbox.send(-100, send)
        for _ in range(30):
            clock.now_s += 0.1
            await outbox.try_to_send(7, send)  # a private chat has no such budget
        assert len(sent) == 51

    asyncio.run(story())
