"""A round under way lets go of who was erased: their rows leave its folder, and it trains anew without them.

The folder holds copies of texts, and the training process has read them. So it is ended, the rows that are gone from
the store leave the files, and with them goes everything that was computed from the old rows (checkpoints, a sealed
adapter, a gate's report): what comes out has never seen them, and no version needs to be flagged for it.

A crash between any two steps is mended by the next look: `job.json`, which says up to which erasure the folder has
looked, is written last.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from feedback_store.connection import Connection
from feedback_store.erasures import deleted_acts, emptied_replies, newest_erasure
from feedback_store.store import Store
from trainer.job import (
    CHECKPOINTS_DIR,
    GATE_FILE,
    HELD_OUT_FILE,
    PROMPTS_FILE,
    REWARD_FILE,
    ROLLOUTS_FILE,
    SEALED_FILE,
    TRAIN_FILE,
    UNJUDGED_FILE,
    PairRow,
    PromptRow,
    Row,
    read_job,
    read_prompts,
    read_rows,
    write_job,
)

logger = logging.getLogger(__name__)

COMPUTED_DIRS = (CHECKPOINTS_DIR, "adapter", "cache", "trl")
"""What a training leaves in a round's folder beside its files."""
_COMPUTED_FILES = (SEALED_FILE, GATE_FILE, REWARD_FILE)


class Erased(Exception):
    """Somebody was erased whose words the folder holds."""


@dataclass(frozen=True, slots=True)
class Gone:
    """What of a folder the store no longer keeps."""

    replies: frozenset[str]
    acts: frozenset[int]

    def __bool__(self) -> bool:
        return bool(self.replies or self.acts)

    def has_row(self, row: Row) -> bool:
        """Whether a row must leave."""
        return row.feedback_id in self.acts or not self.replies.isdisjoint(_replies_of(row))

    def has_prompt(self, row: PromptRow) -> bool:
        """Whether a prompt must leave."""
        return row.reply_id in self.replies


class Watch:
    """Looks whether a round's folder holds something of somebody who was erased since it was written."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._erasure = read_job(folder).erasure
        self.times_anew = 0
        """How often rows had to leave."""

    def look(self) -> None:
        """Raise Erased when it does."""
        newest = self._store.read(newest_erasure)
        if newest > self._erasure:
            if self._store.read(gone_from, self._folder):
                raise Erased
            self._erasure = newest

    def leave_out(self, unselect: Callable[[set[int]], None]) -> None:
        """Let go of it, in a folder that nobody works in. `unselect` is first told which acts are in no row now."""
        self.times_anew += 1
        newest = self._store.read(newest_erasure)
        gone = self._store.read(gone_from, self._folder)
        kept = {row.feedback_id for row in _rows(self._folder) if not gone.has_row(row)}
        unselect({row.feedback_id for row in _rows(self._folder)} - kept)
        rewrite(self._folder, gone, newest)
        self._erasure = newest
        logger.info("rows of erased people left folder=%s", self._folder.name)


def gone_from(connection: Connection, folder: Path) -> Gone:
    """Return what in a round's folder was erased since it was written."""
    rows = list(_rows(folder))
    names = {name for row in rows for name in _replies_of(row)}
    prompts = [row for file in (PROMPTS_FILE, ROLLOUTS_FILE) for row in read_prompts(folder, file)]
    names |= {row.reply_id for row in prompts if row.reply_id is not None}
    acts = {row.feedback_id for row in rows if row.feedback_id > 0}  # 0: a pair that nobody has judged
    return Gone(
        frozenset(emptied_replies(connection, sorted(names))), frozenset(deleted_acts(connection, sorted(acts)))
    )


def rewrite(folder: Path, gone: Gone, erasure: int) -> None:
    """Take what is gone out of a folder, and what was computed from it. erasure: the newest that `gone` knows of."""
    for name in COMPUTED_DIRS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in _COMPUTED_FILES:
        (folder / name).unlink(missing_ok=True)
    train, held_out, unjudged = (
        [row for row in read_rows(folder, file) if not gone.has_row(row)]
        for file in (TRAIN_FILE, HELD_OUT_FILE, UNJUDGED_FILE)
    )
    prompts, rollouts = (
        [row for row in read_prompts(folder, file) if not gone.has_prompt(row)]
        for file in (PROMPTS_FILE, ROLLOUTS_FILE)
    )
    pairs = [row for row in unjudged if isinstance(row, PairRow)]
    write_job(folder, replace(read_job(folder), erasure=erasure), train, held_out, prompts, rollouts, pairs)


def _rows(folder: Path) -> Iterator[Row]:
    for file in (TRAIN_FILE, HELD_OUT_FILE, UNJUDGED_FILE):
        yield from read_rows(folder, file)


def _replies_of(row: Row) -> tuple[str, ...]:
    return (row.chosen.reply_id, row.rejected.reply_id) if isinstance(row, PairRow) else (row.reply.reply_id,)
