"""Fill a new store with a month of an invented bot, for pictures, benchmarks and looking around.

    .venv/bin/python -m scripts.seed_store sqlite:////tmp/seeded/thumbwise.db --replies 100000 --events 300000

Nothing in it is anybody's: people, prompts and votes are drawn by a seeded generator. Versions improve from one to the
next, one is rejected by its gate, one is a canary, a round failed and one is training.
"""

import argparse
import math
import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, insert, update

from feedback_store import schema
from feedback_store.store import Store
from feedback_store.versions import bootstrap

DAYS = 30
ROWS_AT_ONCE = 5_000
QUESTIONS = (
    "How do I get wax out of a tablecloth?", "Write two friendly lines for a late birthday card.",
    "What is a good first tree for a small garden?", "Explain compound interest to a ten-year-old.",
    "Why does bread rise?", "Give me three ideas for a rainy afternoon.", "How long do I boil an egg?",
    "What should I look for in a used bicycle?", "How do I say no without being rude?",
    "Name a quiet board game for two.",
)  # fmt: skip
ANSWERS = (
    "Let the wax harden, scrape it off, then iron the cloth between two sheets of paper.",
    "Late wishes, but warm ones: may the year ahead be kind to you. There is still cake, I hope.",
    "An apple on a small rootstock, or a rowan: both stay low and feed the birds.",
    "There are many things to consider when it comes to this question, and it is important to note that it depends.",
    "Yeast eats sugar and breathes out gas; the dough catches the bubbles and grows.",
    "Build a map of the flat, bake something flat, or write a letter to yourself for next year.",
)
CHANNELS = ("web", "web", "web", "telegram", "telegram", "discord")
# version, state, parent, share of thumbs up, mean tokens, day from which it is live (None: never)
VERSIONS: tuple[tuple[int, str, int | None, float, int, int | None], ...] = (
    (1, "retired", None, 0.55, 92, 0),
    (2, "retired", 1, 0.63, 74, 8),
    (3, "rejected", 2, 0.0, 0, None),
    (4, "live", 2, 0.71, 61, 18),
    (5, "rejected", 4, 0.0, 0, None),
    (6, "canary", 4, 0.76, 55, None),
)
CANARY, CANARY_FROM_DAY, CANARY_SHARE = 6, 27, 0.2


def seed_store(store: Store, *, replies: int, events: int, seed: int = 0, at: datetime | None = None) -> None:
    """Fill an empty store. About one event in 20 is a comparison's verdict, the rest are thumbs."""
    drawn = random.Random(seed)
    until = at or schema.now()
    began = until - timedelta(days=DAYS)
    store.write(bootstrap, "invented-base")
    store.write(_raters, max(40, replies // 40), began)
    store.write(_versions, began)
    rows = list(_replies(drawn, replies, began))
    for part in _parts(rows):
        store.write(_insert, schema.replies, part)
    acts = sorted(_acts(drawn, rows, events, until), key=lambda act: act["created_at"])
    for part in _parts(acts):
        store.write(_insert, schema.feedback, part)
    store.write(_rounds, began, until)


def _parts(rows: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield rows[start : start + ROWS_AT_ONCE]


def _insert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    connection.execute(insert(table), list(rows))


def _rater(number: int) -> str:
    return f"{(number * 2654435761) % 2**64:016x}{number:016x}"


def _raters(connection: Connection, count: int, began: datetime) -> None:
    _insert(
        connection,
        schema.raters,
        [
            {
                "rater_id": _rater(number), "channel": CHANNELS[number % len(CHANNELS)], "consent": number % 7 != 0,
                "consent_version": 1, "quarantined": number == 3, "created_at": began,
            }
            for number in range(count)
        ],
    )  # fmt: skip


def _versions(connection: Connection, began: datetime) -> None:
    """Versions 2 and on, their rounds, and the moves that made them live."""
    for version, state, parent, _, tokens, day in VERSIONS[1:]:
        made = began + timedelta(days=(day if day is not None else {3: 13, 5: 22, 6: 26}[version]) - 0.2)
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
                "version": version, "state": state, "base_model": "invented-base",
                "adapter_sha256": f"{version:x}" * 64, "parent": parent, "method": "kto", "round_id": version - 1,
                "gate_report": report, "metrics": {}, "created_at": made,
            },
        )  # fmt: skip
        _insert(connection, schema.round_metrics, list(_curves(version - 1, 120, made)))
        if day is not None:
            _move(connection, "promote", version, parent, f"round {version - 1} passed its gate", made)
    connection.execute(
        update(schema.policy_versions).where(schema.policy_versions.c.version == 1).values(state="retired")
    )
    begun = began + timedelta(days=CANARY_FROM_DAY)
    _move(connection, "canary", CANARY, 4, "a fifth for some days", begun, share=CANARY_SHARE)
    connection.execute(
        update(schema.live_pointer).values(version=4, revision=5, canary_version=CANARY, canary_share=CANARY_SHARE)
    )


def _move(
    connection: Connection, action: str, version: int, before: int | None, reason: str, at: datetime, *,
    share: float | None = None,
) -> None:  # fmt: skip
    values = {"action": action, "version": version, "from_version": before, "actor": "anna", "reason": reason}
    connection.execute(insert(schema.deployments), {**values, "forced": False, "share": share, "at": at})


def _replies(drawn: random.Random, count: int, began: datetime) -> Iterator[dict[str, Any]]:
    people = max(40, count // 40)
    for number in range(count):
        day = DAYS * (number + drawn.random()) / count
        at = began + timedelta(days=day) + timedelta(hours=2 * math.sin(number))
        version = max((one[0] for one in VERSIONS if one[5] is not None and one[5] <= day), default=1)
        if day >= CANARY_FROM_DAY and drawn.random() < CANARY_SHARE:
            version = CANARY
        mean = next(one[4] for one in VERSIONS if one[0] == version)
        tokens = max(4, round(drawn.gauss(mean, mean / 4)))
        question = {"role": "user", "content": QUESTIONS[drawn.randrange(len(QUESTIONS))]}
        kept = drawn.random() < 0.9
        yield {
            "reply_id": f"seeded-{number}", "policy_version": version,
            "adapter_sha256": None if version == 1 else f"{version:x}" * 64,
            "channel": drawn.choice(CHANNELS), "rater_id": _rater(drawn.randrange(people)), "conversation_id": None,
            "messages": [question] if kept else None, "rendered_prompt": "" if kept else None,
            "text": drawn.choice(ANSWERS) if kept else None, "finish_reason": "length" if tokens > 110 else "stop",
            "sampling": {"temperature": 0.7, "top_p": 1.0, "max_tokens": 128, "stop": [], "seed": None},
            "prompt_tokens": 20, "completion_tokens": tokens, "logprob_nats": -1.3 * tokens,
            "latency_ms": tokens * drawn.uniform(9, 17) + drawn.expovariate(1 / 60), "comparison_id": None,
            "shown_position": None, "metadata": {}, "created_at": at,
        }  # fmt: skip


def _acts(
    drawn: random.Random, replies: Sequence[dict[str, Any]], count: int, until: datetime
) -> Iterator[dict[str, Any]]:
    """Mostly one thumb by who asked; some are changed, some replies are judged by others too; one person floods."""
    likes = {version: share for version, _, _, share, _, _ in VERSIONS}
    people = max(40, len(replies) // 40)
    for number in range(count):
        reply = replies[drawn.randrange(len(replies))]
        up = drawn.random() < likes[reply["policy_version"]]
        rater = reply["rater_id"] if drawn.random() < 0.8 else _rater(drawn.randrange(people))
        at = min(until, reply["created_at"] + timedelta(seconds=drawn.expovariate(1 / 40)))
        if number % 40 == 0:  # somebody who clicks all at once, and always up
            rater, up, at = _rater(5), True, until - timedelta(days=2, seconds=drawn.uniform(0, 600))
        yield {
            "kind": "thumb", "rater_id": rater, "channel": reply["channel"], "reply_id": reply["reply_id"],
            "comparison_id": None, "thumb": "up" if up else "down", "verdict": None, "ranking": None,
            "correction": None, "reason": None if up or number % 9 else "too long, and it does not answer",
            "idempotency_key": None, "created_at": at,
        }  # fmt: skip


def _rounds(connection: Connection, began: datetime, until: datetime) -> None:
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
    _insert(connection, schema.round_metrics, list(_curves(7, 48, until, of=120)))


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
            {"prompt_reply_id": f"seeded-{number}", "before": ANSWERS[3], "after": ANSWERS[number]}
            for number in range(3)
        ],
    }  # fmt: skip


def _check(
    name: str, value: float | None, half: float | None, threshold: Any, hard: bool, outcome: str, reason: str
) -> dict[str, Any]:
    interval = None if value is None or half is None else [value - half, value + half]
    return {"name": name, "value": value, "interval": interval, "threshold": threshold, "hard": hard,
            "outcome": outcome, "reason": reason}  # fmt: skip


def main() -> None:
    """Fill the store of the command line."""
    reading = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reading.add_argument("url", help="sqlite:///PATH or postgresql://…, without anything in it yet")
    reading.add_argument("--replies", type=int, default=2_000)
    reading.add_argument("--events", type=int, default=6_000)
    reading.add_argument("--seed", type=int, default=0)
    given = reading.parse_args()
    with Store.open(given.url) as store:
        seed_store(store, replies=given.replies, events=given.events, seed=given.seed)
    print(f"{given.replies} replies and {given.events} events")


if __name__ == "__main__":
    main()
