"""What raters said, and how much of it a round may use: pure functions over acts already read.

The defences against loud or false raters are structural, because at ten votes a rater nobody can be profiled: one
effective vote per rater and reply, a cap per rater that a flood cannot raise, and quarantined raters left out (by the
store). What is left is split and drawn in selection.py.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from feedback_store.raters import is_staff
from feedback_store.records import BOTH_BAD, TIE, Comparison, Feedback
from trainer.feedback_rows import Correction, Pair, Vote, VoteSource, replies_of, text_hash
from trainer.floods import FLOOD_SHARE, floods_of

_CAP_SHARE = 0.05
_CAP_TIMES_MEAN = 2
"""A rater may hold this share of a large selection, beyond the fixed number of votes, and bring this many times the
mean."""

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

    # Nearly all acts are thumbs on replies of no comparison: nothing else is said of those by the same rater, and a key
    # for each would weigh more than the vote. A rater's id is one string, not one of each act.
    alone: list[Vote] = []
    compared = {reply_id for shown in comparisons.values() for reply_id in shown.reply_ids}
    raters: dict[str, str] = {}
    for act in acts:
        said = act.act
        if said.kind == "thumb" and said.reply_id is not None and said.thumb is not None:
            if said.reply_id in compared:
                vote(act, said.reply_id, said.thumb == "up", "thumb")
            else:
                rater = raters.setdefault(said.rater_id, said.rater_id)
                alone.append(Vote(act.feedback_id, rater, said.reply_id, said.thumb == "up", "thumb"))
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
        tuple(sorted((*alone, *votes.values()), key=lambda item: (item.feedback_id, item.reply_id))),
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
    prompts: dict[str, str],
    *,
    max_votes_per_rater: int,
    seed: int,
    max_labels_per_annotator: int = 200,
) -> Usable:
    """Leave out what has no kept text and what lies above a rater's cap. `prompts` has the key of the prompt of every
    reply that may be learnt from (see `feedback_rows.prompt_key`)."""
    caps = max_votes_per_rater, max_labels_per_annotator
    votes = [vote for vote in found.votes if vote.reply_id in prompts]
    pairs = [pair for pair in found.pairs if pair.chosen in prompts and pair.rejected in prompts]
    corrections = [item for item in found.corrections if item.reply_id in prompts]
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
    kept: tuple[Sequence[Vote | Pair | Correction], ...] = (kept_votes, kept_pairs, kept_corrections)
    named = {name for rows in kept for row in rows for name in replies_of(row)}
    keys = prompts if len(named) == len(prompts) else {name: prompts[name] for name in named}
    return Usable(tuple(kept_votes), tuple(kept_pairs), keys, counts, tuple(kept_corrections), floods)


def _capped(rows: Sequence[Judged], at_least: int, of_staff: int, seed: int) -> list[Judged]:
    """Keep at most the cap of every rater's rows, whole acts at a time, chosen by a seeded hash; order is kept. Staff
    has a cap of its own, and what it brings neither widens the others' nor makes one of them a flood."""
    allowed = allowed_rows(_brought(rows), at_least)
    allowed |= {row.rater_id: of_staff for row in rows if is_staff(row.rater_id)}
    brought = Counter(row.rater_id for row in rows)
    over = {rater for rater, number in brought.items() if number > allowed[rater]}
    acts = Counter((row.rater_id, row.feedback_id) for row in rows if row.rater_id in over)
    used: Counter[str] = Counter()
    kept: set[tuple[str, int]] = set()
    for act in sorted(acts, key=lambda act: text_hash(f"{seed}:cap:{act[0]}:{act[1]}")):
        if used[act[0]] + acts[act] <= allowed[act[0]]:
            used[act[0]] += acts[act]
            kept.add(act)
    return [row for row in rows if row.rater_id not in over or (row.rater_id, row.feedback_id) in kept]


def _brought(rows: Sequence[Vote | Pair | Correction]) -> dict[str, int]:
    """How many rows each rater brought, staff left out."""
    return Counter(row.rater_id for row in rows if not is_staff(row.rater_id))
