"""The clock: at the scheduled times it asks for a round, when there is enough feedback and no quiet hour. Nothing else.

APScheduler only inserts a wish; the round's row holds the state. Asking twice does no harm, since the store keeps one
open round; a time missed while the machine slept is made up for once, within an hour.
"""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, time
from typing import Any

from feedback_store import rounds
from feedback_store.errors import Conflict, StoreUnavailable
from trainer.context import TrainerContext
from trainer.readiness import readiness

logger = logging.getLogger(__name__)

REQUESTED_BY = "schedule"
_LATE_S = 3600


class RoundClock:
    """Asks for rounds at `rounds.schedule`. `start` and `close`; without a schedule it does nothing."""

    def __init__(self, context: TrainerContext, on_requested: Callable[[], None] = lambda: None) -> None:
        self._context = context
        self._on_requested = on_requested
        self._scheduler: Any = None
        self._turn = threading.Lock()

    def start(self) -> None:
        """Begin. Raises ValueError for a schedule or quiet hours that cannot be read."""
        settings = self._context.rounds
        parse_quiet_hours(settings.quiet_hours)
        if not settings.schedule:
            return
        from apscheduler.schedulers.background import BackgroundScheduler
        from apscheduler.triggers.cron import CronTrigger

        try:
            trigger = CronTrigger.from_crontab(settings.schedule)
        except ValueError as error:
            raise ValueError(
                f"rounds.schedule is {settings.schedule!r}: {error}; wanted: minute hour day month weekday, "
                'for example "0 3 * * *"'
            ) from error
        self._scheduler = BackgroundScheduler(
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": _LATE_S}
        )
        self._scheduler.add_job(self.tick, trigger, id="round")
        self._scheduler.start()

    def close(self) -> None:
        """Stop."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=True)

    def tick(self, now: datetime | None = None) -> str:
        """One stroke of the clock: ask for a round if one may run; return what was decided, in words."""
        context = self._context
        moment = (now or datetime.now().astimezone()).time()
        if is_quiet(moment, parse_quiet_hours(context.rounds.quiet_hours)):
            decided = "quiet hours"
        else:
            decided = self._ask()
        logger.info("schedule decided=%s", decided)
        return decided

    def _ask(self) -> str:
        context = self._context
        try:
            with self._turn:
                report = context.store.read(readiness, context.rounds, context.training)
                if not report.ready:
                    return report.reason
                wish = context.store.write(
                    rounds.request_round, method=report.method, requested_by=REQUESTED_BY, settings={}
                )
        except (Conflict, StoreUnavailable) as error:
            return str(error)
        self._on_requested()
        return f"round {wish.round_id} requested"


def parse_quiet_hours(text: str) -> tuple[time, time] | None:
    """Read "HH:MM-HH:MM" (local time; it may pass midnight); None for none. Raises ValueError."""
    if not text.strip():
        return None
    begin, dash, end = text.partition("-")
    try:
        if not dash:
            raise ValueError
        return time.fromisoformat(begin.strip()), time.fromisoformat(end.strip())
    except ValueError:
        raise ValueError(f'rounds.quiet_hours is {text!r}; wanted: a span like "08:00-22:00", or nothing') from None


def is_quiet(moment: time, span: tuple[time, time] | None) -> bool:
    """Whether a local time lies in the span: its begin is inside, its end is not. Equal ends span the whole day."""
    if span is None:
        return False
    begin, end = span
    if begin < end:
        return begin <= moment < end
    return moment >= begin or moment < end
