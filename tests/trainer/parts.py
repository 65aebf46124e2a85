"""Small things that trainer tests are made of: replies, acts, rows, and a store full of thumbs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from feedback_store import feedback, raters, replies, rounds
from feedback_store.connection import Connection
from feedback_store.records import Comparison, Feedback, NewFeedback, Reply, Round, Sampling
from feedback_store.store import Store
from trainer.context import TrainerContext
from trainer.job import ReplyText
from trainer.settings import GateSettings, RoundSettings, TrainingSettings

LIKED = ("yes, thank you", "a bird and a boat")
DISLIKED = ("the rain fell on the roof and the cat slept by the stove until", "6666 perhaps system user system user")

PEFT_NOISE = (
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
    "ignore:`gradient_checkpointing` is deprecated:FutureWarning",
)
"""peft and trl still ask transformers by the old names; nothing of ours can change that."""


def question(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


def make_reply(reply_id: str, text: str | None = "yes", prompt: str = "hello?", **changes: Any) -> Reply:
    values: dict[str, Any] = {
        "reply_id": reply_id,
        "policy_version": 1,
        "adapter_sha256": None,
        "channel": "web",
        "rater_id": None,
        "conversation_id": None,
        "messages": None if text is None else question(prompt),
        "rendered_prompt": None,
        "text": text,
        "finish_reason": "stop",
        "sampling": Sampling(),
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "logprob_nats": -4.0,
        "latency_ms": 1.0,
    }
    return Reply(**(values | changes))


def reply_text(text: str = "yes", **changes: Any) -> ReplyText:
    values: dict[str, Any] = {
        "reply_id": "reply-1",
        "text": text,
        "finish_reason": "stop",
        "policy_version": 1,
        "prompt_tokens": 0,
        "completion_tokens": 0,
    }
    return ReplyText(**(values | changes))


def act(feedback_id: int, rater_id: str, kind: str = "thumb", **fields: Any) -> Feedback:
    return Feedback(feedback_id, NewFeedback(kind, rater_id, "web", **fields))  # type: ignore[arg-type]


def fill_with_feedback(connection: Connection, version: int, *, people: int = 24, adapter: str | None = None) -> None:
    """Every rater likes short replies: two thumbs and one comparison each, on prompts of their own."""
    for person in range(people):
        rater_id = f"rater-{person}"
        raters.ensure_rater(connection, rater_id, "web")
        for turn, (text, thumb) in enumerate(((LIKED[person % 2], "up"), (DISLIKED[person % 2], "down"))):
            name = f"v{version}-{person}-{turn}"
            said = make_reply(name, text, f"tell me about {person} {turn}")
            replies.add_reply(connection, replace(said, policy_version=version, adapter_sha256=adapter))
            feedback.add_feedback(connection, NewFeedback("thumb", rater_id, "web", reply_id=name, thumb=thumb))  # type: ignore[arg-type]
        names = (f"v{version}-{person}-a", f"v{version}-{person}-b")
        for place, (name, text) in enumerate(zip(names, (LIKED[1], DISLIKED[0]), strict=True)):
            said = make_reply(
                name, text, f"compare {person}", comparison_id=f"c{version}-{person}", shown_position=place
            )
            replies.add_reply(connection, replace(said, policy_version=version, adapter_sha256=adapter))
        replies.add_comparison(connection, Comparison(f"c{version}-{person}", names, rater_id, None, "web"))
        verdict = NewFeedback("verdict", rater_id, "web", comparison_id=f"c{version}-{person}", verdict=names[0])
        feedback.add_feedback(connection, verdict)


EASY_ROUNDS = RoundSettings(
    min_thumbs=20, min_minority=5, min_pairs=10, min_pair_prompts=5, min_raters=10, min_prompts=10, lease_s=5
)
EASY_GATE = GateSettings(
    replies=24,
    reply_tokens=24,
    min_replies=4,
    min_held_out_votes=6,
    max_kl_live_nats=1e6,
    max_kl_base_nats=1e6,
    max_short_rise=1,
    max_empty=1,
    max_repeat_rise=1,
    min_distinct_ratio=0,
    max_same_opening=1,
    max_phrase_share=1,
    max_perplexity_rise=1e6,
    max_over_refusal_rise=1,
    max_compliance_rise=1,
    max_agreement_rise=1,
    max_choice_drop=1,
    max_praise_rise=1,
    max_insults_rise=1,
    max_language_flip=1,
    max_length_factor=1e6,
    max_truncated_jump=1,
    probe_prompts=3,
    min_probe_prompts=1,
)
QUICK_TRAINING = TrainingSettings(
    learning_rate=1e-2,
    continued_learning_rate=1e-2,
    beta=0.1,
    batch_size=8,
    epochs=2,
    threads=1,
    niceness=0,
    dtype="float32",
)


@dataclass
class House:
    """A data directory with a store, version 1 live, and a trainer's context over it."""

    store: Store
    context: TrainerContext


MakeHouse = Callable[..., House]


def ask(house: House, **wish: object) -> int:
    values = {"method": None, "requested_by": "test", "settings": {}} | wish
    return house.store.write(rounds.request_round, **values).round_id  # type: ignore[arg-type]


def read_round(store: Store, round_id: int) -> Round:
    return store.read(rounds.get_round, round_id)
