"""Imports: rows of an export become replies, comparisons and acts; all of them or none, and never twice.

Every row is read before the first is stored. A row that this store exported itself, or that was imported before, counts
as a duplicate. Imported replies belong to channel "import" and to version 1, the base: no version of ours wrote them.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from feedback_store.errors import Refused
from feedback_store.feedback import feedback_values
from feedback_store.import_plan import BASE_VERSION, IMPORT, Plan, plan_row
from feedback_store.inserts import insert_all_new
from feedback_store.replies import MOST_AT_ONCE, comparison_values, reply_values
from feedback_store.row_files import Format
from feedback_store.schema import comparisons, feedback, now, policy_versions, raters, replies

MOST_ERRORS = 100
"""Errors that a report names; the rest are counted."""


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with a row. `line` counts from 1; `field` is empty when it is the row as a whole."""

    line: int
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did. With any error nothing was stored. `bad_rows` counts them all, `errors` names the first."""

    format: Format
    rows: int
    added: int
    duplicates: int
    bad_rows: int = 0
    errors: tuple[RowError, ...] = ()


def import_rows(connection: Connection, format: Format, rows: Iterable[object]) -> ImportReport:
    """Store the acts of `rows` that are new, or, when a row is bad, none at all: the report says which and why.

    Raises Refused for an unknown format, and before `versions.bootstrap`.
    """
    return _import(connection, format, enumerate(rows, start=1))


def import_jsonl(connection: Connection, format: Format, lines: Iterable[str | bytes]) -> ImportReport:
    """`import_rows` of JSON lines; empty lines are passed over, and a line that is no JSON is a bad row."""
    return _import(connection, format, _parsed(lines))


def _import(connection: Connection, format: Format, numbered: Iterable[tuple[int, object]]) -> ImportReport:
    if format not in ("events", "unpaired", "preference", "sft"):
        raise Refused("format", f"format is {format!r}; wanted: events, unpaired, preference or sft")
    base = select(policy_versions.c.version).where(policy_versions.c.version == BASE_VERSION)
    if connection.execute(base).scalar() is None:
        raise Refused("policy_version", "this store has no version 1 yet; wanted: bootstrap (the first start) before")
    plans: list[Plan] = []
    errors: list[RowError] = []
    count = bad = 0
    for line, row in numbered:
        count += 1
        try:
            if isinstance(row, RowError):
                raise Refused(row.field, row.message)
            plans.append(plan_row(format, row))
        except Refused as error:
            bad += 1
            if bad <= MOST_ERRORS:
                errors.append(RowError(line, error.field, str(error)))
    if bad:
        return ImportReport(format, count, 0, 0, bad, tuple(errors))
    added = _store(connection, plans)
    return ImportReport(format, count, added, count - added)


def _store(connection: Connection, plans: list[Plan]) -> int:
    """Store the new ones among the plans, and return how many those were."""
    known = _known_keys(connection, plans)
    own = _own_acts(connection, plans)
    new: dict[tuple[str, str], Plan] = {}
    for plan in plans:
        key = (plan.act.rater_id, str(plan.act.idempotency_key))
        origin = (plan.act.rater_id, plan.act.kind, plan.source_reply_id or plan.source_comparison_id)
        if key not in known and origin not in own:
            new.setdefault(key, plan)
    at = now()
    chosen = list(new.values())
    ids = {plan.act.rater_id for plan in chosen}
    insert_all_new(
        connection,
        raters,
        [{"rater_id": rater_id, "channel": IMPORT, "created_at": at} for rater_id in sorted(ids)],
    )
    texts = {reply.reply_id: reply for plan in chosen for reply in plan.replies}
    insert_all_new(connection, replies, [reply_values(reply, at) for reply in texts.values()])
    shown = {plan.comparison.comparison_id: plan.comparison for plan in chosen if plan.comparison is not None}
    insert_all_new(connection, comparisons, [comparison_values(comparison, at) for comparison in shown.values()])
    insert_all_new(connection, feedback, [feedback_values(plan.act, at) for plan in chosen])
    return len(chosen)


def _known_keys(connection: Connection, plans: list[Plan]) -> set[tuple[str, str]]:
    """The keys among the plans' that are stored already: imported before."""
    keys: dict[str, list[str]] = {}
    for plan in plans:
        keys.setdefault(plan.act.rater_id, []).append(str(plan.act.idempotency_key))
    found: set[tuple[str, str]] = set()
    for rater_id, wanted in keys.items():
        for start in range(0, len(wanted), MOST_AT_ONCE):
            query = select(feedback.c.idempotency_key).where(
                feedback.c.rater_id == rater_id,
                feedback.c.idempotency_key.in_(wanted[start : start + MOST_AT_ONCE]),
            )
            found.update((rater_id, str(key)) for key in connection.execute(query).scalars())
    return found


def _own_acts(connection: Connection, plans: list[Plan]) -> set[tuple[str, str, str | None]]:
    """(rater, kind, target) of acts on the targets that the rows name, where this store holds them itself: such a row
    was exported here and says nothing new."""
    found: set[tuple[str, str, str | None]] = set()
    columns = {
        feedback.c.reply_id: sorted({plan.source_reply_id for plan in plans if plan.source_reply_id}),
        feedback.c.comparison_id: sorted({plan.source_comparison_id for plan in plans if plan.source_comparison_id}),
    }
    for column, ids in columns.items():
        for start in range(0, len(ids), MOST_AT_ONCE):
            query = select(feedback.c.rater_id, feedback.c.kind, column).where(
                column.in_(ids[start : start + MOST_AT_ONCE])
            )
            for rater_id, kind, target in connection.execute(query):
                found.add((rater_id, kind, target))
                # A ranking is exported as pairs, which come back as verdicts.
                found.add((rater_id, "verdict" if kind == "ranking" else kind, target))
    return found


def _parsed(lines: Iterable[str | bytes]) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8") if isinstance(line, bytes) else line
            if text.strip():
                yield number, json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            yield number, RowError(number, "", "the line is no JSON in UTF-8; wanted: one JSON object a line")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
