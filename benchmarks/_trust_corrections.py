"""Corrections, approved and not: whatever raters and operators do, does a round learn one that nobody approved?"""

import random
from pathlib import Path

from feedback_store import feedback, quarantines, raters, replies, review, versions
from feedback_store.connection import Connection
from feedback_store.errors import Conflict
from feedback_store.records import NewFeedback, Reply, Sampling
from feedback_store.replies import trainable_replies
from feedback_store.review import Target
from feedback_store.store import Store
from trainer.evidence import read_evidence, usable_of
from trainer.job import ExampleRow
from trainer.selection import select
from trainer.settings import RoundSettings, TrainingSettings

AUTHORS, REPLIES, ACTS = 30, 100, 600


def unapproved_among_learnt(path: Path, seed: int) -> tuple[int, int, int]:
    """Authors write, write again and are quarantined; operators approve, reject, exclude, restore and undo, all at
    random. Returns how many corrections a round of SFT learns, how many of these nobody had approved as they stand, and
    how many it would have learnt without looking at approvals."""
    dice = random.Random(f"corrections {seed}")
    with Store.open(f"sqlite:///{path}") as store:
        store.write(_begin)
        world = _World(dice)
        store.write(world.go_on, ACTS)
        settings = RoundSettings(max_votes_per_rater=ACTS)
        evidence = store.read(read_evidence, fresh_only=False)
        kept = usable_of(evidence, settings, seed)
        chosen = select(
            kept,
            lambda names: store.read(trainable_replies, names),
            method="sft",
            rounds=settings,
            training=TrainingSettings(seed=seed),
        )
        learnt = [row for row in chosen.train if isinstance(row, ExampleRow) and row.source == "correction"]
        naive = store.read(feedback.effective_feedback, include_unapproved=True)
    allowed = world.allowed()
    wrong = sum((row.feedback_id, row.reply.text) not in allowed for row in learnt)
    return len(learnt), wrong, sum((one.feedback_id, one.act.correction) not in allowed for one in naive)


class _World:
    """Acts at random, and beside them, in plain sets, what should hold."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._text: dict[int, str] = {}
        self._latest: dict[tuple[str, str], int] = {}
        self._author: dict[int, str] = {}
        self._reply: dict[int, str] = {}
        self._revision: dict[int, int] = {}
        self._approved: set[int] = set()
        self._excluded: set[int] = set()
        self._held: set[str] = set()

    def allowed(self) -> set[tuple[int, str | None]]:
        """(feedback id, text) of what may be learnt."""
        latest = set(self._latest.values())
        return {
            (number, text)
            for number, text in self._text.items()
            if number in latest and number in self._approved - self._excluded and self._author[number] not in self._held
        }

    def go_on(self, connection: Connection, acts: int) -> None:
        """Do so many things."""
        for _ in range(acts):
            self._act(connection)

    def _act(self, connection: Connection) -> None:
        chance = self._dice.random()
        if not self._text or chance < 0.45:
            self._write(connection)
        elif chance < 0.99:
            self._review(connection)
        else:
            self._quarantine(connection)

    def _write(self, connection: Connection) -> None:
        author, reply = f"author-{self._dice.randrange(AUTHORS)}", f"r{self._dice.randrange(REPLIES)}"
        text = f"A better answer, number {len(self._text)}."
        said = NewFeedback("correction", author, "web", reply_id=reply, correction=text)
        number = feedback.add_feedback(connection, said).feedback_id
        self._text[number], self._author[number], self._reply[number] = text, author, reply
        self._latest[author, reply] = number

    def _review(self, connection: Connection) -> None:
        number = self._dice.choice(list(self._text))
        target = Target(self._reply[number], self._revision.get(number, 0), number)
        action = self._dice.choice(("approve", "approve", "approve", "reject", "exclude", "restore"))
        acts = review.act(connection, action, [target], actor="olga")  # type: ignore[arg-type]
        for one in acts:
            self._revision[number] = one.act_id
        if acts and self._dice.random() < 0.15:
            self._revision[number] = review.undo(connection, acts[0].batch_id, actor="olga")[0].act_id
            return
        changed, add = {"approve": (self._approved, True), "reject": (self._approved, False),
                        "exclude": (self._excluded, True), "restore": (self._excluded, False)}[action]  # fmt: skip
        (changed.add if add else changed.discard)(number)

    def _quarantine(self, connection: Connection) -> None:
        author = f"author-{self._dice.randrange(AUTHORS)}"
        try:
            quarantines.begin_by_hand(connection, author, reason="?", begun_by="olga")
            self._held.add(author)
        except Conflict:
            quarantines.release_rater(connection, author, actor="olga")
            self._held.discard(author)


def _begin(connection: Connection) -> None:
    versions.bootstrap(connection, "any")
    for number in range(AUTHORS):
        raters.ensure_rater(connection, f"author-{number}", "web")
    for number in range(REPLIES):
        messages = ({"role": "user", "content": f"question {number}"},)
        replies.add_reply(
            connection,
            Reply(f"r{number}", 1, None, "web", None, None, messages, None, "an answer", "stop", Sampling(), 1, 1, -1.0,
                  1.0),
        )  # fmt: skip
