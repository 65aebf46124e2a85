"""A candidate that went too far is judged again halfway; one that is wrong or suspect is not."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.parts import PEFT_NOISE
from tests.trainer.test_methods import one_step
from tests.trainer.test_scoring import perturb
from tests.trainer.test_several_processes import make_folder
from trainer.job import GATE_FILE, SEALED_FILE, Job
from trainer.policies import Policies
from trainer.step_back import TOO_FAR, judge_in_steps, step_back, went_too_far
from trainer.worker import run_round, seal

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]


def check(name: str, outcome: str, value: float | None = 0.1, hard: bool = True) -> dict[str, Any]:
    return {"name": name, "outcome": outcome, "value": value, "hard": hard}


def report_of(*checks: Mapping[str, Any]) -> dict[str, Any]:
    refused = [one for one in checks if one["hard"] and one["outcome"] != "pass"]
    return {"outcome": "fail" if refused else "pass", "summary": "because", "checks": list(checks)}


LIKED = check("held_out_preference", "pass")


@pytest.mark.parametrize(
    ("checks", "too_far"),
    [
        pytest.param([LIKED], False, id="nothing is wrong"),
        pytest.param([LIKED, check("opening", "fail")], True, id="one opening everywhere"),
        pytest.param([LIKED, check("opening", "fail"), check("kl_live", "inconclusive")], True, id="and perhaps more"),
        pytest.param([check("held_out_preference", "inconclusive"), check("opening", "fail")], False, id="not liked"),
        pytest.param([LIKED, check("opening", "fail"), check("new_phrases", "fail")], False, id="a phrase planted"),
        pytest.param([LIKED, check("sycophancy", "fail")], False, id="flattery"),
        pytest.param([LIKED, check("choice", "inconclusive", None)], False, id="nothing to judge by"),
        pytest.param([LIKED, check("length", "fail", hard=False)], False, id="a warning"),
    ],
)
def test_only_who_went_too_far_is_judged_again(checks: list[dict[str, Any]], too_far: bool) -> None:
    assert went_too_far(report_of(*checks)) == too_far


def test_no_check_of_what_people_prefer_or_of_what_was_planted_is_mended_by_a_shorter_step() -> None:
    assert TOO_FAR.isdisjoint({"held_out_preference", "held_out_pairs", "win_rate", "new_phrases", "praise",
                               "sycophancy", "harmful_compliance", "reward_without_preference"})  # fmt: skip


def test_every_refusal_is_kept_and_the_last_one_stands() -> None:
    steps: list[dict[str, Any]] = []
    asked: list[str] = []

    def judge(sha256: str) -> dict[str, Any]:
        asked.append(sha256)
        return report_of(LIKED, check("opening", "fail"))

    found = judge_in_steps(judge, lambda: f"shorter {len(asked)}", "whole", steps, 2)
    assert asked == ["whole", "shorter 1", "shorter 2"]
    assert (found["outcome"], found["step"], [before["step"] for before in found["steps"]]) == ("fail", 0.25, [1, 0.5])
    assert found["steps"][0]["refused_by"] == ["opening"]


@pytest.mark.parametrize("kind", ["lora", "rslora"])
def test_a_fresh_adapters_whole_change_is_halved(job: Job, kind: str) -> None:
    policies = Policies.open(replace(job, lora=job.lora.model_copy(update={"kind": kind})))
    perturb(policies)
    before = changes(policies)
    assert step_back(policies)
    assert before and all(torch.allclose(changes(policies)[name], 0.5 * change) for name, change in before.items())


def test_one_that_began_as_live_goes_halfway_back_to_it(job: Job, tmp_path: Path) -> None:
    policies = Policies.open(job)
    perturb(policies)
    job = replace(job, live_version=2, live_adapter_sha256=seal(policies, job, tmp_path))
    policies = Policies.open(job)
    live = weights(policies, "live")
    perturb(policies)
    far = weights(policies, "default")
    assert step_back(policies)
    for name, weight in weights(policies, "default").items():
        assert torch.allclose(weight, (live[name] + far[name]) / 2, atol=1e-6), name
    assert all(torch.equal(weight, live[name]) for name, weight in weights(policies, "live").items())


def test_a_fresh_dora_adapter_does_not_step_back(job: Job) -> None:
    policies = Policies.open(replace(job, lora=job.lora.model_copy(update={"kind": "dora"})))
    before = weights(policies, "default")
    assert not step_back(policies)
    assert all(torch.equal(weight, before[name]) for name, weight in weights(policies, "default").items())


def test_a_round_seals_and_judges_half_the_step_and_goes_on_there_after_a_kill(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "round"
    folder.mkdir()
    job = make_folder(one_step(job, "kto"), folder, "kto", threads=1, niceness=0)
    events: list[dict[str, Any]] = []
    judged: list[str] = []
    said: list[Any] = [report_of(LIKED, check("opening", "fail")), KeyboardInterrupt(), report_of(LIKED)]

    def run_gate(policies: Policies, job: Job, sha256: str, **others: Any) -> dict[str, Any]:
        judged.append(sha256)
        answer = said.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def emit(event: str, **values: Any) -> None:
        events.append({"event": event, **values})

    monkeypatch.setattr("trainer.gate.run_gate", run_gate)
    with pytest.raises(KeyboardInterrupt):
        run_round(folder, job, emit)
    assert not (folder / GATE_FILE).exists()
    assert run_round(folder, job, emit) == 0
    whole, half, again = judged
    assert whole != half == again, "the process that goes on judges the half, not the whole once more"
    assert [event["adapter_sha256"] for event in events if event["event"] == "sealed"] == [whole, half, half]
    report = next(event["report"] for event in events if event["event"] == "gate")
    assert (report["outcome"], report["step"]) == ("pass", 0.5)
    assert [before["adapter_sha256"] for before in report["steps"]] == [whole]
    assert json.loads((folder / SEALED_FILE).read_text(encoding="utf-8"))["adapter_sha256"] == half


def weights(policies: Policies, adapter: str) -> dict[str, torch.Tensor]:
    found = policies.model.named_parameters()
    return {name.replace(f".{adapter}.", ".x."): one.detach().clone() for name, one in found if f".{adapter}." in name}


def changes(policies: Policies) -> dict[str, torch.Tensor]:
    """What the candidate adds to each matrix."""
    found = {}
    for name, module in policies.model.named_modules():
        if hasattr(module, "get_delta_weight"):
            found[name] = module.get_delta_weight("default").detach().clone()
    return found
