"""Which feedback a round learns from, and which it is judged on: pure functions over acts already read.

The defences against loud or false raters are structural, because at ten votes a rater nobody can be profiled: one
effective vote per rater and reply, a cap per rater that a flood cannot raise, quarantined raters left out, and a
hold-out by rater and by prompt, so that the gate hears people who never taught the candidate. Everything depends on the
acts and the seed alone: the same feedback gives the same selection, and the split of a rater or prompt stays the same
from round to round, so that a later round does not train on what an earlier candidate was held out from.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from feedback_store.raters import is_staff
from feedback_store.records import BOTH_BAD, TIE, Comparison, Feedback, Method, Reply, Split
from trainer.feedback_rows import (
    Correction,
    Pair,
    Vote,
    VoteSource,
    example_rows,
    pair_row,
    prompt_key,
    text_hash,
    vote_row,
)
from trainer.floods import FLOOD_SHARE, AnyRow, floods_of, within_share
from trainer.job import ExampleRow, PairRow, PromptRow, Row, VoteRow
from trainer.settings import RoundSettings, TrainingSettings

_CAP_SHARE = 0.05
_CAP_TIMES_MEAN = 2
"""A rater may hold this share of a large selection, beyond the fixed number of votes, and bring this many times the
mean."""

MOST_ROLLOUT_PROMPTS = 2000

_SOURCES: tuple[VoteSource, ...] = ("thumb", "verdict", "ranking")
"""In order of directness: a thumb on the reply itself beats what a comparison implies about it."""


Judged = TypeVar("Judged", Vote, Pair, Correction)


@dataclass(frozen=True, slots=True)
class Judgements:
    """Everything the acts say, one effective vote per rater and reply, before anything is left out. `ties` counts
    the verdicts that say nothing about which reply is better."""

    votes: tuple[Vote, ...]
    pairs: tuple[Pair, ...]
    ties: int = 0
    corrections: tuple[Correction, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """A round's frozen rows. `frozen` names every act used and its split; `counts` says what was left out and why;
    `rollouts` are prompts to which PPO and GRPO draw replies."""

    method: Method
    train: tuple[Row, ...]
    held_out: tuple[VoteRow | PairRow, ...]
    prompts: tuple[PromptRow, ...]
    frozen: tuple[tuple[int, Split], ...]
    counts: dict[str, int] = field(default_factory=dict)
    rollouts: tuple[PromptRow, ...] = ()


def judgements(
    acts: Iterable[Feedback],
    comparisons: Mapping[str, Comparison],
    *,
    verdicts_as_thumbs: bool = True,
    approved: Container[int] = (),
) -> Judgements:
    """Read votes and pairs out of effective acts (latest event per rater, target and kind; retracted ones gone).

    A verdict's winner is up and its losers down; "both bad" is down for each; a tie says nothing. A ranking's best is
    up and its worst down. Where a rater judged a comparison by verdict and by ranking, the later act gives the pairs. A
    correction counts when its act is among the `approved`: whoever writes what a policy learns by heart owns it.
    """
    corrections: list[Correction] = []
    votes: dict[tuple[str, str], Vote] = {}
    pairs: dict[tuple[str, str], tuple[int, list[Pair]]] = {}
    ties = 0

    def vote(act: Feedback, reply_id: str, up: bool, source: VoteSource) -> None:
        known = votes.get((act.act.rater_id, reply_id))
        if known is not None and (_SOURCES.index(known.source), -known.feedback_id) < (
            _SOURCES.index(source),
            -act.feedback_id,
        ):
            return
        votes[act.act.rater_id, reply_id] = Vote(act.feedback_id, act.act.rater_id, reply_id, up, source)

    for act in acts:
        said = act.act
        if said.kind == "thumb" and said.reply_id is not None and said.thumb is not None:
            vote(act, said.reply_id, said.thumb == "up", "thumb")
            continue
        if said.kind == "correction":
            if act.feedback_id in approved and said.reply_id is not None and said.correction:
                corrections.append(Correction(act.feedback_id, said.rater_id, said.reply_id, said.correction))
            continue
        if said.comparison_id is None or said.comparison_id not in comparisons:
            continue
        order = _order_of(said.verdict, said.ranking, comparisons[said.comparison_id].reply_ids)
        if said.verdict == TIE:
            ties += 1
        implied = {} if not verdicts_as_thumbs else _implied_thumbs(said.verdict, order)
        for reply_id, up in implied.items():
            vote(act, reply_id, up, "verdict" if said.kind == "verdict" else "ranking")
        known = pairs.get((said.rater_id, said.comparison_id))
        if order and (known is None or known[0] < act.feedback_id):
            found = [
                Pair(act.feedback_id, said.rater_id, better, worse, said.reason)
                for better_place, tier in enumerate(order)
                for better in tier
                for worse_tier in order[better_place + 1 :]
                for worse in worse_tier
            ]
            pairs[said.rater_id, said.comparison_id] = (act.feedback_id, found)
    return Judgements(
        tuple(sorted(votes.values(), key=lambda item: (item.feedback_id, item.reply_id))),
        tuple(pair for _, (_, found) in sorted(pairs.items(), key=lambda item: item[1][0]) for pair in found),
        ties,
        tuple(sorted(corrections, key=lambda item: item.feedback_id)),
    )


def _order_of(verdict: str | None, ranking: Sequence[str] | None, shown: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Tiers from best to worst; empty when the act does not order the replies."""
    if ranking is not None:
        return tuple((reply_id,) for reply_id in ranking)
    if verdict is None or verdict in (TIE, BOTH_BAD):
        return ((), tuple(shown)) if verdict == BOTH_BAD else ()
    return ((verdict,), tuple(reply_id for reply_id in shown if reply_id != verdict))


def _implied_thumbs(verdict: str | None, order: tuple[tuple[str, ...], ...]) -> dict[str, bool]:
    if not order:
        return {}
    if verdict is None:  # a ranking: only its ends are clear
        return {order[0][0]: True, order[-1][0]: False}
    return dict.fromkeys(order[0], True) | dict.fromkeys(order[1], False)


def cap_per_rater(rows_by_rater: Mapping[str, int], at_least: int) -> int:
    """Return how many rows a rater may bring: `at_least`, or if that is more, 5 % of what is then selected, but not
    over twice what raters then bring on average.

    Both are of the selection *after* the cap (the least fixed point, c = max(at_least, min(5 % · Σ min(n, c), 2 · mean
    of min(n, c)))): measured before it, a flood of 10,000 votes would raise its own limit to 500. The mean is there for
    rings: ten accounts that each hold 5 % hold half, and with twice the mean a twentieth of the accounts holds a tenth.
    """
    cap = at_least
    while rows_by_rater:
        total = sum(min(rows, cap) for rows in rows_by_rater.values())
        wider = max(at_least, int(min(total * _CAP_SHARE, _CAP_TIMES_MEAN * total / len(rows_by_rater))))
        if wider <= cap:
            break
        cap = wider
    return cap


def allowed_rows(rows_by_rater: Mapping[str, int], at_least: int) -> dict[str, int]:
    """Return how many rows each rater may bring: the cap, and for a flood at most 1 % of all that the others bring."""
    cap, floods = cap_per_rater(rows_by_rater, at_least), floods_of(rows_by_rater, at_least)
    others = sum(min(rows, cap) for rater, rows in rows_by_rater.items() if rater not in floods)
    of_flood = min(cap, int(others * FLOOD_SHARE))
    return {rater: of_flood if rater in floods else cap for rater in rows_by_rater}


def held_out(names: Iterable[str], share: float, seed: int, kind: str) -> frozenset[str]:
    """Return the held-out part of `names`: ⌈share · n⌉ of them (none of a single one), by a seeded hash of the name.

    By hash and not by a shuffle: a name keeps its place in the order when others join, so nearly all stay on their
    side from round to round.
    """
    ordered = sorted(set(names), key=lambda name: text_hash(f"{seed}:{kind}:{name}"))
    if len(ordered) < 2:
        return frozenset()
    return frozenset(ordered[: -int(-share * len(ordered) // 1)])


@dataclass(frozen=True, slots=True)
class Usable:
    """Judgements a round may use: with kept text, and no rater above the cap. `counts` says what was left out."""

    votes: tuple[Vote, ...]
    pairs: tuple[Pair, ...]
    prompt_keys: dict[str, str]
    """Reply id → prompt, for every reply named."""
    counts: dict[str, int]
    corrections: tuple[Correction, ...] = ()
    floods: frozenset[str] = frozenset()
    """Raters who brought so much that each may hold a hundredth of the weight at most."""

    @property
    def raters(self) -> set[str]:
        """Everyone whose judgement is kept."""
        found = {vote.rater_id for vote in self.votes} | {pair.rater_id for pair in self.pairs}
        return found | {item.rater_id for item in self.corrections}


def usable(
    found: Judgements,
    replies: Mapping[str, Reply],
    *,
    max_votes_per_rater: int,
    seed: int,
    max_labels_per_annotator: int = 200,
) -> Usable:
    """Leave out what has no kept text and what lies above a rater's cap. `replies` holds every reply named."""
    caps = max_votes_per_rater, max_labels_per_annotator
    votes = [vote for vote in found.votes if _has_text(replies.get(vote.reply_id))]
    pairs = [pair for pair in found.pairs if all(_has_text(replies.get(name)) for name in (pair.chosen, pair.rejected))]
    corrections = [item for item in found.corrections if _has_text(replies.get(item.reply_id))]
    kept_votes, kept_pairs = _capped(votes, *caps, seed), _capped(pairs, *caps, seed)
    kept_corrections = _capped(corrections, *caps, seed)
    floods = frozenset(
        rater for rows in (votes, pairs, corrections) for rater in floods_of(_brought(rows), max_votes_per_rater)
    )
    counts = {
        "votes_found": len(found.votes),
        "votes_without_text": len(found.votes) - len(votes),
        "votes_over_cap": len(votes) - len(kept_votes),
        "pairs_found": len(found.pairs),
        "pairs_without_text": len(found.pairs) - len(pairs),
        "pairs_over_cap": len(pairs) - len(kept_pairs),
        "ties": found.ties,
    }
    if found.corrections:
        counts |= {
            "corrections_found": len(found.corrections),
            "corrections_without_text": len(found.corrections) - len(corrections),
            "corrections_over_cap": len(corrections) - len(kept_corrections),
        }
    named = {vote.reply_id for vote in kept_votes} | {
        name for pair in kept_pairs for name in (pair.chosen, pair.rejected)
    }
    named |= {item.reply_id for item in kept_corrections}
    keys = {name: prompt_key(replies[name].messages or ()) for name in named}
    return Usable(tuple(kept_votes), tuple(kept_pairs), keys, counts, tuple(kept_corrections), floods)


def select(
    kept: Usable,
    replies: Mapping[str, Reply],
    *,
    method: Method,
    rounds: RoundSettings,
    training: TrainingSettings,
    gate_prompts: int = 0,
    other_prompts: Iterable[Reply] = (),
) -> Selection:
    """Split usable judgements and freeze them. `other_prompts` are further replies whose prompts the gate may use when
    held-out prompts are fewer than `gate_prompts`; what it leaves of them, PPO and GRPO may draw replies to.

    Training takes rows of the round's method; held-out rows are votes and pairs. A row is held out when its rater or
    its prompt is: feedback of either is never trained on. SFT takes well-rated replies to other prompts beside the
    corrections, so many that they are `replay_share` of the rows where there are enough. Of more rows than a round may
    have (`max_rows`, `max_held_out_rows`) a seeded draw is left. A flood holds a hundredth of the weight of either
    split at most, as the method weighs rows.
    """
    seed = training.seed
    raters = sorted(kept.raters)
    rater_numbers = {rater_id: number for number, rater_id in enumerate(raters)}
    out_raters = held_out(raters, rounds.held_out_raters, seed, "rater")
    out_prompts = held_out(kept.prompt_keys.values(), rounds.held_out_prompts, seed, "prompt")

    def split_of(rater_id: str, reply_id: str) -> Split:
        return "held_out" if rater_id in out_raters or kept.prompt_keys[reply_id] in out_prompts else "train"

    vote_rows: dict[Split, list[VoteRow | PairRow]] = {"train": [], "held_out": []}
    pair_rows: dict[Split, list[VoteRow | PairRow]] = {"train": [], "held_out": []}
    for vote in kept.votes:
        vote_rows[split_of(vote.rater_id, vote.reply_id)].append(vote_row(vote, replies, rater_numbers))
    for pair in kept.pairs:
        pair_rows[split_of(pair.rater_id, pair.chosen)].append(pair_row(pair, replies, rater_numbers))
    train: list[Row] = list(vote_rows["train"] if method == "kto" else pair_rows["train"])
    if method == "sft":
        taught = [item for item in kept.corrections if split_of(item.rater_id, item.reply_id) == "train"]
        train = example_rows(taught, vote_rows["train"], replies, rater_numbers, training.replay_share, seed)
    found = len(train) + len(vote_rows["held_out"]) + len(pair_rows["held_out"])
    train = _drawn(train, rounds.max_rows, seed)
    for kind in (vote_rows, pair_rows):
        kind["held_out"] = _drawn(kind["held_out"], rounds.max_held_out_rows, seed)
    floods = [rater_numbers[rater] for rater in sorted(kept.floods & kept.raters)]
    before = len(train) + len(vote_rows["held_out"]) + len(pair_rows["held_out"])
    train = within_share(train, floods, training.max_class_weight, seed)
    for kind in (vote_rows, pair_rows):
        kind["held_out"] = within_share(kind["held_out"], floods, training.max_class_weight, seed)
    out = vote_rows["held_out"] + pair_rows["held_out"]
    trained_keys = {prompt_key(row.messages) for row in train}
    others = list(other_prompts)
    rollouts: list[PromptRow] = []
    if method in ("ppo", "grpo"):  # also of prompts that were only thumbed: a rollout needs no verdict
        asked = [*vote_rows["train"], *pair_rows["train"]]
        trained_keys |= {prompt_key(row.messages) for row in asked}
    prompts = _gate_prompts(out, others, trained_keys, gate_prompts, seed)
    if method in ("ppo", "grpo"):
        # A prompt that a held-out rater judged too may be drawn for: their judgement of it is not learnt from.
        judged_on = out_prompts | {prompt_key(row.messages) for row in prompts}
        rollouts = _gate_prompts(asked, others, set(judged_on), MOST_ROLLOUT_PROMPTS, seed)
    frozen: dict[int, Split] = {row.feedback_id: "held_out" for row in out}
    frozen |= {row.feedback_id: "train" for row in train}
    counts = kept.counts | {
        "rows_over_cap": found - before,
        "rows_of_floods_left_out": before - len(train) - len(out),
        "train": len(train),
        "train_up": sum(row.up for row in train if isinstance(row, VoteRow)),
        "held_out_votes": len(vote_rows["held_out"]),
        "held_out_pairs": len(pair_rows["held_out"]),
        "raters": len(raters),
        "raters_held_out": len(out_raters),
        "prompts": len(set(kept.prompt_keys.values())),
        "prompts_held_out": len(out_prompts),
        "gate_prompts": len(prompts),
    }
    if method == "sft":
        counts["train_corrections"] = sum(isinstance(row, ExampleRow) and row.source == "correction" for row in train)
    if rollouts:
        counts["rollout_prompts"] = len(rollouts)
    return Selection(
        method, tuple(train), tuple(out), tuple(prompts), tuple(sorted(frozen.items())), counts, tuple(rollouts)
    )


def _capped(rows: Sequence[Judged], at_least: int, of_staff: int, seed: int) -> list[Judged]:
    """Keep at most the cap of every rater's rows, whole acts at a time, chosen by a seeded hash; order is kept. Staff
    has a cap of its own, and what it brings neither widens the others' nor makes one of them a flood."""
    allowed = allowed_rows(_brought(rows), at_least)
    allowed |= {row.rater_id: of_staff for row in rows if is_staff(row.rater_id)}
    acts: dict[tuple[str, int], int] = Counter((row.rater_id, row.feedback_id) for row in rows)
    used: Counter[str] = Counter()
    kept: set[tuple[str, int]] = set()
    for act in sorted(acts, key=lambda act: text_hash(f"{seed}:cap:{act[0]}:{act[1]}")):
        if used[act[0]] + acts[act] <= allowed[act[0]]:
            used[act[0]] += acts[act]
            kept.add(act)
    return [row for row in rows if (row.rater_id, row.feedback_id) in kept]


def _drawn(rows: list[AnyRow], most: int, seed: int) -> list[AnyRow]:
    """At most `most` rows, whole acts at a time, by a seeded hash, so that raters and kinds keep their shares; in their
    order."""
    if len(rows) <= most:
        return rows
    of_act = Counter(row.feedback_id for row in rows)
    left, kept = most, set()
    for number in sorted(of_act, key=lambda number: text_hash(f"{seed}:draw:{number}")):
        if of_act[number] <= left:
            left -= of_act[number]
            kept.add(number)
    return [row for row in rows if row.feedback_id in kept]


def _brought(rows: Sequence[Vote | Pair | Correction]) -> dict[str, int]:
    """How many rows each rater brought, staff left out."""
    return Counter(row.rater_id for row in rows if not is_staff(row.rater_id))


def _gate_prompts(
    out: Sequence[VoteRow | PairRow], others: Iterable[Reply], trained: set[str], wanted: int, seed: int
) -> list[PromptRow]:
    """At most `wanted` distinct prompts that are not among the `trained`: of the rows first, then of other replies."""
    first = [(row.messages, row.reply.reply_id if isinstance(row, VoteRow) else row.chosen.reply_id) for row in out]
    second = [(other.messages, other.reply_id) for other in others if other.messages is not None]
    found: dict[str, PromptRow] = {}
    for source in (first, second):
        keyed = [(prompt_key(messages), PromptRow(messages, reply_id)) for messages, reply_id in source]
        for key, row in sorted(keyed, key=lambda item: text_hash(f"{seed}:gate:{item[0]}")):
            if key not in trained:
                found.setdefault(key, row)
    return list(found.values())[: max(wanted, 0)]


def _has_text(reply: Reply | None) -> bool:
    return (
        reply is not None
        and reply.text is not None
        and reply.messages is not None
        and reply.finish_reason != "cancelled"
    )
