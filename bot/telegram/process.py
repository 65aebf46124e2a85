"""The process behind `thumbwise bot telegram`: file, client, Application, inbox, put together and taken apart in order.

Up: the bot's file (a second process over it is refused), then Telegram is asked who we are (a refused token is known
before anything else), then what a former process left undone is taken up, then new updates. Down: no more updates are
taken in; what is under way may end; what does not is in the inbox.
"""

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from telegram.error import InvalidToken, TelegramError
from telegram.ext import Application
from telegram.request import HTTPXRequest

from bot.admin import AdminDesk
from bot.book import FileBook
from bot.button_keys import button_secrets
from bot.notices import Notice, NoticeBoard
from bot.operators import OperatorLanguages
from bot.running import run_until_signalled
from bot.settings import TelegramSettings
from bot.telegram.dispatch import AnyApplication, Dispatcher
from bot.telegram.inbox import Inbox
from bot.telegram.operating import add_admin_commands, note_languages, set_menus, tell_operators, watch
from bot.telegram.polling import REVOKED, poll
from bot.telegram.webhook import PATH, secret_of, webhook_app, webhook_server
from bot.tokens import TokenRefused
from feedback_store import bot_file
from feedback_store.store import Store
from thumbwise.client import AsyncThumbwise
from thumbwise.client.asynchronous import DEFAULT_TIMEOUT
from thumbwise.client.retries import Retries
from thumbwise.telegram import ALLOWED_UPDATES, Options, TelegramRating, attach

log = logging.getLogger(__name__)

ENDING_S = 10.0
TIDY_EVERY_S = 3600.0
CONNECTIONS = 256


@dataclass(frozen=True, slots=True)
class TelegramBot:
    """What the process is told. The token and the admin's token stay out of every log and repr."""

    data_dir: Path
    server_url: str
    settings: TelegramSettings
    token: str = field(repr=False)
    admin_token: str | None = field(default=None, repr=False)


def run(bot: TelegramBot) -> None:
    """Run until SIGTERM or Ctrl-C. Raises TokenRefused, and Conflict when another process runs this bot."""
    # Times as timedelta: the library warns of its older form each time it is asked to wait.
    os.environ.setdefault("PTB_TIMEDELTA", "true")
    run_until_signalled(lambda stopping: run_until(bot, stopping))


async def run_until(bot: TelegramBot, stopping: asyncio.Event) -> None:
    """Run until `stopping` is set. Raises as `run` does."""
    bot_id = bot_id_of(bot.token)
    folder = bot.data_dir / "bots"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with contextlib.AsyncExitStack() as parts:
        file = parts.enter_context(bot_file.open_bot_file(folder / f"telegram-{bot_id}.db"))
        client = await parts.enter_async_context(_client(bot))
        application = _application(bot)
        rating = attach(
            application,
            client,
            block=True,
            options=_options(bot.settings),
            book=FileBook(file),
            secret=button_secrets(folder, bot.token),
        )
        add_admin_commands(application, rating, AdminDesk(client, "telegram", frozenset(bot.settings.admin_ids)))
        languages = OperatorLanguages(file, rating.parts.marks.person, bot.settings.notice_language)
        note_languages(application, languages, bot.settings.operator_chats)
        inbox = Inbox(file, bot_id)
        dispatcher = Dispatcher(application, inbox)
        await _initialised(application, stopping)
        parts.push_async_callback(application.shutdown)
        if stopping.is_set():
            return
        log.info("telegram bot is up bot=%d", bot_id)
        for stored in await inbox.undone():
            dispatcher.add(stored)
        tasks = [asyncio.create_task(work) for work in _background(bot, rating, client, file, languages)]
        try:
            await _take_in(bot, application, inbox, dispatcher, stopping)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await dispatcher.close(ENDING_S)
            with contextlib.suppress(TelegramError, TimeoutError):
                await asyncio.wait_for(rating.parts.edits.close(), ENDING_S)
            log.info("telegram bot has stopped bot=%d", bot_id)


def bot_id_of(token: str) -> int:
    """Return the number that a token begins with. Raises TokenRefused for what is no token."""
    number = token.partition(":")[0]
    if not number.isdigit() or ":" not in token:
        raise TokenRefused("THUMBWISE_TELEGRAM_TOKEN is no bot token; wanted NUMBER:LETTERS, as @BotFather gives it")
    return int(number)


def _application(bot: TelegramBot) -> AnyApplication:
    request = HTTPXRequest(connection_pool_size=CONNECTIONS, read_timeout=20.0, connect_timeout=10.0, pool_timeout=20.0)
    builder = Application.builder().token(bot.token).base_url(bot.settings.api_url).request(request)
    # No updater, no job queue: updates come through the inbox.
    return builder.updater(None).job_queue(None).build()


def _client(bot: TelegramBot) -> AsyncThumbwise:
    """A client with room for many replies under way: a vote must not wait for a connection that a reply holds.

    It gives up soon: somebody waits for an answer, and what must not be lost is tried again from the inbox.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    http = httpx.AsyncClient(base_url=bot.server_url, timeout=DEFAULT_TIMEOUT, trust_env=False, limits=limits)
    return AsyncThumbwise(bot.server_url, bot.admin_token, http=http, retries=Retries(2, patience_s=3.0))


def _options(settings: TelegramSettings) -> Options:
    return Options(
        compare_share=settings.compare_share,
        compare_style=settings.compare_style,
        groups=settings.groups,
        group_edits=settings.group_edits,
        draft_every_s=settings.draft_every_s,
    )


async def _initialised(application: AnyApplication, stopping: asyncio.Event) -> None:
    """Ask Telegram who we are, patiently while it is away. Raises TokenRefused."""
    pause_s = 0.5
    while not stopping.is_set():
        try:
            await application.initialize()
            return
        except InvalidToken as error:
            raise TokenRefused(REVOKED) from error
        except TelegramError as error:
            log.warning("telegram cannot be reached cause=%s", type(error).__name__)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause_s)
        pause_s = min(30.0, pause_s * 2)


def _background(
    bot: TelegramBot, rating: TelegramRating, client: AsyncThumbwise, file: Store, languages: OperatorLanguages
) -> list[Any]:
    """What runs beside the updates."""

    async def tidy() -> None:
        while True:
            await file.write_async(bot_file.tidy)
            await asyncio.sleep(TIDY_EVERY_S)

    async def tell(notice: Notice) -> None:
        await tell_operators(rating, notice, bot.settings.operator_chats, languages)

    work: list[Any] = [set_menus(rating.parts.bot), tidy()]
    if bot.settings.operator_chats and bot.admin_token:
        work.append(watch(NoticeBoard(client, file, tell), bot.settings.notice_every_s))
    return work


async def _take_in(
    bot: TelegramBot,
    application: AnyApplication,
    inbox: Inbox,
    dispatcher: Dispatcher,
    stopping: asyncio.Event,
) -> None:
    """Take updates in until told to stop. Raises TokenRefused."""
    if bot.settings.webhook_url is None:
        await application.bot.delete_webhook(drop_pending_updates=False)
        taking = asyncio.create_task(poll(application.bot, inbox, dispatcher))
    else:
        taking = asyncio.create_task(_be_told(bot, application, inbox, dispatcher))
    refused = asyncio.create_task(dispatcher.token_refused.wait())
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({taking, refused, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if taking.done():
            taking.result()
        if refused.done():
            raise TokenRefused(REVOKED)
    finally:
        for task in (taking, refused, stopped):
            task.cancel()
        await asyncio.gather(taking, refused, stopped, return_exceptions=True)


async def _be_told(bot: TelegramBot, application: AnyApplication, inbox: Inbox, dispatcher: Dispatcher) -> None:
    """Listen for posts, tell Telegram where, and serve until cancelled."""
    secret = secret_of(bot.token)
    server = webhook_server(
        webhook_app(inbox, dispatcher, secret), bot.settings.webhook_host, bot.settings.webhook_port
    )
    serving = asyncio.create_task(server.serve())
    try:
        await application.bot.set_webhook(
            f"{str(bot.settings.webhook_url).rstrip('/')}{PATH}", secret_token=secret, allowed_updates=ALLOWED_UPDATES
        )
        await asyncio.shield(serving)  # cut off, it would leave its sockets open
    finally:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
