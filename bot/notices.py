"""What operators are told without asking: a round passed, was rejected or failed; a version went live or was taken
back.

The server is asked every so often (rounds take minutes; a stream would be one more connection to keep alive). What was
told is noted in the bot's file after it was told, so a restart forgets nothing and repeats at most one message. A bot
that starts for the first time tells nothing of the past.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from bot.admin import round_line
from bot.operators import reason_in
from feedback_store import bot_file
from feedback_store.store import Store
from thumbwise.client import AsyncThumbwise, Deployment, Round, ThumbwiseError
from thumbwise.rating.texts import Texts

log = logging.getLogger(__name__)

Kind = Literal["round", "deployment"]
LOOK_BACK = 20
"""Rounds and moves asked for at once; more within one pause would be told in part."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that operators should know; `say` writes it in a language."""

    kind: Kind
    number: int
    about: Round | Deployment

    def say(self, texts: Texts) -> str:
        """Return the message."""
        if isinstance(self.about, Round):
            return _round_text(texts, self.about)
        return _deployment_text(texts, self.about)


class NoticeBoard:
    """Finds what is new since it last looked, and tells it. `tell` raises when it could not be delivered."""

    def __init__(self, client: AsyncThumbwise, file: Store, tell: Callable[[Notice], Awaitable[None]]) -> None:
        self._client, self._file, self._tell = client, file, tell

    async def look(self) -> int:
        """Tell what is new and return how much it was. A server that is away is looked at again later."""
        try:
            rounds = await self._client.rounds(limit=LOOK_BACK)
            moves = await self._client.deployments(limit=LOOK_BACK)
        except ThumbwiseError as error:
            log.info("the server could not be asked for news cause=%s", type(error).__name__)
            return 0
        ended = [Notice("round", found.round_id, found) for found in rounds if found.ended]
        moved = [Notice("deployment", found.deployment_id, found) for found in moves if found.action != "bootstrap"]
        return await self._tell_new("round", ended) + await self._tell_new("deployment", moved)

    async def _tell_new(self, kind: Kind, found: list[Notice]) -> int:
        note = f"told {kind}"
        last = await self._file.write_async(bot_file.note_of, note)
        if last is None:
            newest = max((notice.number for notice in found), default=0)
            await self._file.write_async(bot_file.set_note, note, str(newest))
            return 0
        new = sorted((notice for notice in found if notice.number > int(last)), key=lambda notice: notice.number)
        for notice in new:
            await self._tell(notice)
            await self._file.write_async(bot_file.set_note, note, str(notice.number))
        return len(new)


def _round_text(texts: Texts, found: Round) -> str:
    signs = {"published": "✅", "rejected": "🚫", "failed": "⚠️", "cancelled": "⏹"}
    said = {
        "published": texts.say("Round {number} passed its gate.", number=found.round_id),
        "rejected": texts.say("Round {number} did not pass its gate.", number=found.round_id),
        "failed": texts.say("Round {number} failed.", number=found.round_id),
        "cancelled": texts.say("Round {number} was cancelled.", number=found.round_id),
    }
    return f"{signs[found.state]} {said[found.state]}\n{round_line(texts, found)}"


def _deployment_text(texts: Texts, move: Deployment) -> str:
    version = move.version
    said = {
        "promote": "🚀 " + texts.say("Version {version} is live.", version=version),
        "rollback": "↩️ " + texts.say("Rolled back: version {version} is live.", version=version),
        "canary": "🐤 " + texts.say("Version {version} is tried as a canary.", version=version),
        "canary_stop": "🐤 " + texts.say("Version {version} is no longer a canary.", version=version),
    }.get(move.action, move.action)
    return f"{said}\n{reason_in(texts, move.reason)}" if move.reason else said
