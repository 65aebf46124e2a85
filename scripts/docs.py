"""Write the documents that are generated: docs/configuration.md from the settings, docs/http.md from OpenAPI.

`make docs` writes them; tests/house holds them to be what the code says. A setting is described once, in the text under
its field, and a route once, in its function: here they are only laid out.
"""

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent


def documents() -> dict[Path, Callable[[], str]]:
    """Return every generated document with the function that writes its text."""
    from scripts import docs_configuration, docs_http

    return {
        ROOT / "docs" / "configuration.md": docs_configuration.text,
        ROOT / "docs" / "http.md": docs_http.text,
    }


def main() -> int:
    """Write what has changed and name it."""
    for path, text in documents().items():
        wanted = text()
        if not path.is_file() or path.read_text(encoding="utf-8") != wanted:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted, encoding="utf-8")
            print(f"docs: wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
