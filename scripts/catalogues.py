"""Bring the bots' catalogues up to date with the texts in the code: python -m scripts.catalogues [LANGUAGE …]

Texts are found where the code says them (`texts.say("…")`). Every catalogue in thumbwise/rating/locales gets the new
ones, empty, and loses those that are gone; a language named here and not there yet gets a catalogue of its own. An
empty translation is shown in English, and tests/rating holds our own languages complete.
"""

import io
import sys
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parent.parent
LOCALES = ROOT / "thumbwise" / "rating" / "locales"
FOLDERS = ("thumbwise/rating", "thumbwise/telegram", "thumbwise/discord", "bot")
SINCE = datetime(2026, 11, 21, tzinfo=UTC)
KEYWORDS: dict[str, tuple[int, ...] | None] = {"say": None, "say_many": (1, 2)}


def template() -> Catalog:
    """Return every text of the code, without where it stands: line numbers would change with every edit."""
    catalogue = Catalog(project="thumbwise", charset="utf-8")
    for folder in FOLDERS:
        found = extract_from_dir(ROOT / folder, method_map=[("**.py", "python")], keywords=KEYWORDS)
        for _, _, message, _, _ in found:
            catalogue.add(message)
    return catalogue


def catalogue_path(language: str) -> Path:
    """Where a language's catalogue stands."""
    return LOCALES / language / "LC_MESSAGES" / "thumbwise.po"


def updated(language: str) -> bytes:
    """Return the catalogue of a language as it should be: every text, its translation kept where there was one."""
    path = catalogue_path(language)
    if path.is_file():
        with path.open("rb") as file:
            catalogue = read_po(file, locale=language)
    else:
        catalogue = Catalog(locale=language, project="thumbwise", charset="utf-8")
    catalogue.update(template(), no_fuzzy_matching=True)
    # No dates and no names in the file: git knows both, and the file must come out alike each time.
    catalogue.header_comment = f"# {catalogue.locale_identifier}: what the bots of Thumbwise say."
    catalogue.fuzzy = False
    catalogue.creation_date = catalogue.revision_date = SINCE
    catalogue.msgid_bugs_address = catalogue.last_translator = catalogue.language_team = "thumbwise"
    written = io.BytesIO()
    write_po(written, catalogue, width=120, ignore_obsolete=True, no_location=True, omit_header=False, sort_output=True)
    return written.getvalue()


def main(languages: list[str]) -> None:
    """Write the catalogues."""
    known = [folder.name for folder in LOCALES.iterdir() if (folder / "LC_MESSAGES").is_dir()]
    for language in sorted({*known, *languages}):
        path = catalogue_path(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(updated(language))
        print(f"catalogues: wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
