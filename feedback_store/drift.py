"""How replies drift over time: refusals, how sure the policy is of its words, how far it went from the base model.

A drift shows here before anybody complains: a policy that pleases may refuse more, one that collapses is ever surer of
ever the same words (its mean −log π a token, from the logged log-probabilities, falls).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from feedback_store.health import Alert, Step, beginnings, bucket_of, read_beginning
from feedback_store.refusals import CHARACTERS, is_refusal
from feedback_store.schema import policy_versions, replies
from feedback_store.statistics import wilson

SAMPLE = 300
"""Replies of one bucket whose first words are read."""
FEWEST = 50
"""Replies below which no alert is raised."""


@dataclass(slots=True)
class Drift:
    """An hour or a day. None: nothing to tell."""

    begins: datetime
    read: int = 0
    """Replies whose words were read: the newest whose text is kept."""
    refused: int = 0
    scored: int = 0
    """Replies whose log-probability is known."""
    surprise_nats: float | None = None
    """Mean −log π of a token of theirs."""
    kl_base_nats: float | None = None
    """Divergence from the base model, nats a reply: what each version's gate measured, weighted by its replies."""

    @property
    def refusal_rate(self) -> float | None:
        """Share of the replies read that decline."""
        return self.refused / self.read if self.read else None

    @property
    def refusal_interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of that share."""
        return wilson(self.refused, self.read) if self.read else None


def drift(connection: Connection, since: datetime, until: datetime, step: Step) -> list[Drift]:
    """Return the buckets from `since` to `until`, oldest first, empty ones included."""
    found = {begins: Drift(begins) for begins in beginnings(since, until, step)}
    _read_words(connection, found, since, until, step)
    _read_scores(connection, found, since, until, step)
    return list(found.values())


def alerts(recent: Sequence[Drift], before: Sequence[Drift]) -> list[Alert]:
    """Return what deserves a look. recent: the last day; before: the days to hold it against."""
    return [*_refusals_rose(recent, before), *_surer(recent, before)]


def _read_words(
    connection: Connection, found: Mapping[datetime, Drift], since: datetime, until: datetime, step: Step
) -> None:
    at = bucket_of(connection, replies.c.created_at, step)
    ranked = (
        select(
            at.label("at"),
            replies.c.reply_id,
            func.row_number().over(partition_by=at, order_by=replies.c.created_at.desc()).label("place"),
        )
        .where(replies.c.created_at >= since, replies.c.created_at < until)
        .subquery("ranked")
    )
    heads = (
        select(ranked.c.at, func.substr(replies.c.text, 1, CHARACTERS))
        .join(replies, replies.c.reply_id == ranked.c.reply_id)
        .where(ranked.c.place <= SAMPLE, replies.c.text.is_not(None))
    )
    for text, head in connection.execute(heads):
        if (bucket := found.get(read_beginning(text))) is not None:
            bucket.read += 1
            bucket.refused += is_refusal(head)


def _read_scores(
    connection: Connection, found: Mapping[datetime, Drift], since: datetime, until: datetime, step: Step
) -> None:
    at = bucket_of(connection, replies.c.created_at, step)
    query = select(
        at.label("at"),
        replies.c.policy_version,
        func.count(),
        func.count(replies.c.logprob_nats),
        func.sum(-replies.c.logprob_nats),
        func.sum(replies.c.completion_tokens).filter(replies.c.logprob_nats.is_not(None)),
    ).where(replies.c.created_at >= since, replies.c.created_at < until)
    gated = _kl_base(connection)
    nats: dict[datetime, tuple[float, float]] = {}
    spread: dict[datetime, tuple[float, int]] = {}
    for text, version, count, scored, surprise, tokens in connection.execute(
        query.group_by(at, replies.c.policy_version)
    ):
        begins = read_beginning(text)
        if begins not in found:
            continue
        found[begins].scored += scored
        if tokens:
            total, of = nats.get(begins, (0.0, 0.0))
            nats[begins] = (total + surprise, of + tokens)
        if version in gated:
            far, replied = spread.get(begins, (0.0, 0))
            spread[begins] = (far + gated[version] * count, replied + count)
    for begins, (total, of) in nats.items():
        found[begins].surprise_nats = total / of
    for begins, (far, replied) in spread.items():
        found[begins].kl_base_nats = far / replied


def _kl_base(connection: Connection) -> dict[int, float]:
    """Version → what its gate measured; version 1 is the base model itself."""
    found = {1: 0.0}
    for version, report in connection.execute(select(policy_versions.c.version, policy_versions.c.gate_report)):
        for check in (report or {}).get("checks", ()):
            if check.get("name") == "kl_base" and check.get("value") is not None:
                found[version] = float(check["value"])
    return found


def _refusals_rose(recent: Sequence[Drift], before: Sequence[Drift]) -> list[Alert]:
    """The last day's interval lies above that of the days before."""
    read, refused = sum(one.read for one in recent), sum(one.refused for one in recent)
    read_before, refused_before = sum(one.read for one in before), sum(one.refused for one in before)
    if read < FEWEST or read_before < FEWEST:
        return []
    if wilson(refused, read)[0] <= wilson(refused_before, read_before)[1]:
        return []
    return [Alert("refusals_rose", {"now": refused / read, "before": refused_before / read_before})]


def _surer(recent: Sequence[Drift], before: Sequence[Drift]) -> list[Alert]:
    """A token surprises the policy a third less than before: it says ever the same."""

    def mean(buckets: Sequence[Drift]) -> tuple[float, int]:
        known = [(one.surprise_nats, one.scored) for one in buckets if one.surprise_nats is not None]
        count = sum(scored for _, scored in known)
        return (sum(nats * scored for nats, scored in known) / count if count else 0.0), count

    (present, count), (former, count_before) = mean(recent), mean(before)
    if count < FEWEST or count_before < FEWEST or present >= 0.67 * former:
        return []
    return [Alert("surer", {"now": present, "before": former})]
