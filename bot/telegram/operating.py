"""What only our own bot does in a chat: admin commands with confirmation, and news of rounds and versions."""

import asyncio
import logging
from functools import partial
from typing import Any

from telegram import Bot, Update, User
from telegram.error import TelegramError
from telegram.ext import CallbackContext, CommandHandler, MessageHandler, filters

from bot.admin import COMMANDS, AdminDesk
from bot.notices import Notice, NoticeBoard
from bot.operators import OperatorLanguages
from bot.telegram.dispatch import AnyApplication
from thumbwise.rating.buttons import Act, Button
from thumbwise.rating.phrases import described
from thumbwise.rating.texts import Texts, languages, texts_for
from thumbwise.telegram import TelegramRating
from thumbwise.telegram.commands import MENU
from thumbwise.telegram.parts import texts_of
from thumbwise.telegram.showing import Stage
from thumbwise.telegram.work import work_of

log = logging.getLogger(__name__)

ADMIN_GROUP, LANGUAGE_GROUP = 72, 73
MENU_LANGUAGES = {"zh_Hans": "zh"}
"""Catalogue → the code that Telegram's menus know it by; others are named alike."""


def add_admin_commands(application: AnyApplication, rating: TelegramRating, desk: AdminDesk) -> None:
    """Add /align, /versions, /promote and /rollback, and the presses that confirm them."""
    parts = rating.parts

    async def on_command(update: Update, context: CallbackContext[Any, Any, Any, Any]) -> None:
        message, user, chat = update.message, update.effective_user, update.effective_chat
        if message is None or message.text is None or user is None or chat is None:
            return
        name, *words = message.text.split()
        command = name.removeprefix("/").partition("@")[0].lower()
        card = await desk.command(texts_of(user), user.id, command, words)
        stage = Stage(parts, work_of(update), chat, user, message)
        await stage.say(card.text, parts.keyboard(card, chat.id))

    async def on_press(texts: Texts, user: User, button: Button) -> str:
        return await desk.confirmed(texts, user.id, button)

    parts.presses[Act.ADMIN] = on_press
    handler = CommandHandler(COMMANDS, on_command, filters=filters.UpdateType.MESSAGE, block=True)
    application.add_handler(handler, ADMIN_GROUP)


def note_languages(application: AnyApplication, languages: OperatorLanguages, chats: tuple[int, ...]) -> None:
    """Note the language of whoever writes in an operators' chat: notices there come in it."""

    async def on_message(update: Update, context: CallbackContext[Any, Any, Any, Any]) -> None:
        if update.effective_chat is not None and update.effective_user is not None:
            await languages.saw(update.effective_chat.id, update.effective_user.language_code)

    there = filters.UpdateType.MESSAGE & filters.Chat(chats, allow_empty=True)
    application.add_handler(MessageHandler(there, on_message, block=True), LANGUAGE_GROUP)


async def tell_operators(
    rating: TelegramRating, notice: Notice, chats: tuple[int, ...], languages: OperatorLanguages
) -> None:
    """Send a notice to the operators' chats. A chat that shut the bot out keeps nobody else from hearing it."""
    bot = rating.parts.bot
    for chat in chats:
        text = notice.say(await languages.texts(chat))
        try:
            await rating.parts.outbox.send(chat, partial(bot.send_message, chat, text))
        except TelegramError as error:
            log.warning("an operator could not be told chat=%d cause=%s", chat, type(error).__name__)


async def watch(board: NoticeBoard, every_s: float) -> None:
    """Look for news until cancelled."""
    while True:
        await board.look()
        await asyncio.sleep(every_s)


async def set_menus(bot: Bot) -> None:
    """Tell Telegram the commands in every language there is. Without it the bot works all the same."""
    try:
        for language in languages():
            code = None if language == "en" else MENU_LANGUAGES.get(language, language.partition("_")[0])
            about = described(texts_for(language))
            await bot.set_my_commands([(name, about[name]) for name in MENU], language_code=code)
    except TelegramError as error:
        log.warning("the menu of commands was not set cause=%s", type(error).__name__)
