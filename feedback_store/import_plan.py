"""Reading a row of an export, ours or another's, into what the store would hold for it. Touches no database.

Ids are hashes of content, so that the same row gives the same records every time. A row may be as bare as trl's own
datasets (`prompt`, `completion`, `label`; texts instead of message lists are welcome): then its rater is "import". The
columns that our exports add make it exact: `rater_id`, `reply_id`, `comparison_id`, `created_at`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from feedback_store.checks import check_channel, check_identifier, check_messages, check_text
from feedback_store.errors import Refused
from feedback_store.records import BOTH_BAD, TIE, Comparison, Message, NewFeedback, Reply, Sampling
from feedback_store.row_files import Format

IMPORT = "import"
"""The channel of imported replies, and the rater of rows that name none."""
BASE_VERSION = 1
EARLIEST_YEAR, LATEST_YEAR = 1970, 9000
"""Times at the ends of the calendar cannot be moved between zones."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The records of one row. `source` names the target in the store that exported it, when the row says so."""

    act: NewFeedback
    replies: tuple[Reply, ...]
    comparison: Comparison | None = None
    source_reply_id: str | None = None
    source_comparison_id: str | None = None


def plan_row(format: Format, row: object) -> Plan:
    """Return what a row asks for. Raises Refused, naming the field."""
    if not isinstance(row, Mapping):
        raise Refused("", f"the row is {type(row).__name__}; wanted: an object")
    try:
        plan = _PLANNERS[format](row)
        key = f"{IMPORT}-{_hash(format, _plain(dict(row)))}"
    except RecursionError as error:
        raise Refused("", "the row holds lists or objects within one another, too deep to be read") from error
    return replace(plan, act=replace(plan.act, idempotency_key=key))


def _unpaired(row: Mapping[str, Any]) -> Plan:
    label = row.get("label")
    if not isinstance(label, bool):
        raise Refused("label", f"label is {type(label).__name__}; wanted: true or false")
    reply = _reply(row, _prompt(row), _text(row, "completion"))
    act = NewFeedback("thumb", _rater(row), IMPORT, reply_id=reply.reply_id, thumb="up" if label else "down")
    return _with_origin(row, Plan(act, (reply,)))


def _sft(row: Mapping[str, Any]) -> Plan:
    correction = _text(row, "completion")
    # What the rater corrected is not in the row: a reply whose text is not known.
    reply = _reply(row, _prompt(row), None)
    act = NewFeedback("correction", _rater(row), IMPORT, reply_id=reply.reply_id, correction=correction)
    return _with_origin(row, Plan(act, (reply,)))


def _preference(row: Mapping[str, Any]) -> Plan:
    prompt = _prompt(row)
    texts: list[tuple[str | None, str | None]] = [
        (_identifier(row, f"{name}_reply_id"), _text(row, name)) for name in ("chosen", "rejected")
    ]
    if texts[0][1] == texts[1][1]:
        raise Refused("rejected", "rejected equals chosen; wanted: two replies that differ")
    comparison, replies, ids = _compared(row, prompt, texts)
    act = NewFeedback("verdict", _rater(row), IMPORT, comparison_id=comparison.comparison_id, verdict=ids[0])
    return _with_origin(row, Plan(act, replies, comparison))


def _event(row: Mapping[str, Any]) -> Plan:
    kind = row.get("kind")
    prompt = None if row.get("prompt") is None else _prompt(row)
    rater_id, reason = _rater(row), row.get("reason")
    if reason is not None:
        check_text("reason", reason, most=4_000)
    if kind in ("thumb", "correction"):
        if _identifier(row, "reply_id") is None and prompt is None:
            raise Refused("reply_id", "reply_id and prompt are missing; wanted: at least one, to know the reply")
        reply = _reply(row, prompt, None if row.get("completion") is None else _text(row, "completion"))
        act = NewFeedback(kind, rater_id, IMPORT, reply_id=reply.reply_id, reason=reason)
        if kind == "correction":
            correction = check_text("correction", row.get("correction"), least=1, most=100_000)
            return _with_origin(row, Plan(replace(act, correction=correction), (reply,)))
        thumb = row.get("thumb")
        if thumb not in ("up", "down", None):
            raise Refused("thumb", "thumb is another text; wanted: up, down or null")
        return _with_origin(row, Plan(replace(act, thumb=thumb), (reply,)))
    if kind in ("verdict", "ranking"):
        comparison, replies, mapped = _event_comparison(row, prompt)
        act = NewFeedback(kind, rater_id, IMPORT, comparison_id=comparison.comparison_id, reason=reason)
        if kind == "verdict":
            verdict = row.get("verdict")
            if verdict not in (None, TIE, BOTH_BAD, *mapped):
                raise Refused("verdict", "verdict is none of the candidates; wanted: one, tie, both_bad or null")
            return _with_origin(row, Plan(replace(act, verdict=mapped.get(str(verdict), verdict)), replies, comparison))
        ranking = row.get("ranking")
        named = [one for one in ranking if isinstance(one, str)] if isinstance(ranking, list) else []
        if not isinstance(ranking, list) or len(named) != len(ranking) or sorted(named) != sorted(mapped):
            raise Refused(
                "ranking", "ranking is not an order of the candidates; wanted: each reply_id once, best first"
            )
        order = tuple(mapped[reply_id] for reply_id in named)
        return _with_origin(row, Plan(replace(act, ranking=order), replies, comparison))
    raise Refused("kind", "kind is another value; wanted: thumb, verdict, ranking or correction")


def _event_comparison(
    row: Mapping[str, Any], prompt: tuple[Message, ...] | None
) -> tuple[Comparison, tuple[Reply, ...], dict[str, str]]:
    candidates = row.get("candidates")
    if not isinstance(candidates, list) or len(candidates) < 2:
        raise Refused("candidates", "candidates is missing or short; wanted: a list of at least two")
    texts: list[tuple[str | None, str | None]] = []
    for index, candidate in enumerate(candidates):
        name = f"candidates.{index}"
        if not isinstance(candidate, Mapping):
            raise Refused(name, f"{name} is {type(candidate).__name__}; wanted: an object of reply_id and completion")
        check_identifier(f"{name}.reply_id", candidate.get("reply_id"))
        text = None if candidate.get("completion") is None else _text(candidate, "completion", name + ".")
        texts.append((str(candidate["reply_id"]), text))
    if len({reply_id for reply_id, _ in texts}) != len(texts):
        raise Refused("candidates", "candidates names a reply_id twice; wanted: each once")
    comparison, replies, ids = _compared(row, prompt, texts, shown=True)
    return comparison, replies, {str(source): own for (source, _), own in zip(texts, ids, strict=True)}


def _compared(
    row: Mapping[str, Any],
    prompt: tuple[Message, ...] | None,
    texts: list[tuple[str | None, str | None]],
    *,
    shown: bool = False,
) -> tuple[Comparison, tuple[Reply, ...], list[str]]:
    """A comparison, its replies in shown order, and the ids of `texts` in their order. Where the row does not say how
    they were shown, their hashes order them, so that the better one is not always on the left."""
    members = [[source, text] for source, text in texts]
    known = members if shown else sorted(members, key=repr)
    comparison_id = f"{IMPORT}-{_hash(_identifier(row, 'comparison_id'), prompt, known)}"
    ids = [f"{IMPORT}-{_hash(comparison_id, source, text)}" for source, text in texts]
    order = ids if shown else sorted(ids)
    by_id = {
        own: replace(_reply_of(own, prompt, text, source), comparison_id=comparison_id, shown_position=order.index(own))
        for own, (source, text) in zip(ids, texts, strict=True)
    }
    comparison = Comparison(comparison_id, tuple(order), None, None, IMPORT)
    return comparison, tuple(by_id[own] for own in order), ids


def _reply(row: Mapping[str, Any], prompt: tuple[Message, ...] | None, text: str | None) -> Reply:
    source = _identifier(row, "reply_id")
    return _reply_of(f"{IMPORT}-{_hash(source, prompt, text)}", prompt, text, source)


def _reply_of(reply_id: str, prompt: tuple[Message, ...] | None, text: str | None, source: str | None) -> Reply:
    return Reply(
        reply_id=reply_id,
        policy_version=BASE_VERSION,
        adapter_sha256=None,
        channel=IMPORT,
        rater_id=None,
        conversation_id=None,
        messages=prompt,
        rendered_prompt=None,
        text=text,
        finish_reason="stop",
        sampling=Sampling(),
        prompt_tokens=0,
        completion_tokens=0,
        logprob_nats=None,
        latency_ms=0.0,
        metadata={"source_reply_id": source} if source else {},
    )


def _with_origin(row: Mapping[str, Any], plan: Plan) -> Plan:
    at = row.get("created_at")
    if at is not None:
        try:
            at = datetime.fromisoformat(at) if isinstance(at, str) else at
        except ValueError:
            at = None
        if not isinstance(at, datetime) or at.tzinfo is None or not EARLIEST_YEAR <= at.year <= LATEST_YEAR:
            raise Refused("created_at", "created_at is no time of ours; wanted: ISO 8601 with an offset, or none")
    return replace(
        plan,
        act=replace(plan.act, created_at=at),
        source_reply_id=_identifier(row, "reply_id"),
        source_comparison_id=_identifier(row, "comparison_id"),
    )


def _prompt(row: Mapping[str, Any]) -> tuple[Message, ...]:
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    return check_messages("prompt", prompt)


def _text(row: Mapping[str, Any], field: str, prefix: str = "") -> str:
    """The text of a reply: one assistant message, or the text itself."""
    value = row.get(field)
    name = prefix + field
    if isinstance(value, str):
        return check_text(name, value, most=1_000_000)
    messages = check_messages(name, value)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise Refused(name, f"{name} holds {len(messages)} messages; wanted: one, of the assistant")
    return messages[0]["content"]


def _identifier(row: Mapping[str, Any], field: str) -> str | None:
    value = row.get(field)
    return None if value is None else check_identifier(field, value)


def _rater(row: Mapping[str, Any]) -> str:
    if row.get("channel") is not None:
        check_channel(row["channel"])
    return _identifier(row, "rater_id") or IMPORT


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """The row without missing values, which one file format writes out and the other does not."""
    return {name: value for name, value in row.items() if value is not None}


def _hash(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


_PLANNERS: dict[Format, Callable[[Mapping[str, Any]], Plan]] = {
    "events": _event,
    "unpaired": _unpaired,
    "preference": _preference,
    "sft": _sft,
}
