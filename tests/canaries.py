"""What must never stand in a log, and the search for it over a whole run of the bots' tests.

Everything that somebody writes to a bot in a test is noted here, and the logs are kept at DEBUG as the commands keep
them: one file, the filter for tokens and texts on its handler. When a folder's tests are over, its file and every log
that a process of theirs wrote are searched.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thumbwise.rating.private_logs import PrivateLogs

SHORTEST = 10
"""A shorter text stands in a log by accident."""
BEGUN = "searched from here on"
SAID: set[str] = set()


def said(text: str) -> None:
    """Note what somebody wrote: no log may hold it, nor what the model of the tests echoes of it."""
    for found in (text.strip(), text.strip().removeprefix("echo: ")):
        if len(found) >= SHORTEST and not found.startswith("/"):
            SAID.add(found)


@contextmanager
def searched_logs(folder: Path, processes: Path, told: tuple[str, ...], secrets: tuple[str, ...]) -> Iterator[None]:
    """Keep what this process logs at DEBUG in a file in `folder`; search it, and every log below `processes`.

    told: the secrets that the filter is told of, as the command tells it of them. secrets: further ones to search for.
    """
    path = folder / "whole-run.log"
    root, handler = logging.getLogger(), logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    handler.addFilter(PrivateLogs(told))
    former = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    SAID.clear()
    logging.getLogger(__name__).debug(BEGUN)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(former)
        handler.close()
    assert BEGUN in path.read_text(encoding="utf-8"), "the log was not kept at DEBUG"
    found = leaks([path, *processes.rglob("*.log")], (*told, *secrets))
    assert not found, f"tokens or texts of people in the logs: {found}"


def leaks(paths: list[Path], secrets: tuple[str, ...]) -> list[str]:
    """Return where a secret or a text of somebody stands in these files; never the text itself."""
    canaries = [canary.encode("utf-8", "backslashreplace") for canary in (*secrets, *SAID)]
    found = []
    for path in paths:
        content = path.read_bytes()
        for canary in canaries:
            if (at := content.find(canary)) >= 0:
                found.append(f"{path.name}:{content.count(bytes([10]), 0, at) + 1}")
    return sorted(set(found))
