"""Rules that every text of the store keeps, whoever brings it. Each refusal names the field."""

import re
from typing import Any

from feedback_store.errors import Refused

IDENTIFIER = re.compile(r"[a-z0-9-]{1,64}")
CHANNEL = re.compile(r"[a-z0-9_-]{1,32}")


def check_identifier(field: str, value: object) -> str:
    """Return `value` when it matches [a-z0-9-]{1,64}: never a path, a URL or markup. Raises Refused."""
    if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
        raise Refused(field, f"{field} is {_shown(value)}; wanted: 1 to 64 of a-z, 0-9 and -")
    return value


def check_channel(value: object) -> str:
    """Return `value` when it may name a channel. Raises Refused."""
    if not isinstance(value, str) or not CHANNEL.fullmatch(value):
        raise Refused("channel", f"channel is {_shown(value)}; wanted: 1 to 32 of a-z, 0-9, _ and -")
    return value


def check_text(field: str, value: object, *, most: int, least: int = 0) -> str:
    """Return `value` when it is a text of `least` to `most` characters that both databases can hold.

    NUL and lone surrogates are refused: PostgreSQL and UTF-8 have no place for them. Raises Refused.
    """
    if not isinstance(value, str):
        raise Refused(field, f"{field} is {_shown(value)}; wanted: a text")
    if not least <= len(value) <= most:
        raise Refused(field, f"{field} has {len(value)} characters; wanted: {least} to {most}")
    if not is_storable(value):
        raise Refused(field, f"{field} holds a NUL or a lone surrogate; wanted: a text without them")
    return value


def is_storable(value: str) -> bool:
    """True when both databases can hold the text."""
    if value.isascii():
        return "\x00" not in value
    return "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def check_messages(field: str, value: object, *, most_characters: int = 1_000_000) -> tuple[dict[str, str], ...]:
    """Return `value` as chat messages of role (system, user or assistant) and content. Raises Refused."""
    if not isinstance(value, list | tuple) or not value:
        raise Refused(field, f"{field} is {_shown(value)}; wanted: a list of at least one message")
    found: list[dict[str, str]] = []
    for index, message in enumerate(value):
        name = f"{field}.{index}"
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise Refused(name, f"{name} is {_shown(message)}; wanted: an object of role and content")
        if message["role"] not in ("system", "user", "assistant"):
            raise Refused(
                f"{name}.role", f"{name}.role is {_shown(message['role'])}; wanted: system, user or assistant"
            )
        check_text(f"{name}.content", message["content"], most=most_characters)
        found.append({"role": message["role"], "content": message["content"]})
    return tuple(found)


def _shown(value: object) -> str:
    """The value for an error's text; its type alone when it is long or a container: it may be what a person wrote."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str) and len(value) <= 80:
        return ascii(value)
    size: Any = len(value) if isinstance(value, str | list | tuple | dict) else ""
    return f"{type(value).__name__} of {size}" if size != "" else type(value).__name__
