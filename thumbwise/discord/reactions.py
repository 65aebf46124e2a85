"""Discord's own reactions as thumbs: whoever reacts to a reply with 👍 or 👎 has rated it.

An event names one emoji that came or went, and carries no number of its own. What else a person has put on a message is
remembered for a while, so that taking 🔥 away beside a 👍 takes no vote back. Each event gets a key of its own: what
follows from one is absolute, so one that Discord tells twice after a broken connection changes nothing.
"""

import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import discord

from thumbwise.client import NotFound, ThumbwiseError
from thumbwise.client.calls import Thumb
from thumbwise.discord.keyboards import view_of
from thumbwise.discord.parts import Parts, texts_of_server
from thumbwise.discord.presses import Presses
from thumbwise.discord.showing import own_card
from thumbwise.rating.reactions import thumb_of_emojis
from thumbwise.rating.texts import texts_for
from thumbwise.rating.turns import Turns

log = logging.getLogger(__name__)

MOST_REMEMBERED = 10_000


class Reactions:
    """Takes reactions to replies as votes."""

    def __init__(self, parts: Parts, presses: Presses, turns: Turns) -> None:
        self._parts, self._presses, self._turns = parts, presses, turns
        self._on: OrderedDict[tuple[int, int], list[str]] = OrderedDict()
        """Message and person → the emoji they have put on it, the newest last."""

    async def on_reaction(self, event: discord.RawReactionActionEvent, *, added: bool) -> None:
        """Turn a reaction that came or went into a vote, or its withdrawal."""
        parts = self._parts
        if event.user_id == parts.bot_id or (event.member is not None and event.member.bot):
            return
        if event.emoji.id is not None or thumb_of_emojis([event.emoji.name]) is None:
            return
        mark = parts.marks.message(event.channel_id, event.message_id)
        shown = await parts.book.shown(mark)
        if shown is None:  # perhaps a reply that still grows: people do not wait for its end
            await self._turns.over(lambda place: place == event.channel_id)
            shown = await parts.book.shown(mark)
        if shown is None or shown.kind != "reply":
            return
        present = await parts.desk.own_thumb(shown.target, event.user_id)
        wanted = self._thumb_after(event, present, added=added)
        if wanted == present:
            return
        key = f"reaction-{secrets.token_hex(8)}"
        try:
            await self._presses.stored(
                shown.target, event.user_id, lambda: parts.desk.thumb(shown.target, event.user_id, wanted, key)
            )
        except NotFound:
            return
        except ThumbwiseError as error:
            log.warning("a reaction was not stored cause=%s", type(error).__name__)
            return
        await self._show(event, shown.target, owner=shown.owner == parts.marks.person(event.user_id))

    def _thumb_after(
        self, event: discord.RawReactionActionEvent, present: Thumb | None, *, added: bool
    ) -> Thumb | None:
        """Return what a person's reactions say now: the newest one that says something."""
        key, emoji = (event.message_id, event.user_id), event.emoji.name
        standing = [known for known in self._on.pop(key, []) if known != emoji] + ([emoji] if added else [])
        if standing:
            self._on[key] = standing
            while len(self._on) > MOST_REMEMBERED:
                self._on.popitem(last=False)
            return thumb_of_emojis(standing[-1:])
        # Nothing else is known to stand there. A vote that this emoji cannot have been (a button's) stays.
        return None if present == thumb_of_emojis([emoji]) else present

    async def _show(self, event: discord.RawReactionActionEvent, reply_id: str, *, owner: bool) -> None:
        parts = self._parts
        if event.guild_id is not None:
            guild = parts.bot.get_guild(event.guild_id)
            await self._presses.show_shared(reply_id, event.channel_id, event.message_id, texts_of_server(guild))
            return
        if not owner:
            return
        texts = texts_for(parts.remembered.languages.get(event.user_id))
        where = parts.bot.get_partial_messageable(event.channel_id).get_partial_message(event.message_id)

        async def make() -> Callable[[], Awaitable[object]]:
            card = await own_card(parts, texts, reply_id, event.user_id, alone=True)
            view = view_of(card, parts.signer, event.channel_id)
            return lambda: where.edit(view=view)

        await parts.edits.edit(event.channel_id, event.message_id, make)
