"""Write the documents that are generated: docs/configuration.md from the settings, docs/http.md from OpenAPI,
and the measured column of docs/faults.md.

`make docs` writes them; tests/house holds them to be what the code says. A setting is described once, in the text under
its field, and a route once, in its function: here they are only laid out.
"""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

DOCUMENTS = {
    ROOT / "docs" / "configuration.md": "scripts.docs_configuration",
    ROOT / "docs" / "http.md": "scripts.docs_http",
    ROOT / "docs" / "faults.md": "scripts.docs_faults",
}
"""Generated document → the module whose `text()` writes it."""


def wanted(document: Path) -> str:
    """Return what a generated document should say now."""
    text: str = importlib.import_module(DOCUMENTS[document]).text()
    return text


def main() -> int:
    """Write what has changed and name it."""
    for document in DOCUMENTS:
        text = wanted(document)
        if not document.is_file() or document.read_text(encoding="utf-8") != text:
            document.parent.mkdir(exist_ok=True)
            document.write_text(text, encoding="utf-8")
            print(f"docs: wrote {document.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
