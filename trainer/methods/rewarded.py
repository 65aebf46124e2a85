"""Methods that need a reward model: train it, hold it to its bar, and only then the policy.

The comparisons are split once more by prompt, with the round's seed: a part is learnt by nobody and watched (see
online.py), the rest teaches the reward model. It is judged on the round's held-out comparisons, of raters and prompts
that taught neither it nor the policy. Below its bar (see trainer.reward_bar) it trains no policy: a policy that
maximises a reward which is wrong in one case of three learns the wrong third.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.engine.allocator import give_back_freed_memory
from trainer import group
from trainer.drawing import Draw
from trainer.events import Emit
from trainer.feedback_rows import prompt_key
from trainer.job import REWARD_FILE, UNJUDGED_FILE, Job, PairRow, PromptRow, read_rows, write_whole
from trainer.methods.common import BelowBar
from trainer.methods.grpo import Grpo
from trainer.methods.online import train_online
from trainer.methods.ppo import Ppo
from trainer.methods.reward_model import RewardModel, held_out_margins, train_reward_model
from trainer.pair_agreement import measured_agreement
from trainer.policies import Policies
from trainer.reward_bar import judge
from trainer.selection import held_out


def train_rewarded(
    policies: Policies,
    rows: Sequence[PairRow],
    held_out_rows: Sequence[PairRow],
    prompts: Sequence[PromptRow],
    job: Job,
    folder: Path,
    emit: Emit,
    draw: Draw,
) -> dict[str, Any]:
    """Train a reward model and, with it, the policy by PPO or GRPO; return both's metrics. Raises BelowBar, Cancelled,
    Diverged, NothingToTrainOn."""
    taught, watch = split_watch(rows, job.online.watch_share, job.seed)
    reward, made = make_reward_model(policies, taught, held_out_rows, job, folder, emit, every_vote=rows)
    if not made["report"]["passed"]:
        raise BelowBar(made["report"])
    objective = Ppo(policies, job) if job.method == "ppo" else Grpo(job)
    before = int(made["metrics"]["reward/steps"])

    def emit_after(event: str, **values: Any) -> None:
        """Iterations are counted on from the reward model's steps: a round's curves have one axis."""
        emit(event, **(values | {"step": before + values["step"]} if "step" in values else values))

    found = train_online(policies, reward, objective, prompts, watch, job, folder, emit_after, draw)
    return {"reward_model": made["sha256"], "reference": policies.reference, **made["metrics"], **found}


def train_reward_alone(
    policies: Policies,
    rows: Sequence[PairRow],
    held_out_rows: Sequence[PairRow],
    job: Job,
    folder: Path,
    emit: Emit,
) -> dict[str, Any]:
    """Train, judge and seal a reward model and no policy; return its metrics. Raises BelowBar, Cancelled, Diverged,
    NothingToTrainOn."""
    taught, _ = split_watch(rows, job.online.watch_share, job.seed)
    _, made = make_reward_model(policies, taught, held_out_rows, job, folder, emit, every_vote=rows)
    if not made["report"]["passed"]:
        raise BelowBar(made["report"])
    return {"reward_model": made["sha256"], **made["metrics"]}


def make_reward_model(
    policies: Policies,
    rows: Sequence[PairRow],
    held_out_rows: Sequence[PairRow],
    job: Job,
    folder: Path,
    emit: Emit,
    *,
    every_vote: Sequence[PairRow] = (),
) -> tuple[RewardModel, dict[str, Any]]:
    """Train, judge and seal a reward model, or take up the one that `folder` has; return it with `sha256`, `metrics`
    and `report`. `every_vote`: all the round's comparisons, to measure raters' agreement; `rows` where not given."""
    note = folder / REWARD_FILE
    if group.lead_says(note.exists()):
        made: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        model = RewardModel(policies, job)
        model.load(job, made["sha256"])
    else:
        model, metrics = train_reward_model(policies, rows, job, folder, emit)
        votes = [*(every_vote or rows), *held_out_rows]
        agreement = measured_agreement(
            ((row.rater, row.chosen.reply_id, row.rejected.reply_id) for row in votes),
            at_least=job.reward.min_agreement_pairs,
            assumed=job.reward.assumed_agreement,
            seed=job.seed,
        )
        margins = held_out_margins(model, policies, held_out_rows)
        unjudged = _unjudged(folder)
        report = judge(
            margins,
            held_out_rows,
            agreement,
            job.reward,
            every_vote=votes,
            unjudged=unjudged,
            unjudged_margins=held_out_margins(model, policies, unjudged),
        )
        if group.is_lead():
            made = {"sha256": model.seal(job, report), "metrics": metrics, "report": report}
            write_whole(note, json.dumps(made))
        made = group.lead_says(made if group.is_lead() else {})
    model.temperature = float(made["report"]["temperature"])
    give_back_freed_memory()  # what the policy's training needs has other shapes, and would come on top
    emit("reward_model", sha256=made["sha256"], report=made["report"])
    return model, made


def _unjudged(folder: Path) -> list[PairRow]:
    """The pairs that nobody compared yet; none in the folder of a round that began before there were any."""
    if not (folder / UNJUDGED_FILE).exists():
        return []
    return [row for row in read_rows(folder, UNJUDGED_FILE) if isinstance(row, PairRow)]


def split_watch(rows: Sequence[PairRow], share: float, seed: int) -> tuple[list[PairRow], list[PairRow]]:
    """Return the comparisons to learn from and those to watch: all of a prompt's on one side."""
    keys = [prompt_key(row.messages) for row in rows]
    apart = held_out(keys, share, seed, "watch") if share else frozenset()
    taught = [row for row, key in zip(rows, keys, strict=True) if key not in apart]
    return taught, [row for row, key in zip(rows, keys, strict=True) if key in apart]
