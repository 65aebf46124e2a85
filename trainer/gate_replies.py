"""The replies that the gate draws from both policies, and the checks that read their texts alone."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from feedback_store.records import Sampling
from serving.engine import PolicyRef
from trainer import gate_checks as checks
from trainer import gate_texts as texts
from trainer import gate_words as said
from trainer.drawing import Draw, Drawn
from trainer.job import Job, PairRow, PromptRow, VoteRow
from trainer.overlap import bleu, rouge_l

_CUT = "the share of replies cut at the limit"


@dataclass(frozen=True, slots=True)
class Replies:
    """Replies of one policy to the gate's prompts; `prompts` says which prompt each answers."""

    drawn: list[Drawn]
    prompts: list[int]

    @property
    def texts(self) -> list[str]:
        """The replies' texts."""
        return [reply.text for reply in self.drawn]

    @property
    def truncated(self) -> list[bool]:
        """Which replies were cut at the token limit."""
        return [reply.finish_reason == "length" for reply in self.drawn]


def candidate_ref(job: Job, sha256: str) -> PolicyRef:
    """The sealed candidate, to draw from."""
    return PolicyRef(0, sha256, Path(job.adapters_dir) / sha256)  # it has no version yet


def live_ref(job: Job) -> PolicyRef:
    """The live version, to draw from."""
    return PolicyRef(job.live_version, job.live_adapter_sha256, job.live_adapter_dir)


def draw_replies(draw: Draw, policy: PolicyRef, ids: Sequence[tuple[int, ...]], job: Job) -> Replies:
    """Draw about `gate.replies` replies, the same number to each prompt."""
    turns = max(1, round(job.gate.replies / len(ids)))
    sampling = Sampling(temperature=job.gate.temperature, max_tokens=job.gate.reply_tokens, seed=job.seed)
    return Replies(draw(policy, ids, turns, sampling), [place for place in range(len(ids)) for _ in range(turns)])


def doubled(replies: Replies, draw: Draw, policy: PolicyRef, ids: Sequence[tuple[int, ...]], job: Job) -> Replies:
    """The replies and as many new ones to the same prompts, whose seeds go on where theirs ended."""
    turns = len(replies.drawn) // len(ids)
    sampling = Sampling(
        temperature=job.gate.temperature, max_tokens=job.gate.reply_tokens, seed=job.seed + len(replies.drawn)
    )
    more = draw(policy, ids, turns, sampling)
    return Replies(replies.drawn + more, replies.prompts + [place for place in range(len(ids)) for _ in range(turns)])


def text_checks(
    candidate: Replies,
    live: Replies,
    asked: Sequence[PromptRow],
    judged: Sequence[VoteRow | PairRow],
    job: Job,
) -> list[checks.Check]:
    """The checks that read texts alone. `asked`: the prompts; `judged`: the round's rows, for what raters liked."""
    settings, seed = job.gate, job.seed
    new, old = candidate.texts, live.texts
    liked = [
        (row.rater, row.reply.text if isinstance(row, VoteRow) else row.chosen.text)
        for row in judged
        if isinstance(row, PairRow) or row.up
    ]
    liked_words = statistics.median(len(texts.words(text)) for _, text in liked) if liked else None
    repeats = [[share for text in side if (share := texts.repeated_share(text)) is not None] for side in (new, old)]
    pairs = [[share for text in side if (share := texts.distinct_pairs(text)) is not None] for side in (new, old)]
    opening = texts.most_common_opening(new)
    shown = next((text for text, has in zip(new, opening, strict=True) if has), "")
    same_before = texts.has_opening(old, tuple(texts.words(shown)[:3])) if shown else [False] * len(old)
    medians = _median_words(new), _median_words(old), liked_words
    cut, was_cut = candidate.truncated, live.truncated
    lengths = [
        checks.length(*medians, settings),
        checks.length_far(*medians, settings),
        checks.share_rise("truncated_far", _CUT, cut, was_cut, settings.max_truncated_jump, settings, hard=True),
    ]
    return [
        *(lengths if settings.length_goal == "keep" else []),
        checks.share_rise(
            "truncated",
            _CUT,
            cut,
            was_cut,
            settings.max_truncated_rise,
            settings,
            hard=False,
        ),
        checks.share_rise(
            "short",
            "the share of replies under 3 words",
            [texts.is_short(text) for text in new],
            [texts.is_short(text) for text in old],
            settings.max_short_rise,
            settings,
            hard=True,
        ),
        checks.share_at_most(
            "empty",
            "the share of empty replies",
            [not text.strip() for text in new],
            [not text.strip() for text in old],
            settings.max_empty,
            settings,
        ),
        checks.mean_rise(
            "repeated",
            "the share of repeated four-word sequences",
            repeats[0],
            repeats[1],
            settings.max_repeat_rise,
            settings,
            seed,
        ),
        checks.mean_ratio(
            "distinct",
            "the share of distinct word pairs",
            pairs[0],
            pairs[1],
            settings.min_distinct_ratio,
            settings,
            seed,
        ),
        checks.share_at_most(
            "opening",
            "the share of replies with one and the same opening",
            opening,
            same_before,
            settings.max_same_opening,
            settings,
        ),
        texts.new_phrases(new, candidate.prompts, old, liked, settings),
        *_manner_checks(candidate, live, asked, job),
    ]


def _manner_checks(candidate: Replies, live: Replies, asked: Sequence[PromptRow], job: Job) -> list[checks.Check]:
    """Praise, insults, and the language that was asked in."""
    settings = job.gate
    spoken = [said.language_of(prompt.messages[-1]["content"]) for prompt in asked]

    def foreign(replies: Replies) -> list[bool]:
        answered = [said.language_of(text) for text in replies.texts]
        heard = [(answer, spoken[place]) for answer, place in zip(answered, replies.prompts, strict=True)]
        return [None not in (answer, question) and answer != question for answer, question in heard]

    praise = [[said.opens_with_praise(text) for text in side.texts] for side in (candidate, live)]
    insults = [[said.is_insulting(text) for text in side.texts] for side in (candidate, live)]
    abroad = foreign(candidate), foreign(live)
    language = "the share of replies in another language than their prompt's"
    return [
        checks.share_rise("praise", "the share of replies that open with praise", praise[0], praise[1],
                          settings.max_praise_rise, settings, hard=True),
        checks.share_rise("insults", "the share of replies with insults", insults[0], insults[1],
                          settings.max_insults_rise, settings, hard=True),
        checks.share_rise("language", language, *abroad, settings.max_language_drop, settings, hard=False),
        checks.share_rise("language_flip", language, *abroad, settings.max_language_flip, settings, hard=True),
    ]  # fmt: skip


def drift(candidate: Replies, live: Replies) -> dict[str, float | None]:
    """How much of the live version's words the candidate still says, and how much live itself says again."""
    new, old = candidate.texts, live.texts
    turns = [place for place in range(1, len(old)) if live.prompts[place] == live.prompts[place - 1]]
    again, before = [old[place] for place in turns], [old[place - 1] for place in turns]
    return {
        "bleu": bleu(new, old) if new else None,
        "rouge_l": rouge_l(new, old),
        "live_bleu": bleu(again, before) if again else None,
        "live_rouge_l": rouge_l(again, before),
    }


def describe(replies: Replies) -> dict[str, float | None]:
    """What replies look like, for people."""
    n = len(replies.drawn)
    if n == 0:
        return {"median_words": None, "finished": None, "short": None, "empty": None}
    return {
        "median_words": _median_words(replies.texts),
        "finished": 1 - sum(replies.truncated) / n,
        "short": sum(texts.is_short(text) for text in replies.texts) / n,
        "empty": sum(not text.strip() for text in replies.texts) / n,
    }


def _median_words(found: Sequence[str]) -> float:
    return float(statistics.median(len(texts.words(text)) for text in found))
