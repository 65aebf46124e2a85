"""Presses of our buttons, and forms that were filled in. Each is verified, acknowledged, stored, and then shown.

Acknowledged first: Discord gives three seconds, and then fifteen minutes to do what was asked. A form is the one thing
that cannot follow an acknowledgement, so nothing slow may stand before it. A vote is stored with the interaction's
number as its key, and is shown only when it is stored: while the server is away it is tried again for a while, and if
that does not help its giver is told.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import discord

from thumbwise.client import Forbidden, NotFound, ThumbwiseError
from thumbwise.client.calls import Thumb
from thumbwise.discord.chatting import Chatting
from thumbwise.discord.forms import ANSWER, answer_form, filled_in, reason_in, why_form
from thumbwise.discord.keyboards import custom_ids_of, view_of, with_card
from thumbwise.discord.outbox import QUIET, harmless
from thumbwise.discord.parts import AnyInteraction, Parts, channel_of, is_shared, place_of, texts_of_server
from thumbwise.discord.showing import own_card, shared_card, stage_of_interaction
from thumbwise.rating import phrases
from thumbwise.rating.buttons import THUMBS, VERDICTS, Act, Button, ButtonRefused
from thumbwise.rating.cards import comparison_card, consent_card, reason_of
from thumbwise.rating.replies import passes, trouble
from thumbwise.rating.texts import Texts

log = logging.getLogger(__name__)

T = TypeVar("T")
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Between tries to store an act while the server is away."""
CONSENT_WITHIN_S = 1.5
"""A form must come within three seconds, so the question before it gets half of them."""


class Presses:
    """Does what a pressed button or a filled-in form asks for."""

    def __init__(self, parts: Parts, chatting: Chatting) -> None:
        self._parts, self._chatting = parts, chatting

    async def on_press(self, interaction: AnyInteraction, data: str) -> None:
        """Verify a press and do it."""
        texts = self._parts.texts_of(interaction)
        button = await self._verified(interaction, data, texts)
        if button is None:
            return
        if button.act is Act.WHY:
            channel, user = channel_of(interaction), interaction.user.id
            form = why_form(texts, button, self._parts.signer, channel, user)
            await harmless(interaction.response.send_modal(form))
        elif button.act is Act.CORRECT:
            await self._open_answer_form(interaction, button, texts)
        else:
            await harmless(interaction.response.defer())
            await self._told_of_trouble(interaction, texts, self._do(button, interaction, texts))

    async def on_form(self, interaction: AnyInteraction, data: str) -> None:
        """Verify a form that was sent and take what it says."""
        texts = self._parts.texts_of(interaction)
        button = await self._verified(interaction, data, texts)
        if button is None:
            return
        values = filled_in(interaction.data or {})
        await harmless(interaction.response.defer())  # of the message whose button opened the form
        if button.act is Act.WHY:
            await self._told_of_trouble(interaction, texts, self._take_reason(button, values, interaction, texts))
        elif button.act is Act.CORRECT:
            await self._told_of_trouble(interaction, texts, self._take_answer(button, values, interaction, texts))

    async def _verified(self, interaction: AnyInteraction, data: str, texts: Texts) -> Button | None:
        try:
            return self._parts.signer.read(data, channel_of(interaction), interaction.user.id, str(interaction.id))
        except ButtonRefused as refusal:
            log.info("a press was refused reason=%s", refusal.reason)
            said = phrases.refused(texts, refusal)
            await harmless(interaction.response.send_message(said, ephemeral=True))
            return None

    async def _told_of_trouble(self, interaction: AnyInteraction, texts: Texts, doing: Awaitable[None]) -> None:
        """Do it, and say it where it cannot be done."""
        try:
            await doing
        except NotFound:
            await whisper(interaction, texts.say("This answer can no longer be rated."))
        except ThumbwiseError as error:
            log.warning("a press was not stored cause=%s", type(error).__name__)
            await whisper(interaction, trouble(texts, error))

    async def _do(self, button: Button, interaction: AnyInteraction, texts: Texts) -> None:
        act = button.act
        if act in THUMBS:
            await self._thumb(button.target, THUMBS[act], interaction, texts)
        elif act is Act.REASON and (found := reason_of(button)) is not None:
            await self._store_reason(button.target, *found, interaction, texts)
        elif act is Act.CHOOSE or act in VERDICTS:
            wanted = str(button.detail) if act is Act.CHOOSE else VERDICTS[act]
            await self._verdict(button.target, wanted, interaction, texts)
        elif act is Act.REGENERATE:
            if not await self._chatting.again(stage_of_interaction(self._parts, interaction), button.target):
                await whisper(interaction, texts.say("Only my latest answer can be given anew. Just ask again."))
        elif act in (Act.CONSENT_YES, Act.CONSENT_NO):
            given = act is Act.CONSENT_YES
            await self._parts.privacy.answer(interaction.user.id, given)
            await replace(interaction, phrases.consent_stored(texts, given))
        elif act is Act.FORGET:
            await self._forget(interaction, texts)
        elif act is Act.DISMISS:
            await replace(interaction, texts.say("Cancelled."))
        elif handler := self._parts.presses.get(act):
            await replace(interaction, await handler(texts, interaction.user.id, button))
        else:
            await whisper(interaction, texts.say("This button is too old."))

    async def _thumb(self, reply_id: str, wanted: Thumb | None, interaction: AnyInteraction, texts: Texts) -> None:
        parts, user, event = self._parts, interaction.user.id, str(interaction.id)
        shared = is_shared(interaction)
        chosen = await self.stored(
            reply_id, user, lambda: parts.desk.thumb(reply_id, user, wanted, event, toggle=shared)
        )
        await self._show_votes(reply_id, interaction, texts)
        if shared:
            card = await own_card(parts, texts, reply_id, user, alone=False)
            view = view_of(card, parts.signer, channel_of(interaction))
            await whisper(interaction, phrases.thumb_stored(texts, chosen), view)
            await self._ask_consent_once(interaction, texts)

    async def _store_reason(
        self, reply_id: str, thumb: Thumb, reason: str, interaction: AnyInteraction, texts: Texts
    ) -> None:
        parts, user, event = self._parts, interaction.user.id, str(interaction.id)
        await self.stored(reply_id, user, lambda: parts.desk.reason(reply_id, user, thumb, reason, event))
        if interaction.message is not None:
            await self._show_votes(reply_id, interaction, texts)

    async def _take_reason(
        self, button: Button, values: dict[str, str], interaction: AnyInteraction, texts: Texts
    ) -> None:
        thumb: Thumb = "down" if button.detail else "up"
        reason = reason_in(values, thumb)
        if reason is not None:
            await self._store_reason(button.target, thumb, reason, interaction, texts)
        await whisper(interaction, texts.say("Thank you!"))

    async def _take_answer(
        self, button: Button, values: dict[str, str], interaction: AnyInteraction, texts: Texts
    ) -> None:
        parts, user, text = self._parts, interaction.user.id, values.get(ANSWER)
        if text is None:
            await whisper(interaction, texts.say("Cancelled."))
            return
        try:
            await patiently_stored(lambda: parts.desk.correct(button.target, user, text, str(interaction.id)))
        except Forbidden:
            await whisper(interaction, phrases.correction_needs_consent(texts))
        else:
            await whisper(interaction, texts.say("Thank you! Your answer is noted."))

    async def _open_answer_form(self, interaction: AnyInteraction, button: Button, texts: Texts) -> None:
        """Open the form, unless it is known by then that the answer could not be kept."""
        parts, user, channel = self._parts, interaction.user.id, channel_of(interaction)
        may_keep = True
        try:
            may_keep = (await asyncio.wait_for(parts.privacy.consent(user), CONSENT_WITHIN_S)).in_force
        except (ThumbwiseError, TimeoutError):
            pass  # the server is asked again when the form comes, and has the last word
        if not may_keep:
            said = phrases.correction_needs_consent(texts)
            await harmless(interaction.response.send_message(said, ephemeral=True))
            return
        conversation = parts.conversations.at(place_of(channel, user))
        present = conversation.messages[-1]["content"] if conversation.last_reply_id == button.target else None
        form = answer_form(texts, button, parts.signer, channel, user, present)
        await harmless(interaction.response.send_modal(form))

    async def _verdict(self, comparison_id: str, wanted: str | None, interaction: AnyInteraction, texts: Texts) -> None:
        parts, user, event = self._parts, interaction.user.id, str(interaction.id)
        channel, message = channel_of(interaction), interaction.message
        chosen = await self.stored(comparison_id, user, lambda: parts.desk.verdict(comparison_id, user, wanted, event))
        parts.pair_texts.go_on_from(comparison_id, chosen, parts.conversations, place_of(channel, user))
        if message is None:
            return

        async def make() -> Callable[[], Awaitable[object]]:
            verdict = await parts.book.choice(comparison_id, parts.marks.person(user))
            card = comparison_card(texts, comparison_id, 2, owner=user, verdict=verdict)
            if message.flags.components_v2:
                layout = discord.ui.LayoutView.from_message(message, timeout=None)
                whole = with_card(layout, card, parts.signer, channel)
                return lambda: interaction.edit_original_response(view=whole)
            view = view_of(card, parts.signer, channel)
            return lambda: interaction.edit_original_response(content=card.text, view=view)

        await parts.edits.edit(channel, message.id, make)

    async def stored(self, target: str, user: int, store: Callable[[], Awaitable[T]]) -> T:
        """Store an act; where that fails for good, let the book say again what it said before."""
        book, person = self._parts.book, self._parts.marks.person(user)
        before = await book.choice(target, person)
        try:
            return await patiently_stored(store)
        except NotFound:
            raise  # there is nothing left to have chosen, and the book knows it
        except ThumbwiseError:
            await book.choose(target, person, before, "", toggle=False)
            raise

    async def _forget(self, interaction: AnyInteraction, texts: Texts) -> None:
        try:
            erasure = await self._parts.privacy.forget(interaction.user.id)
        except Forbidden:
            await replace(interaction, phrases.not_allowed_here(texts))
            return
        self._parts.remembered.languages.pop(interaction.user.id, None)
        await replace(interaction, phrases.erased(texts, erasure))

    async def _ask_consent_once(self, interaction: AnyInteraction, texts: Texts) -> None:
        """In a server the question comes with the first vote, where only its giver sees it."""
        parts, user = self._parts, interaction.user.id
        if not parts.options.ask_consent or parts.options.mode == "host":
            return
        try:
            if not await parts.privacy.should_ask(user):
                return
            held_back = (await parts.privacy.consent(user)).held_back
        except ThumbwiseError:
            return
        card = consent_card(texts, owner=user, held_back=held_back)
        await whisper(interaction, card.text, view_of(card, parts.signer, channel_of(interaction)))

    async def _show_votes(self, reply_id: str, interaction: AnyInteraction, texts: Texts) -> None:
        """Bring the buttons that were pressed up to date, and those of the server where an echo of them was pressed."""
        parts, user, channel, message = self._parts, interaction.user.id, channel_of(interaction), interaction.message
        if message is None:
            return
        if is_shared(interaction):
            parts.remembered.place(reply_id, channel, message.id)
            owner, shared_texts = self._owner_in(message, channel), texts_of_server(interaction.guild)

            async def make_shared() -> Callable[[], Awaitable[object]]:
                view = view_of(await shared_card(parts, shared_texts, reply_id, owner), parts.signer, channel)
                return lambda: interaction.edit_original_response(view=view)

            await parts.edits.edit(channel, message.id, make_shared)
            return
        alone = not message.flags.ephemeral

        async def make_own() -> Callable[[], Awaitable[object]]:
            card = await own_card(parts, texts, reply_id, user, alone=alone)
            view = view_of(card, parts.signer, channel)
            return lambda: interaction.edit_original_response(view=view)

        await parts.edits.edit(channel, message.id, make_own)
        if not alone and (place := parts.remembered.places.get(reply_id)) is not None:
            await self.show_shared(reply_id, *place, texts_of_server(interaction.guild))

    async def show_shared(self, reply_id: str, channel: int, message: int, texts: Texts) -> None:
        """Bring the buttons that a server shares up to date, without a press on them."""
        parts = self._parts
        where = parts.bot.get_partial_messageable(channel).get_partial_message(message)

        async def make() -> Callable[[], Awaitable[object]]:
            found = await where.fetch()  # whose reply it is stands in its own buttons alone
            view = view_of(
                await shared_card(parts, texts, reply_id, self._owner_in(found, channel)), parts.signer, channel
            )
            return lambda: where.edit(view=view)

        await parts.edits.edit(channel, message, make)

    def _owner_in(self, message: discord.Message, channel: int) -> int | None:
        """Whose reply shared buttons stand below: read from their own data, which only we can have signed."""
        for data in custom_ids_of(message):
            button = self._parts.signer.glance(data, channel)
            if button is not None and button.owner is not None:
                return button.owner
        return None


async def patiently_stored(store: Callable[[], Awaitable[T]]) -> T:
    """Store an act, again for a while where the server is away: its key makes repeats harmless."""
    for pause_s in PAUSES_S:
        try:
            return await store()
        except ThumbwiseError as error:
            if not passes(error):
                raise
        await asyncio.sleep(pause_s)
    return await store()


async def whisper(interaction: AnyInteraction, text: str, view: discord.ui.View | None = None) -> None:
    """Say something to the one person who pressed."""
    values: dict[str, Any] = {"view": view} if view is not None else {}
    await harmless(interaction.followup.send(text, ephemeral=True, allowed_mentions=QUIET, **values))


async def replace(interaction: AnyInteraction, text: str) -> None:
    """Put a text in place of a card; its buttons are gone with it."""
    await harmless(interaction.edit_original_response(content=text, view=None))
