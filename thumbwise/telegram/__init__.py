"""The plug-in for a bot that runs on python-telegram-bot: our replies in it, or only our rating keys below its own.

    from telegram.ext import Application
    from thumbwise.client import AsyncThumbwise
    from thumbwise.telegram import attach

    application = Application.builder().token(TOKEN).build()
    attach(application, AsyncThumbwise("http://127.0.0.1:8080"))       # our policy answers
    application.run_polling(allowed_updates=ALLOWED_UPDATES)           # reactions must be asked for

A bot that writes its own replies keeps doing so:

    rating = attach(application, client, mode="host")
    answer = await client.chat(text, user=str(user.id), channel="telegram")
    await rating.reply(update, answer.text, answer.reply_id)           # or: reply_markup=rating.keyboard(update, …)

It never takes the Application over: handlers of ours stand in a group of their own, match only our keys and commands,
and do not block; nothing of the host's (post_init, persistence, callback data, error handlers) is touched.
docs/telegram.md shows both in ten lines.
"""

from dataclasses import replace
from typing import Any

from telegram import InlineKeyboardMarkup, Message, Update
from telegram.ext import (
    Application,
    CallbackQueryHandler,
    CommandHandler,
    MessageHandler,
    MessageReactionHandler,
    filters,
)

from thumbwise.client import AsyncThumbwise
from thumbwise.rating.book import ReplyBook, Shown
from thumbwise.rating.buttons import PATTERN, ButtonSecrets
from thumbwise.telegram.chatting import Chatting
from thumbwise.telegram.commands import NAMES, Commands
from thumbwise.telegram.parts import Mode, Options, Parts, parts_of_bot, texts_of
from thumbwise.telegram.presses import Presses
from thumbwise.telegram.reactions import Reactions
from thumbwise.telegram.showing import Stage, fresh_card
from thumbwise.telegram.work import work_of

__all__ = ["ALLOWED_UPDATES", "GROUP", "Options", "TelegramRating", "attach"]

ALLOWED_UPDATES = ("message", "callback_query", "message_reaction")
"""What Telegram must be asked for; it keeps the last list it was given, so give it every time."""
GROUP = 71
"""The handler group that is ours unless another one is named."""


class TelegramRating:
    """What `attach` gives back: for a host that replies itself, the keys to put below its replies."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def reply(self, update: Update, text: str, reply_id: str | None) -> int:
        """Send a reply of the policy with its rating keys, Markdown and length taken care of. Returns its number."""
        message, user, chat = update.effective_message, update.effective_user, update.effective_chat
        if message is None or user is None or chat is None:
            raise ValueError("the update has no message, user or chat; wanted one that a person sent in a chat")
        return await Stage(self.parts, work_of(update), chat, user, message).reply(text, reply_id)

    def keyboard(self, update: Update, reply_id: str) -> InlineKeyboardMarkup | None:
        """Return the rating keys for a message that you send yourself, in answer to `update`."""
        user, chat = update.effective_user, update.effective_chat
        if user is None or chat is None:
            raise ValueError("the update has no user or chat; wanted one that a person sent in a chat")
        return self.parts.keyboard(fresh_card(self.parts, texts_of(user), reply_id, chat, user), chat.id)

    async def shown(self, update: Update, message: Message, reply_id: str) -> None:
        """Say which message of yours shows a reply, so that native reactions to it count as thumbs."""
        user = update.effective_user
        if user is not None and message.message_id:
            mark = self.parts.marks.message(message.chat.id, message.message_id)
            await self.parts.book.show(mark, Shown("reply", reply_id, self.parts.marks.person(user.id)))


def attach(
    application: Application[Any, Any, Any, Any, Any, Any],
    client: AsyncThumbwise,
    *,
    mode: Mode = "policy",
    commands: bool | None = None,
    group: int = GROUP,
    block: bool = False,
    options: Options | None = None,
    book: ReplyBook | None = None,
    secret: bytes | str | ButtonSecrets | None = None,
) -> TelegramRating:
    """Add our handlers to an Application, before or after it was initialised.

    mode: "policy", our model answers private messages, and in groups those that name or answer the bot; "host", the
    host replies, and only presses and reactions are ours. commands: /new /privacy … (None: in mode "policy" alone).
    options: finer settings; its mode is set to `mode`. book: where marks of messages are kept (None: in memory).
    secret: signs the keys (None: the bot's token, so that keys outlive a restart).
    """
    options = replace(options or Options(), mode=mode)
    parts = parts_of_bot(application.bot, client, options, book, secret)
    chatting = Chatting(parts)
    presses = Presses(parts, chatting)
    application.add_handler(CallbackQueryHandler(presses.on_press, pattern=PATTERN, block=block), group)
    application.add_handler(MessageReactionHandler(Reactions(parts, chatting.turns).on_reaction, block=block), group)
    if commands if commands is not None else mode == "policy":
        on_command = Commands(parts, chatting, presses).on_command
        new_message = filters.UpdateType.MESSAGE
        application.add_handler(CommandHandler(NAMES, on_command, filters=new_message, block=block), group)
    if mode == "policy":
        of_people = filters.UpdateType.MESSAGE & ~filters.COMMAND & ~filters.StatusUpdate.ALL
        application.add_handler(MessageHandler(of_people, chatting.on_message, block=block), group)
    return TelegramRating(parts)
