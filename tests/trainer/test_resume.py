"""A training that was killed goes on from its checkpoint and ends with the weights of one that was not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.parts import PEFT_NOISE
from tests.trainer.test_methods import one_step, pairs, votes
from tests.trainer.test_online import QUICK_ONLINE, prompts
from tests.trainer.test_reward_model import QUICK_REWARD, comparisons, moved
from trainer.drawing import engine_draw
from trainer.job import ExampleRow, Job
from trainer.methods.dpo import train_dpo
from trainer.methods.grpo import Grpo
from trainer.methods.kto import train_kto
from trainer.methods.online import train_online
from trainer.methods.ppo import Ppo
from trainer.methods.reward_model import train_reward_model
from trainer.methods.sft import train_sft
from trainer.policies import Policies

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]


class Killed(Exception):
    """What stands here for a kill: nothing after it runs."""


def examples() -> list[ExampleRow]:
    return [
        ExampleRow(row.feedback_id, row.rater, row.messages, row.reply, "correction" if row.up else "replay")
        for row in votes()
    ]


def train(method: str, policies: Policies, job: Job, folder: Path, emit: Any) -> Any:
    """Train by the method; return its metrics."""
    if method == "kto":
        return train_kto(policies, votes(), job, folder, emit)
    if method == "dpo":
        return train_dpo(policies, pairs(), job, folder, emit)
    if method == "sft":
        return train_sft(policies, examples(), job, folder, emit)
    if method == "reward":
        return train_reward_model(policies, comparisons(), job, folder, emit)[1]
    reward = moved(policies, job)
    objective = Ppo(policies, job) if method == "ppo" else Grpo(job)
    return train_online(policies, reward, objective, prompts(), comparisons(24), job, folder, emit, engine_draw(job))


def trained_weights(policies: Policies) -> dict[str, torch.Tensor]:
    return {name: found.detach().clone() for name, found in policies.model.named_parameters() if ".lora_" in name}


def last_of(events: list[dict[str, Any]]) -> dict[str, float]:
    """The last step's numbers, but those of time."""
    return {name: value for name, value in events[-1].items() if not name.endswith(("_per_s", "step_s"))}


@pytest.mark.parametrize("method", ["kto", "dpo", "sft", "reward", "ppo", "grpo"])
def test_resumed_equals_uninterrupted(job: Job, tmp_path: Path, method: str) -> None:
    job = one_step(job, method, batch_size=2, epochs=2, learning_rate=1e-2, checkpoint_every=2)
    online = QUICK_ONLINE.model_copy(update={"prompts": 2, "reply_tokens": 6})
    job = replace(job, reward=QUICK_REWARD.model_copy(update={"epochs": 2, "batch_size": 3}), online=online)

    def run(folder: Path, dies_at: int | None = None) -> tuple[dict[str, torch.Tensor], list[Any], Any]:
        folder.mkdir(exist_ok=True)
        policies, events = Policies.open(job), []

        def emit(event: str, **values: Any) -> None:
            events.append(values["values"] | {"step": values["step"]})
            if len(events) == dies_at:
                raise Killed

        found = train(method, policies, job, folder, emit)
        return trained_weights(policies), events, found

    whole, events, metrics = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", dies_at=2 if method in ("ppo", "grpo") else 4)
    resumed, later, resumed_metrics = run(tmp_path / "killed")
    assert 0 < len(later) < len(events), "a part was done before"
    assert max(float((whole[name] - resumed[name]).abs().max()) for name in whole) <= 1e-6
    assert last_of(later) == pytest.approx(last_of(events), abs=1e-5)
    numbers = {name: value for name, value in metrics.items() if not name.endswith(("_per_s", "step_s"))}
    assert {name: resumed_metrics[name] for name in numbers} == pytest.approx(numbers, abs=1e-5)

    again, none, _ = run(tmp_path / "killed")  # killed after its last step, before its adapter was sealed
    assert none == []
    assert all(torch.equal(again[name], resumed[name]) for name in again)
