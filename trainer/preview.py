"""What a round would train on, if it were asked for now: a dry run of the selection, which writes nothing.

It runs the very functions that a round runs (evidence, caps, split), so what it shows is what would be trained.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

from pydantic import ValidationError

from feedback_store import rounds as rounds_of_store
from feedback_store.connection import Connection
from feedback_store.records import ROUND_ENDED, Method
from feedback_store.replies import trainable_replies
from trainer.asking import asked
from trainer.evidence import last_reward_report, other_prompts, read_evidence, usable_of
from trainer.method_settings import RewardSettings
from trainer.readiness import judge_readiness
from trainer.selection import select
from trainer.settings import GateSettings, RoundSettings, TrainingSettings


@dataclass(frozen=True, slots=True)
class DataWindow:
    """Which feedback a round may use. `since` None: however old."""

    fresh_only: bool
    since: datetime | None = None


def data_window(wish: Mapping[str, Any], rounds: RoundSettings) -> DataWindow:
    """Read a wish's `data` (fresh_only, since); what it leaves out is as the settings say. Raises ValueError."""
    data = dict(wish.get("data") or {})
    since = data.get("since")
    moment = None if since is None else datetime.fromisoformat(str(since))
    if moment is not None and moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return DataWindow(bool(data.get("fresh_only", rounds.fresh_only)), moment)


def preview(
    connection: Connection,
    wish: Mapping[str, Any],
    *,
    rounds: RoundSettings,
    training: TrainingSettings,
    gate: GateSettings,
    reward: RewardSettings | None = None,
) -> dict[str, Any]:
    """Return what a round of this wish (method, data, training, force) would do.

    possible, reason (why not), by_force (it could be forced), method, counts (as a round records them), steps,
    readiness. Raises ValueError for a setting that cannot be.
    """
    try:
        training = TrainingSettings.model_validate(training.model_dump() | dict(wish.get("training") or {}))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ValueError(f"training.{problem['loc'][0]}: {problem['msg']}") from error
    window = data_window(wish, rounds)
    evidence = read_evidence(
        connection,
        fresh_only=window.fresh_only,
        verdicts_as_thumbs=training.use_verdicts_as_thumbs,
        since=window.since,
        held_back=rounds.held_back_channels,
    )
    kept = usable_of(evidence, rounds, training.seed)
    wished = wish.get("method") or "auto"
    wanted: Any = training.method if wished == "auto" else wished
    report = last_reward_report(connection)
    judged = judge_readiness(
        kept,
        rounds,
        wanted,
        auto_order=training.auto_order,
        reward=reward,
        reward_report=report,
        asked=asked(connection, report),
        seed=training.seed,
    )
    most = "kto" if len(kept.votes) >= len(kept.pairs) else "dpo"
    method = cast(Method, judged.method or (most if wanted == "auto" else wanted))
    chosen = select(
        kept,
        partial(trainable_replies, connection),
        method=method,
        rounds=rounds,
        training=training,
        gate_prompts=gate.replies,
        other_prompts=other_prompts(connection, rounds.held_back_channels),
    )
    newest = rounds_of_store.list_rounds(connection, 1)
    is_open = bool(newest) and newest[0].state not in ROUND_ENDED
    reason = "" if judged.ready else judged.reason
    if not chosen.train:
        reason = "there is nothing to train on: no vote with kept text in this window"
    if is_open:
        reason = f"round {newest[0].round_id} is open: one at a time"
    return {
        "possible": judged.ready and bool(chosen.train) and not is_open,
        "by_force": bool(chosen.train) and not is_open,
        "reason": reason,
        "method": method,
        "live": evidence.live.version,
        "counts": chosen.counts | {"acts_of_quarantined_raters": evidence.quarantined},
        "steps": math.ceil(len(chosen.train) * training.passes(method) / training.batch_size),
        "readiness": judged.as_dict(),
    }
