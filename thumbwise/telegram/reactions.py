"""Telegram's own reactions as thumbs: whoever reacts to a reply with 👍 or 👎 has rated it.

An update carries what somebody had chosen and what they have chosen now; a reaction taken away is a vote taken back.
Anonymous ones come only as counts and are nobody's vote. In groups the bot must be an admin to be told; keys are the
main way, this is an extra.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from telegram import ReactionType, ReactionTypeEmoji, Update
from telegram.ext import CallbackContext

from thumbwise.client import NotFound, ThumbwiseError
from thumbwise.client.calls import Thumb
from thumbwise.rating.reactions import thumb_of_emojis
from thumbwise.rating.replies import passes
from thumbwise.rating.turns import Turns
from thumbwise.telegram.parts import Parts, texts_of
from thumbwise.telegram.showing import present_card
from thumbwise.telegram.work import work_of

log = logging.getLogger(__name__)


def thumb_of(reactions: Sequence[ReactionType]) -> Thumb | None:
    """Return the thumb that reactions amount to; None for none, and for both at once."""
    return thumb_of_emojis(found.emoji for found in reactions if isinstance(found, ReactionTypeEmoji))


class Reactions:
    """Takes reactions to replies as votes."""

    def __init__(self, parts: Parts, turns: Turns) -> None:
        self._parts, self._turns = parts, turns

    async def on_reaction(self, update: Update, context: CallbackContext[Any, Any, Any, Any]) -> None:
        """Turn a change of somebody's reactions into a vote, or its withdrawal."""
        reaction = update.message_reaction
        if reaction is None or reaction.user is None or not reaction.message_id:
            return
        before, now = thumb_of(reaction.old_reaction), thumb_of(reaction.new_reaction)
        if before == now:
            return
        parts, chat, message_id, user = self._parts, reaction.chat, reaction.message_id, reaction.user
        mark = parts.marks.message(chat.id, message_id)
        shown = await parts.book.shown(mark)
        if shown is None:  # perhaps a reply that still grows: people do not wait for its end
            await self._turns.over(lambda place: isinstance(place, tuple) and place[0] == str(chat.id))
            shown = await parts.book.shown(mark)
        if shown is None or shown.kind != "reply":
            return
        work = work_of(update)
        try:
            await parts.desk.thumb(shown.target, user.id, now, work.event)
        except NotFound:
            return
        except ThumbwiseError as error:
            log.warning("a reaction was not stored cause=%s", type(error).__name__)
            if passes(error):
                work.put_off(error)
            return
        if shown.owner != parts.marks.person(user.id):
            return  # the keyboard names its owner, and who that is only their own reaction tells

        async def make() -> Callable[[], Awaitable[object]]:
            card = await present_card(parts, texts_of(user), shown.target, chat, user.id, reasons=True)
            keyboard = parts.keyboard(card, chat.id)
            return lambda: parts.bot.edit_message_reply_markup(chat.id, message_id, reply_markup=keyboard)

        await parts.edits.edit(chat.id, message_id, make)
