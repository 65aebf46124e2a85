"""What raters do, by hashed id: how much, how one-sided, how fast, and who votes like whom. Signals, not verdicts.

Read from the newest MOST_ACTS acts, so that a store of any size answers in time. At ten votes a rater nobody can be
profiled; what can be seen is a flood (the cap of a round takes its weight), a burst, and accounts that vote alike on
the same replies.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from feedback_store.records import Rater
from feedback_store.rows import IN_PARTS
from feedback_store.schema import feedback, raters
from feedback_store.statistics import wilson

MOST_ACTS = 50_000
BURST_S = 60.0
"""The most acts within this time is a rater's burst."""
BURST_FROM = 20
LEAST_SHARED = 5
"""Replies that two raters must both have judged before their agreement is looked at."""
ALIKE_FROM = 0.9


@dataclass(slots=True)
class Activity:
    """One rater's recent acts. Signals: `burst` (acts in their quickest minute), `alike` (who votes the same)."""

    rater_id: str
    channel: str = ""
    quarantined: bool = False
    consent: bool | None = None
    acts: int = 0
    up: int = 0
    down: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    burst: int = 0
    agreed: int = 0
    compared: int = 0
    """Judgements of others on the same replies that theirs could be held against; `agreed` were the same."""
    alike: list[tuple[str, int, float]] = field(default_factory=list)
    """Raters who voted alike on replies that both judged: id, replies, share that is the same."""

    @property
    def up_share(self) -> float | None:
        """Share of their thumbs that are up."""
        return self.up / (self.up + self.down) if self.up + self.down else None

    @property
    def agreement(self) -> float | None:
        """Share of the others' judgements that are like theirs; None where nobody judged the same."""
        return self.agreed / self.compared if self.compared else None

    @property
    def agreement_interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of that share."""
        return wilson(self.agreed, self.compared) if self.compared else None

    def signals(self, cap: int) -> list[str]:
        """What deserves a look: names of `flood`, `burst`, `alike`, `one_sided`."""
        found = ["flood"] if self.acts > 10 * cap else []
        found += ["burst"] if self.burst >= BURST_FROM else []
        found += ["alike"] if self.alike else []
        thumbs = self.up + self.down
        found += ["one_sided"] if thumbs >= 30 and (self.up == 0 or self.down == 0) else []
        return found


def activities(connection: Connection) -> list[Activity]:
    """Return what raters did in the newest acts, the busiest first."""
    rows = _newest(connection)
    found: dict[str, Activity] = {}
    times: dict[str, list[float]] = defaultdict(list)
    thumbs: dict[tuple[str, str], str] = {}
    for rater_id, kind, reply_id, thumb, at in rows:
        one = found.setdefault(rater_id, Activity(rater_id))
        one.acts += 1
        one.first_at = one.first_at or at
        one.last_at = at
        times[rater_id].append(at.timestamp())
        if kind == "thumb":
            if thumb is None:
                thumbs.pop((rater_id, reply_id), None)
            else:
                thumbs[rater_id, reply_id] = thumb
    for (rater_id, _), thumb in thumbs.items():
        found[rater_id].up += thumb == "up"
        found[rater_id].down += thumb == "down"
    for rater_id, moments in times.items():
        found[rater_id].burst = _burst(sorted(moments))
    _hold_together(found, thumbs)
    for rater in _raters(connection, list(found)):
        one = found[rater.rater_id]
        one.channel, one.quarantined, one.consent = rater.channel, rater.quarantined, rater.consent
    return sorted(found.values(), key=lambda one: (-one.acts, one.rater_id))


def counts(connection: Connection) -> dict[str, int]:
    """Return how many raters there are, and how many of them are quarantined, agreed or declined."""
    by_consent = select(raters.c.consent, func.count()).group_by(raters.c.consent)
    found = {str(consent): number for consent, number in connection.execute(by_consent)}
    quarantined = select(func.count()).where(raters.c.quarantined.is_(True))
    return {
        "raters": sum(found.values()),
        "agreed": found.get("True", 0),
        "declined": found.get("False", 0),
        "quarantined": connection.execute(quarantined).scalar_one(),
    }


def acts_of(connection: Connection, rater_id: str, limit: int = 100) -> list[Mapping[str, Any]]:
    """Return a rater's newest acts, newest first. Their words are left out: who reads them goes to the reply."""
    columns = (feedback.c.feedback_id, feedback.c.kind, feedback.c.reply_id, feedback.c.comparison_id)
    query = select(*columns, feedback.c.thumb, feedback.c.verdict, feedback.c.created_at)
    query = query.where(feedback.c.rater_id == rater_id).order_by(feedback.c.feedback_id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def _newest(connection: Connection) -> list[Any]:
    columns = (feedback.c.rater_id, feedback.c.kind, feedback.c.reply_id, feedback.c.thumb, feedback.c.created_at)
    query = select(*columns).order_by(feedback.c.feedback_id.desc()).limit(MOST_ACTS)
    return list(connection.execute(query, execution_options=IN_PARTS))[::-1]


def _burst(moments: Sequence[float]) -> int:
    most, start = 0, 0
    for end, moment in enumerate(moments):
        while moment - moments[start] > BURST_S:
            start += 1
        most = max(most, end - start + 1)
    return most


def _hold_together(found: Mapping[str, Activity], thumbs: Mapping[tuple[str, str], str]) -> None:
    """Compare the judgements of raters on replies that more than one of them judged."""
    by_reply: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for (rater_id, reply_id), thumb in thumbs.items():
        by_reply[reply_id].append((rater_id, thumb))
    shared: Counter[tuple[str, str]] = Counter()
    same: Counter[tuple[str, str]] = Counter()
    for judged in by_reply.values():
        if not 2 <= len(judged) <= 50:  # a reply that a crowd judged says little about two of them
            continue
        for index, (one, thumb) in enumerate(judged):
            for other, other_thumb in judged[index + 1 :]:
                pair = (one, other) if one < other else (other, one)
                shared[pair] += 1
                same[pair] += thumb == other_thumb
    for (one, other), number in shared.items():
        agreed = same[one, other]
        for rater_id, partner in ((one, other), (other, one)):
            found[rater_id].compared += number
            found[rater_id].agreed += agreed
            if number >= LEAST_SHARED and agreed / number >= ALIKE_FROM:
                found[rater_id].alike.append((partner, number, agreed / number))
    for activity in found.values():
        activity.alike.sort(key=lambda entry: (-entry[1], entry[0]))
        del activity.alike[5:]


def _raters(connection: Connection, rater_ids: Sequence[str]) -> list[Rater]:
    found = []
    for start in range(0, len(rater_ids), 500):
        query = select(raters).where(raters.c.rater_id.in_(rater_ids[start : start + 500]))
        found += [Rater(**row) for row in connection.execute(query).mappings()]
    return found
