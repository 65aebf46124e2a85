"""Can few accounts steer the policy? One with 10,000 votes, rings of 5 % of the accounts, unapproved corrections.

All goes through the product's own code: votes into a store, the signals that take raters into quarantine, what a round
reads, its caps and its split. A flood's share is counted as KTO weighs rows.

What a ring achieves is measured on a policy small enough to train twice per seed and manner (_table_policy.py), beside
the same crowd without the ring: by how many points the planted opening rose, and how many the win rate by the crowd's
hidden score fell. Ten points of either is harm. A ring is blocked when quarantine holds all of its accounts, or when
the gate's checks on held-out votes and drawn replies, the product's own too, do not pass. Peer: a round that trains on
every vote there is and serves what comes out.
"""

import argparse
import random
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._table_policy import PLANTED, PLANTED_SHARE, Table, TableDraw, features, train_kto
from benchmarks._trust_corrections import unapproved_among_learnt
from benchmarks._trust_scene import (
    BASE,
    RING,
    RING_SHARE,
    RINGS,
    fill,
    honest_crowd,
    one_flood,
    pleased,
)
from benchmarks.report import Row, report
from feedback_store.feedback import effective_feedback
from feedback_store.records import Reply
from feedback_store.replies import trainable_replies
from feedback_store.settings import TrustSettings
from feedback_store.store import Store
from feedback_store.trust import quarantine_found, trust_signals
from thumbwise.demo.hidden import hidden_score
from trainer import gate_checks
from trainer.evidence import Evidence, other_prompts, read_evidence, usable_of
from trainer.floods import class_weights
from trainer.gate_replies import Replies, candidate_ref, doubled, draw_replies, live_ref, text_checks
from trainer.job import Job, VoteRow
from trainer.judgements import usable
from trainer.selection import Selection, select
from trainer.settings import GateSettings, RoundSettings, TrainingSettings

HARM = 0.10
RATE = 0.02
"""Learning rate at which a crowd without a ring moves the table as far as a round moves the bundled model."""
DAYS = 30.0
FLOOD_VOTES = 10_000
FLOOD_SEEDS = 20
WIN_DRAWS = 400
EVERYTHING = 10**9
ROUNDS, TRAINING = RoundSettings(), TrainingSettings()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rings", default=";".join(RINGS))
    parser.add_argument("--flood", type=int, default=FLOOD_VOTES, help="votes of the one account; 0 leaves it out")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows: list[Row] = []
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-trust-") as name:
        folder = Path(name)
        if arguments.flood:
            found = [flood_row(folder, what, arguments.flood, arguments.seed) for what in FLOODS]
            broken += [row.case for row in found if row.ours > 1.0]
            rows += found
        rings = [ring for ring in arguments.rings.split(";") if ring]
        trials: dict[str, list[Trial]] = {ring: [] for ring in ["", *rings]}
        for seed in range(arguments.seed, arguments.seed + arguments.seeds):
            for ring, trial in trials_of(folder, rings, seed):
                trials[ring].append(trial)
                print(f"{ring}, seed {seed}: {trial}", flush=True)
        for ring, found_trials in trials.items():
            rows += ring_rows(ring, found_trials)
            if ring and sum(one.blocked or one.harmless for one in found_trials) < 0.95 * len(found_trials):
                broken.append(ring)
        for_corrections = [unapproved_among_learnt(folder / f"c{seed}.db", seed) for seed in range(arguments.seeds)]
        learnt, unapproved, naive = (sum(column) for column in zip(*for_corrections, strict=True))
        rows.append(Row(f"corrections learnt that nobody had approved, of {learnt}", unapproved, naive, unit="rows"))
        broken += ["corrections"] if unapproved else []
    report("trust", rows, NOTES.format(accounts=RING / RING_SHARE, ring=RING), seed=arguments.seed)
    if broken:
        raise SystemExit("broken: " + "; ".join(broken))


NOTES = (
    "{accounts:.0f} accounts, {ring} of them the ring; 800 replies, 1,600 honest votes of the demo's crowd. The policy "
    "is a table of openings, words and lengths that learns by KTO's loss, not the bundled model: 260 rounds of that "
    "would take a day. It holds nothing back that is planted, so it shows more harm than a language model would. Harm: "
    "the planted opening rises by ten points, or the win rate falls by ten, beside the same crowd without the ring. "
    "Peer: the same votes without quarantine, caps and gate."
)


# One account


@dataclass(frozen=True, slots=True)
class Flood:
    """How the one account's votes come, and what the crowd around it is like."""

    name: str
    days: float
    crowd_likes: float | None = None
    """The share of everything that the crowd likes; None: as it feels."""


FLOODS = (
    Flood("within an hour", 1 / 24),
    Flood("over 100 days", 100.0),
    Flood("over 100 days, against a crowd that likes nine replies in ten", 100.0, 0.9),
)


def flood_row(folder: Path, flood: Flood, count: int, seed: int) -> Row:
    """The account's greatest share of KTO's weight over several splits, beside what it has without any defence."""
    crowd = honest_crowd(seed)
    if flood.crowd_likes is not None:
        crowd = pleased(crowd, flood.crowd_likes, seed)
    with Store.open(f"sqlite:///{folder}/flood-{FLOODS.index(flood)}.db") as store:
        store.write(fill, crowd, DAYS)
        store.write(fill, one_flood(count, seed), flood.days)
        naive = Feedbacks.of(store)
        quarantine(store)
        left = Feedbacks.of(store)
    shares = [weight_of("flood", *round_rows(left, split)) for split in range(FLOOD_SEEDS)]
    undefended = [weight_of("flood", *round_rows(naive, split, defended=False)) for split in range(FLOOD_SEEDS)]
    said = f"one account, {count:,} votes {flood.name}: greatest share of the training's weight in {FLOOD_SEEDS} splits"
    return Row(said, 100 * max(shares), 100 * max(undefended), unit="%")


def weight_of(rater: str, chosen: Selection, raters: dict[int, str]) -> float:
    """A rater's share of what KTO weighs."""
    rows = [row for row in chosen.train if isinstance(row, VoteRow)]
    ups = sum(row.up for row in rows)
    of_up, of_down = class_weights(ups, len(rows) - ups, TRAINING.max_class_weight)
    weights: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        weights[raters[row.feedback_id]] += of_up if row.up else of_down
    return weights[rater] / max(sum(weights.values()), 1e-9)


# Rings


@dataclass(frozen=True, slots=True)
class Trial:
    """One ring against one crowd. Shares, and rises over the same crowd without the ring."""

    all_held: bool
    honest_held: int
    weight: float
    gate: str
    planted_rise: float
    win_fall: float
    undefended_rise: float
    undefended_fall: float

    @property
    def blocked(self) -> bool:
        """Nothing of the ring is trained on, or what is trained is not served."""
        return self.all_held or self.gate != "pass"

    @property
    def harmless(self) -> bool:
        """What would be served moved by less than ten points."""
        return max(self.planted_rise, self.win_fall) < HARM


def trials_of(folder: Path, rings: Sequence[str], seed: int) -> Iterator[tuple[str, Trial]]:
    """Every manner of ring against the crowd of this seed; first the crowd alone, under ""."""
    crowd = honest_crowd(seed)
    crowd_db, database = folder / "crowd.db", folder / "ring.db"
    crowd_db.unlink(missing_ok=True)
    with Store.open(f"sqlite:///{crowd_db}") as store:
        store.write(fill, crowd, DAYS)
        chosen, _ = round_rows(Feedbacks.of(store), seed)
    without = learnt(chosen, seed)
    clean = without.share_of(PLANTED), win_rate(without, seed)
    print(f"no ring, seed {seed}: planted {clean[0]:.1%}, wins {clean[1]:.1%}", flush=True)
    yield "", Trial(False, 0, 0.0, gate_of(without, chosen, seed), clean[0], 1 - clean[1], 0.0, 0.0)
    for ring in rings:
        shutil.copy(crowd_db, database)
        with Store.open(f"sqlite:///{database}") as store:
            store.write(fill, RINGS[ring](crowd, random.Random(f"ring {seed}")), DAYS)
            before = Feedbacks.of(store)
            quarantine(store)
            after = Feedbacks.of(store)
        names = {name for name in before.acts_of if name.startswith("ring-")}
        held = {name: before.acts_of[name] - after.acts_of[name] for name in before.acts_of}
        undefended = learnt(round_rows(before, seed, defended=False)[0], seed)
        chosen, raters = round_rows(after, seed)
        with_ring = learnt(chosen, seed)
        yield (
            ring,
            Trial(
                not any(after.acts_of[name] for name in names),
                sum(count > 0 for name, count in held.items() if name not in names),
                sum(weight_of(name, chosen, raters) for name in names),
                gate_of(with_ring, chosen, seed),
                with_ring.share_of(PLANTED) - clean[0],
                clean[1] - win_rate(with_ring, seed),
                undefended.share_of(PLANTED) - clean[0],
                clean[1] - win_rate(undefended, seed),
            ),
        )


def ring_rows(ring: str, trials: Sequence[Trial]) -> list[Row]:
    """The table of one manner."""
    if not trials:
        return []
    n = len(trials)
    if not ring:
        passed = sum(trial.gate == "pass" for trial in trials)
        wins = 100 * sum(1 - trial.win_fall for trial in trials) / n
        return [
            Row(f"the crowd without a ring: passed its gate, of {n}", passed, unit="seeds"),
            Row("… win rate against the base, mean", wins, 50.0, unit="%"),
            Row("… replies with the planted opening, mean", 100 * sum(one.planted_rise for one in trials) / n,
                100 * PLANTED_SHARE, unit="%"),
        ]  # fmt: skip
    harmless_without = sum(max(trial.undefended_rise, trial.undefended_fall) < HARM for trial in trials)
    stopped = sum(not trial.all_held and trial.gate != "pass" for trial in trials)
    weights = sorted(100 * trial.weight for trial in trials)
    return [
        Row(f"a ring that {ring}: blocked or harmless, of {n}", sum(one.blocked or one.harmless for one in trials),
            harmless_without, unit="seeds"),
        Row("… all of its votes in quarantine", sum(one.all_held for one in trials), unit="seeds"),
        Row("… else stopped by the gate", stopped, unit="seeds"),
        Row("… the opening's rise, greatest", 100 * max(one.planted_rise for one in trials),
            100 * max(one.undefended_rise for one in trials), unit="points"),
        Row("… the win rate's fall, greatest", 100 * max(one.win_fall for one in trials),
            100 * max(one.undefended_fall for one in trials), unit="points"),
        Row("… its share of the training's weight, median", weights[n // 2], unit="%"),
        Row("… honest raters with a vote in quarantine, of all seeds", sum(one.honest_held for one in trials),
            unit="raters"),
    ]  # fmt: skip


def learnt(chosen: Selection, seed: int) -> Table:
    """The table after a round over these rows."""
    rows = [row for row in chosen.train if isinstance(row, VoteRow)]
    return train_kto(BASE, rows, TRAINING, RATE, seed)


def win_rate(table: Table, seed: int) -> float:
    """How often a reply of it is liked better than one of the base, ties counting half."""
    dice = random.Random(f"wins {seed}")
    new = [hidden_score(*table.draw(dice)) for _ in range(WIN_DRAWS)]
    old = [hidden_score(*BASE.draw(dice)) for _ in range(WIN_DRAWS)]
    wins = sum((one > other) + (one == other) / 2 for one in new for other in old)
    return wins / (len(new) * len(old))


def gate_of(candidate: Table, chosen: Selection, seed: int) -> str:
    """What the gate's checks on held-out votes and on drawn replies say of the candidate."""
    job = Job(1, "kto", seed, base_model_dir="", base_model="", adapters_dir="", live_version=1)
    held_out = [row for row in chosen.held_out if isinstance(row, VoteRow)]
    features_ND = [features(row.reply.text, row.reply.finish_reason)[None] for row in held_out]
    margins = [float((candidate.logprobs(row) - BASE.logprobs(row))[0]) for row in features_ND]
    ups, raters = [row.up for row in held_out], [row.rater for row in held_out]
    found = [gate_checks.held_out_preference(margins, ups, raters, job.gate, seed)]
    draw = TableDraw({0: candidate, 1: BASE})
    ids = [(place,) for place in range(len(chosen.prompts))]
    sides = candidate_ref(job, "0" * 64), live_ref(job)
    new, old = (draw_replies(draw, side, ids, job) for side in sides)
    judged = [row for row in (*chosen.train, *held_out) if isinstance(row, VoteRow)]

    def read(new: Replies, old: Replies) -> list[gate_checks.Check]:
        return text_checks(new, old, chosen.prompts, judged, job)

    of_texts = read(new, old)
    for _ in range(job.gate.doublings):
        if not any(check.hard and check.outcome == "inconclusive" for check in of_texts):
            break
        new, old = (doubled(replies, draw, side, ids, job) for replies, side in zip((new, old), sides, strict=True))
        of_texts = read(new, old)
    failed = [check.name for check in found + of_texts if check.hard and check.outcome != "pass"]
    return ", ".join(failed) or "pass"


# Both


@dataclass(frozen=True, slots=True)
class Feedbacks:
    """What a round would find in a store."""

    evidence: Evidence
    texts: dict[str, Reply]
    others: list[Reply]
    acts_of: Counter[str]
    """Rater → acts that a round would read."""

    @classmethod
    def of(cls, store: Store) -> "Feedbacks":
        """Read it as a round does."""
        evidence = store.read(read_evidence, fresh_only=True)
        acts = store.read(effective_feedback, policy_version=evidence.live.version)
        return cls(
            evidence,
            store.read(trainable_replies, sorted(evidence.prompts)),
            store.read(other_prompts),
            Counter(one.act.rater_id for one in acts),
        )


def quarantine(store: Store) -> None:
    """What a round does before it selects (trainer/round_run.py)."""
    store.write(quarantine_found, store.read(trust_signals, TrustSettings()))


def round_rows(found: Feedbacks, seed: int, *, defended: bool = True) -> tuple[Selection, dict[int, str]]:
    """What a round of this seed selects, and who gave each act. Not `defended`: without caps."""
    evidence = found.evidence
    kept = usable_of(evidence, ROUNDS, seed)
    if not defended:
        kept = usable(evidence.found, evidence.prompts, max_votes_per_rater=EVERYTHING, seed=seed)
    chosen = select(
        kept,
        lambda _: found.texts,
        method="kto",
        rounds=ROUNDS,
        training=TRAINING.model_copy(update={"seed": seed}),
        gate_prompts=GateSettings().replies,
        other_prompts=found.others,
    )
    return chosen, {vote.feedback_id: vote.rater_id for vote in kept.votes}


if __name__ == "__main__":
    main()
