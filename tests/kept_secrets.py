"""No secret leaves its place: over a whole run of the tests, however few or many.

Every secret that the program makes in this process (API keys, sessions' tokens, invitations, the ways to sign-in
providers) begins with a mark here, and those that tests choose themselves are known (CHOSEN). Our own modules' logs are
kept at DEBUG. When the run is over, everything that the tests wrote is searched for both: databases with their logs,
exports, logs, spools, whatever lies below the run's folder, and the files and the log of the tests' PostgreSQL. What
a server in a process of its own had made is searched for in that server's folder. The log is also searched for what
people said to the servers of this process. An answer of an error to a test's own client is searched when it comes.

One needle and a handful of others: a second or two for the whole suite.
"""

import logging
import mmap
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import httpx

import feedback_store.replies
from feedback_store.access import flows, keys, sessions, users
from thumbwise.cli import data_folder

MARK = "cAnArY-sEcReT-"
MAKERS: tuple[ModuleType, ...] = (flows, keys, sessions, users, data_folder)
"""Modules that make secrets, each with `secrets.token_urlsafe`."""
CHOSEN = (
    "correct-horse", "an admin token of the tests", "four words of the tests", "hush-hush-of-the-tests",
    "token-of-the-wire-tests-canary", "token-of-the-independent-test-canary", "token-of-discord-never-in-logs",
)  # fmt: skip
"""Admin tokens, passwords, a provider's secret and bots' tokens in the tests' own files."""
OURS = ("bot", "feedback_store", "serving", "thumbwise", "trainer")
TOKEN_FILE = "admin.token"
PLACES = frozenset({TOKEN_FILE, "printed.txt"})
"""Where a token belongs: its own file, and what the terminal shows at the first start."""
UNREAD = frozenset({".safetensors", ".so", ".png", ".py", ".pyc"})
SHORTEST, MOST_TEXTS = 20, 300
LOG = "every-log-of-the-run.log"


class MarkedSecrets:
    """`secrets`, whose URL-safe tokens begin with the mark and are as long as ever."""

    def __getattr__(self, name: str) -> Any:
        return getattr(secrets, name)

    def token_urlsafe(self, nbytes: int | None = None) -> str:
        whole = secrets.token_urlsafe(nbytes)
        return (MARK + whole)[: len(whole)]


@contextmanager
def secrets_kept(folder: Path, elsewhere: Callable[[], list[Path]] = list) -> Iterator[None]:
    """Watch a run whose files are below `folder`, and at its end also below what `elsewhere` names. Raises
    AssertionError, which names places and never a secret."""
    texts: set[str] = set()
    errors: set[str] = set()
    handler = logging.FileHandler(folder / LOG, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    loggers = [logging.getLogger(name) for name in OURS]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    patches = [patch.object(module, "secrets", MarkedSecrets()) for module in MAKERS]
    patches.append(patch.object(feedback_store.replies, "reply_values", _noting(texts)))
    patches.append(patch.object(httpx.Client, "send", _looking_at_errors(errors)))
    patches.append(patch.object(httpx.AsyncClient, "send", _looking_at_errors_later(errors)))
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()
        for logger in loggers:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
        handler.close()
    found = leaks(folder) + [f"{LOG}: what somebody said" for _ in found_in(folder / LOG, sorted(texts))]
    found += sorted(errors) + [leak for other in elsewhere() for leak in leaks(other)]
    assert not found, f"secrets or texts outside their places: {sorted(set(found))}"


def leaks(folder: Path) -> list[str]:
    """Return the files below a folder that hold a secret which does not belong there."""
    found = []
    for path in files_below(folder):
        if path.name not in PLACES and found_in(path, (MARK, *CHOSEN)):
            found.append(str(path.relative_to(folder)))
        if path.name == TOKEN_FILE and (token := path.read_text(encoding="utf-8").strip()):
            others = [other for other in files_below(path.parent) if other.name not in PLACES]
            found += [str(other.relative_to(folder)) for other in others if found_in(other, (token,))]
    return found


def files_below(folder: Path) -> list[Path]:
    """Every file that may be read through."""
    paths = (path for path in folder.rglob("*") if path.suffix not in UNREAD and not path.is_symlink())
    return [path for path in paths if path.is_file() and path.stat().st_size]


def found_in(path: Path, needles: tuple[str, ...] | list[str]) -> list[str]:
    """Return which of the texts stand in a file."""
    if not path.stat().st_size:
        return []  # no run needs to log anything, and an empty file cannot be mapped
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [needle for needle in needles if content.find(needle.encode("utf-8", "backslashreplace")) >= 0]


def leak_of_error(answer: httpx.Response) -> str | None:
    """Name the request whose answer of an error holds a secret."""
    if not answer.is_error or not answer.is_stream_consumed or not answer.is_closed:
        return None
    if not any(needle.encode() in answer.content for needle in (MARK, *CHOSEN)):
        return None
    return f"{answer.status_code} of {answer.request.method} {answer.request.url.path}"


def _looking_at_errors(errors: set[str]) -> Any:
    original = httpx.Client.send

    def send(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        answer = original(self, request, **options)
        errors.update(filter(None, [leak_of_error(answer)]))
        return answer

    return send


def _looking_at_errors_later(errors: set[str]) -> Any:
    original = httpx.AsyncClient.send

    async def send(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        answer = await original(self, request, **options)
        errors.update(filter(None, [leak_of_error(answer)]))
        return answer

    return send


def _noting(texts: set[str]) -> Any:
    """`reply_values` that notes what was said; enough of it, not all."""
    original = feedback_store.replies.reply_values

    def reply_values(reply: Any, at: Any) -> Any:
        if len(texts) < MOST_TEXTS:
            said = [reply.text, *(message["content"] for message in reply.messages or ())]
            texts.update(text for text in said if isinstance(text, str) and len(text) >= SHORTEST)
        return original(reply, at)

    return reply_values
