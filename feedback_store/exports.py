"""Exports: feedback as rows in trl's conversational columns, with the ids that lead back to where each came from.

    events      every act as it was stored, superseded and retracted ones included, with its texts where they are kept
    unpaired    prompt, completion, label              what raters hold now: a thumb a row (KTO)
    preference  prompt, chosen, rejected               a decided verdict a row, a ranking one row per ordered pair (DPO)
    sft         prompt, completion, approved           corrections; approved: true, false, null while nobody has decided

Only texts that were kept by consent are in a row, none of a rater who took consent back since, none of a quarantined
one, none that an operator excluded (`events`, the record, has them all). Where one rater judged a comparison by verdict
and by ranking the later act counts; a pair of equal texts says nothing and is left out.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import combinations, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Literal

from sqlalchemy import Connection, Select, select

from feedback_store.errors import Refused
from feedback_store.feedback import effective_query, feedback_of, of_version
from feedback_store.imports import ImportReport, RowError, import_jsonl, import_rows
from feedback_store.raters import declined
from feedback_store.records import BOTH_BAD, TIE, Feedback, Message, Reply
from feedback_store.replies import comparisons_by_id, lean_replies
from feedback_store.review_schema import feedback_reviews
from feedback_store.row_files import Format, jsonl_lines, read_parquet, write_jsonl, write_parquet
from feedback_store.schema import feedback

__all__ = [
    "Format",
    "ImportReport",
    "RowError",
    "chunks_of",
    "export_file",
    "export_rows",
    "import_jsonl",
    "import_rows",
    "jsonl_lines",
    "read_parquet",
    "write_jsonl",
    "write_parquet",
]

BATCH = 500
_CHUNK_BYTES = 256 * 1024
Kind = Literal["thumb", "verdict", "ranking", "correction"]
_KINDS: dict[Format, tuple[Kind, ...]] = {
    "events": ("thumb", "verdict", "ranking", "correction"),
    "unpaired": ("thumb",),
    "preference": ("verdict", "ranking"),
    "sft": ("correction",),
}


def export_rows(
    connection: Connection,
    format: Format,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    channel: str | None = None,
    policy_version: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a format, oldest act first; the connection must stay open while they are read.

    since, until: acts given at or after, and before, these times. channel: where they were given. policy_version: on
    replies of that version. A filter never changes which act counts: a thumb that was later retracted stays out, even
    when the retraction lies outside the time asked for. Raises Refused for an unknown format.
    """
    if format not in _KINDS:
        raise Refused("format", f"format is {format!r}; wanted: {', '.join(_KINDS)}")
    query: Select[Any] = select(feedback) if format == "events" else effective_query(include_unapproved=True)
    query = query.where(feedback.c.kind.in_(_KINDS[format]))
    if since is not None:
        query = query.where(feedback.c.created_at >= since)
    if until is not None:
        query = query.where(feedback.c.created_at < until)
    if channel is not None:
        query = query.where(feedback.c.channel == channel)
    if policy_version is not None:
        query = query.where(of_version(policy_version))
    return _rows(connection, format, query.order_by(feedback.c.feedback_id))


def export_file(
    connection: Connection,
    format: Format,
    file: Literal["jsonl", "parquet"],
    filters: Mapping[str, Any] = MappingProxyType({}),
) -> BinaryIO:
    """Write `export_rows` to a file that has no name any more, and open it: closing it frees it, whatever happens
    before."""
    rows = export_rows(connection, format, **filters)
    with tempfile.TemporaryDirectory(prefix="thumbwise-export-") as folder:
        path = Path(folder) / f"rows.{file}"
        if file == "parquet":
            write_parquet(rows, path, format)
        else:
            write_jsonl(rows, path)
        return path.open("rb")


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield what is left of a file, and close it."""
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _rows(connection: Connection, format: Format, query: Select[Any]) -> Iterator[dict[str, Any]]:
    superseded = _superseded(connection) if format == "preference" else frozenset()
    result = connection.execution_options(yield_per=BATCH).execute(query)
    acts = (feedback_of(row) for row in result)
    while batch := list(islice(acts, BATCH)):
        texts = _Texts(connection, batch)
        for act in batch:
            if format == "events":
                yield from texts.event(act)
            elif format == "unpaired":
                yield from texts.unpaired(act)
            elif format == "sft":
                yield from texts.correction(act)
            elif act.feedback_id not in superseded:
                yield from texts.pairs(act)


def _superseded(connection: Connection) -> frozenset[int]:
    """Verdicts and rankings that the same rater followed by an act of the other kind on the same comparison."""
    query = effective_query(on="comparisons")
    ids = query.with_only_columns(feedback.c.feedback_id, feedback.c.rater_id, feedback.c.comparison_id)
    latest: dict[tuple[str, str], int] = {}
    found = set()
    for feedback_id, rater_id, comparison_id in connection.execute(ids.order_by(feedback.c.feedback_id)):
        before = latest.get((rater_id, comparison_id))
        if before is not None:
            found.add(before)
        latest[rater_id, comparison_id] = feedback_id
    return frozenset(found)


class _Texts:
    """The replies and comparisons that a batch of acts is about, and who has taken consent back."""

    def __init__(self, connection: Connection, acts: Sequence[Feedback]) -> None:
        ids = {act.act.comparison_id for act in acts if act.act.comparison_id is not None}
        self._comparisons = comparisons_by_id(connection, sorted(ids))
        wanted = {act.act.reply_id for act in acts if act.act.reply_id is not None}
        for comparison in self._comparisons.values():
            wanted.update(comparison.reply_ids)
        self._replies = lean_replies(connection, sorted(wanted))
        numbers = [act.feedback_id for act in acts if act.act.kind == "correction"]
        decided = select(feedback_reviews.c.feedback_id, feedback_reviews.c.approval)
        decided = decided.where(feedback_reviews.c.feedback_id.in_(numbers), feedback_reviews.c.approval.is_not(None))
        self._approved = {number: word == "approved" for number, word in connection.execute(decided)}
        named = {act.act.rater_id for act in acts} | {reply.rater_id or "" for reply in self._replies.values()}
        self._revoked = declined(connection, sorted(named))

    def unpaired(self, act: Feedback) -> Iterator[dict[str, Any]]:
        reply = self._replies[str(act.act.reply_id)]
        prompt, completion = self._prompt(reply), self._completion(reply)
        if prompt is not None and completion is not None:
            yield {
                "prompt": prompt,
                "completion": completion,
                "label": act.act.thumb == "up",
                "reply_id": reply.reply_id,
                **_lineage(act, reply),
            }

    def correction(self, act: Feedback) -> Iterator[dict[str, Any]]:
        reply = self._replies[str(act.act.reply_id)]
        prompt = self._prompt(reply)
        if prompt is not None and act.act.rater_id not in self._revoked:
            yield {
                "prompt": prompt,
                "completion": [{"role": "assistant", "content": act.act.correction}],
                "approved": self._approved.get(act.feedback_id),
                "reply_id": reply.reply_id,
                **_lineage(act, reply),
            }

    def pairs(self, act: Feedback) -> Iterator[dict[str, Any]]:
        comparison = self._comparisons[str(act.act.comparison_id)]
        for chosen_id, rejected_id in _ordered_pairs(act, comparison.reply_ids):
            chosen, rejected = self._replies[chosen_id], self._replies[rejected_id]
            prompt = self._prompt(chosen)
            better, worse = self._completion(chosen), self._completion(rejected)
            if prompt is None or better is None or worse is None or better == worse:
                continue
            yield {
                "prompt": prompt,
                "chosen": better,
                "rejected": worse,
                "comparison_id": comparison.comparison_id,
                "chosen_reply_id": chosen_id,
                "rejected_reply_id": rejected_id,
                **_lineage(act, chosen),
            }

    def event(self, act: Feedback) -> Iterator[dict[str, Any]]:
        said = act.act
        words_kept = said.rater_id not in self._revoked
        if said.kind == "correction" and not words_kept:
            return  # nothing but words
        comparison = self._comparisons.get(str(said.comparison_id))
        candidates = None if comparison is None else [self._replies[reply_id] for reply_id in comparison.reply_ids]
        reply = self._replies[str(said.reply_id)] if candidates is None else candidates[0]
        drawing = (None if comparison is None else comparison.drawing) or {}
        yield {
            "kind": said.kind,
            "thumb": said.thumb,
            "verdict": said.verdict,
            "ranking": None if said.ranking is None else list(said.ranking),
            "correction": said.correction,
            "reason": said.reason if words_kept else None,
            "reply_id": said.reply_id,
            "comparison_id": said.comparison_id,
            "prompt": self._prompt(reply),
            "completion": None if candidates is not None else self._completion(reply),
            "candidates": None
            if candidates is None
            else [{"reply_id": one.reply_id, "completion": self._completion(one)} for one in candidates],
            "propensity": drawing.get("propensity"),
            "sets": drawing.get("sets"),
            "adapter_sha256": reply.adapter_sha256,
            **_lineage(act, reply),
        }

    def _prompt(self, reply: Reply) -> list[Message] | None:
        kept = reply.messages is not None and reply.rater_id not in self._revoked
        return list(reply.messages or ()) if kept else None

    def _completion(self, reply: Reply) -> list[Message] | None:
        kept = reply.text is not None and reply.rater_id not in self._revoked
        return [{"role": "assistant", "content": reply.text or ""}] if kept else None


def _ordered_pairs(act: Feedback, shown: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (better, worse) reply ids."""
    if act.act.ranking is not None:
        yield from combinations(act.act.ranking, 2)
    elif act.act.verdict not in (None, TIE, BOTH_BAD):
        for reply_id in shown:
            if reply_id != act.act.verdict:
                yield str(act.act.verdict), reply_id


def _lineage(act: Feedback, reply: Reply) -> dict[str, Any]:
    at = act.act.created_at
    return {
        "feedback_id": act.feedback_id,
        "rater_id": act.act.rater_id,
        "policy_version": reply.policy_version,
        "channel": act.act.channel,
        "created_at": None if at is None else at.isoformat(),
    }
