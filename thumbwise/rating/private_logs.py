"""Logs without tokens and without what people wrote, whatever the libraries below us log.

httpx logs each address at INFO, and Telegram's holds the bot's token; python-telegram-bot and discord.py log whole
messages at DEBUG. So this filter, put on the root's handlers: of the chatty libraries it lets nothing below INFO pass;
of those that log updates it keeps the form of a record and not its values; and in every record, exception texts
included, it replaces what looks like a token or is one it was told of. It is for whoever configures logging: the
command does, a plug-in never does it by itself.
"""

import logging
import re
import traceback
from collections.abc import Iterable
from urllib.parse import quote

CHATTY = frozenset(
    {"telegram", "discord", "httpx", "httpcore", "openai", "aiohttp", "aiogram", "urllib3", "websockets", "asyncio"}
)
"""Libraries whose DEBUG records hold messages, bodies or headers."""
TOKENS = re.compile(
    r"\d{6,12}:[A-Za-z0-9_-]{30,}"  # Telegram: bot id, colon, secret
    r"|[A-Za-z0-9_-]{23,30}\.[A-Za-z0-9_-]{6,7}\.[A-Za-z0-9_-]{27,}"  # Discord
    r"|(?<=Bearer )\S+|(?<=Bot )[A-Za-z0-9._-]{20,}"
)
MESSAGES = frozenset({"telegram", "discord", "aiogram"})
"""Libraries whose records may hold an update or an answer at any level: their form is logged, not their values."""
STARS = "***"


class PrivateLogs(logging.Filter):
    """Redacts every record that passes a handler; see the module's docstring. `secrets`: texts known to be secret."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        found = {form for secret in secrets for form in _forms(secret) if len(form) >= 6}
        self._secrets = tuple(sorted(found, key=len, reverse=True))

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact a record; drop it when it comes from a chatty library and is below INFO."""
        library = record.name.partition(".")[0]
        if record.levelno < logging.INFO and library in CHATTY:
            return False
        if library in MESSAGES and record.args:
            record.args = ()
        record.msg, record.args = self.redacted(_message_of(record)), ()
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = self.redacted("".join(traceback.format_exception(record.exc_info[1])).rstrip())
        if record.stack_info:
            record.stack_info = self.redacted(record.stack_info)
        return True

    def redacted(self, text: str) -> str:
        """Return a text with every secret in it replaced by stars."""
        for secret in self._secrets:
            text = text.replace(secret, STARS)
        return TOKENS.sub(STARS, text)


def keep_logs_private(*secrets: str, logger: logging.Logger | None = None) -> PrivateLogs:
    """Put the filter on every handler of the root logger (or of `logger`), and return it."""
    found = PrivateLogs(secrets)
    for handler in (logger or logging.getLogger()).handlers:
        handler.addFilter(found)
    return found


def _forms(secret: str) -> tuple[str, ...]:
    """A secret as logs may hold it: as it is, as a part of an address, and its secret half alone."""
    return secret, quote(secret, safe=""), secret.rpartition(":")[2]


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit their form: a bug elsewhere, and no reason to leak them
        return str(record.msg)
