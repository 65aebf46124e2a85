"""A store as it is after months: replies of several versions, and feedback of every kind on them. All of it invented.

    python -m benchmarks._seeded_store sqlite:///data/seeded/thumbwise.db [--replies N --events N --seed N]

Everything follows from the seed. 100,000 replies with 300,000 acts take a minute or two: the inbox most of it.
"""

import argparse
import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from feedback_store import inbox, versions
from feedback_store.connection import Connection
from feedback_store.feedback import feedback_values
from feedback_store.inserts import insert_all_new
from feedback_store.records import Comparison, NewFeedback, Reply, Sampling, Thumb
from feedback_store.replies import comparison_values, reply_values
from feedback_store.schema import comparisons, conversations, feedback, now, raters, replies
from feedback_store.store import Store

REPLIES, EVENTS, RATERS, VERSIONS = 100_000, 300_000, 4_000, 5
AT_ONCE = 2_000
CHANNELS = ("web", "web", "web", "telegram", "telegram", "discord")
TOPICS = (
    "refund parcel invoice tax discount receipt delivery courier warranty spare", "bread yeast oven dough crust soup",
    "train ticket platform timetable luggage ferry harbour", "garden rose pruning compost snail hedge frost",
    "python loop list error traceback test", "sleep coffee walk rest light noise", "verb grammar letter spelling comma",
)  # fmt: skip
PLAIN = [
    "the",
    "a",
    "your",
    "this",
    "that",
    "it",
    "is",
    "was",
    "can",
    "will",
    "may",
    "should",
    "often",
    "never",
    "please",
    "first",
    "then",
    "after",
    "before",
    "more",
    "less",
    "good",
    "bad",
    "long",
    "short",
    "new",
    "old",
    "small",
    "large",
    "day",
    "week",
    "time",
    "way",
    "part",
    "place",
    "thing",
    "people",
]
REASONS = ("too long", "wrong", "unclear", "kind", "clear", "never arrived", "not what I asked", "good example")


def seed_store(store: Store, *, reply_count: int = REPLIES, event_count: int = EVENTS, seed: int = 0) -> None:
    """Fill an empty store, and let its inbox take up everything."""
    dice = random.Random(seed)
    store.write(_people_and_versions)
    made = list(_replies(dice, reply_count))
    for start in range(0, len(made), AT_ONCE):
        store.write(_store_replies, made[start : start + AT_ONCE])
    store.write(_store_comparisons, made)
    acts = list(_acts(dice, made, event_count))
    for start in range(0, len(acts), AT_ONCE):
        store.write(_store_acts, acts[start : start + AT_ONCE])
    while store.write(inbox.catch_up, 5_000):
        pass


def _people_and_versions(connection: Connection) -> None:
    versions.bootstrap(connection, "seeded")
    for number in range(2, VERSIONS + 1):
        versions.add_candidate(
            connection, base_model="seeded", adapter_sha256=f"{number:064x}", parent=number - 1, method="kto",
            round_id=None, gate_report=None, metrics={},
        )  # fmt: skip
    people = [{"rater_id": _rater(number), "channel": "web", "created_at": now()} for number in range(RATERS)]
    insert_all_new(connection, raters, people)


def _rater(number: int) -> str:
    return f"{number:08x}{number * 2654435761 % 2**32:08x}"


def _replies(dice: random.Random, count: int) -> Iterator[Reply]:
    """Replies of three months, a third of them shown two by two."""
    begin = now() - timedelta(days=90)
    number = 0
    while number < count:
        at = begin + timedelta(days=90 * number / count)
        pair = count - number > 1 and dice.random() < 0.2
        topic = dice.choice(TOPICS).split()
        question = ({"role": "user", "content": f"{_sentence(dice, topic, 8)}?"},)
        for place in range(2 if pair else 1):
            yield _reply(dice, number, at, topic, question, f"comparison-{number - place}" if pair else None, place)
            number += 1


def _reply(
    dice: random.Random,
    number: int,
    at: datetime,
    topic: list[str],
    question: tuple[dict[str, str], ...],
    comparison_id: str | None,
    place: int,
) -> Reply:
    text = " ".join(f"{_sentence(dice, topic, dice.randint(6, 14)).capitalize()}." for _ in range(dice.randint(2, 7)))
    return Reply(
        reply_id=f"seeded-{number:07d}", policy_version=1 + number % VERSIONS,
        adapter_sha256=None, channel=dice.choice(CHANNELS), rater_id=_rater(dice.randrange(RATERS)),
        conversation_id=f"conversation-{number // 3}", messages=question, rendered_prompt=None, text=text,
        finish_reason="stop" if dice.random() < 0.9 else "length", sampling=Sampling(), prompt_tokens=20,
        completion_tokens=len(text) // 5, logprob_nats=-len(text) / dice.uniform(4, 8),
        latency_ms=dice.uniform(300, 4000), comparison_id=comparison_id,
        shown_position=None if comparison_id is None else place, created_at=at,
    )  # fmt: skip


def _sentence(dice: random.Random, topic: list[str], words: int) -> str:
    return " ".join(dice.choice(topic) if dice.random() < 0.3 else dice.choice(PLAIN) for _ in range(words))


def _acts(dice: random.Random, made: list[Reply], count: int) -> Iterator[NewFeedback]:
    pairs: dict[str, list[str]] = {}
    for reply in made:
        if reply.comparison_id is not None:
            pairs.setdefault(reply.comparison_id, []).append(reply.reply_id)
    for number in range(count):
        reply = made[number] if number < len(made) else dice.choice(made)
        rater_id, channel = _rater(dice.randrange(RATERS)), reply.channel
        at = (reply.created_at or now()) + timedelta(minutes=dice.randint(0, 600))
        kind = dice.random()
        shown = pairs.get(reply.comparison_id or "", [])
        if len(shown) == 2 and kind < 0.6:
            verdict = dice.choice([*shown, *shown, "tie", "both_bad"])
            yield NewFeedback(
                "verdict", rater_id, channel, comparison_id=reply.comparison_id, verdict=verdict, created_at=at
            )
        elif kind < 0.02:
            words = f"{_sentence(dice, TOPICS[0].split(), 9)}."
            yield NewFeedback("correction", rater_id, channel, reply_id=reply.reply_id, correction=words, created_at=at)
        else:
            reason = dice.choice(REASONS) if dice.random() < 0.15 else None
            thumb: Thumb = "up" if dice.random() < 0.62 else "down"
            yield NewFeedback(
                "thumb",
                rater_id,
                channel,
                reply_id=reply.reply_id,
                thumb=thumb,
                reason=reason,
                created_at=at,
            )


def _store_replies(connection: Connection, made: list[Reply]) -> None:
    at = now()
    talks = {str(reply.conversation_id): reply for reply in made}
    rows: list[dict[str, Any]] = [
        {"conversation_id": name, "channel": reply.channel, "created_at": reply.created_at}
        for name, reply in talks.items()
    ]
    insert_all_new(connection, conversations, rows)
    insert_all_new(connection, replies, [reply_values(reply, at) for reply in made])


def _store_comparisons(connection: Connection, made: list[Reply]) -> None:
    shown: dict[str, list[str]] = {}
    opened: dict[str, datetime | None] = {}
    for reply in made:
        if reply.comparison_id is not None:
            shown.setdefault(reply.comparison_id, []).append(reply.reply_id)
            opened[reply.comparison_id] = reply.created_at
    found = [Comparison(name, tuple(ids), None, None, "web", opened[name]) for name, ids in shown.items()]
    insert_all_new(connection, comparisons, [comparison_values(comparison, now()) for comparison in found])


def _store_acts(connection: Connection, acts: list[NewFeedback]) -> None:
    at = now()
    insert_all_new(connection, feedback, [feedback_values(act, at) for act in acts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="an empty store: sqlite:///PATH or postgresql://…")
    parser.add_argument("--replies", type=int, default=REPLIES)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begun = time.perf_counter()
    with Store.open(arguments.url) as store:
        seed_store(store, reply_count=arguments.replies, event_count=arguments.events, seed=arguments.seed)
    print(f"{arguments.replies:,} replies and {arguments.events:,} acts in {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
