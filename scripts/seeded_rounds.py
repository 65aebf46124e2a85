"""The rounds, versions and moves of the invented month that seed_store.py fills a store with."""

import math
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, update

from feedback_store import schema

BASE_MODEL = "invented-base"
# version, state, parent, share of thumbs up, mean tokens, day from which it is live (None: never)
VERSIONS: tuple[tuple[int, str, int | None, float, int, int | None], ...] = (
    (1, "retired", None, 0.55, 92, 0),
    (2, "retired", 1, 0.63, 74, 8),
    (3, "rejected", 2, 0.0, 0, None),
    (4, "live", 2, 0.71, 61, 18),
    (5, "rejected", 4, 0.0, 0, None),
    (6, "canary", 4, 0.76, 55, None),
)
MADE_ON_DAY = {3: 13, 5: 22, 6: 26}
CANARY_SHARE = 0.2
CANARIES = ((2, 6, 8), (4, 15, 18), (6, 27, 31))
"""Version, and the days between which it answered a share beside the live one."""
BEFORE = (
    "There are many things to consider when it comes to this question, and it is important to note that it depends."
)
AFTER = (
    "Let the wax harden, scrape it off, then iron the cloth between two sheets of paper.",
    "Late wishes, but warm ones: may the year ahead be kind to you. There is still cake, I hope.",
    "An apple on a small rootstock, or a rowan: both stay low and feed the birds.",
    "Yeast eats sugar and breathes out gas; the dough catches the bubbles and grows.",
)


def live_on(day: float) -> int:
    """The version that was live on a day of the month."""
    return max((one[0] for one in VERSIONS if one[5] is not None and one[5] <= day), default=1)


def canary_on(day: float) -> int | None:
    """The version that answered a share beside it, if any."""
    return next((version for version, begins, ends in CANARIES if begins <= day < ends), None)


def add_versions(connection: Connection, began: datetime) -> None:
    """Versions 2 and on, their rounds, and the moves that made them live."""
    for version, state, parent, _, tokens, day in VERSIONS[1:]:
        made = began + timedelta(days=_made_on(version, day) - 0.2)
        report = _gate_report(version, passed=state != "rejected", tokens=tokens)
        connection.execute(
            insert(schema.rounds),
            {
                "round_id": version - 1, "state": "rejected" if state == "rejected" else "published", "method": "kto",
                "requested_by": "schedule", "requested_at": made - timedelta(hours=2),
                "started_at": made - timedelta(hours=2), "ended_at": made, "fence": 1, "reference_version": parent,
                "candidate_version": version,
                "settings": {"training": {"learning_rate": round(4e-3 / version, 5), "epochs": 1.0}},
                "selection": {"train": 480 + 31 * version, "train_up": 290, "held_out_votes": 96, "raters": 64},
                "gate_report": report, "reason": report["summary"],
            },
        )  # fmt: skip
        connection.execute(
            insert(schema.policy_versions),
            {
                "version": version, "state": state, "base_model": BASE_MODEL,
                "adapter_sha256": f"{version:x}" * 64, "parent": parent, "method": "kto", "round_id": version - 1,
                "gate_report": report, "metrics": {}, "created_at": made,
            },
        )  # fmt: skip
        connection.execute(insert(schema.round_metrics), list(_curves(version - 1, 120, made)))
        if day is not None:
            _move(connection, "canary", version, parent, "a fifth first", made, share=CANARY_SHARE)
            _move(connection, "promote", version, parent, f"round {version - 1} passed its gate, and people prefer it",
                  began + timedelta(days=day))  # fmt: skip
    connection.execute(
        update(schema.policy_versions).where(schema.policy_versions.c.version == 1).values(state="retired")
    )
    canary, from_day, _ = CANARIES[-1]
    begun = began + timedelta(days=from_day)
    _move(connection, "canary", canary, 4, "a fifth for some days", begun, share=CANARY_SHARE)
    connection.execute(
        update(schema.live_pointer).values(version=4, revision=7, canary_version=canary, canary_share=CANARY_SHARE)
    )


def _move(
    connection: Connection, action: str, version: int, before: int | None, reason: str, at: datetime, *,
    share: float | None = None,
) -> None:  # fmt: skip
    values = {"action": action, "version": version, "from_version": before, "actor": "anna", "reason": reason}
    connection.execute(insert(schema.deployments), {**values, "forced": False, "share": share, "at": at})


def _made_on(version: int, day: int | None) -> float:
    """A version is made before its canary begins, or on a day of its own."""
    begins = next((begins for canary, begins, _ in CANARIES if canary == version), None)
    return MADE_ON_DAY.get(version, begins if begins is not None else day or 0)


def add_rounds(connection: Connection, began: datetime, until: datetime) -> None:
    """One round that failed, and one that is training."""
    failed = "the training process was killed (out of memory, or by hand)"
    common = {"method": "kto", "requested_by": "otto", "settings": {}, "selection": {}, "fence": 1}
    rows = (
        {"state": "failed", "requested_at": until - timedelta(days=1), "ended_at": until - timedelta(hours=23),
         "started_at": until - timedelta(days=1), "reason": failed, "open_slot": None},
        {"state": "training", "requested_at": until - timedelta(minutes=6), "ended_at": None,
         "started_at": until - timedelta(minutes=6), "reason": None, "open_slot": 1},
    )  # fmt: skip
    for number, row in enumerate(rows):
        values = {**common, **row, "round_id": 6 + number, "reference_version": 4}
        lease = until + timedelta(hours=1) if row["open_slot"] else None
        connection.execute(insert(schema.rounds), {**values, "lease_until": lease, "lease_owner": "trainer"})
    connection.execute(insert(schema.round_metrics), list(_curves(7, 48, until, of=120)))


def _curves(round_id: int, steps: int, at: datetime, of: int | None = None) -> Iterator[dict[str, Any]]:
    drawn = random.Random(round_id)
    for step in range(1, steps + 1):
        values = {
            "loss": 0.24 + 0.46 * math.exp(-step / 30) + drawn.gauss(0, 0.015),
            "accuracy": 0.72 - 0.2 * math.exp(-step / 25) + drawn.gauss(0, 0.03),
            "reward_margin": 1.4 * (1 - math.exp(-step / 40)) + drawn.gauss(0, 0.08),
            "kl_nats": step * 0.024 + abs(drawn.gauss(0, 0.03)),
            "progress": step / (of or steps),
        }
        for name, value in values.items():
            yield {"round_id": round_id, "name": name, "step": step, "value": value, "at": at}


def _gate_report(version: int, *, passed: bool, tokens: int) -> dict[str, Any]:
    words = max(3, tokens * 3 // 4)
    checks = [
        _check("held_out_preference", 0.66 + version / 100, 0.06, 0.5, True, "pass", "held-out preference"),
        _check("kl_live", 1.8 + version / 10, 0.3, 5.0, True, "pass", "KL against live"),
        _check("kl_base", 1.9 * version, 0.5, 15.0, True, "pass", "KL against base"),
        _check("length", words, None, [0.8 * words, 1.25 * words + 3], False, "pass", "median length"),
        _check("short", 0.001, 0.004, 0.02, True, "pass", "short replies"),
        _check("truncated", -0.05, 0.02, 0.02, True, "pass", "cut replies"),
        _check("distinct", 0.97 if passed else 0.81, 0.03, 0.9, True, "pass" if passed else "fail", "variety"),
        _check("retention_perplexity", 0.012, 0.006, 0.05, True, "pass", "perplexity"),
        _check("held_out_pairs", None, None, 0.5, False, "inconclusive", "only 12 held-out pairs"),
    ]
    summary = (
        "every check passed" if passed else "failed: the share of distinct word pairs is 0.81, wanted at least 0.9"
    )
    return {
        "schema": 1, "outcome": "pass" if passed else "fail", "summary": summary, "checks": checks,
        "against": {"live": max(1, version - 1), "base": "invented-base"},
        "sample": {"prompts": 112, "replies": 112, "temperature": 1.0, "seed": 0, "confidence": 0.95}, "texts": {},
        "examples": [
            {"prompt_reply_id": f"seeded-{number}", "before": BEFORE, "after": after}
            for number, after in enumerate(AFTER)
        ],
    }  # fmt: skip


def _check(
    name: str, value: float | None, half: float | None, threshold: Any, hard: bool, outcome: str, reason: str
) -> dict[str, Any]:
    interval = None if value is None or half is None else [value - half, value + half]
    return {"name": name, "value": value, "interval": interval, "threshold": threshold, "hard": hard,
            "outcome": outcome, "reason": reason}  # fmt: skip
