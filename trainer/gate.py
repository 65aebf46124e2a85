"""The gate: what a candidate must show before it may serve, measured against the live version and against the base.

The report is JSON:

    schema      1
    outcome     "pass" | "fail" | "inconclusive"
    summary     why, in words
    checks      name, value, interval ([low, high] or null), threshold (a number or [low, high]), hard, outcome, reason
    against     live (version number) and base (fingerprint)
    sample      prompts, replies (of candidate and of live each), temperature, seed, confidence, held_out_votes,
                held_out_pairs
    texts       for candidate and live: median_words, finished, short, empty (shares of replies)
    examples    up to 12 of: prompt_reply_id (the stored reply whose prompt it was), before, after. Only replies drawn
                here are kept in it: the prompt is a user's text, and is looked up in the store while that keeps it.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from feedback_store.records import Sampling
from serving.engine import PolicyRef
from trainer import gate_checks as checks
from trainer import gate_texts as texts
from trainer.drawing import Draw, Drawn
from trainer.encoding import Encoded
from trainer.events import Emit
from trainer.job import Job, PairRow, PromptRow, ReplyText, VoteRow
from trainer.policies import Policies
from trainer.reference import reference_logprobs
from trainer.scoring import summed_logprobs, text_logprobs, token_logprobs

REPORT_SCHEMA = 1
_EXAMPLES = 12


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


def run_gate(
    policies: Policies,
    job: Job,
    candidate_sha256: str,
    *,
    train: Sequence[VoteRow | PairRow],
    held_out: Sequence[VoteRow | PairRow],
    prompts: Sequence[PromptRow],
    draw: Draw,
    emit: Emit,
) -> dict[str, Any]:
    """Judge the candidate in `policies`, which is sealed under `candidate_sha256`; return the report."""
    settings = job.gate
    votes = [row for row in held_out if isinstance(row, VoteRow)]
    pairs = [row for row in held_out if isinstance(row, PairRow)]
    emit("state", state="gating", detail={"doing": "held-out preference"})
    found = [_held_out_votes(policies, votes, job)]
    if pairs_check := _held_out_pairs(policies, pairs, job):
        found.append(pairs_check)

    emit("state", state="gating", detail={"doing": "plain English"})
    found += _retention(policies, job)

    asked = list(prompts[: settings.replies])
    candidate, live = Replies([], []), Replies([], [])
    if asked:
        ids = [policies.encoder.prompt_ids(prompt.messages) for prompt in asked]
        emit("state", state="gating", detail={"doing": "the candidate's replies"})
        candidate = _replies(draw, _candidate_ref(job, candidate_sha256), ids, job)
        emit("state", state="gating", detail={"doing": "the live version's replies"})
        live = _replies(draw, _live_ref(job), ids, job)
        emit("state", state="gating", detail={"doing": "distance from live and base"})
        found += _distances(policies, ids, candidate, job)
        judged = [*train, *votes]
        of_texts = text_checks(candidate, live, judged, job)
        for _ in range(settings.doublings):
            if not _unclear(of_texts):
                break
            emit("state", state="gating", detail={"doing": "more replies, since some checks may be chance"})
            candidate = _doubled(candidate, draw, _candidate_ref(job, candidate_sha256), ids, job)
            live = _doubled(live, draw, _live_ref(job), ids, job)
            of_texts = text_checks(candidate, live, judged, job)
        found += of_texts
    else:
        reason = "no prompt is left that was not trained on: nothing can be drawn to compare"
        found.append(checks.Check("replies", 0, None, settings.min_replies, True, "inconclusive", reason))

    outcome, summary = checks.overall(found)
    return {
        "schema": REPORT_SCHEMA,
        "outcome": outcome,
        "summary": summary,
        "checks": [check.as_dict() for check in found],
        "against": {"live": job.live_version, "base": job.base_model},
        "sample": {
            "prompts": len(asked),
            "replies": len(candidate.drawn),
            "temperature": settings.temperature,
            "seed": job.seed,
            "confidence": settings.confidence,
            "held_out_votes": len(votes),
            "held_out_pairs": len(pairs),
        },
        "texts": {"candidate": describe(candidate), "live": describe(live)},
        "examples": _examples(asked, candidate, live),
    }


def _candidate_ref(job: Job, sha256: str) -> PolicyRef:
    return PolicyRef(0, sha256, Path(job.adapters_dir) / sha256)  # it has no version yet


def _live_ref(job: Job) -> PolicyRef:
    return PolicyRef(job.live_version, job.live_adapter_sha256, job.live_adapter_dir)


def _replies(draw: Draw, policy: PolicyRef, ids: Sequence[tuple[int, ...]], job: Job) -> Replies:
    """Draw about `gate.replies` replies, the same number to each prompt."""
    turns = max(1, round(job.gate.replies / len(ids)))
    sampling = Sampling(temperature=job.gate.temperature, max_tokens=job.gate.reply_tokens, seed=job.seed)
    return Replies(draw(policy, ids, turns, sampling), [place for place in range(len(ids)) for _ in range(turns)])


def _unclear(found: Sequence[checks.Check]) -> bool:
    return any(check.hard and check.outcome == "inconclusive" for check in found)


def _doubled(replies: Replies, draw: Draw, policy: PolicyRef, ids: Sequence[tuple[int, ...]], job: Job) -> Replies:
    """The replies and as many new ones to the same prompts, whose seeds go on where theirs ended."""
    turns = len(replies.drawn) // len(ids)
    sampling = Sampling(
        temperature=job.gate.temperature, max_tokens=job.gate.reply_tokens, seed=job.seed + len(replies.drawn)
    )
    more = draw(policy, ids, turns, sampling)
    return Replies(replies.drawn + more, replies.prompts + [place for place in range(len(ids)) for _ in range(turns)])


def _held_out_votes(policies: Policies, votes: Sequence[VoteRow], job: Job) -> checks.Check:
    margins = _margins(policies, [(row.messages, row.reply) for row in votes], job)
    return checks.held_out_preference(
        margins, [row.up for row in votes], [row.rater for row in votes], job.gate, job.seed
    )


def _held_out_pairs(policies: Policies, pairs: Sequence[PairRow], job: Job) -> checks.Check | None:
    if len(pairs) < job.gate.min_held_out_pairs:
        return None
    both = _margins(
        policies,
        [(row.messages, row.chosen) for row in pairs] + [(row.messages, row.rejected) for row in pairs],
        job,
    )
    gains = [chosen - rejected for chosen, rejected in zip(both[: len(pairs)], both[len(pairs) :], strict=True)]
    return checks.held_out_pairs(gains, [row.rater for row in pairs], job.gate, job.seed)


def _margins(policies: Policies, rows: Sequence[tuple[tuple[dict[str, str], ...], ReplyText]], job: Job) -> list[float]:
    """log π_candidate − log π_live of each reply: the implicit reward, up to β."""
    encoded = [policies.encoder.encode(messages, reply) for messages, reply in rows]
    with policies.use("candidate") as model:
        candidate = summed_logprobs(model, encoded)
    live, _ = reference_logprobs(policies, encoded, [reply for _, reply in rows], job.live_version)
    return [mine - theirs for mine, theirs in zip(candidate, live, strict=True)]


def _retention(policies: Policies, job: Job) -> list[checks.Check]:
    paragraphs = resources.files("trainer").joinpath("retention.txt").read_text(encoding="utf-8").strip().split("\n\n")
    with policies.use("candidate") as model:
        candidate = text_logprobs(model, policies.tokenizer, paragraphs)
    with policies.use("base") as model:
        base = text_logprobs(model, policies.tokenizer, paragraphs)
    return checks.perplexity(
        [float(logprobs.mean()) for logprobs in candidate],
        [float(logprobs.mean()) for logprobs in base],
        job.gate,
        job.seed,
    )


def _distances(policies: Policies, ids: Sequence[tuple[int, ...]], candidate: Replies, job: Job) -> list[checks.Check]:
    """KL of the candidate from live and from the base on the candidate's own replies."""
    said = [
        (prompt, Encoded(ids[prompt], reply.token_ids))
        for prompt, reply in zip(candidate.prompts, candidate.drawn, strict=True)
        if reply.token_ids
    ]
    places, sequences = [prompt for prompt, _ in said], [sequence for _, sequence in said]
    with policies.use("candidate") as model:
        own = token_logprobs(model, sequences)
    with policies.use("live") as model:
        live = token_logprobs(model, sequences)
    base = live
    if policies.live_has_adapter:
        with policies.use("base") as model:
            base = token_logprobs(model, sequences)
    return [
        checks.kl(
            name,
            against,
            [checks.k3_nats(mine.tolist(), theirs.tolist()) for mine, theirs in zip(own, other, strict=True)],
            places,
            limit,
            job.gate,
            job.seed,
        )
        for name, against, other, limit in (
            ("kl_live", "the live version", live, job.gate.max_kl_live_nats),
            ("kl_base", "the base model", base, job.gate.max_kl_base_nats),
        )
    ]


def text_checks(candidate: Replies, live: Replies, judged: Sequence[VoteRow | PairRow], job: Job) -> list[checks.Check]:
    """The checks that read texts alone. `judged` holds the round's rows, for what raters liked."""
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
    return [
        checks.length(_median_words(new), _median_words(old), liked_words, settings),
        checks.share_rise(
            "truncated",
            "the share of replies cut at the limit",
            candidate.truncated,
            live.truncated,
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
    ]


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


def _examples(asked: Sequence[PromptRow], candidate: Replies, live: Replies) -> list[dict[str, Any]]:
    """The first reply of each policy to each of the first prompts."""
    examples: list[dict[str, Any]] = []
    for place, prompt in enumerate(asked[:_EXAMPLES]):
        first = candidate.prompts.index(place)
        examples.append(
            {
                "prompt_reply_id": prompt.reply_id,
                "before": _printable(live.drawn[first].text),
                "after": _printable(candidate.drawn[first].text),
            }
        )
    return examples


def _printable(text: str) -> str:
    """PostgreSQL keeps no NUL."""
    return text.replace("\x00", "\ufffd")
