"""A store in which a round has been published, and another one is training."""

import math

from sqlalchemy import Connection

from feedback_store import feedback, raters, replies, rounds, versions
from feedback_store.records import NewFeedback, Reply, Round, RoundMetric, Sampling

ADAPTER = "5a3c9e" + "0" * 58
GATE_REPORT = {
    "schema": 1,
    "outcome": "pass",
    "summary": "passed with warnings: median length is 31, wanted 33.1 to 81.2",
    "steps": [{"step": 1, "outcome": "fail", "summary": "one opening in 31% of replies, wanted at most 20%"}],
    "checks": [
        {
            "name": "held_out_preference", "value": 0.713, "interval": [0.604, 0.812], "threshold": 0.5, "hard": True,
            "outcome": "pass", "reason": "held-out preference (AUC) is 0.713 [0.604, 0.812] on 96 votes",
        },
        {
            "name": "kl_live", "value": 3.41, "interval": [2.9, 3.97], "threshold": 8.0, "hard": True,
            "outcome": "pass", "reason": "KL against live in nats a reply is 3.41 [2.9, 3.97], wanted at most 8",
        },
        {
            "name": "median_length", "value": 31.0, "interval": [28.0, 35.0], "threshold": [33.1, 81.2], "hard": False,
            "outcome": "fail", "reason": "median length is 31, wanted 33.1 to 81.2",
        },
        {
            "name": "held_out_pairs", "value": None, "interval": None, "threshold": 0.5, "hard": False,
            "outcome": "inconclusive", "reason": "only 4 held-out pairs",
        },
    ],
    "against": {"live": 1, "base": "scripted"},
    "sample": {"prompts": 64, "replies": 128, "temperature": 1.0, "seed": 0, "confidence": 0.95},
    "texts": {
        "candidate": {"median_words": 31.0, "finished": 0.97, "short": 0.0, "empty": 0.0},
        "live": {"median_words": 66.0, "finished": 0.41, "short": 0.0, "empty": 0.0},
    },
    "examples": [
        {
            "prompt_reply_id": "seeded-0",
            "before": "There are many ways to make tea, and each has its own **history**. First, one might",
            "after": "Boil water, pour it over the leaves, wait three minutes.",
        },
        {"prompt_reply_id": None, "before": "<b>before</b>", "after": ""},
    ],
}  # fmt: skip


def seed(connection: Connection) -> Round:
    """Fill the store and return the round that is training."""
    for number in range(12):
        rater_id = f"{number % 4:032x}"
        raters.ensure_rater(connection, rater_id, "web")
        replies.add_reply(connection, _reply(number, rater_id))
        thumb = NewFeedback("thumb", rater_id, "web", reply_id=f"seeded-{number}", thumb="up" if number % 3 else "down")
        feedback.add_feedback(connection, thumb)
    published = _published(connection)
    versions.promote(connection, published, actor="admin", reason="the gate passed")
    rounds.request_round(connection, method=None, requested_by="clock", settings={})
    claimed = rounds.claim_round(connection, "trainer", 600)
    assert claimed is not None
    for state in ("selecting", "training"):
        claimed = rounds.advance(connection, claimed.round_id, claimed.fence, state)
    rounds.add_metrics(connection, curve(claimed.round_id, range(1, 13)))
    return claimed


def curve(round_id: int, steps: range) -> list[RoundMetric]:
    """Return points that look like a round's."""
    points = []
    for step in steps:
        loss = 0.2 + 0.5 * math.exp(-step / 9) + 0.02 * math.sin(step * 2.3)
        values = {"loss": loss, "kl_nats": step * 0.11, "progress": step / 40}
        points += [RoundMetric(round_id, step, name, value) for name, value in values.items()]
    return points


def _reply(number: int, rater_id: str) -> Reply:
    question = {"role": "user", "content": f"How do I make tea for {number + 1}?"}
    return Reply(
        reply_id=f"seeded-{number}", policy_version=1, adapter_sha256=None, channel="web", rater_id=rater_id,
        conversation_id=f"seeded-conversation-{number}", messages=(question,), rendered_prompt="", text="Boil water.",
        finish_reason="stop", sampling=Sampling(), prompt_tokens=8, completion_tokens=4, logprob_nats=-2.0,
        latency_ms=9.0,
    )  # fmt: skip


def _published(connection: Connection) -> int:
    rounds.request_round(connection, method="kto", requested_by="admin", settings={})
    claimed = rounds.claim_round(connection, "trainer", 600)
    assert claimed is not None
    for state in ("selecting", "training", "gating"):
        claimed = rounds.advance(connection, claimed.round_id, claimed.fence, state)
    rounds.add_metrics(connection, curve(claimed.round_id, range(1, 41)))
    candidate = versions.add_candidate(
        connection, base_model="scripted", adapter_sha256=ADAPTER, parent=1, method="kto", round_id=claimed.round_id,
        gate_report=GATE_REPORT, metrics={},
    )  # fmt: skip
    rounds.advance(
        connection, claimed.round_id, claimed.fence, "published", gate_report=GATE_REPORT, reference_version=1,
        candidate_version=candidate.version, reason="the gate passed", selection={"votes": 612, "raters": 40},
    )  # fmt: skip
    return candidate.version
