"""Replies, comparisons and conversations: what users saw, stored once and never changed.

A comparison is stored after its replies, in the same write: `add_reply` each, then `add_comparison`, which checks them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select, tuple_

from feedback_store.checks import check_channel, check_identifier, check_messages
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.inserts import insert_if_new
from feedback_store.records import Comparison, Conversation, Reply, Sampling
from feedback_store.rows import as_dicts
from feedback_store.schema import comparisons, conversations, now, policy_versions, raters, replies
from feedback_store.writer import remembered

MOST_AT_ONCE = 500
"""Ids in one IN list."""


def add_reply(connection: Connection, reply: Reply) -> None:
    """Store a reply, and its conversation when that is new.

    Raises Conflict when the id is taken, Refused for a field that breaks a rule (unknown rater or version included).
    """
    check_identifier("reply_id", reply.reply_id)
    check_channel(reply.channel)
    _check_version(connection, reply.policy_version)
    _check_rater(connection, reply.rater_id)
    if reply.comparison_id is not None:
        check_identifier("comparison_id", reply.comparison_id)
    at = reply.created_at or now()
    if reply.conversation_id is not None:
        _ensure_conversation(connection, reply.conversation_id, reply.channel, at)
    added = insert_if_new(connection, replies, reply_values(reply, at))
    if not added:
        raise Conflict(f"the reply {reply.reply_id!r} is stored already; wanted: an id of its own for each reply")
    remembered(connection, "replies")[reply.reply_id] = True


def add_comparison(connection: Connection, comparison: Comparison) -> None:
    """Store a comparison of replies that are stored already, each with this comparison's id and its place as
    shown_position. Raises Conflict when the id is taken, Refused for a field that breaks a rule."""
    check_identifier("comparison_id", comparison.comparison_id)
    check_channel(comparison.channel)
    _check_rater(connection, comparison.rater_id)
    if len(comparison.reply_ids) < 2 or len(set(comparison.reply_ids)) != len(comparison.reply_ids):
        raise Refused("reply_ids", f"reply_ids holds {len(comparison.reply_ids)} ids; wanted: at least 2, each once")
    found = {reply.reply_id: reply for reply in replies_by_id(connection, comparison.reply_ids).values()}
    for position, reply_id in enumerate(comparison.reply_ids):
        reply = found.get(reply_id)
        if reply is None:
            raise Refused("reply_ids", f"reply_ids names {reply_id!r}, which is not stored; wanted: add_reply first")
        if (reply.comparison_id, reply.shown_position) != (comparison.comparison_id, position):
            raise Refused(
                "reply_ids",
                f"the reply {reply_id!r} says comparison {reply.comparison_id!r}, place {reply.shown_position}; "
                f"wanted: {comparison.comparison_id!r}, place {position}",
            )
    at = comparison.created_at or now()
    if comparison.conversation_id is not None:
        _ensure_conversation(connection, comparison.conversation_id, comparison.channel, at)
    added = insert_if_new(connection, comparisons, comparison_values(comparison, at))
    if not added:
        raise Conflict(f"the comparison {comparison.comparison_id!r} is stored already")


def get_reply(connection: Connection, reply_id: str) -> Reply:
    """Return the reply. Raises NotFound."""
    row = connection.execute(select(replies).where(replies.c.reply_id == reply_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no reply {reply_id!r}")
    return reply_of_row(row)


def replies_by_id(connection: Connection, reply_ids: Sequence[str]) -> dict[str, Reply]:
    """Return the replies of these ids, each under its id; unknown ids are left out."""
    found: dict[str, Reply] = {}
    for start in range(0, len(reply_ids), MOST_AT_ONCE):
        query = select(replies).where(replies.c.reply_id.in_(reply_ids[start : start + MOST_AT_ONCE]))
        found.update((row["reply_id"], reply_of_row(row)) for row in as_dicts(connection.execute(query)))
    return found


_LEAN = tuple(column for column in replies.c if column.name not in ("rendered_prompt", "metadata"))


def lean_replies(connection: Connection, reply_ids: Sequence[str]) -> dict[str, Reply]:
    """`replies_by_id` for many thousands: without the rendered prompt and the caller's metadata, the half of a row that
    nothing is learned from, and equal samplings are one object."""
    found: dict[str, Reply] = {}
    samplings: dict[Sampling, Sampling] = {}
    names = [column.name for column in _LEAN]
    for start in range(0, len(reply_ids), MOST_AT_ONCE):
        query = select(*_LEAN).where(replies.c.reply_id.in_(reply_ids[start : start + MOST_AT_ONCE]))
        for row in connection.execute(query):
            values = dict(zip(names, row, strict=True))
            sampling = Sampling(**(values["sampling"] | {"stop": tuple(values["sampling"]["stop"])}))
            values["sampling"] = samplings.setdefault(sampling, sampling)
            messages = values["messages"]
            values["messages"] = None if messages is None else tuple(messages)
            found[values["reply_id"]] = Reply(rendered_prompt=None, **values)
    return found


def trainable_replies(connection: Connection, reply_ids: Sequence[str]) -> dict[str, Reply]:
    """`lean_replies`, less the replies whose text is not kept or whose rater has since taken consent back."""
    found = {
        reply_id: reply
        for reply_id, reply in lean_replies(connection, reply_ids).items()
        if reply.messages is not None and reply.text is not None
    }
    revoked = _revoked(connection)
    return {reply_id: reply for reply_id, reply in found.items() if reply.rater_id not in revoked}


def _revoked(connection: Connection) -> set[str]:
    """Everybody who takes part without leave to keep texts, or has taken that leave back."""
    return set(connection.execute(select(raters.c.rater_id).where(raters.c.consent.is_(False))).scalars())


@dataclass(frozen=True, slots=True)
class Learnable:
    """What says whether and under which prompt a reply may be learnt from, without its text."""

    reply_id: str
    channel: str
    messages: tuple[Mapping[str, str], ...]


def each_learnable(connection: Connection, reply_ids: Sequence[str]) -> Iterator[Learnable]:
    """Yield, of these replies, those that were said to their end, whose text is kept, and whose rater has not taken
    consent back: a few hundred at a time, for a caller that keeps little of each."""
    columns = (replies.c.reply_id, replies.c.channel, replies.c.messages, replies.c.rater_id)
    revoked = _revoked(connection)
    for start in range(0, len(reply_ids), MOST_AT_ONCE):
        asked = reply_ids[start : start + MOST_AT_ONCE]
        own = {name: name for name in asked}  # the caller's own string, not a second one for each reply
        query = select(*columns).where(
            replies.c.reply_id.in_(asked), replies.c.text.is_not(None), replies.c.finish_reason != "cancelled"
        )
        for reply_id, channel, messages, rater_id in connection.execute(query):
            if messages is not None and rater_id not in revoked:
                yield Learnable(own[reply_id], channel, tuple(messages))


def get_comparison(connection: Connection, comparison_id: str) -> Comparison:
    """Return the comparison. Raises NotFound."""
    query = select(comparisons).where(comparisons.c.comparison_id == comparison_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no comparison {comparison_id!r}")
    return _comparison(row)


def comparisons_by_id(connection: Connection, comparison_ids: Sequence[str]) -> dict[str, Comparison]:
    """Return the comparisons of these ids, each under its id; unknown ids are left out."""
    found: dict[str, Comparison] = {}
    for start in range(0, len(comparison_ids), MOST_AT_ONCE):
        query = select(comparisons).where(comparisons.c.comparison_id.in_(comparison_ids[start : start + MOST_AT_ONCE]))
        found.update((row["comparison_id"], _comparison(row)) for row in as_dicts(connection.execute(query)))
    return found


def conversation_replies(connection: Connection, conversation_id: str, rater_id: str | None = None) -> list[Reply]:
    """Return the conversation's replies, oldest first; of this rater alone when one is given (a caller that shows them
    to a person must give it: ownership is part of the query)."""
    query = select(replies).where(replies.c.conversation_id == conversation_id)
    if rater_id is not None:
        query = query.where(replies.c.rater_id == rater_id)
    query = query.order_by(replies.c.created_at, replies.c.shown_position, replies.c.reply_id)
    return [reply_of_row(row) for row in connection.execute(query).mappings()]


def conversations_of(connection: Connection, rater_id: str, limit: int) -> list[Conversation]:
    """Return the rater's conversations, the one used last first."""
    query = (
        select(
            replies.c.conversation_id,
            conversations.c.channel,
            func.count().label("replies"),
            func.min(replies.c.created_at).label("started_at"),
            func.max(replies.c.created_at).label("last_reply_at"),
        )
        .join(conversations, conversations.c.conversation_id == replies.c.conversation_id)
        .where(replies.c.rater_id == rater_id)
        .group_by(replies.c.conversation_id, conversations.c.channel)
        .order_by(func.max(replies.c.created_at).desc(), replies.c.conversation_id)
        .limit(limit)
    )
    rows = connection.execute(query).mappings().all()
    first = _first_messages(connection, rater_id, [row["conversation_id"] for row in rows])
    return [
        Conversation(
            conversation_id=row["conversation_id"],
            channel=row["channel"],
            replies=row["replies"],
            first_message=first.get(row["conversation_id"]),
            started_at=row["started_at"],
            last_reply_at=row["last_reply_at"],
        )
        for row in rows
    ]


def recent_replies(connection: Connection, limit: int, before: datetime | str | None = None) -> list[Reply]:
    """Return the newest replies, newest first. before: for a next page, a time or the id of a reply.

    Raises NotFound for an unknown id.
    """
    query = select(replies)
    if isinstance(before, datetime):
        query = query.where(replies.c.created_at < before)
    elif before is not None:
        last = get_reply(connection, before)
        query = query.where(tuple_(replies.c.created_at, replies.c.reply_id) < tuple_(last.created_at, last.reply_id))
    query = query.order_by(replies.c.created_at.desc(), replies.c.reply_id.desc()).limit(limit)
    return [reply_of_row(row) for row in connection.execute(query).mappings()]


def reply_values(reply: Reply, at: datetime) -> dict[str, Any]:
    """The row of a reply, made at `at` unless it says when itself. Raises Refused for malformed messages."""
    sampling = reply.sampling
    return {
        "reply_id": reply.reply_id,
        "policy_version": reply.policy_version,
        "adapter_sha256": reply.adapter_sha256,
        "channel": reply.channel,
        "rater_id": reply.rater_id,
        "conversation_id": reply.conversation_id,
        "messages": None if reply.messages is None else list(check_messages("messages", reply.messages)),
        "rendered_prompt": _storable(reply.rendered_prompt),
        "text": _storable(reply.text),
        "finish_reason": reply.finish_reason,
        "sampling": {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stop": list(sampling.stop),
            "seed": sampling.seed,
        },
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "logprob_nats": reply.logprob_nats,
        "latency_ms": reply.latency_ms,
        "comparison_id": reply.comparison_id,
        "shown_position": reply.shown_position,
        "metadata": reply.metadata,
        "created_at": reply.created_at or at,
    }


def comparison_values(comparison: Comparison, at: datetime) -> dict[str, Any]:
    """The row of a comparison, opened at `at` unless it says when itself."""
    return {
        "comparison_id": comparison.comparison_id,
        "reply_ids": list(comparison.reply_ids),
        "rater_id": comparison.rater_id,
        "conversation_id": comparison.conversation_id,
        "channel": comparison.channel,
        "created_at": comparison.created_at or at,
        "drawing": comparison.drawing,
    }


def _first_messages(connection: Connection, rater_id: str, conversation_ids: list[str]) -> dict[str, str]:
    first: dict[str, str] = {}
    for conversation_id in conversation_ids:
        query = (
            select(replies.c.messages)
            .where(replies.c.conversation_id == conversation_id, replies.c.rater_id == rater_id)
            .order_by(replies.c.created_at)
            .limit(1)
        )
        for message in connection.execute(query).scalar() or ():
            if message["role"] == "user":
                first[conversation_id] = message["content"]
                break
    return first


def _ensure_conversation(connection: Connection, conversation_id: str, channel: str, at: datetime) -> None:
    known = remembered(connection, "conversations")
    if conversation_id in known:
        return
    check_identifier("conversation_id", conversation_id)
    insert_if_new(connection, conversations, {"conversation_id": conversation_id, "channel": channel, "created_at": at})
    known[conversation_id] = True


def _check_version(connection: Connection, version: int) -> None:
    known = remembered(connection, "policy_versions")
    if version in known:
        return
    query = select(policy_versions.c.version).where(policy_versions.c.version == version)
    if connection.execute(query).scalar() is None:
        raise Refused("policy_version", f"policy_version is {version!r}; wanted: a stored version (see bootstrap)")
    known[version] = True


def _check_rater(connection: Connection, rater_id: str | None) -> None:
    known = remembered(connection, "raters")
    if rater_id is None or rater_id in known:
        return
    if connection.execute(select(raters.c.rater_id).where(raters.c.rater_id == rater_id)).scalar() is None:
        raise Refused("rater_id", f"rater_id is {rater_id!r}; wanted: a known rater (see ensure_rater)")
    known[rater_id] = True


def _storable(text: str | None) -> str | None:
    """The text of a model or a template, which may hold what PostgreSQL cannot: a NUL, half a character."""
    if text is None:
        return None
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def reply_of_row(row: Mapping[str, Any] | RowMapping) -> Reply:
    """The record of a stored row."""
    values: dict[str, Any] = dict(row)
    sampling = values.pop("sampling")
    messages = values.pop("messages")
    return Reply(
        **values,
        messages=None if messages is None else tuple(messages),
        sampling=Sampling(**(sampling | {"stop": tuple(sampling["stop"])})),
    )


def _comparison(row: Mapping[str, Any] | RowMapping) -> Comparison:
    return Comparison(**(dict(row) | {"reply_ids": tuple(row["reply_ids"])}))
