"""The gate: what a candidate must show before it may serve, measured against the live version and against the base.

The report is JSON:

    schema      1
    outcome     "pass" | "fail" | "inconclusive"
    summary     why, in words
    checks      name, value, interval ([low, high] or null), threshold (a number or [low, high]), hard, outcome, reason
    next        what to do about every check that did not pass, in words (gate_advice.py)
    cannot_prove  what the gate leaves open although it may have passed
    profile     "quick" | "full"
    against     live (version number) and base (fingerprint)
    sample      prompts, replies (of candidate and of live each), temperature, seed, confidence, held_out_votes,
                held_out_pairs
    texts       for candidate and live: median_words, finished, short, empty (shares of replies)
    drift       bleu and rouge_l of the candidate's replies against live's to the same prompts, and live's own between
                two of its replies to one prompt (null where only one was drawn)
    judge       judged_pairs, win_rate, win_rate_length_controlled, orders_agree; null without a judge
    counterfactual  the candidate's share of thumbs up, estimated on held-out votes (counterfactual.py); null without
    packs       SHA-256 of every evaluation pack used
    examples    up to 12 of: prompt_reply_id (the stored reply whose prompt it was) or prompt (a pack's own text),
                before, after. Only replies drawn here are kept in it: a user's prompt is looked up in the store while
                that keeps it.
    seen_examples   the same for up to 4 prompts that were trained on: what it learnt, beside what it makes of that
    probe_examples  the same for probe prompts, with `pack` (full profile)
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from feedback_store.records import Sampling
from trainer import gate_checks as checks
from trainer.counterfactual import counterfactual
from trainer.drawing import Draw
from trainer.encoding import Encoded
from trainer.events import Emit
from trainer.gate_advice import advise, not_proven
from trainer.gate_memory import GateMemory, numbers, remembered
from trainer.gate_probes import SaidTo, draw_probes, drawn_checks, probe, probe_checks
from trainer.gate_replies import (
    Replies,
    candidate_ref,
    describe,
    doubled,
    draw_replies,
    drift,
    live_ref,
    text_checks,
)
from trainer.job import Job, PairRow, PromptRow, ReplyText, VoteRow
from trainer.pack_files import Packs, read_packs
from trainer.policies import Policies, PolicyName
from trainer.reference import reference_logprobs
from trainer.scoring import summed_logprobs, text_logprobs, token_logprobs
from trainer.win_rate import ApiJudge, Judge, judge_pairs, win_rate_check

REPORT_SCHEMA = 1
_EXAMPLES = 12
_PROBE_EXAMPLES = 4
_SEEN_EXAMPLES = 4


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
    metrics: dict[str, float] | None = None,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Judge the candidate in `policies`, which is sealed under `candidate_sha256`; return the report.

    metrics: the training's last ones. judge: whoever judges pairs; without one the settings' judge, if they name one.
    """
    settings = job.gate

    def say(doing: str) -> None:
        emit("state", state="gating", detail={"doing": doing})

    gate = _Gate(policies, job, candidate_sha256, draw, say, GateMemory.of(policies, job))
    votes = [row for row in held_out if isinstance(row, VoteRow)]
    pairs = [row for row in held_out if isinstance(row, PairRow)]
    packs = read_packs(Path(job.packs_dir) if job.packs_dir else None)
    if settings.profile == "quick":
        packs = packs.smaller(settings.probe_prompts)

    gate.say("held-out preference")
    gate.held_out(votes, pairs)
    gate.say("plain English")
    gate.found += _retention(policies, job, gate.memory)
    gate.probe(packs)
    asked = _asked(prompts, packs, job)
    gate.replies(asked, [*train, *votes])
    gate.judge(asked, judge)
    gate.seen(train)
    margin = (metrics or {}).get("reward_margin")
    gate.found += checks.reward_without_preference(gate.found, margin, job.reward_alone_before)

    outcome, summary = checks.overall(gate.found)
    drawn = bool(gate.drawn)
    return {
        "schema": REPORT_SCHEMA,
        "outcome": outcome,
        "summary": summary,
        "checks": [check.as_dict() for check in gate.found],
        "next": advise(gate.found, margin),
        "cannot_prove": not_proven(
            gate.found, settings, judged=(gate.judged or {}).get("judged_pairs", 0), drawn=drawn
        ),
        "profile": settings.profile,
        "against": {"live": job.live_version, "base": job.base_model},
        "sample": {
            "prompts": len(asked),
            "replies": len(gate.candidate.drawn),
            "temperature": settings.temperature,
            "seed": job.seed,
            "confidence": settings.confidence,
            "held_out_votes": len(votes),
            "held_out_pairs": len(pairs),
        },
        "texts": {"candidate": describe(gate.candidate), "live": describe(gate.live)},
        "drift": drift(gate.candidate, gate.live),
        "judge": gate.judged,
        "counterfactual": gate.counterfactual,
        "packs": packs.hashes if settings.probe_prompts else {},
        "examples": _examples(asked, gate.candidate, gate.live),
        "seen_examples": gate.seen_examples,
        "probe_examples": _probe_examples(gate.drawn),
    }


@dataclass(slots=True)
class _Gate:
    """What a gate works with, and what it has found so far."""

    policies: Policies
    job: Job
    sha256: str
    draw: Draw
    say: Callable[[str], None]
    memory: GateMemory
    found: list[checks.Check] = field(default_factory=list)
    candidate: Replies = field(default_factory=lambda: Replies([], []))
    live: Replies = field(default_factory=lambda: Replies([], []))
    drawn: list[SaidTo] = field(default_factory=list)
    judged: dict[str, Any] | None = None
    counterfactual: dict[str, Any] | None = None
    seen_examples: list[dict[str, Any]] = field(default_factory=list)

    def held_out(self, votes: Sequence[VoteRow], pairs: Sequence[PairRow]) -> None:
        """Do held-out people agree with what the candidate learnt?"""
        job, ups, raters = self.job, [row.up for row in votes], [row.rater for row in votes]
        margins = _margins(self.policies, [(row.messages, row.reply) for row in votes], job)
        preference = checks.held_out_preference(margins, ups, raters, job.gate, job.seed)
        pairs_check = _held_out_pairs(self.policies, pairs, job, hard=preference.value is None)
        if preference.value is not None or pairs_check is None:
            self.found.append(preference)
        if pairs_check is not None:
            self.found.append(pairs_check)
        own = [place for place, row in enumerate(votes) if row.reply.policy_version == job.live_version]
        self.counterfactual = counterfactual(
            [margins[place] for place in own],
            [ups[place] for place in own],
            [raters[place] for place in own],
            job.gate.confidence,
            job.seed,
        )

    def probe(self, packs: Packs) -> None:
        """Refusals, compliance, agreement with false claims, multiple choice."""
        settings, job = self.job.gate, self.job
        if settings.probe_prompts == 0:
            return
        self.say("refusals, false claims and multiple choice")
        candidate = probe(self.policies, "candidate", packs, self.memory, self.sha256)
        live = probe(self.policies, "live", packs, self.memory, job.live_adapter_sha256)
        self.found += probe_checks(candidate, live, settings, job.seed)
        if settings.profile == "full":
            self.say("replies to harmful and tricky prompts")
            sides = candidate_ref(job, self.sha256), live_ref(job)
            self.drawn = draw_probes(remembered(self.draw, self.memory), self.policies.encoder, packs, job, *sides)
            self.found += drawn_checks(self.drawn, settings, job.seed)

    def replies(self, asked: Sequence[PromptRow], judged: Sequence[VoteRow | PairRow]) -> None:
        """Draw replies of both, measure how far apart they are, and read them."""
        settings, job, draw = self.job.gate, self.job, self.draw
        if not asked:
            reason = "no prompt is left that was not trained on: nothing can be drawn to compare"
            self.found.append(checks.Check("replies", 0, None, settings.min_replies, True, "inconclusive", reason))
            return
        ids = [self.policies.encoder.prompt_ids(prompt.messages) for prompt in asked]
        sides = candidate_ref(job, self.sha256), live_ref(job)
        self.say("the candidate's replies")
        self.candidate = draw_replies(draw, sides[0], ids, job)
        self.say("the live version's replies")
        self.live = draw_replies(draw, sides[1], ids, job)
        self.say("distance from live and base")
        self.found += _distances(self.policies, ids, self.candidate, job)
        of_texts = text_checks(self.candidate, self.live, asked, judged, job)
        for _ in range(settings.doublings):
            if not _unclear(of_texts):
                break
            self.say("more replies, since some checks may be chance")
            self.candidate = doubled(self.candidate, draw, sides[0], ids, job)
            self.live = doubled(self.live, draw, sides[1], ids, job)
            of_texts = text_checks(self.candidate, self.live, asked, judged, job)
        self.found += of_texts

    def seen(self, train: Sequence[VoteRow | PairRow]) -> None:
        """Draw one reply of both to some prompts that were trained on, for people to look at; nothing is measured."""
        prompts = _seen_prompts(train)
        if not prompts:
            return
        job = self.job
        self.say("replies to prompts that were trained on")
        ids = [self.policies.encoder.prompt_ids(prompt.messages) for prompt in prompts]
        sampling = Sampling(temperature=job.gate.temperature, max_tokens=job.gate.reply_tokens, seed=job.seed)
        candidate, live = (
            Replies(self.draw(side, ids, 1, sampling), list(range(len(ids))))
            for side in (candidate_ref(job, self.sha256), live_ref(job))
        )
        self.seen_examples = _examples(prompts, candidate, live)

    def judge(self, asked: Sequence[PromptRow], judge: Judge | None) -> None:
        """Have pairs of replies judged, where there is a judge."""
        settings = self.job.gate
        if judge is None and settings.judge_url:
            judge = ApiJudge(settings.judge_url, settings.judge_model)
        if judge is None or not asked:
            return
        self.say("the judge's win rate")
        pairs = judge_pairs(
            judge,
            [prompt.messages for prompt in asked],
            self.candidate.prompts,
            self.candidate.texts,
            self.live.texts,
            settings.judge_pairs,
        )
        check, self.judged = win_rate_check(pairs, settings, self.job.seed)
        self.found.append(check)


def _asked(prompts: Sequence[PromptRow], packs: Packs, job: Job) -> list[PromptRow]:
    """The users' prompts that were not trained on; the packs' own where there are none, and in the full profile too."""
    asked = list(prompts[: job.gate.replies])
    if not asked or job.gate.profile == "full":
        own = [PromptRow(({"role": "user", "content": prompt.text},)) for prompt in packs.prompts]
        asked += own[: max(job.gate.replies - len(asked), 0)]
    return asked


def _seen_prompts(train: Sequence[VoteRow | PairRow]) -> list[PromptRow]:
    """A few of the prompts that were trained on, evenly spread over the rows."""
    found: dict[str, PromptRow] = {}
    for row in train:
        reply = row.reply if isinstance(row, VoteRow) else row.chosen
        found.setdefault(json.dumps(row.messages), PromptRow(row.messages, reply.reply_id))
    prompts = list(found.values())
    return prompts[:: max(1, len(prompts) // _SEEN_EXAMPLES)][:_SEEN_EXAMPLES]


def _unclear(found: Sequence[checks.Check]) -> bool:
    return any(check.hard and check.outcome == "inconclusive" for check in found)


def _held_out_pairs(policies: Policies, pairs: Sequence[PairRow], job: Job, *, hard: bool) -> checks.Check | None:
    if len(pairs) < job.gate.min_held_out_pairs:
        return None
    both = _margins(
        policies,
        [(row.messages, row.chosen) for row in pairs] + [(row.messages, row.rejected) for row in pairs],
        job,
    )
    gains = [chosen - rejected for chosen, rejected in zip(both[: len(pairs)], both[len(pairs) :], strict=True)]
    return checks.held_out_pairs(gains, [row.rater for row in pairs], job.gate, job.seed, hard=hard)


def _margins(policies: Policies, rows: Sequence[tuple[tuple[dict[str, str], ...], ReplyText]], job: Job) -> list[float]:
    """log π_candidate − log π_live of each reply: the implicit reward, up to β."""
    encoded = [policies.encoder.encode(messages, reply) for messages, reply in rows]
    with policies.use("candidate") as model:
        candidate = summed_logprobs(model, encoded)
    live, _ = reference_logprobs(policies, encoded, [reply for _, reply in rows], job.live_version)
    return [mine - theirs for mine, theirs in zip(candidate, live, strict=True)]


def _retention(policies: Policies, job: Job, memory: GateMemory) -> list[checks.Check]:
    paragraphs = resources.files("trainer").joinpath("retention.txt").read_text(encoding="utf-8").strip().split("\n\n")

    def means(name: PolicyName) -> list[float]:
        with policies.use(name) as model:
            found = text_logprobs(model, policies.tokenizer, paragraphs)
        return [float(logprobs.mean()) for logprobs in found]

    candidate = means("candidate")
    (base,) = memory.recall("retention", None, paragraphs, numbers([len(paragraphs)]), lambda: [means("base")])
    return checks.perplexity(candidate, base, job.gate, job.seed)


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
    against_live = [checks.k3_nats(mine.tolist(), theirs.tolist()) for mine, theirs in zip(own, live, strict=True)]
    against_base = [checks.k3_nats(mine.tolist(), theirs.tolist()) for mine, theirs in zip(own, base, strict=True)]
    settings, seed = job.gate, job.seed
    return [
        checks.kl("kl_live", "the live version", against_live, places, settings.max_kl_live_nats, settings, seed),
        checks.kl(
            "kl_live_warning",
            "the live version",
            against_live,
            places,
            settings.warn_kl_live_nats,
            settings,
            seed,
            hard=False,
        ),
        checks.kl("kl_base", "the base model", against_base, places, settings.max_kl_base_nats, settings, seed),
    ]


def _examples(asked: Sequence[PromptRow], candidate: Replies, live: Replies) -> list[dict[str, Any]]:
    """The first reply of each policy to each of the first prompts."""
    examples: list[dict[str, Any]] = []
    for place, prompt in enumerate(asked[:_EXAMPLES]):
        first = candidate.prompts.index(place)
        examples.append(
            {
                "prompt_reply_id": prompt.reply_id,
                "prompt": prompt.messages[-1]["content"] if prompt.reply_id is None else None,
                "before": _printable(live.drawn[first].text),
                "after": _printable(candidate.drawn[first].text),
            }
        )
    return examples


def _probe_examples(drawn: Sequence[SaidTo]) -> list[dict[str, Any]]:
    """The first replies to each pack's prompts, those that differ first."""
    examples: list[dict[str, Any]] = []
    for one in drawn:
        shown = sorted(zip(one.prompts, one.live, one.candidate, strict=True), key=lambda row: row[1] == row[2])
        examples += [
            {"pack": one.pack, "prompt": prompt, "before": _printable(before), "after": _printable(after)}
            for prompt, before, after in shown[:_PROBE_EXAMPLES]
        ]
    return examples


def _printable(text: str) -> str:
    """PostgreSQL keeps no NUL."""
    return text.replace("\x00", "\ufffd")
