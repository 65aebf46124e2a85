"""Languages of our pages: one catalogue for all of them (gettext .po files beside this module), compiled when loaded.

The text in the code is English and is its own key, so a missing translation shows English, never a code name. A page's
language is the reader's choice (a cookie), else the browser's preference, else English. Messages that come from the
store or the API (why something was refused) stay English: they are for whoever repairs it.
"""

import functools
import gettext
from collections.abc import Mapping
from importlib import resources
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog

Language = Literal["en", "zh-Hans"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
NAMES: Mapping[Language, str] = {"en": "English", "zh-Hans": "简体中文"}
COOKIE = "thumbwise-language"
SWITCH = "/language"
"""POST `language` and `back` here to choose."""


def to_translate(text: str) -> str:
    """Mark a text that is translated later, where it is shown."""
    return text


@functools.cache
def script_messages(language: Language) -> dict[str, str]:
    """Return the texts that scripts show, English → translation: what the catalogue found in .js files."""
    if language == "en":
        return {}
    found = {}
    for message in _read(language):
        in_script = any(source.endswith(".js") for source, _ in message.locations)
        if in_script and isinstance(message.id, str) and isinstance(message.string, str) and message.string:
            found[message.id] = message.string
    return found


@functools.cache
def catalogue(language: Language) -> gettext.NullTranslations:
    """Return the translations of a language; English needs none."""
    if language == "en":
        return gettext.NullTranslations()
    from babel.messages.mofile import write_mo

    compiled = BytesIO()
    write_mo(compiled, _read(language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def _read(language: Language) -> "Catalog":
    from babel.messages.pofile import read_po

    with resources.files(__package__).joinpath("languages", f"{language}.po").open("rb") as file:
        return read_po(file, locale=language.replace("-", "_"))


def translated(language: Language, text: str, **values: Any) -> str:
    """Return `text` in `language`, with its %(name)s filled in."""
    found = catalogue(language).gettext(text)
    return found % values if values else found


def choose(cookie: str | None, accept_language: str) -> Language:
    """Return the language of a reader: what they chose here, else the best of what their browser accepts."""
    if cookie in LANGUAGES:
        return cookie
    for tag in _by_preference(accept_language):
        primary = tag.partition("-")[0]
        if primary == "zh":
            return "zh-Hans"  # also for zh-Hant: nearer than English
        if primary == "en":
            return "en"
    return "en"


def _by_preference(accept_language: str) -> list[str]:
    found = []
    for position, part in enumerate(accept_language[:400].lower().split(",")):
        tag, _, weight = part.partition(";")
        try:
            quality = float(weight.partition("=")[2]) if weight else 1.0
        except ValueError:
            quality = 0.0
        if tag.strip() and quality > 0:
            found.append((-quality, position, tag.strip()))
    return [tag for _, _, tag in sorted(found)]
