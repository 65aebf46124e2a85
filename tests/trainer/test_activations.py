"""A step within a bound of memory is the whole step, in parts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.parts import PEFT_NOISE, QUICK_TRAINING
from tests.trainer.test_same_learning import TRAINING, dpo, kto, learnt, reward, sft
from trainer.encoding import Encoded
from trainer.job import Job
from trainer.methods import activations
from trainer.methods.activations import at_once, bytes_a_token, distinct_tokens
from trainer.methods.parts import AtOnce, in_parts
from trainer.policies import Policies

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]


@pytest.mark.parametrize(
    ("bound", "parts"),
    [
        (AtOnce(), [[3, 4, 5, 1]]),
        (AtOnce(rows=3), [[3, 4, 5], [1]]),
        (AtOnce(tokens=7), [[3, 4], [5, 1]]),
        (AtOnce(rows=1, tokens=7), [[3], [4], [5], [1]]),
        (AtOnce(tokens=2), [[3], [4], [5], [1]]),  # one row at least
    ],
)
def test_parts_are_within_their_bounds_and_in_order(bound: AtOnce, parts: list[list[int]]) -> None:
    assert in_parts([3, 4, 5, 1], bound, sum) == parts


def test_what_rows_share_counts_once() -> None:
    one, other = Encoded((1, 2, 3), (4, 5)), Encoded((1, 2, 3), (6,))
    assert distinct_tokens([one, other, one]) == 3 + 2 + 1


def test_what_a_token_takes_is_measured_and_grows_with_the_layers_that_are_adapted(job: Job) -> None:
    half = bytes_a_token(Policies.open(job).model)
    whole = bytes_a_token(Policies.open(replace(job, lora=job.lora.model_copy(update={"upper_layers": 1.0}))).model)
    assert 1000 < half < whole < 3 * half


def test_by_default_a_processor_gets_what_pays_there_or_a_quarter_of_what_is_free(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "_free_bytes", lambda: 1 << 40)
    assert activations.activations_by_default(torch.device("cpu")) == 512 << 20
    monkeypatch.setattr(activations, "_free_bytes", lambda: 400 << 20)
    assert activations.activations_by_default(torch.device("cpu")) == 100 << 20
    policies = Policies.open(job)
    bound = at_once(policies, replace(job, training=job.training.model_copy(update={"activation_mib": 1})))
    assert bound.tokens == int((1 << 20) / bytes_a_token(policies.model))


@pytest.mark.parametrize("train", [kto, dpo, sft, reward])
def test_a_step_within_a_bound_of_tokens_is_the_whole_step(
    train: Any, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(job, training=QUICK_TRAINING.model_copy(update=TRAINING))
    losses, weights = learnt(train, job, tmp_path / "whole")
    passes: list[int] = []

    def few(policies: Policies, job: Job) -> AtOnce:
        return AtOnce(0, 30)

    def counted(rows: Sequence[Any], bound: AtOnce, tokens_of: Any) -> Any:
        parts = in_parts(rows, bound, tokens_of)
        passes.append(len(parts))
        return parts

    for name in ("common", "sft", "reward_model"):
        monkeypatch.setattr(f"trainer.methods.{name}.at_once", few)
    monkeypatch.setattr("trainer.methods.parts.in_parts", counted)
    parted, others = learnt(train, job, tmp_path / "parts")
    assert max(passes) > 1
    assert parted == pytest.approx(losses, abs=2e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, rtol=0, atol=1e-4)
