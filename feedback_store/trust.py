"""Signals of false feedback, and how far raters agree. Pure functions over acts already read, and one that reads them.

At ten votes a rater nobody can be profiled, so most defences are structural (a cap per rater, one vote per rater and
reply, a hold-out by rater, the gate). What can be seen all the same:

    flood    one rater gives far more than anybody could who reads
    ring     raters who judge the same replies and always alike, far more than chance brings together
    phrase   a phrase that a few raters put into their prompts and up-vote when it comes back ("hypnosis" of a model)

Each takes feedback into quarantine until an operator has looked (quarantines.py); none punishes by itself.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import combinations, islice
from typing import Any, Literal

from sqlalchemy import Connection

from feedback_store.agreement import Agreement, agreement
from feedback_store.feedback import effective_feedback
from feedback_store.quarantines import begin_quarantine, list_quarantines
from feedback_store.records import BOTH_BAD, Feedback, Quarantine, Reply
from feedback_store.replies import lean_replies
from feedback_store.settings import TrustSettings
from feedback_store.statistics import wilson

ACTOR = "trust"
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_PHRASE_WORDS = (3, 4, 5)
_RING_CHANCE = 1e-4
"""Chance, at the others' rate of agreement, below which two raters count as one will; over all pairs looked at."""
_RATERS_AT_ONCE = 1_000
"""Whose replies are held at a time when texts are looked through."""
_RATE_VOTES = 100
"""Pairs of votes on one target from which the others' rate of agreement is known."""
_MOST_PAIRED = 2_000
"""Raters of a target beyond which its pairs are not counted: a poll, not a ring."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One signal: whom it names, and the single acts where it is not everything that they gave."""

    signal: Literal["flood", "ring", "phrase"]
    rater_ids: tuple[str, ...]
    reason: str
    figures: dict[str, Any] = field(default_factory=dict)
    acts: tuple[tuple[int, str], ...] = ()
    """(feedback id, rater) of single acts; empty: the raters as a whole."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often a rater judged as the majority of the others did, on targets that others judged too."""

    rater_id: str
    agreed: int
    shared: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TrustReport:
    """What is known of the raters. `agreement` is Krippendorff's α over thumbs and verdicts."""

    agreement: Agreement
    pair_agreement: float | None
    """Share of pairs of votes on one target that are alike: two people agree on about 70 %."""
    raters: int
    profiled: tuple[Reliability, ...]
    findings: tuple[Finding, ...]
    waiting: int
    """Quarantines that wait for an operator."""

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return asdict(self)


Votes = Mapping[str, Mapping[str, str]]
"""Target → rater → what they said of it."""


Texts = Callable[[Sequence[str]], Mapping[str, Reply]]
"""Reads replies by id; unknown ones are left out."""


def votes_of(acts: Iterable[Feedback]) -> dict[str, dict[str, str]]:
    """Lay the acts out by target: thumbs by reply, verdicts by comparison (ties say nothing about reliability)."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for one in acts:
        act = one.act
        if act.kind == "thumb" and act.reply_id is not None and act.thumb is not None:
            found[f"reply {act.reply_id}"][act.rater_id] = act.thumb
        elif act.kind == "verdict" and act.verdict not in (None, "tie"):
            found[f"comparison {act.comparison_id}"][act.rater_id] = str(act.verdict)
    return dict(found)


def agreement_of(votes: Votes, seed: int = 0) -> tuple[Agreement, float | None]:
    """Return α with its interval, and the share of pairs of votes on one target that are alike."""
    units: list[list[float]] = []
    targets: list[str] = []
    alike, pairs, shared = 0, 0, 0
    for target, said in votes.items():
        counts = Counter(said.values())
        n = len(said)
        pairs += n * (n - 1) // 2
        alike += sum(count * (count - 1) // 2 for count in counts.values())
        shared += n > 1
        forms = _forms(said)
        units += forms
        targets += [target] * len(forms)
    return replace(agreement(units, cluster=targets, seed=seed), units=shared), alike / pairs if pairs else None


def _forms(said: Mapping[str, str]) -> list[list[float]]:
    """What was said of one target, as values that mean the same on every target.

    A thumb does by itself. A verdict names a reply of its own comparison, and no reply is the first: read in one order
    alone, people who are all of one mind would look as if they always said the same, which α takes for knowing
    nothing. So a comparison counts once for each way round.
    """
    thumbs = {"up": 1.0, "down": 0.0}
    if all(word in thumbs for word in said.values()):
        return [[thumbs[word] for word in said.values()]]
    names = sorted(set(said.values()) - {BOTH_BAD})
    ways = max(2, len(names))
    place = {name: number for number, name in enumerate(names)}
    return [
        [-1.0 if word == BOTH_BAD else float((place[word] + turn) % ways) for word in said.values()]
        for turn in range(ways)
    ]


def reliabilities(votes: Votes, least: int) -> list[Reliability]:
    """Hold each rater with `least` shared targets against the majority of the others there (a draw says nothing)."""
    agreed: Counter[str] = Counter()
    shared: Counter[str] = Counter()
    for said in votes.values():
        if len(said) < 2:
            continue
        counts = Counter(said.values())
        for rater, word in said.items():
            counts[word] -= 1
            (first, most), *rest = counts.most_common(2)
            counts[word] += 1
            if rest and rest[0][1] == most:
                continue
            shared[rater] += 1
            agreed[rater] += first == word
    return [
        Reliability(rater, agreed[rater], n, *wilson(agreed[rater], n))
        for rater, n in sorted(shared.items())
        if n >= least
    ]


def floods(acts: Iterable[Feedback], settings: TrustSettings) -> list[Finding]:
    """Find raters who gave more than `flood_votes` acts within `flood_hours`."""
    times: defaultdict[str, list[datetime]] = defaultdict(list)
    for one in acts:
        if one.act.created_at is not None:
            times[one.act.rater_id].append(one.act.created_at)
    window = timedelta(hours=settings.flood_hours)
    found = []
    for rater, at in sorted(times.items()):
        most = _most_within(sorted(at), window)
        if most > settings.flood_votes:
            reason = f"{most} acts within {settings.flood_hours:g} h; nobody reads that many"
            found.append(Finding("flood", (rater,), reason, {"acts": most}))
    return found


def rings(votes: Votes, settings: TrustSettings) -> list[Finding]:
    """Find groups of raters who judge the same targets and always alike.

    Two raters belong together when they share `ring_shared` targets and `ring_overlap` of the smaller one's, and agree
    on so many of them that chance at the others' rate of agreement explains it once in ten thousand times, corrected
    for the pairs looked at. Two alone are friends; three or more are a ring. The others are those whom nobody would
    suspect by what they judged: ten accounts on 40 replies bring 1,800 pairs of votes that are alike, more than a crowd
    of 200 has, and would hide in a rate that they make themselves.
    """
    judged = Counter(rater for said in votes.values() for rater in said)
    shared: Counter[tuple[str, str]] = Counter()
    alike: Counter[tuple[str, str]] = Counter()
    for said in votes.values():
        if len(said) > _MOST_PAIRED:
            continue
        # Of a crowd's million pairs on a few popular replies nearly all meet there once: only those are laid out who
        # judged enough to be in a ring at all.
        for pair in combinations(sorted(rater for rater in said if judged[rater] >= settings.ring_shared), 2):
            shared[pair] += 1
            alike[pair] += said[pair[0]] == said[pair[1]]
    candidates = [
        pair
        for pair, n in shared.items()
        if n >= settings.ring_shared and n >= settings.ring_overlap * min(judged[name] for name in pair)
    ]
    everybody = _rate_of_others(votes, {name for pair in candidates for name in pair})
    tied = [
        pair
        for pair in candidates
        if _at_least(alike[pair], shared[pair], max(everybody, 0.5)) < _RING_CHANCE / max(len(candidates), 1)
    ]
    found = []
    for group in _groups(tied):
        if len(group) > 2:
            pairs = [pair for pair in tied if pair[0] in group]
            together = sum(alike[pair] for pair in pairs), sum(shared[pair] for pair in pairs)
            reason = f"{len(group)} raters judged the same {together[1]} times and alike {together[0]} times"
            figures = {"shared": together[1], "alike": together[0], "everybody": everybody}
            found.append(Finding("ring", tuple(sorted(group)), reason, figures))
    return found


def _rate_of_others(votes: Votes, suspects: Collection[str]) -> float:
    """How often two votes on one target are alike that no suspect gave; of all, where those are too few."""
    pairs = alike = 0
    for said in votes.values():
        if len(said) <= _MOST_PAIRED:
            counts = Counter(word for rater, word in said.items() if rater not in suspects)
            pairs += math.comb(counts.total(), 2)
            alike += sum(math.comb(count, 2) for count in counts.values())
    if pairs < _RATE_VOTES and suspects:
        return _rate_of_others(votes, frozenset())
    return alike / pairs if pairs else 1.0


def phrases(acts: Iterable[Feedback], texts: Texts, settings: TrustSettings) -> list[Finding]:
    """Find phrases that few raters put into their own prompts and up-vote when the reply says them back.

    texts: reads replies by id, some thousand at a time. A store of a million votes says hundreds of millions of
    phrases, so none is held that nobody repeats: first those that a rater asked for and got `phrase_each` times, which
    are few; then, for these alone, who else up-voted them.
    """
    liked: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for one in acts:
        name = one.act.reply_id if one.act.thumb == "up" else one.act.verdict if one.act.kind == "verdict" else None
        if name is not None:
            liked[one.act.rater_id].append((one.feedback_id, name))
    echoes: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    ups: dict[str, int] = {}
    often = ((rater, named) for rater, named in liked.items() if len(named) >= settings.phrase_each)
    for rater, found in _with_texts(often, texts):
        # Somebody who met a phrase once or twice asked about it; whoever plants it does so again and again.
        counts = Counter(phrase for _, reply in found for phrase in _echoed(reply))
        ups[rater] = len(found)
        again = {phrase for phrase, count in counts.items() if count >= settings.phrase_each}
        for feedback_id, reply in found if again else ():
            for phrase in again & _echoed(reply):
                echoes[phrase].append((feedback_id, rater))
    said_back = {phrase: acts_of for phrase, acts_of in echoes.items() if len(acts_of) >= settings.phrase_replies}
    backers = _backers(said_back.keys(), liked, texts) if said_back else {}
    alarming: dict[frozenset[tuple[int, str]], str] = {}
    for phrase, acts_of in said_back.items():
        counts = Counter(rater for _, rater in acts_of)
        shares = [count / ups[rater] for rater, count in counts.items()]
        if len(backers[phrase]) < settings.phrase_backers and min(shares) >= settings.phrase_share:
            key = frozenset(acts_of)
            alarming[key] = max(alarming.get(key, ""), phrase, key=len)
    return [
        Finding(
            "phrase",
            tuple(sorted({rater for _, rater in acts_of})),
            f"“{phrase}” was asked for and up-voted {len(acts_of)} times by {len({r for _, r in acts_of})} raters",
            {"phrase": phrase, "replies": len(acts_of)},
            tuple(sorted(acts_of)),
        )
        for acts_of, phrase in sorted(alarming.items(), key=lambda item: (-len(item[0]), item[1]))
    ]


def _backers(
    phrases_sought: Collection[str], liked: Mapping[str, Sequence[tuple[int, str]]], texts: Texts
) -> dict[str, set[str]]:
    """Who up-voted a reply that says each of the phrases, whether they asked for it or not."""
    sought = set(phrases_sought)
    found: dict[str, set[str]] = {phrase: set() for phrase in sought}
    for rater, replies in _with_texts(liked.items(), texts):
        for _, reply in replies:
            for phrase in sought.intersection(_phrases(reply.text or "")):
                found[phrase].add(rater)
    return found


def _with_texts(
    liked: Iterable[tuple[str, Sequence[tuple[int, str]]]], texts: Texts
) -> Iterator[tuple[str, list[tuple[int, Reply]]]]:
    """Yield each rater with the up-voted replies whose texts are kept; they are read for many raters at once."""
    remaining = iter(liked)
    while batch := list(islice(remaining, _RATERS_AT_ONCE)):
        known = texts(sorted({name for _, named in batch for _, name in named}))
        for rater, named in batch:
            replies = ((feedback_id, known.get(name)) for feedback_id, name in named)
            yield rater, [(number, reply) for number, reply in replies if reply is not None and _is_kept(reply)]


def _is_kept(reply: Reply) -> bool:
    return reply.text is not None and reply.messages is not None


def _echoed(reply: Reply) -> set[str]:
    """The phrases that stand both in the prompt and in the reply."""
    asked = {phrase for message in reply.messages or () for phrase in _phrases(message["content"])}
    return asked.intersection(_phrases(reply.text or ""))


def trust_report(connection: Connection, settings: TrustSettings) -> TrustReport:
    """Read what raters think now and look for signals. Raters in quarantine already are left out."""
    acts = effective_feedback(connection)
    votes = votes_of(acts)
    alpha, alike = agreement_of(votes)
    return TrustReport(
        alpha,
        alike,
        len({one.act.rater_id for one in acts}),
        tuple(reliabilities(votes, settings.profile_votes)),
        tuple(_signals(connection, acts, votes, settings)),
        len(list_quarantines(connection, open_only=True)),
    )


def trust_signals(connection: Connection, settings: TrustSettings) -> list[Finding]:
    """Look for signals in what raters think now. It may take seconds: read with it, and write what it found after."""
    acts = effective_feedback(connection)
    return _signals(connection, acts, votes_of(acts), settings)


def quarantine_found(connection: Connection, signals: Sequence[Finding]) -> list[Quarantine]:
    """Take what signals name into quarantine; return what is new in it."""
    begun = []
    for found in signals:
        named: Sequence[tuple[int | None, str]] = found.acts or [(None, rater) for rater in found.rater_ids]
        for feedback_id, rater in named:
            new = begin_quarantine(
                connection,
                rater,
                signal=found.signal,
                reason=found.reason,
                begun_by=ACTOR,
                feedback_id=feedback_id,
                figures=found.figures,
            )
            if new is not None:
                begun.append(new)
    return begun


def _signals(connection: Connection, acts: Sequence[Feedback], votes: Votes, settings: TrustSettings) -> list[Finding]:
    texts = partial(lean_replies, connection)
    return [*floods(acts, settings), *rings(votes, settings), *phrases(acts, texts, settings)]


def _most_within(at: Sequence[datetime], window: timedelta) -> int:
    most, first = 0, 0
    for last, moment in enumerate(at):
        while moment - at[first] > window:
            first += 1
        most = max(most, last - first + 1)
    return most


def _at_least(successes: int, n: int, p: float) -> float:
    """Chance of at least so many successes of n."""
    if p >= 1:
        return 1.0
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(successes, n + 1))


def _groups(pairs: Iterable[tuple[str, str]]) -> list[set[str]]:
    """Raters that are connected by pairs."""
    groups: list[set[str]] = []
    for pair in pairs:
        touched = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if not group & set(pair)]
        groups.append(set(pair).union(*touched))
    return groups


def _phrases(text: str) -> Iterator[str]:
    words = _WORD.findall(text.casefold())
    for n in _PHRASE_WORDS:
        for start in range(len(words) - n + 1):
            yield " ".join(words[start : start + n])
