"""Fill a new store with a month of an invented bot, for pictures, benchmarks and looking around.

    .venv/bin/python -m scripts.seed_store sqlite:////tmp/seeded/thumbwise.db --replies 100000 --events 300000

Nothing in it is anybody's: people, prompts, replies and votes are drawn by a seeded generator. Versions improve from
one to the next, one is rejected by its gate, one is a canary, a round failed and one is training (seeded_rounds.py).
The inbox has taken up everything when this ends, which is most of the minute or two that 100,000 replies take.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from feedback_store import inbox, schema
from feedback_store.connection import Connection
from feedback_store.feedback import feedback_values
from feedback_store.inserts import insert_all_new
from feedback_store.records import Comparison, Message, NewFeedback, Reply, Sampling
from feedback_store.replies import comparison_values, reply_values
from feedback_store.store import Store
from feedback_store.versions import bootstrap
from scripts.seeded_rounds import BASE_MODEL, CANARY_SHARE, VERSIONS, add_rounds, add_versions, canary_on, live_on

Row = TypeVar("Row")
REPLIES, EVENTS = 100_000, 300_000
DAYS = 30
ROWS_AT_ONCE = 2_000
NEWS_AT_ONCE = 5_000
PAIRS = 0.15
"""Of the prompts: answered twice, side by side."""
CHANNELS = ("web", "web", "web", "telegram", "telegram", "discord")
TOPICS = tuple(
    words.split()
    for words in (
        "refund parcel invoice tax discount receipt courier warranty", "bread yeast oven dough crust soup",
        "train ticket platform timetable luggage ferry harbour", "garden rose pruning compost hedge frost",
        "loop list error traceback test folder", "sleep coffee walk rest light noise", "letter comma verb rhyme title",
    )
)  # fmt: skip
QUESTIONS = (
    "How do I deal with a {a} and a {b}?", "What should I know about the {a}?", "Why does the {a} need a {b}?",
    "Give me three ideas about a {a}.", "Explain the {a} to a ten-year-old.", "Is a {a} better than a {b}?",
    "Write two friendly lines about the {a}, the {b} and the {c}.", "What comes first, the {a} or the {b}?",
)  # fmt: skip
SENTENCES = (
    "Begin with the {a} and leave the {b} for later.", "A good {a} never needs a second {b}.",
    "Keep the {a} away from the {b} until it is dry.", "Most people look at the {a} before they think of the {b}.",
    "There are many things to consider about the {a}, and it depends.", "If the {a} is old, ask for a new {b}.",
    "Write down the day, the {a} and the place.", "The {a} is often smaller than the {b}.",
    "When in doubt, take the {b}, not the {a}.", "It may take a week, and the {a} should then be fine.",
)  # fmt: skip
REFUSAL = "I'm sorry, but I can't help with the {a}."
REASONS = ("too long", "wrong", "unclear", "it does not answer", "not what I asked", "never arrived")


def seed_store(store: Store, *, replies: int, events: int, seed: int = 0, at: datetime | None = None) -> None:
    """Fill an empty store, or one with nothing but its first version. Where replies stand two by two, most acts are
    verdicts; two of a hundred acts are corrections, the rest thumbs."""
    dice = random.Random(seed)
    until = at or schema.now()
    began = until - timedelta(days=DAYS)
    people = max(40, replies // 40)
    store.write(bootstrap, BASE_MODEL)
    store.write(_add_people, people, began)
    store.write(add_versions, began)
    made = list(_replies(dice, replies, people, began, until))
    pairs = _pairs(made)
    for part in _parts(made):
        store.write(_add_replies, part)
    for names in _parts(list(pairs)):
        store.write(_add_comparisons, [pairs[name] for name in names])
    acts = sorted(_acts(dice, made, pairs, events, people, until), key=_given_at)
    for given in _parts(acts):
        store.write(_add_acts, given)
    store.write(add_rounds, began, until)
    while store.write(inbox.catch_up, NEWS_AT_ONCE):
        pass


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield rows[start : start + ROWS_AT_ONCE]


def _rater(number: int) -> str:
    return f"{(number * 2654435761) % 2**64:016x}{number:016x}"


def _add_people(connection: Connection, count: int, began: datetime) -> None:
    rows = [
        {
            "rater_id": _rater(number), "channel": CHANNELS[number % len(CHANNELS)], "consent": number % 7 != 0,
            "consent_version": 1, "quarantined": number == 3, "created_at": began,
        }
        for number in range(count)
    ]  # fmt: skip
    insert_all_new(connection, schema.raters, rows)


def _replies(dice: random.Random, count: int, people: int, began: datetime, until: datetime) -> Iterator[Reply]:
    """Conversations of one to three prompts, in the order of time, some of their prompts answered twice."""
    number = talk = 0
    while number < count:
        talk += 1
        topic, messages = dice.choice(TOPICS), tuple[Message, ...]()
        said_by, channel = _rater(dice.randrange(people)), dice.choice(CHANNELS)
        kept = dice.random() < 0.9
        for turn in range(dice.randint(1, 3)):
            if number >= count:
                return
            day = DAYS * number / count
            at = began + timedelta(days=day) + timedelta(hours=2 * math.sin(talk), minutes=2 * turn)
            messages = (*messages, {"role": "user", "content": _say(dice, QUESTIONS, topic)})
            live, canary = live_on(day), canary_on(day)
            two = count - number > 1 and dice.random() < PAIRS
            versions = [live, canary or live] if two else [canary if canary and dice.random() < CANARY_SHARE else live]
            dice.shuffle(versions)
            for place, version in enumerate(versions):
                reply = _reply(dice, number, version, topic, min(at, until), messages)
                shown = replace(
                    reply,
                    channel=channel, rater_id=said_by, conversation_id=f"talk-{talk}",
                    comparison_id=f"pair-{number - place}" if two else None, shown_position=place if two else None,
                )  # fmt: skip
                yield shown if kept else replace(shown, messages=None, rendered_prompt=None, text=None)
                number += 1
            messages = (*messages, {"role": "assistant", "content": reply.text or ""})


def _reply(
    dice: random.Random, number: int, version: int, topic: list[str], at: datetime, messages: tuple[Message, ...]
) -> Reply:
    mean = VERSIONS[version - 1][4]
    tokens = max(8, round(dice.gauss(mean, mean / 4)))
    refused = dice.random() < 0.04 / version
    sentences = [_say(dice, SENTENCES, topic) for _ in range(max(1, tokens // 13))]
    return Reply(
        reply_id=f"seeded-{number}", policy_version=version,
        adapter_sha256=None if version == 1 else f"{version:x}" * 64, channel="web", rater_id=None,
        conversation_id=None, messages=messages, rendered_prompt="",
        text=_say(dice, (REFUSAL,), topic) if refused else " ".join(sentences),
        finish_reason="length" if tokens > 110 else "stop",
        sampling=Sampling(temperature=0.7, top_p=1.0, max_tokens=128), prompt_tokens=20, completion_tokens=tokens,
        logprob_nats=-tokens * dice.uniform(1.5, 1.9) / version**0.2,
        latency_ms=tokens * dice.uniform(9, 17) + dice.expovariate(1 / 60), created_at=at,
    )  # fmt: skip


def _say(dice: random.Random, templates: Sequence[str], topic: list[str]) -> str:
    a, b, c = dice.sample(topic, 3)
    return dice.choice(templates).format(a=a, b=b, c=c)


def _pairs(made: Sequence[Reply]) -> dict[str, tuple[Reply, Reply]]:
    shown: dict[str, list[Reply]] = {}
    for reply in made:
        if reply.comparison_id is not None:
            shown.setdefault(reply.comparison_id, []).append(reply)
    return {name: (two[0], two[1]) for name, two in shown.items()}


def _acts(
    dice: random.Random,
    made: Sequence[Reply],
    pairs: dict[str, tuple[Reply, Reply]],
    count: int,
    people: int,
    until: datetime,
) -> Iterator[NewFeedback]:
    """Mostly one act by who asked; some are changed, some replies are judged by others too; one person floods."""
    for number in range(count):
        reply = made[dice.randrange(len(made))]
        rater_id = reply.rater_id if dice.random() < 0.7 else _rater(dice.randrange(people))
        assert rater_id is not None and reply.created_at is not None
        at = min(until, reply.created_at + timedelta(seconds=dice.expovariate(1 / 40)))
        kind = dice.random()
        if number % 40 == 0:  # somebody who clicks all at once, and always up
            flood = until - timedelta(days=2, seconds=dice.uniform(0, 600))
            yield NewFeedback("thumb", _rater(5), "web", reply_id=reply.reply_id, thumb="up", created_at=flood)
        elif reply.comparison_id is not None and kind < 0.7:
            verdict = _verdict(dice, pairs[reply.comparison_id])
            yield NewFeedback(
                "verdict", rater_id, reply.channel, comparison_id=reply.comparison_id, verdict=verdict, created_at=at
            )
        elif kind < 0.02 and reply.text is not None:
            yield NewFeedback(
                "correction", rater_id, reply.channel, reply_id=reply.reply_id, created_at=at,
                correction=_say(dice, SENTENCES, dice.choice(TOPICS)),
            )  # fmt: skip
        else:
            up = dice.random() < _quality(reply)
            yield NewFeedback(
                "thumb", rater_id, reply.channel, reply_id=reply.reply_id, thumb="up" if up else "down",
                reason=None if up or number % 9 else dice.choice(REASONS), created_at=at,
            )  # fmt: skip


def _quality(reply: Reply) -> float:
    """The chance of a thumb up."""
    return VERSIONS[reply.policy_version - 1][3]


def _verdict(dice: random.Random, pair: tuple[Reply, Reply]) -> str:
    """One in five cannot tell; the others choose as the versions are liked."""
    left, right = pair
    if dice.random() < 0.2:
        return dice.choice(("tie", "tie", "both_bad"))
    return (left if dice.random() < 0.5 + _quality(left) - _quality(right) else right).reply_id


def _given_at(act: NewFeedback) -> datetime:
    assert act.created_at is not None
    return act.created_at


def _add_replies(connection: Connection, made: Sequence[Reply]) -> None:
    at = schema.now()
    talks = {reply.conversation_id: reply for reply in reversed(made)}
    rows: list[dict[str, Any]] = [
        {"conversation_id": name, "channel": reply.channel, "created_at": reply.created_at}
        for name, reply in talks.items()
    ]
    insert_all_new(connection, schema.conversations, rows)
    insert_all_new(connection, schema.replies, [reply_values(reply, at) for reply in made])


def _add_comparisons(connection: Connection, shown: Sequence[tuple[Reply, Reply]]) -> None:
    found = [
        Comparison(
            left.comparison_id or "", (left.reply_id, right.reply_id), left.rater_id, left.conversation_id,
            left.channel, left.created_at,
        )
        for left, right in shown
    ]  # fmt: skip
    insert_all_new(connection, schema.comparisons, [comparison_values(one, schema.now()) for one in found])


def _add_acts(connection: Connection, acts: Sequence[NewFeedback]) -> None:
    insert_all_new(connection, schema.feedback, [feedback_values(act, schema.now()) for act in acts])


def main() -> None:
    """Fill the store of the command line."""
    reading = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reading.add_argument("url", help="sqlite:///PATH or postgresql://…, without anything in it yet")
    reading.add_argument("--replies", type=int, default=2_000)
    reading.add_argument("--events", type=int, default=6_000)
    reading.add_argument("--seed", type=int, default=0)
    given = reading.parse_args()
    begun = time.perf_counter()
    with Store.open(given.url) as store:
        seed_store(store, replies=given.replies, events=given.events, seed=given.seed)
    print(f"{given.replies:,} replies and {given.events:,} acts in {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
