"""What a bot says, in the reader's language. English is the source; every other language is a catalogue.

A catalogue is `locales/LANGUAGE/LC_MESSAGES/thumbwise.po`, as Babel and every translation tool know it, and is compiled
when it is first needed: dropping a file in is all it takes to add a language (`docs/bots.md` says how to make one).
Languages are asked for as the platform names them (`zh-hans`, `zh-CN`, `pt-br`, `en`); what is not there is English.
"""

import io
import re
from functools import lru_cache
from importlib import resources

from babel import Locale, UnknownLocaleError
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

DOMAIN = "thumbwise"
_CHINESE = {"zh": "zh_Hans", "zh_cn": "zh_Hans", "zh_sg": "zh_Hans", "zh_my": "zh_Hans"}
"""Readers of traditional characters get English unless somebody adds zh_Hant: a guess at a script offends."""


class Texts:
    """The texts of one language. `say` looks a text up and fills its `{names}`."""

    def __init__(self, language: str, translations: NullTranslations) -> None:
        self.language = language
        self._translations = translations

    def say(self, text: str, **values: object) -> str:
        """Return `text` in this language. `text` stands as a literal in the code: the catalogues are made from it."""
        return _filled(self._translations.gettext(text), values)

    def say_many(self, one: str, many: str, count: int, **values: object) -> str:
        """Return the form that fits `count`, which `{count}` in it stands for."""
        return _filled(self._translations.ngettext(one, many, count), {"count": count, **values})


def texts_for(language: str | None) -> Texts:
    """Return the texts for a language as a platform names it; English for none and for unknown ones."""
    return _texts(_match(language or ""))


def language_of(text: str) -> str | None:
    """Guess the language of what somebody wrote, where the platform does not tell it: "zh" or None.

    Han characters that stand in the simplified set (GB 2312), and no kana or hangul beside them. What only traditional
    script writes is no guess at all: see _CHINESE.
    """
    han = "".join(re.findall("[\u4e00-\u9fff]", text))
    if not han or 2 * len(han) < len(re.findall(r"[^\W\d_]", text)) or re.search("[\u3040-\u30ff\uac00-\ud7af]", text):
        return None
    try:
        han.encode("gb2312")
    except UnicodeEncodeError:
        return None
    return "zh"


def languages() -> tuple[str, ...]:
    """Name the languages there are, English first."""
    folder = resources.files("thumbwise.rating") / "locales"
    return ("en", *sorted(entry.name for entry in folder.iterdir() if (entry / "LC_MESSAGES").is_dir()))


@lru_cache(maxsize=256)
def _match(language: str) -> str:
    wanted = re.sub(r"[^a-z0-9]+", "_", language[:32].lower()).strip("_")
    wanted = _CHINESE.get(wanted, wanted)
    known = {name.lower(): name for name in languages()}
    parts = wanted.split("_")
    for length in range(len(parts), 0, -1):
        if found := known.get("_".join(parts[:length]).lower()):
            return found
    return "en"


@lru_cache(maxsize=64)
def _texts(language: str) -> Texts:
    if language == "en":
        return Texts("en", NullTranslations())
    path = resources.files("thumbwise.rating") / "locales" / language / "LC_MESSAGES" / f"{DOMAIN}.po"
    try:
        locale: Locale | None = Locale.parse(language)
    except (UnknownLocaleError, ValueError):
        locale = None
    with path.open("rb") as file:
        catalogue = read_po(file, locale=locale, domain=DOMAIN)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Texts(language, Translations(compiled, domain=DOMAIN))


def _filled(text: str, values: dict[str, object]) -> str:
    """Put the values in; a text from a person is put in as it is, never read as a form itself."""
    return re.sub(r"\{(\w+)\}", lambda name: str(values.get(name[1], name[0])), text)
