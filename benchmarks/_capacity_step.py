"""One look at a large store, in a process of its own: `python -m benchmarks._capacity_step URL STEP`.

Prints JSON: how long it took, the most memory that the process ever held, and how many rows came out.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from feedback_store import exports, feedback, rater_activity, trust
from feedback_store.records import NewFeedback
from feedback_store.replies import trainable_replies
from feedback_store.settings import TrustSettings
from feedback_store.store import Store
from trainer.evidence import read_evidence, usable_of
from trainer.readiness import readiness
from trainer.selection import select
from trainer.settings import RoundSettings, TrainingSettings

VOTES = 1_000
ROUNDS, TRAINING = RoundSettings(), TrainingSettings()


def judge(store: Store) -> int:
    """What `thumbwise readiness` and the overview ask, and the scheduler before a round."""
    return store.read(readiness, ROUNDS, TRAINING).counts["thumbs"]


def choose(store: Store) -> int:
    """What a round of KTO freezes."""
    evidence = store.read(read_evidence, fresh_only=True)
    kept = usable_of(evidence, ROUNDS, TRAINING.seed)
    chosen = select(
        kept,
        lambda names: store.read(trainable_replies, names),
        method="kto",
        rounds=ROUNDS,
        training=TRAINING,
    )
    return len(chosen.train)


def look_for_signals(store: Store) -> int:
    """What a round does before it selects."""
    store.read(trust.trust_signals, TrustSettings())
    return 0


def people(store: Store) -> int:
    """What the People page shows."""
    return len(store.read(rater_activity.activities)) + store.read(rater_activity.counts)["raters"]


def export(store: Store) -> int:
    """Thumbs as rows of JSON."""
    with tempfile.TemporaryDirectory() as folder, store.reading() as connection:
        return exports.write_jsonl(exports.export_rows(connection, "unpaired"), Path(folder) / "rows.jsonl")


def count(store: Store) -> int:
    """The counts of `/v1/status`."""
    return store.read(feedback.counts)["events"]


def vote(store: Store) -> int:
    """Votes, each in a commit of its own, on replies all over the store."""
    newest = store.read(feedback.recent_feedback, VOTES)
    for known in newest:
        reply_id = known.act.reply_id
        if reply_id is not None:
            act = NewFeedback("thumb", known.act.rater_id, "web", reply_id=reply_id, thumb="up")
            store.write(feedback.add_feedback, act)
    return len(newest)


STEPS: dict[str, Callable[[Store], int]] = {
    "readiness": judge, "selection": choose, "signals": look_for_signals, "people": people, "export": export,
    "counts": count, "votes": vote,
}  # fmt: skip


def main() -> None:
    url, step = sys.argv[1:]
    with Store.open(url) as store:
        begun = time.perf_counter()
        rows = STEPS[step](store)
        taken_s = time.perf_counter() - begun
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": taken_s, "peak_mib": peak_mib, "rows": rows}))


if __name__ == "__main__":
    main()
