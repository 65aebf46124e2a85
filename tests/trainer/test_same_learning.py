"""What makes training faster changes nothing that is learnt: with and without it, the same losses and weights."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.parts import DISLIKED, LIKED, PEFT_NOISE, QUICK_TRAINING, question, reply_text
from trainer import head, trunk
from trainer.job import ExampleRow, Job, PairRow, VoteRow
from trainer.methods.dpo import train_dpo
from trainer.methods.kto import train_kto
from trainer.methods.reward_model import train_reward_model
from trainer.methods.sft import train_sft
from trainer.policies import Policies

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]

TEXTS = (*LIKED, *DISLIKED)
STEPS = 2
TRAINING = {"batch_size": 4, "epochs": 2.0, "learning_rate": 1e-3, "anchor": 0.1, "plain_text_weight": 0.2,
            "sft_passes": 1.0}  # fmt: skip


def kto(policies: Policies, job: Job, folder: Path, emit: Any) -> None:
    votes = [VoteRow(n, n, question(f"tell me {n % 2}"), reply_text(text), n < 2) for n, text in enumerate(TEXTS)]
    train_kto(policies, votes, job, folder, emit)


def dpo(policies: Policies, job: Job, folder: Path, emit: Any) -> None:
    train_dpo(policies, pairs(), job, folder, emit)


def sft(policies: Policies, job: Job, folder: Path, emit: Any) -> None:
    rows = [ExampleRow(n, n, question("tell me"), reply_text(text), "correction") for n, text in enumerate(TEXTS)]
    train_sft(policies, rows, job, folder, emit)


def reward(policies: Policies, job: Job, folder: Path, emit: Any) -> None:
    settings = job.reward.model_copy(update={"epochs": 2.0, "batch_size": 4})
    train_reward_model(policies, pairs(), replace(job, reward=settings), folder, emit)


def pairs() -> list[PairRow]:
    return [
        PairRow(n, n, question(f"tell me {n % 3}"), reply_text(LIKED[n % 2]), reply_text(DISLIKED[n % 2]))
        for n in range(4)
    ]


def learnt(train: Callable[..., None], job: Job, folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses and the trained weights."""
    folder.mkdir()
    losses: list[float] = []

    def emit(event: str, **said: Any) -> None:
        if event == "metric":
            losses.append(said["values"].get("loss", said["values"].get("reward/loss", math.nan)))

    policies = Policies.open(job)
    train(policies, job, folder, emit)
    return losses, {name: found.detach() for name, found in policies.model.named_parameters() if ".lora_" in name}


@pytest.mark.parametrize(
    ("train", "changes"),
    [(kto, {}), (kto, {"kto_loss": "kto"}), (dpo, {"chosen_likelihood_weight": 0.2}), (sft, {}), (reward, {})],
    ids=["kto", "kto-with-its-kl", "dpo", "sft", "reward"],
)
def test_packed_rows_and_kept_layers_teach_what_padded_rows_teach(
    train: Callable[..., None], changes: dict[str, Any], job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(job, training=QUICK_TRAINING.model_copy(update={**TRAINING, **changes}))
    losses, weights = learnt(train, job, tmp_path / "ours")
    monkeypatch.setattr(trunk, "fits", lambda model, longest: False)
    monkeypatch.setattr(head, "fits", lambda model: False)
    plain_losses, plain_weights = learnt(train, job, tmp_path / "plain")
    assert len(losses) == STEPS
    assert losses == pytest.approx(plain_losses, abs=1e-5)
    for name, found in weights.items():
        torch.testing.assert_close(found, plain_weights[name], rtol=0, atol=2e-5, msg=name)
