"""Bring the translations up to date: collect every text of the pages into feedback_store/pages/languages/*.po.

    .venv/bin/python -m scripts.messages

Texts that are gone are removed, new ones are added without a translation; a test fails while one is missing.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parent.parent
LANGUAGES = ROOT / "feedback_store" / "pages" / "languages"
KEYWORDS: dict[str, Any] = {
    "_": None, "gettext": None, "ngettext": (1, 2), "say": None, "to_translate": None, "translated": (2,),
}  # fmt: skip
SOURCES = (
    ("python", "feedback_store/dashboard", "*.py"),
    ("jinja2", "feedback_store/dashboard/templates", "*.html"),
    ("jinja2", "bot/web", "*.html"),
    ("javascript", "bot/web", "*.js"),
    ("javascript", "feedback_store/dashboard/assets", "*.js"),
)


def texts() -> Iterator[tuple[str | tuple[str, ...], str]]:
    """Yield every text (or singular and plural) with the file that shows it."""
    for method, folder, pattern in SOURCES:
        options = {"trimmed": "true", "silent": "false", "extensions": "jinja2.ext.do"} if method == "jinja2" else {}
        for path in sorted((ROOT / folder).glob(pattern)):
            for _, text, _, _ in extract_from_file(method, path, KEYWORDS, options=options):
                yield text, str(path.relative_to(ROOT))


def catalogue_of(path: Path) -> Catalog:
    """Return the file's translations, of the texts that there are now."""
    language = path.stem.replace("-", "_")
    known = Catalog(locale=language)
    if path.exists():
        with path.open("rb") as file:
            known = read_po(file, locale=language)
    fresh = Catalog(locale=language)
    for text, source in texts():
        present = known.get(text if isinstance(text, str) else text[0])
        fresh.add(text, string=present.string if present else None, locations=[(source, None)])  # type: ignore[list-item]
    return fresh


def main() -> int:
    """Write what has changed; 1 while a translation is missing."""
    missing = 0
    for path in sorted(LANGUAGES.glob("*.po")) or [LANGUAGES / "zh-Hans.po"]:
        found = catalogue_of(path)
        with path.open("wb") as file:
            file.write(f"# Thumbwise's pages in {path.stem}. Brought up to date by scripts/messages.py.\n\n".encode())
            write_po(file, found, sort_output=True, omit_header=True, include_lineno=False, width=116)
        without = [message.id for message in found if message.id and not is_whole(message.string)]
        missing += len(without)
        print(f"{path.name}: {len(found)} texts, {len(without)} without a translation")
    return 1 if missing else 0


def is_whole(string: str | tuple[str, ...] | list[str] | None) -> bool:
    """Say whether a text has a translation, in every plural."""
    return bool(string) if isinstance(string, str) or string is None else all(string)


if __name__ == "__main__":
    sys.exit(main())
