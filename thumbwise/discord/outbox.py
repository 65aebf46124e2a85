"""Sending to Discord: what may fail, and which failures are nobody's.

discord.py itself keeps the rate limits (it waits as each answer's headers say, and after a 429) and sends again after a
5xx or a broken connection. So there is no queue here: only the list of what can go wrong, and the edits that may be
about nothing.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp
import discord

log = logging.getLogger(__name__)

T = TypeVar("T")
FAILURES = (discord.HTTPException, aiohttp.ClientError, OSError, TimeoutError)
"""What a request to Discord can end with."""
MOST_UNITS = 2000
"""Of one message; counted in UTF-16 units, which are never fewer than Discord's own count."""
QUIET = discord.AllowedMentions.none()
"""A model may write @everyone; nobody is called by it."""


async def harmless(sending: Awaitable[T]) -> T | None:
    """Await what may be about nothing: a message that is gone, a channel that shut us out, an interaction too old."""
    try:
        return await sending
    except (*FAILURES, discord.InteractionResponded) as error:  # the last: a host that answers every interaction itself
        log.info("discord refused code=%s cause=%s", getattr(error, "code", None), type(error).__name__)
        return None


async def send_edit(channel: int, send: Callable[[], Awaitable[object]]) -> None:
    """Send the edit of a keyboard. It satisfies `thumbwise.rating.latest_edits.SendEdit`."""
    await harmless(send())
