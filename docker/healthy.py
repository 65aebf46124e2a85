"""Can the part that this container runs do its work? `python healthy.py server|trainer|bot`: 0, or 1 and the reason.

The standard library alone: it runs every few seconds, and to import the program would cost more than the look. It looks
at what a part cannot work without; that a process has ended is the container engine's to see.

    server    its own /readyz: a version is loaded, the store answers
    trainer   the database of the store accepts a connection (a SQLite file has nobody to ask)
    bot       the server that it speaks to is alive
"""

import http.client
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT_S = 3.0
OWN_SERVER = "http://127.0.0.1:8080"
POSTGRESQL_PORT = 5432


def trouble_of(part: str, environ: Mapping[str, str]) -> str | None:
    """Return what keeps `part` from its work, None where nothing does. No address and no secret is repeated."""
    try:
        if part == "server":
            return _answer(OWN_SERVER, "/readyz")
        if part == "bot":
            return _answer(environ.get("THUMBWISE_URL", OWN_SERVER), "/healthz")
        if part == "trainer":
            return _database(_store_url(environ))
    except (OSError, http.client.HTTPException) as error:
        return f"no connection ({type(error).__name__})"
    except ValueError:
        return "the address cannot be read"
    return f"the part is {part!r}, wanted server, trainer or bot"


def _answer(url: str, path: str) -> str | None:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path.rstrip("/") + path)
        status = connection.getresponse().status
    finally:
        connection.close()
    return None if status == 200 else f"{path} answers {status}"


def _store_url(environ: Mapping[str, str]) -> str:
    if name := environ.get("THUMBWISE_STORE_URL_FILE"):
        return Path(name).read_text(encoding="utf-8").strip()
    return environ.get("THUMBWISE_STORE_URL", "")


def _database(url: str) -> str | None:
    parts = urlsplit(url)
    if not parts.scheme.startswith("postgresql"):
        return None
    with socket.create_connection((parts.hostname or "localhost", parts.port or POSTGRESQL_PORT), timeout=TIMEOUT_S):
        return None


if __name__ == "__main__":
    found = trouble_of(sys.argv[1] if len(sys.argv) == 2 else "", os.environ)
    if found is not None:
        print(found, file=sys.stderr)
        sys.exit(1)
