"""Once a day: what is too old is deleted (feedback_store/retention.py), and old log files with it.

The clock is read anew at every look, and a day's run that was missed is made up for at the next look: a second run of a
day finds nothing to do, so that no row needs to say which ones there were.
"""

import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feedback_store.retention import RetentionReport, run_retention
from trainer.context import TrainerContext
from trainer.looking import Looking
from trainer.schedule import zone_of

logger = logging.getLogger(__name__)

ACTOR = "schedule"
_LOOK_EVERY_S = 60.0
_OLD_LOG = re.compile(r".+\.log\.[0-9]+")
_DAY_S = 86_400


class RetentionClock:
    """Deletes what is too old at `retention.at`. `start` and `close`; without a time it does nothing."""

    def __init__(self, context: TrainerContext, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._context, self._clock = context, clock
        self._looking = Looking("retention", self.look, _LOOK_EVERY_S)
        self._done = ""

    def start(self) -> None:
        """Begin. The first look is a minute later: a start has other things to do."""
        if self._context.retention.at:
            self._looking.start()

    def close(self) -> None:
        """Stop; a batch under way ends first."""
        self._looking.close()

    def look(self) -> RetentionReport | None:
        """Run what is due; None when nothing is."""
        now = self._clock()
        due = latest_day(self._context.retention.at, self._context.rounds.timezone, now)
        if due == self._done:
            return None
        report = run_retention(self._context.store, self._context.retention, now, ACTOR)
        files = old_log_files(self._context.data_dir, self._context.retention.log_days)
        for path in files:
            path.unlink(missing_ok=True)
        self._done = due
        if files or not report.is_empty:
            logger.info("what was too old is deleted due=%s counts=%s log_files=%d", due, report.as_dict(), len(files))
        return report


def latest_day(at: str, timezone: str, now: datetime) -> str:
    """Return the newest day whose time `at` is over, as the wall clock of the zone has it."""
    local = now.astimezone(zone_of(timezone))
    return (local.date() if f"{local:%H:%M}" >= at else local.date() - timedelta(days=1)).isoformat()


def old_log_files(data_dir: Path, days: int | None) -> list[Path]:
    """Return the rotated log files that nothing was written to for so many days."""
    folder = data_dir / "logs"
    if days is None or not folder.is_dir():
        return []
    before = time.time() - days * _DAY_S
    return sorted(path for path in folder.iterdir() if _OLD_LOG.fullmatch(path.name) and path.stat().st_mtime < before)
