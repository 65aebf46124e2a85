"""A model's Markdown as Telegram shows it: plain text and entities, in parts that fit a message.

Telegram's own parse modes refuse a whole message for one stray underscore, and models write broken Markdown all day.
Entities cannot be refused for their text. telegramify-markdown reads the Markdown; what it would drop is kept by two
rules of ours: HTML outside code is text (a reply about `<div>` shows it), and only links with a harmless address are
links. If nothing visible is left, the reply is sent as it came.
"""

import re

from telegram import MessageEntity
from telegramify_markdown import convert, split_entities
from telegramify_markdown.config import RenderConfig

from thumbwise.rating.plain_text import clean

MOST_UNITS = 4096
"""UTF-16 units of one message."""
MOST_ENTITIES = 100
"""Telegram takes no more of them in a message, and drops the rest silently."""
_HARMLESS = re.compile(r"(https?|tg|mailto|tel):", re.IGNORECASE)
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)")
_CODE_SPAN = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)")

_MARKS = re.compile(r"\]\([^\s)]*\)*|[\s*_#`>|~\-\[\]()]")
"""What Markdown means to be invisible: addresses of links, and its own signs."""

Part = tuple[str, list[MessageEntity]]


def parts_of(markdown: str, most_units: int = MOST_UNITS) -> list[Part]:
    """Return the messages that show a reply, at least one of them unless there is nothing to see."""
    markdown = clean(markdown)
    text, entities = convert(_with_html_as_text(markdown), latex_escape=False, config=_CONFIG)
    if len("".join(text.split())) * 4 < len(_MARKS.sub("", markdown)):
        text, entities = markdown, []  # most of it vanished: better plain than gone
    kept = [entity for entity in entities if entity.url is None or _HARMLESS.match(entity.url)]
    parts: list[Part] = []
    for piece, marks in split_entities(text, kept, most_units):
        if piece.strip():
            known = [_entity(mark.to_dict()) for mark in marks[:MOST_ENTITIES]]
            parts.append((piece, known))
    return parts


def preview(text: str, most_units: int = MOST_UNITS) -> str:
    """Return the end of a growing text that fits a message, as plain text: its Markdown is not whole yet."""
    text = clean(text)
    units = text.encode("utf-16-le")
    if len(units) <= most_units * 2:
        return text
    return "…" + units[-(most_units - 1) * 2 :].decode("utf-16-le", "ignore")


def _entity(values: dict[str, object]) -> MessageEntity:
    entity = MessageEntity.de_json(values, None)
    assert entity is not None
    return entity


def _with_html_as_text(markdown: str) -> str:
    """Escape every `<` outside code, but for those of links like <https://example.org>."""
    lines: list[str] = []
    fence = ""
    for line in markdown.split("\n"):
        if mark := _FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1][0] == fence[0] and len(mark[1]) >= len(fence):
                fence = ""
        elif not fence:
            line = _escaped(line)
        lines.append(line)
    return "\n".join(lines)


def _escaped(line: str) -> str:
    found: list[str] = []
    end = 0
    for span in _CODE_SPAN.finditer(line):
        found += [_escape_text(line[end : span.start()]), span[0]]
        end = span.end()
    return "".join([*found, _escape_text(line[end:])])


def _escape_text(text: str) -> str:
    return re.sub(r"(?<!\\)<(?!https?://[^\s<>]+>)", r"\\<", text)


def _config() -> RenderConfig:
    config = RenderConfig.isolated()
    symbols = config.markdown_symbol
    for level in range(1, 7):
        setattr(symbols, f"heading_level_{level}", "")
    symbols.unordered_list_item = "•"
    return config


_CONFIG = _config()
