"""The work on one update, and what of it is behind us: how a bot that was killed goes on where it was cut off.

A plug-in in a host's process has no inbox; its work remembers nothing (`LooseWork`). Our own bot sets a work of its
inbox for the time of an update (`CURRENT`), and the handlers find it there.
"""

from contextvars import ContextVar
from typing import Protocol

from telegram import Update


class Work(Protocol):
    """The work on one update."""

    event: str
    """The update's number, as the key under which its act counts once."""

    async def step(self, name: str) -> str | None:
        """Return what a step left behind in an earlier try; None if it was not reached."""

    async def note(self, name: str, value: str) -> None:
        """Note that a step is behind. Returns when that is on disk."""

    def put_off(self, error: Exception) -> None:
        """Let the update be worked on again later: what it needs is away."""


class LooseWork:
    """Work without an inbox. It satisfies `Work`."""

    def __init__(self, event: str) -> None:
        self.event = event

    async def step(self, name: str) -> str | None:
        return None

    async def note(self, name: str, value: str) -> None:
        pass

    def put_off(self, error: Exception) -> None:
        pass


CURRENT: ContextVar[Work | None] = ContextVar("thumbwise_work", default=None)


def work_of(update: Update) -> Work:
    """Return the work on an update."""
    current, event = CURRENT.get(), str(update.update_id)
    return current if current is not None and current.event == event else LooseWork(event)
