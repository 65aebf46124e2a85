"""Which feedback a round learns from, and which it is judged on: pure functions over what raters said (judgements.py).

Rows are held out by rater and by prompt, so that the gate hears people who never taught the candidate. Everything
depends on the judgements and the seed alone: the same feedback gives the same selection, and the split of a rater or
prompt stays the same from round to round, so that a later round does not train on what an earlier candidate was held
out from. Texts are read last, of the rows that were drawn: a store may hold a hundred times as many.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from feedback_store.records import Method, Reply, Split
from trainer.feedback_rows import (
    Correction,
    Pair,
    Vote,
    example_row,
    pair_row,
    prompt_key,
    replayed,
    replies_of,
    text_hash,
    vote_row,
)
from trainer.floods import within_share
from trainer.job import ExampleRow, PairRow, PromptRow, Row, VoteRow
from trainer.judgements import Usable
from trainer.settings import RoundSettings, TrainingSettings

MOST_ROLLOUT_PROMPTS = 2000

Texts = Callable[[Sequence[str]], Mapping[str, Reply]]
"""Reads replies by id; one whose text has gone since is left out."""
Drawn = TypeVar("Drawn", bound=Vote | Pair | Correction)


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


def held_out(names: Iterable[str], share: float, seed: int, kind: str) -> frozenset[str]:
    """Return the held-out part of `names`: ⌈share · n⌉ of them (none of a single one), by a seeded hash of the name.

    By hash and not by a shuffle: a name keeps its place in the order when others join, so nearly all stay on their
    side from round to round.
    """
    ordered = sorted(set(names), key=lambda name: text_hash(f"{seed}:{kind}:{name}"))
    if len(ordered) < 2:
        return frozenset()
    return frozenset(ordered[: -int(-share * len(ordered) // 1)])


def select(
    kept: Usable,
    texts: Texts,
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
    numbers = {rater_id: number for number, rater_id in enumerate(raters)}
    out_raters = held_out(raters, rounds.held_out_raters, seed, "rater")
    out_prompts = held_out(kept.prompt_keys.values(), rounds.held_out_prompts, seed, "prompt")

    def is_out(item: Vote | Pair | Correction) -> bool:
        return item.rater_id in out_raters or _key(item, kept) in out_prompts

    train_votes = [vote for vote in kept.votes if not is_out(vote)]
    train_pairs = [pair for pair in kept.pairs if not is_out(pair)]
    taught: Sequence[Vote | Pair | Correction] = train_votes if method == "kto" else train_pairs
    if method == "sft":
        corrections = [item for item in kept.corrections if not is_out(item)]
        replay = replayed(corrections, train_votes, kept.prompt_keys, training.replay_share, seed)
        taught = [*corrections, *replay]
    votes_out = [vote for vote in kept.votes if is_out(vote)]
    pairs_out = [pair for pair in kept.pairs if is_out(pair)]
    found = len(taught) + len(votes_out) + len(pairs_out)
    taught = _drawn(taught, rounds.max_rows, seed)
    votes_out = _drawn(votes_out, rounds.max_held_out_rows, seed)
    pairs_out = _drawn(pairs_out, rounds.max_held_out_rows, seed)
    replies = texts(sorted({name for item in (*taught, *votes_out, *pairs_out) for name in replies_of(item)}))

    def has_text(item: Vote | Pair | Correction) -> bool:
        return all(name in replies for name in replies_of(item))

    train = [_row(item, method, replies, numbers) for item in taught if has_text(item)]
    out_of_votes = [vote_row(vote, replies, numbers) for vote in votes_out if has_text(vote)]
    out_of_pairs = [pair_row(pair, replies, numbers) for pair in pairs_out if has_text(pair)]
    before = len(train) + len(out_of_votes) + len(out_of_pairs)
    floods = [numbers[rater] for rater in sorted(kept.floods & kept.raters)]
    train = within_share(train, floods, training.max_class_weight, seed)
    out_of_votes = within_share(out_of_votes, floods, training.max_class_weight, seed)
    out_of_pairs = within_share(out_of_pairs, floods, training.max_class_weight, seed)
    out: tuple[VoteRow | PairRow, ...] = (*out_of_votes, *out_of_pairs)
    trained_keys = {prompt_key(row.messages) for row in train}
    asked: Sequence[Vote | Pair] = ()
    if method in ("ppo", "grpo"):  # also of prompts that were only thumbed: a rollout needs no verdict
        asked = [*train_votes, *train_pairs]
        trained_keys |= {_key(item, kept) for item in asked}
    others = {other.reply_id: other for other in other_prompts if other.messages is not None}
    of_others = [(prompt_key(other.messages or ()), name) for name, other in others.items()]
    judged = [
        (prompt_key(row.messages), row.reply.reply_id if isinstance(row, VoteRow) else row.chosen.reply_id)
        for row in out
    ]
    gate_keys = _distinct((judged, of_others), trained_keys, gate_prompts, seed)
    prompts = _prompt_rows(gate_keys.values(), {**others, **replies})
    rollouts: list[PromptRow] = []
    if method in ("ppo", "grpo"):
        # A prompt that a held-out rater judged too may be drawn for: their judgement of it is not learnt from.
        drawn = _distinct(
            ([(_key(item, kept), replies_of(item)[0]) for item in asked], of_others),
            out_prompts | gate_keys.keys(),
            MOST_ROLLOUT_PROMPTS,
            seed,
        )
        rollouts = _prompt_rows(drawn.values(), {**others, **texts(sorted(set(drawn.values()) - others.keys()))})
    frozen: dict[int, Split] = {row.feedback_id: "held_out" for row in out}
    frozen |= {row.feedback_id: "train" for row in train}
    counts = kept.counts | {
        "rows_over_cap": found - before,
        "rows_of_floods_left_out": before - len(train) - len(out),
        "train": len(train),
        "train_up": sum(row.up for row in train if isinstance(row, VoteRow)),
        "held_out_votes": len(out_of_votes),
        "held_out_pairs": len(out_of_pairs),
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


def _key(item: Vote | Pair | Correction, kept: Usable) -> str:
    return kept.prompt_keys[replies_of(item)[0]]


def _row(
    item: Vote | Pair | Correction, method: Method, replies: Mapping[str, Reply], numbers: Mapping[str, int]
) -> Row:
    if isinstance(item, Pair):
        return pair_row(item, replies, numbers)
    if method == "sft" or isinstance(item, Correction):
        return example_row(item, replies, numbers)
    return vote_row(item, replies, numbers)


def _drawn(items: Sequence[Drawn], most: int, seed: int) -> list[Drawn]:
    """At most `most` of them, whole acts at a time, by a seeded hash, so that raters and kinds keep their shares; in
    their order."""
    if len(items) <= most:
        return list(items)
    of_act = Counter(item.feedback_id for item in items)
    left, kept = most, set()
    for number in sorted(of_act, key=lambda number: text_hash(f"{seed}:draw:{number}")):
        if of_act[number] <= left:
            left -= of_act[number]
            kept.add(number)
    return [item for item in items if item.feedback_id in kept]


def _distinct(
    sources: Iterable[Iterable[tuple[str, str]]], without: Iterable[str], wanted: int, seed: int
) -> dict[str, str]:
    """At most `wanted` distinct prompts, key → reply id, none of them in `without`: of the first source first, in each
    by a seeded hash."""
    out, found = frozenset(without), dict[str, str]()
    for source in sources:
        first: dict[str, str] = {}
        for key, reply_id in source:
            if key not in out and key not in found:
                first.setdefault(key, reply_id)
        found |= {key: first[key] for key in sorted(first, key=lambda key: text_hash(f"{seed}:gate:{key}"))}
    return dict(list(found.items())[: max(wanted, 0)])


def _prompt_rows(reply_ids: Iterable[str], replies: Mapping[str, Reply]) -> list[PromptRow]:
    """Rows of the replies whose prompt is still kept."""
    found = ((name, replies[name].messages) for name in reply_ids if name in replies)
    return [PromptRow(messages, name) for name, messages in found if messages is not None]
