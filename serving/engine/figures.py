"""How an engine's steps go: figures that its thread keeps and a scrape reads, without a lock and without a library.

Only the engine's thread writes. A reader may see a value counted in one figure and not yet in another; the next scrape
has both.
"""

import time
from bisect import bisect_left
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from typing import Protocol

TOKEN_BOUNDS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
QUEUE_BOUNDS_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(slots=True)
class Distribution:
    """How many values fell at or below each bound and above the one before; the last count is of those above all."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float, times: int = 1) -> None:
        """Count a value that was seen `times` times."""
        if times > 0:
            self.counts[bisect_left(self.bounds, value)] += times
            self.total += value * times


@dataclass(slots=True)
class EngineFigures:
    """What one engine has done since it started."""

    tokens: int = 0
    """Tokens drawn, each reply's first one included."""
    batch_replies: Distribution = field(default_factory=lambda: Distribution(BATCH_BOUNDS))
    """Replies that got a token, for each step in which any did."""
    token_seconds: Distribution = field(default_factory=lambda: Distribution(TOKEN_BOUNDS_S))
    """From one token of a reply to its next, for each token but the first: the step, and whatever came between."""
    queue_seconds: Distribution = field(default_factory=lambda: Distribution(QUEUE_BOUNDS_S))
    """From a request's admission to its place in a batch, for each that got one."""

    def joined(self, waits_s: list[float]) -> None:
        """Count requests that leave the queue, by how long each waited."""
        for wait_s in waits_s:
            self.queue_seconds.add(wait_s)


class Row(Protocol):
    """A reply under way, of which only the growth is looked at."""

    @property
    def token_ids(self) -> Sized: ...


class TurnMeter:
    """Measures one turn of a batch from outside, by how its replies grow: whatever joins, reads prompts or leaves."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """`rows`: every reply that may get a token in this turn."""
        self._rows = rows
        self._lengths = [len(row.token_ids) for row in rows]
        self._step_began_at = time.monotonic()

    def step_begins(self) -> None:
        """Note that what came before the step (prompts that join at once) is over."""
        self._step_began_at = time.monotonic()

    def end(self, figures: EngineFigures, turn_before_ended_at: float) -> float:
        """Add the turn to `figures`; return the present time, which is when it ended.

        A reply that had tokens before got its next one after the whole time since the turn before; one that got its
        first and its second token in this turn waited for the step alone.
        """
        now = time.monotonic()
        grown = [(before, len(row.token_ids)) for row, before in zip(self._rows, self._lengths, strict=True)]
        grown = [(before, after) for before, after in grown if after > before]
        if grown:
            tokens = sum(after - before for before, after in grown)
            begun = sum(before == 0 for before, _ in grown)
            continued = len(grown) - begun
            figures.tokens += tokens
            figures.batch_replies.add(len(grown))
            figures.token_seconds.add(now - turn_before_ended_at, continued)
            figures.token_seconds.add(now - self._step_began_at, tokens - begun - continued)
        return now
