"""Raters by the thousand, with what they chatted and judged: rows as the server writes them, but many at once.

Everybody votes at least once and one in five again, on replies to their own prompts mostly, so that N raters give 1.2 N
acts on 1.1 N replies. One act in ten is a verdict between two replies, one vote in ten is on somebody else's reply. One
rater in seven declined to have texts kept. Rows are drawn by their number alone: a store that grows keeps what it has.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from feedback_store import schema
from feedback_store.connection import Connection
from feedback_store.inserts import insert_all_new
from feedback_store.store import Store
from feedback_store.versions import bootstrap, live_or_none

BASE_MODEL = "capacity"
AT_ONCE = 5_000
"""Raters of one transaction."""
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SUBJECTS = ("parcel", "invoice", "sourdough", "ferry", "hedge", "traceback", "warranty", "verb", "coffee", "harbour")
ASK = "What should I do about the {a} number {n}, and does it matter for the {b}?"
SAY = (
    "Begin with the {a} and leave the {b} for later; it may take a week.",
    "A good {a} never needs a second {b}, whatever people say about it.",
    "Most people look at the {a} before they think of the {b}, and that is fine.",
    "Write down the day, the {a} and the place, and keep the note for a year.",
)
SAMPLING = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 256, "stop": [], "seed": None}


def grow(store: Store, raters_before: int, raters: int, seed: int = 0) -> None:
    """Add the raters from one number to another, with their replies and acts."""
    if store.read(live_or_none) is None:
        store.write(bootstrap, BASE_MODEL)
    for first in range(raters_before, raters, AT_ONCE):
        store.write(_add, first, min(first + AT_ONCE, raters), random.Random(f"{seed}-{first}"))


def rater_of(number: int) -> str:
    """A rater's id, spread over the alphabet as keyed hashes are."""
    return f"{(number * 0x9E3779B97F4A7C15) % 2**64:016x}{number:016x}"


def _add(connection: Connection, first: int, last: int, dice: random.Random) -> None:
    rows: dict[str, list[dict[str, Any]]] = {"raters": [], "replies": [], "comparisons": [], "feedback": []}
    for number in range(first, last):
        rater_id = rater_of(number)
        at = BEGAN + timedelta(seconds=number)
        rows["raters"].append({
            "rater_id": rater_id, "channel": "web", "consent": number % 7 != 0, "consent_version": 1,
            "quarantined": False, "created_at": at,
        })  # fmt: skip
        for table, row in _of_rater(number, rater_id, at, dice):
            rows[table].append(row)
    for stored in (schema.raters, schema.replies, schema.comparisons, schema.feedback):
        insert_all_new(connection, stored, rows[stored.name])


def _of_rater(number: int, rater_id: str, at: datetime, dice: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    if number % 10 == 1:  # two replies and a verdict
        names = [f"r{number}-a", f"r{number}-b"]
        for place, name in enumerate(names):
            yield "replies", _reply(name, number, rater_id, at, dice, comparison_id=f"c{number}", shown_position=place)
        yield "comparisons", {
            "comparison_id": f"c{number}", "reply_ids": names, "rater_id": rater_id, "conversation_id": None,
            "channel": "web", "created_at": at, "drawing": None,
        }  # fmt: skip
        verdict = dice.choice((*names, *names, "tie"))
        yield "feedback", _act(rater_id, at, kind="verdict", comparison_id=f"c{number}", verdict=verdict)
    else:
        yield "replies", _reply(f"r{number}", number, rater_id, at, dice)
        yield "feedback", _act(rater_id, at, reply_id=f"r{number}", thumb=_thumb(dice))
    if number % 5 == 0 and number > 10:  # once more: half of them on somebody else's reply
        other = number - dice.randint(1, 9) if number % 10 == 0 else number
        other += other % 10 == 1
        yield "feedback", _act(rater_id, at + timedelta(hours=1), reply_id=f"r{other}", thumb=_thumb(dice))


def _thumb(dice: random.Random) -> str:
    return "up" if dice.random() < 0.65 else "down"


def _reply(name: str, number: int, rater_id: str, at: datetime, dice: random.Random, **more: Any) -> dict[str, Any]:
    a, b = dice.sample(SUBJECTS, 2)
    asked = ASK.format(a=a, b=b, n=number)
    kept = number % 7 != 0
    text = " ".join(sentence.format(a=a, b=b) for sentence in dice.sample(SAY, 3))
    return {
        "reply_id": name, "policy_version": 1, "adapter_sha256": None, "channel": "web", "rater_id": rater_id,
        "conversation_id": None, "messages": [{"role": "user", "content": asked}] if kept else None,
        "rendered_prompt": f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n" if kept else None,
        "text": text if kept else None, "finish_reason": "stop", "sampling": SAMPLING, "prompt_tokens": 24,
        "completion_tokens": 48, "logprob_nats": -60.0, "latency_ms": 900.0, "comparison_id": None,
        "shown_position": None, "metadata": {}, "created_at": at,
    } | more  # fmt: skip


def _act(rater_id: str, at: datetime, **said: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("reply_id", "comparison_id", "thumb", "verdict", "ranking", "correction", "reason"))
    about = {"kind": "thumb", "rater_id": rater_id, "channel": "web", "idempotency_key": None, "created_at": at}
    return empty | about | said
