"""The clock: at the scheduled times it asks for a round, when there is enough feedback and no quiet hour.

A due time is a wall-clock time of the cron expression ("03:00"), and a row of the store settles it: one round for it,
or a reason why there is none, whatever the number of schedulers, restarts and clock jumps (feedback_store/dues.py). So:

- The clock is read anew at every look; nothing is counted from the last one. Set forward past a due time, it asks
  early; set back, it finds the row and does nothing.
- An hour that daylight saving repeats has its due times once, the first time; one that it skips has them right after.
- A due time that was missed (the machine slept, another round was open) is made up for once, within `rounds.late_s`;
  of several missed the last one counts.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from feedback_store import dues
from feedback_store.errors import StoreUnavailable
from trainer.context import TrainerContext
from trainer.readiness import readiness

logger = logging.getLogger(__name__)

REQUESTED_BY = "schedule"
_LOOK_EVERY_S = 5.0
_MOST_SHIFT = timedelta(hours=3)
"""More than any change of a zone's offset: so far around the present its due times are looked for."""


class RoundClock:
    """Asks for rounds at `rounds.schedule`. `start` and `close`; without a schedule it does nothing."""

    def __init__(
        self,
        context: TrainerContext,
        on_requested: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._context = context
        self._on_requested = on_requested
        self._clock = clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = ""

    def start(self) -> None:
        """Begin. Raises ValueError for a schedule, quiet hours or a time zone that cannot be read."""
        settings = self._context.rounds
        parse_quiet_hours(settings.quiet_hours)
        zone_of(settings.timezone)
        if not settings.schedule:
            return
        parse_schedule(settings.schedule)
        self._thread = threading.Thread(target=self._run, name="round-clock", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.tick()
            except Exception:  # a clock that dies asks for nothing ever again, and nobody notices
                logger.exception("the schedule could not be looked at; trying again")
            self._stop.wait(_LOOK_EVERY_S)

    def tick(self) -> str:
        """Look at the clock: settle the due time that is over, if there is one; return what was decided, in words."""
        decided = self._decide(self._clock())
        if decided != self._said:
            logger.info("schedule decided=%s", decided)
            self._said = decided
        return decided

    def _decide(self, now: datetime) -> str:
        settings, store = self._context.rounds, self._context.store
        due = latest_due(settings.schedule, settings.timezone, now, settings.late_s)
        if due is None:
            return "nothing is due"
        name = due.strftime("%Y-%m-%dT%H:%M")
        try:
            known = store.read(dues.get_due, name)
            if known is not None and known.state != "waiting":
                return f"{name}: {known.reason}"
            if is_quiet(due.time(), parse_quiet_hours(settings.quiet_hours)):
                return f"{name}: {store.write(dues.skip_due, name, 'quiet hours', at=now).reason}"
            report = store.read(readiness, settings, self._context.training, self._context.reward)
            if not report.ready:
                return f"{name}: {store.write(dues.skip_due, name, report.reason, at=now).reason}"
            settled = store.write(dues.ask_due, name, method=report.method, requested_by=REQUESTED_BY, at=now)
        except StoreUnavailable as error:
            return str(error)
        if settled.state == "asked":
            self._on_requested()
        return f"{name}: {settled.reason}"


def parse_schedule(schedule: str) -> Any:
    """Read a cron expression as a trigger over wall-clock times, written as if they were UTC. Raises ValueError."""
    from apscheduler.triggers.cron import CronTrigger

    try:
        return CronTrigger.from_crontab(schedule, timezone=UTC)
    except ValueError as error:
        raise ValueError(
            f'rounds.schedule is {schedule!r}: {error}; wanted: minute hour day month weekday, for example "0 3 * * *"'
        ) from error


def zone_of(name: str) -> tzinfo | None:
    """Return the time zone; None for this machine's. Raises ValueError for an unknown one."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f'rounds.timezone is {name!r}; wanted: a name like "Europe/Berlin", or nothing') from None


def latest_due(schedule: str, timezone: str, now: datetime, late_s: float) -> datetime | None:
    """Return the newest due time that lies at most `late_s` back, as the wall clock of the zone shows it (naive)."""
    trigger, zone = parse_schedule(schedule), zone_of(timezone)
    local = now.astimezone(zone).replace(tzinfo=UTC)
    at = local - timedelta(seconds=late_s) - _MOST_SHIFT
    newest: tuple[datetime, datetime] | None = None
    while (found := trigger.get_next_fire_time(None, at)) is not None and found <= local + _MOST_SHIFT:
        wall = found.replace(tzinfo=None, fold=0)
        moment = wall.replace(tzinfo=zone).astimezone(UTC) if zone else wall.astimezone(UTC)
        if now - timedelta(seconds=late_s) < moment <= now and (newest is None or moment >= newest[0]):
            newest = (moment, wall)
        at = found + timedelta(minutes=1)
    return None if newest is None else newest[1]


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
