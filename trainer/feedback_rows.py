"""What raters said, row by row: judgements as they are kept, and the rows of a round's folder made from them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from feedback_store.records import Reply
from trainer.job import ExampleRow, PairRow, ReplyText, VoteRow

VoteSource = Literal["thumb", "verdict", "ranking"]


@dataclass(frozen=True, slots=True)
class Vote:
    """One rater's effective judgement of one reply."""

    feedback_id: int
    rater_id: str
    reply_id: str
    up: bool
    source: VoteSource


@dataclass(frozen=True, slots=True)
class Pair:
    """One rater's preference between two replies of one comparison."""

    feedback_id: int
    rater_id: str
    chosen: str
    rejected: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """One rater's approved rewrite of a reply."""

    feedback_id: int
    rater_id: str
    reply_id: str
    text: str


def prompt_key(messages: Sequence[Mapping[str, str]]) -> str:
    """Name a prompt by its messages, alike for upper and lower case and for spacing."""
    plain = [(message["role"], " ".join(message["content"].casefold().split())) for message in messages]
    return text_hash(json.dumps(plain))


def replies_of(item: Vote | Pair | Correction) -> tuple[str, ...]:
    """The replies that a judgement names; the first one's prompt is the judgement's."""
    return (item.chosen, item.rejected) if isinstance(item, Pair) else (item.reply_id,)


def replayed(
    corrections: Sequence[Correction],
    votes: Sequence[Vote],
    prompts: Mapping[str, str],
    replay_share: float,
    seed: int,
) -> list[Vote]:
    """What SFT learns beside corrections, so many that it is `replay_share` of the rows where there is enough:
    up-votes on replies to other prompts, each reply once, chosen by a seeded hash. `prompts`: reply id → key."""
    corrected = {prompts[item.reply_id] for item in corrections}
    liked: dict[str, Vote] = {}
    for vote in votes:
        if vote.up and prompts[vote.reply_id] not in corrected:
            liked.setdefault(vote.reply_id, vote)
    wanted = round(len(corrections) * replay_share / (1 - replay_share))
    return [liked[name] for name in sorted(liked, key=lambda name: text_hash(f"{seed}:replay:{name}"))[:wanted]]


def _text_of(reply: Reply) -> ReplyText:
    return ReplyText(
        reply_id=reply.reply_id,
        text=reply.text or "",
        finish_reason=reply.finish_reason,
        policy_version=reply.policy_version,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        logprob_nats=reply.logprob_nats,
        ended_by_stop_text=bool(reply.sampling.stop) and reply.finish_reason == "stop",
    )


def vote_row(vote: Vote, replies: Mapping[str, Reply], raters: Mapping[str, int]) -> VoteRow:
    """Return the row of a vote."""
    reply = replies[vote.reply_id]
    return VoteRow(vote.feedback_id, raters[vote.rater_id], reply.messages or (), _text_of(reply), vote.up)


def pair_row(pair: Pair, replies: Mapping[str, Reply], raters: Mapping[str, int]) -> PairRow:
    """Return the row of a pair."""
    chosen, rejected = replies[pair.chosen], replies[pair.rejected]
    return PairRow(
        pair.feedback_id,
        raters[pair.rater_id],
        chosen.messages or (),
        _text_of(chosen),
        _text_of(rejected),
        pair.reason,
    )


def example_row(item: Correction | Vote, replies: Mapping[str, Reply], raters: Mapping[str, int]) -> ExampleRow:
    """Return SFT's row: the rewrite, which ends by itself and of which nobody's log-probability is known, or the liked
    reply."""
    messages = replies[item.reply_id].messages or ()
    if isinstance(item, Vote):
        reply = _text_of(replies[item.reply_id])
        return ExampleRow(item.feedback_id, raters[item.rater_id], messages, reply, "replay")
    text = ReplyText(item.reply_id, item.text, "stop", policy_version=0, prompt_tokens=0, completion_tokens=0)
    return ExampleRow(item.feedback_id, raters[item.rater_id], messages, text, "correction")


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal: an order that depends on nothing but the text."""
    return hashlib.sha256(text.encode()).hexdigest()
