"""Asking Telegram for updates: stored first, confirmed by asking for the next ones."""

import asyncio
import logging
from typing import Any

from telegram import Bot
from telegram.error import Conflict, EndPointNotFound, InvalidToken, RetryAfter, TelegramError

from bot.telegram.dispatch import Dispatcher
from bot.telegram.inbox import Inbox
from bot.tokens import TokenRefused
from feedback_store.errors import StoreUnavailable
from thumbwise.telegram import ALLOWED_UPDATES
from thumbwise.telegram.outbox import retry_after_s

log = logging.getLogger(__name__)

WAIT_S = 50
"""How long Telegram holds the request open while there is nothing."""
BATCH = 100
LONGEST_PAUSE_S = 30.0


REVOKED = "telegram refused the bot's token: was it revoked? Set THUMBWISE_TELEGRAM_TOKEN to the right one"


async def poll(bot: Bot, inbox: Inbox, dispatcher: Dispatcher) -> None:
    """Take updates in until cancelled. Raises TokenRefused.

    The first request confirms nothing: what a former process had stored and not confirmed comes again, and is known by
    its number.
    """
    offset: int | None = None
    pause_s = 0.5
    while True:
        await dispatcher.room()
        try:
            updates = await _ask(bot, offset)
            new = await inbox.take(updates)
        except (InvalidToken, EndPointNotFound) as error:
            raise TokenRefused(REVOKED) from error
        except Conflict:
            log.error("another process asks for this bot's updates, or a webhook is set: only one may")
            await asyncio.sleep(5.0)
        except RetryAfter as error:
            await asyncio.sleep(retry_after_s(error))
        except (TelegramError, StoreUnavailable) as error:
            log.warning("no updates for now cause=%s", type(error).__name__)
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
        else:
            pause_s = 0.5
            if updates:
                offset = max(int(update["update_id"]) for update in updates) + 1
            for stored in new:
                dispatcher.add(stored)


async def _ask(bot: Bot, offset: int | None) -> list[dict[str, Any]]:
    """Ask for raw updates: one that the library cannot read must be stored like any other, not break the batch.

    The method's name begins with a capital (Telegram does not mind) because the library warns of its own ones here.
    """
    wanted: dict[str, Any] = {"timeout": WAIT_S, "limit": BATCH, "allowed_updates": list(ALLOWED_UPDATES)}
    if offset is not None:
        wanted["offset"] = offset
    found = await bot.do_api_request("GetUpdates", wanted, read_timeout=WAIT_S + 15)
    return found if isinstance(found, list) else []
