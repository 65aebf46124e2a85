"""Somebody with a Discord account: writes, presses, reacts, commands."""

import time
from dataclasses import dataclass
from typing import Any

from tests.canaries import said
from tests.discord.wire import Asked, Wire
from tests.discord.wire_payloads import (
    BOT,
    BOT_ID,
    GUILD_ID,
    Json,
    buttons,
    interaction,
    label_of,
    member,
    message,
    user,
)


@dataclass(slots=True)
class Person:
    """A person in one channel: their direct messages with the bot unless another one is named."""

    wire: Wire
    user_id: int
    channel_id: int = 0
    locale: str = "en-US"

    def __post_init__(self) -> None:
        self.channel_id = self.channel_id or self.wire.dm_of(self.user_id)

    @property
    def _place(self) -> Json:
        """What every event of a server's channel has, and one of a direct message has not."""
        private = self.wire.channels[self.channel_id]["type"] == 1
        return {} if private else {"guild_id": str(GUILD_ID), "member": member(self.user_id)}

    def says(self, text: str) -> Json:
        """Write a message. In a server the bot is told its text only where it is named."""
        said(text)
        named = f"<@{BOT_ID}>" in text
        values: Json = {"mentions": [BOT] if named else []}
        if place := self._place:
            values |= {**place, "member": {key: value for key, value in place["member"].items() if key != "user"}}
        written = message(self.wire.new_id(), self.channel_id, user(self.user_id), text, **values)
        with self.wire.condition:
            self.wire.messages[int(written["id"])] = written
        told = written if named or not place else {**written, "content": "", "components": []}
        self.wire.emit("MESSAGE_CREATE", told)
        return written

    def presses(self, found: Json, label: str) -> Asked:
        """Press the button whose label holds `label`, once it is there: a reply that still grows has none."""
        button = self.wire.wait(
            lambda: next((one for one in buttons(found["components"]) if label in label_of(one)), None),
            f"a button {label!r} below {found['id']}",
        )
        return self.sends_data(found, button["custom_id"])

    def sends_data(self, found: Json, custom_id: str) -> Asked:
        """Press a button with data of one's own choice, as a modified app can."""
        return self._asks(3, {"component_type": 2, "custom_id": custom_id}, message=found)

    def commands(self, name: str, **options: Any) -> Asked:
        """Use a slash command with options that are texts."""
        given = [{"name": key, "type": 3, "value": value} for key, value in options.items()]
        return self._asks(2, {"id": str(self.wire.new_id()), "name": name, "type": 1, "options": given})

    def _asks(self, kind: int, data: Json, **values: Any) -> Asked:
        with self.wire.condition:
            channel = self.wire.channels[self.channel_id]
            payload = interaction(self.wire.new_id(), kind, channel, self.user_id, self.locale, data) | values
            asked = Asked(payload, time.monotonic())
            self.wire.asked[payload["token"]] = asked
        self.wire.emit("INTERACTION_CREATE", payload)
        return asked

    def reacts(self, found: Json, emoji: str, *, away: bool = False) -> None:
        """Put a reaction to a message, or take it away."""
        data: Json = {
            "user_id": str(self.user_id),
            "channel_id": found["channel_id"],
            "message_id": found["id"],
            "emoji": {"id": None, "name": emoji},
            "message_author_id": found["author"]["id"],
            "burst": False,
            "type": 0,
            **self._place,
        }
        self.wire.emit("MESSAGE_REACTION_REMOVE" if away else "MESSAGE_REACTION_ADD", data)

    def hears(self, count: int = 1) -> list[Json]:
        """Wait until the bot has sent `count` messages to this channel, and return them all."""
        return list(
            self.wire.wait(
                lambda: found if len(found := self.wire.sent_to(self.channel_id)) >= count else None,
                f"{count} messages in {self.channel_id}",
            )
        )

    def is_answered(self, asked: Asked) -> Json:
        """Wait until an interaction is answered, and return the answer."""
        return dict(self.wire.wait(lambda: asked.answers[:1], "the answer to an interaction")[0])
