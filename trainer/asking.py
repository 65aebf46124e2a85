"""Asking people for the judgements that a reward model lacks: which comparisons, and how far they have got.

A reward model below its bar names the comparisons that it is least sure of: first of those that nobody has judged yet
(any word on them is new), then of those that were held out. They become tasks of the queue "uncertain", in the
transaction that notes the report, once a round, however often its trainer dies and comes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from feedback_store import annotation_progress, annotation_queues, replies
from feedback_store.connection import Connection
from feedback_store.records import Method
from trainer.feedback_rows import Pair, pair_row
from trainer.job import PairRow

MOST_UNJUDGED = 400
"""Comparisons without a verdict that are looked through for those to ask about."""
NOBODY = -1
"""The rater of a row that nobody has judged."""
PURPOSES: dict[Method, str] = {
    "reward": "until a reward model may be trusted",
    "ppo": "until PPO may run",
    "grpo": "until GRPO may run",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """How far the labels are that a reward model asked for."""

    done: int
    wanted: int
    purpose: str


def unjudged_rows(connection: Connection) -> list[PairRow]:
    """Return pairs of replies that were compared and not yet judged, the newest comparisons first. Which of the two
    stands first says nothing."""
    names = annotation_queues.unjudged(connection, MOST_UNJUDGED)
    found: list[PairRow] = []
    for start in range(0, len(names), 100):
        shown = annotation_queues.showable(connection, names[start : start + 100])
        for name in names[start : start + 100]:
            if name not in shown:
                continue
            texts = {reply.reply_id: reply for reply in shown[name][1]}
            pairs = [Pair(0, "nobody", first, second) for first, second in combinations(sorted(texts), 2)]
            found += [pair_row(pair, texts, {"nobody": NOBODY}) for pair in pairs]
    return found


def ask_people(
    connection: Connection,
    pairs: Sequence[Sequence[str]],
    *,
    method: Method,
    requested_by: str,
    instead_of: int | None = None,
) -> int | None:
    """Put the comparisons of these pairs of replies (the least certain first) into the annotation queue, and return the
    request's number; None when none of them can be shown any more or all are labelled already. `instead_of`: the
    request of an older reward model, of which nobody needs the rest any more."""
    if instead_of is not None:
        annotation_queues.withdraw(connection, instead_of)
    found = replies.replies_by_id(connection, sorted({name for pair in pairs for name in pair}))
    names: dict[str, None] = {}
    for first, _ in pairs:
        if first in found and (name := found[first].comparison_id) is not None:
            names.setdefault(name)
    shown = annotation_queues.showable(connection, list(names))
    done = annotation_queues.labelled(connection, list(names))
    left = [name for name in names if name in shown and name not in done]
    if not left:
        return None
    request = annotation_queues.ask_for_labels(
        connection,
        "uncertain",
        {name: float(len(left) - place) for place, name in enumerate(left)},
        wanted=len(left),
        purpose=PURPOSES.get(method, PURPOSES["reward"]),
        requested_by=requested_by,
    )
    return request.request_id


def asked(connection: Connection, report: dict[str, Any] | None) -> Asked | None:
    """Return how far the labels are that the last reward model asked for; None where it asked for none."""
    number = (report or {}).get("label_request")
    if number is None:
        return None
    found = annotation_progress.request_progress(connection, int(number))
    if found is None:
        return None
    request = found.request
    return Asked(min(found.done, request.wanted), request.wanted, request.purpose)
