"""What may be left out never crowds out what must arrive."""

import asyncio

from thumbwise.telegram.outbox import OPTIONAL_LIMIT, OPTIONAL_WINDOW_S, Outbox


def test_drafts_of_all_chats_share_a_seconds_budget_and_what_must_arrive_is_not_counted() -> None:
    now = 0.0
    sent: list[int] = []

    async def send(chat: int) -> bool:
        sent.append(chat)
        return True

    async def story() -> None:
        nonlocal now
        outbox = Outbox(lambda: now)
        tried = [await outbox.try_to_send(chat, lambda chat=chat: send(chat)) for chat in range(1, 51)]  # type: ignore[misc]
        assert tried == [True] * OPTIONAL_LIMIT + [None] * (50 - OPTIONAL_LIMIT)
        for chat in range(1, 51):
            assert await outbox.send(chat, lambda chat=chat: send(chat))  # type: ignore[misc]
        assert await outbox.try_to_send(99, lambda: send(99)) is None
        now += OPTIONAL_WINDOW_S
        assert await outbox.try_to_send(99, lambda: send(99)) is True

    asyncio.run(story())
    assert len(sent) == OPTIONAL_LIMIT + 50 + 1
