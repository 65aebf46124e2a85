"""Rows for every table of the store, as far as a revision of its schema has the table and the column.

Written by hand and in plain values, so that a migration or a backup that loses or bends something is seen: times with
microseconds, texts beyond ASCII, numbers that are not given, lists in lists.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from feedback_store.backup.tables import Columns, columns_of

AT = datetime(2025, 2, 3, 4, 5, 6, 789012, UTC)
LATER = datetime(2025, 2, 3, 4, 5, 7, 0, UTC)
WORDS = 'Grüße, "天气" – \u202eebil\u202c; DROP TABLE replies'
ADAPTER = "ab" * 32

_RATERS = [
    {"rater_id": "rater-1", "channel": "web", "consent": True, "consent_version": 2, "quarantined": False,
     "created_at": AT},
    {"rater_id": "rater-2", "channel": "telegram", "quarantined": True, "created_at": LATER},
]  # fmt: skip
_ROUNDS = [
    {"round_id": 1, "state": "published", "method": "kto", "requested_by": "clock", "requested_at": AT,
     "started_at": AT, "ended_at": LATER, "fence": 3, "reference_version": 1, "candidate_version": 2,
     "settings": {"rounds": {"x": 0.1}},
     "selection": {"train": 2, "reward_model": {"sha256": "cd" * 32}}, "gate_report": {"checks": [[1, None], []]},
     "attempts": 1},
    {"round_id": 3, "state": "training", "open_slot": 1, "requested_by": "anna", "requested_at": LATER,
     "lease_owner": "a", "lease_until": LATER, "settings": {}, "selection": {}, "reason": WORDS, "attempts": 0},
]  # fmt: skip
_VERSIONS = [
    {"version": 1, "state": "retired", "base_model": "tiny", "metrics": {}, "created_at": AT},
    {"version": 2, "state": "live", "base_model": "tiny", "adapter_sha256": ADAPTER, "parent": 1, "method": "kto",
     "round_id": 1, "gate_report": {"outcome": "pass"}, "metrics": {"kl_nats": 0.123456789012345}, "created_at": LATER},
]  # fmt: skip
_REPLY: dict[str, Any] = {
    "policy_version": 2, "adapter_sha256": ADAPTER, "channel": "web", "finish_reason": "stop",
    "sampling": {"seed": 3, "stop": ["\n"]}, "prompt_tokens": 7, "completion_tokens": 5,
    "latency_ms": 12.25, "metadata": {}, "created_at": AT,
}  # fmt: skip
_REPLIES = [
    _REPLY | {"reply_id": "reply-1", "rater_id": "rater-1", "conversation_id": "conversation-1", "text": WORDS,
              "messages": [{"role": "user", "content": WORDS}], "rendered_prompt": "<|im_start|>",
              "logprob_nats": -6.5},
    _REPLY | {"reply_id": "duel-0", "comparison_id": "duel", "shown_position": 0,
              "metadata": {"a": ["b", {"c": None}]}},
    _REPLY | {"reply_id": "duel-1", "comparison_id": "duel", "shown_position": 1, "created_at": LATER},
]  # fmt: skip
_ACT: dict[str, Any] = {"rater_id": "rater-1", "channel": "web", "created_at": AT}
_FEEDBACK = [
    _ACT | {"feedback_id": 1, "kind": "thumb", "reply_id": "reply-1", "thumb": "down", "idempotency_key": "key-1"},
    _ACT | {"feedback_id": 2, "kind": "correction", "reply_id": "reply-1", "correction": WORDS, "reason": ""},
    _ACT | {"feedback_id": 4, "kind": "verdict", "comparison_id": "duel", "verdict": "duel-1", "rater_id": "rater-2"},
    _ACT | {"feedback_id": 5, "kind": "ranking", "comparison_id": "duel", "ranking": ["duel-1", "duel-0"]},
]
_REVIEW: dict[str, Any] = {
    "batch_id": "b",
    "actor": "anna",
    "reason": WORDS,
    "before": {},
    "after": {"x": 1},
    "at": AT,
}

ROWS: dict[str, list[dict[str, Any]]] = {
    "raters": _RATERS,
    "conversations": [{"conversation_id": "conversation-1", "channel": "web", "created_at": AT}],
    "rounds": _ROUNDS,
    "policy_versions": _VERSIONS,
    "replies": _REPLIES,
    "comparisons": [{"comparison_id": "duel", "reply_ids": ["duel-0", "duel-1"], "rater_id": "rater-2",
                     "channel": "web",
                     "created_at": AT, "drawing": {"propensity": 0.25}}],
    "feedback": _FEEDBACK,
    "round_dues": [{"due": "2025-02-03T04:00", "state": "asked", "round_id": 1, "reason": WORDS, "at": AT},
                   {"due": "2025-02-03T05:00", "state": "skipped", "reason": "", "at": LATER}],
    "round_metrics": [{"round_id": 1, "name": "loss", "step": step, "value": value, "at": AT}
                      for step, value in enumerate((0.1, -1e-300, 1e300))],
    "round_selection": [{"round_id": 1, "feedback_id": 1, "split": "train"},
                        {"round_id": 1, "feedback_id": 4, "split": "held_out"}],
    "live_pointer": [{"pointer_id": 1, "version": 2, "revision": 5}],
    "deployments": [
        {"deployment_id": 1, "action": "bootstrap", "version": 1, "actor": "a", "reason": "", "forced": False,
         "at": AT},
        {"deployment_id": 2, "action": "promote", "version": 2, "from_version": 1, "actor": "anna", "reason": WORDS,
         "forced": True, "at": LATER, "evidence": {"e": [1.5]}}],
    "users": [{"user_id": 1, "name": "anna", "role": "admin", "password_hash": "$argon2id$", "disabled": False,
               "revision": 2, "created_at": AT},
              {"user_id": 2, "name": "ben", "role": "annotator", "disabled": True, "invitation_sha256": "ef" * 32,
               "invitation_until": LATER, "revision": 1, "created_at": AT}],
    "identities": [{"provider": "github", "subject": "17", "user_id": 1, "created_at": AT}],
    "sessions": [{"session_sha256": "aa" * 32, "user_id": 1, "csrf_token": "t", "created_at": AT, "expires_at": LATER}],
    "api_keys": [{"key_id": "k1", "secret_sha256": "bb" * 32, "name": "n", "scopes": ["chat"], "created_by": "anna",
                  "created_at": AT, "expires_at": LATER, "revoked_at": LATER}],
    "audit": [{"audit_id": 1, "at": AT, "actor": "token", "action": "user.invite", "target": "user ben",
               "reason": WORDS,
               "details": {"role": "annotator"}}],
    "quarantines": [{"quarantine_id": 1, "rater_id": "rater-2", "feedback_id": 4, "signal": "ring", "reason": WORDS,
                     "figures": {"overlap": 0.5}, "begun_by": "clock", "begun_at": AT, "decision": "kept",
                     "decided_by": "anna", "decided_at": LATER}],
    "side_by_side_votes": [{"version": 2, "example": 0, "viewer": "anna", "choice": "both_bad", "at": AT}],
    "vetoes": [{"version": 2, "actor": "anna", "reason": WORDS, "at": AT}],
    "erased_selections": [{"erasure_id": 1, "round_id": 1, "acts": 2, "at": AT}],
    "inbox": [{"item_id": 1, "reply_id": "reply-1", "policy_version": 2, "channel": "web", "created_at": AT,
               "last_at": AT,
               "words_key": 4_000_000_000, "disputed": False, "flagged": True, "excluded": False}
              | dict.fromkeys(("raters", "ups", "downs", "verdicts", "wins", "losses", "ties", "both_bad", "rankings",
                               "corrections", "pending"), 0)],
    "inbox_raters": [{"rater_id": "rater-1", "item_id": 1, "said": "down"}],
    "inbox_news": [{"news_id": 1000, "reply_id": "reply-1"}],
    "review_acts": [_REVIEW | {"act_id": 1, "action": "flag", "reply_id": "reply-1"},
                    _REVIEW | {"act_id": 2, "action": "undo", "reply_id": "reply-1", "undoes": 1, "text": WORDS},
                    _REVIEW | {"act_id": 3, "action": "approve", "reply_id": "reply-1", "feedback_id": 2}],
    "reply_reviews": [{"reply_id": "reply-1", "revision": 2, "flagged": True, "excluded": False}],
    "feedback_reviews": [{"feedback_id": 2, "revision": 3, "excluded": False, "approval": "approved"}],
    "saved_views": [{"view_id": 1, "owner": "anna", "name": WORDS, "query": "?state=open", "created_at": AT}],
    "annotation_requests": [{"request_id": 1, "queue": "random", "wanted": 3, "purpose": "", "requested_by": "anna",
                             "created_at": AT}],
    "annotation_tasks": [{"task_id": 1, "queue": "random", "comparison_id": "duel", "request_id": 1, "priority": 0.5,
                          "overlap": 2, "gold": [["duel-1"], ["duel-0"]], "created_by": "anna", "created_at": AT}],
    "annotation_labels": [{"label_id": 1, "task_id": 1, "annotator": "ben", "state": "done",
                           "shown": ["duel-1", "duel-0"], "ranked": [["duel-0"], ["duel-1"]], "reasons": [],
                           "note": WORDS,
                           "revision": 1, "feedback_id": 4, "assigned_at": AT, "saved_at": AT, "done_at": LATER}],
    "erasures": [{"erasure_id": 1, "at": AT, "versions": [2], "overwritten_at": LATER}],
}  # fmt: skip
"""Table → its rows. In `feedback` and `rounds` a number is missing: it was given out, and its row deleted."""


def fill_every_table(connection: Connection) -> None:
    """Put the rows into every table that is there; the newest act is deleted again, so that its number is used up."""
    for columns in _all(connection):
        table = columns.as_table()
        for row in ROWS[columns.table]:
            connection.execute(insert(table), {name: row[name] for name in columns.kinds if name in row})
    if connection.dialect.name == "postgresql":
        _count_on(connection)
    act = {"kind": "thumb", "rater_id": "rater-1", "channel": "web", "reply_id": "reply-1", "created_at": AT}
    table = next(one for one in _all(connection) if one.table == "feedback").as_table()
    connection.execute(insert(table), {**act, "feedback_id": 9} if connection.dialect.name == "sqlite" else act)
    connection.execute(table.delete().where(table.c.feedback_id > 5))


def rows_of(connection: Connection, only: list[Columns] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, or of these columns alone, in the order of the keys."""
    found = {}
    for columns in only if only is not None else _all(connection):
        table = columns.as_table()
        rows = [dict(row) for row in connection.execute(select(table)).mappings()]
        found[columns.table] = sorted(rows, key=lambda row: str(list(row.values())))
    return found


def _all(connection: Connection) -> list[Columns]:
    return columns_of(connection, left_out=())


def _count_on(connection: Connection) -> None:
    """PostgreSQL does not count rows that bring their number."""
    from feedback_store.backup.tables import set_next_numbers

    set_next_numbers(connection, {"feedback": 8})
