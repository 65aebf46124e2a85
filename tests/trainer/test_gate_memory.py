"""What a gate keeps for the next one: the same answers, no user's words, and nothing from a file that is not sound."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from feedback_store.records import Sampling
from serving.engine import PolicyRef
from tests.trainer.parts import EASY_GATE, PEFT_NOISE
from tests.trainer.test_gate import CANDIDATE, PROMPTS, drawing, held_out, ordinary
from trainer import gate, gate_memory, trunk
from trainer.drawing import Drawn
from trainer.gate_memory import FOLDER, GateMemory, numbers, remembered
from trainer.job import Job
from trainer.policies import Policies

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]


def judged(policies: Policies, job: Job) -> dict[str, Any]:
    return gate.run_gate(
        policies,
        replace(job, gate=EASY_GATE.model_copy(update={"probe_prompts": 2})),
        CANDIDATE,
        train=[],
        held_out=held_out(12),
        prompts=PROMPTS[:4],
        draw=drawing(ordinary),
        emit=lambda event, **values: None,
    )


def perturbed(job: Job) -> Policies:
    import torch

    policies = Policies.open(job)
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in policies.model.named_parameters():
            if "lora_B.default" in name:
                parameter.normal_(0, 0.2)
    return policies


def values_of(report: dict[str, Any]) -> list[float]:
    found = []
    for check in report["checks"]:
        found += [check["value"], *(check["interval"] or ())]
    return [value for value in found if value is not None]


def test_a_gate_that_remembers_packs_and_shares_says_what_the_plain_one_says(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = perturbed(job)
    first = judged(policies, job)
    kept = sorted((tmp_path / FOLDER).iterdir())
    assert len(kept) == 3, "plain English of the base; probes of candidate and live"
    asked: list[str] = []
    monkeypatch.setattr(gate_memory, "_make_room", lambda *_: asked.append("computed"))
    assert judged(policies, job) == first, "to the bit"
    assert asked == []
    text = "".join(path.read_text(encoding="utf-8") for path in kept)
    assert "secret" not in text and "held out" not in text
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in kept)

    monkeypatch.setattr(trunk, "fits", lambda model, longest: False)  # padded rows, every layer for every policy
    plain = judged(policies, replace(job, adapters_dir=str(tmp_path / "elsewhere" / "adapters")))
    assert asked == ["computed"] * 3
    assert values_of(plain) == pytest.approx(values_of(first), abs=1e-4)
    assert plain["examples"] == first["examples"]
    assert [(check["name"], check["outcome"]) for check in plain["checks"]] == [
        (check["name"], check["outcome"]) for check in first["checks"]
    ]


@pytest.fixture
def memory(tmp_path: Path) -> GateMemory:
    return GateMemory(tmp_path / FOLDER, {"base_model": "b", "code": "1"})


class Counted:
    """Something to compute, and how often it was."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> list[list[float]]:
        self.times += 1
        return [[0.1, 1 / 3], [0.5]]


def recall(memory: GateMemory, compute: Any, adapter: str | None = "a", asked: Any = (1, 2)) -> list[list[float]]:
    return memory.recall("probes", adapter, asked, numbers([2, 1]), compute)


def test_what_is_kept_is_of_one_adapter_one_question_and_one_code(memory: GateMemory, tmp_path: Path) -> None:
    compute = Counted()
    assert recall(memory, compute) == recall(memory, compute) == [[0.1, 1 / 3], [0.5]]
    assert compute.times == 1
    recall(memory, compute, adapter=None)
    recall(memory, compute, asked=(1, 3))
    recall(GateMemory(tmp_path / FOLDER, {"base_model": "b", "code": "2"}), compute)
    assert compute.times == 4


def sealed_anew(body: dict[str, Any]) -> str:
    body.pop("sha256")
    return json.dumps(body | {"sha256": gate_memory._sha256_of(body)})


def another_value(body: dict[str, Any]) -> str:
    body["values"][0][0] = 0.9
    return json.dumps(body)


def another_key(body: dict[str, Any]) -> str:
    body["key"]["adapter"] = "z"
    return sealed_anew(body)


def another_form(body: dict[str, Any]) -> str:
    body["values"] = [[0.1], [0.5]]
    return sealed_anew(body)


def no_number(body: dict[str, Any]) -> str:
    body["values"][0][0] = float("nan")
    return sealed_anew(body)


@pytest.mark.parametrize(
    "damage",
    [another_value, another_key, another_form, no_number, lambda body: "", lambda body: "{", lambda body: "[1]"],
)
def test_a_file_that_is_not_sound_is_computed_again(
    memory: GateMemory, tmp_path: Path, damage: Callable[[dict[str, Any]], str]
) -> None:
    compute = Counted()
    wanted = recall(memory, compute)
    (path,) = (tmp_path / FOLDER).iterdir()
    path.write_text(damage(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    assert recall(memory, compute) == wanted
    assert compute.times == 2
    recall(memory, compute)
    assert compute.times == 2, "and kept soundly"


def test_the_files_unused_for_longest_make_room(
    memory: GateMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Counted()
    for number in range(3):
        recall(memory, compute, asked=number)
        for path in (tmp_path / FOLDER).iterdir():
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**9))
    one = next((tmp_path / FOLDER).iterdir()).stat().st_size
    monkeypatch.setattr(gate_memory, "MOST_BYTES", 3 * one + one // 2)
    recall(memory, compute, asked=0)  # used again: the second is the oldest now
    recall(memory, compute, asked=3)
    assert (compute.times, len(list((tmp_path / FOLDER).iterdir()))) == (4, 3)
    recall(memory, compute, asked=0)
    assert compute.times == 4
    recall(memory, compute, asked=1)
    assert compute.times == 5


def test_a_folder_that_cannot_be_written_costs_the_memory_alone(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("no folder", encoding="utf-8")
    compute = Counted()
    memory = GateMemory(tmp_path / FOLDER, {})
    assert recall(memory, compute) == recall(memory, compute)
    assert compute.times == 2


def test_replies_to_our_own_prompts_are_drawn_once_for_each_version(memory: GateMemory) -> None:
    drawn: list[str | None] = []

    def draw(policy: PolicyRef, prompts: Any, n: int, sampling: Sampling) -> list[Drawn]:
        drawn.append(policy.adapter_sha256)
        return [Drawn(f"é {policy.version}", (7, 8, 2), -1.25, "stop")] * (n * len(prompts))

    asked = [(1, 2), (3,)]
    for policy in (PolicyRef(1), PolicyRef(2, "a", Path("x")), PolicyRef(3, "a", Path("x"))):
        for _ in range(2):
            found = remembered(draw, memory)(policy, asked, 2, Sampling(seed=1))
    assert found == [Drawn("é 2", (7, 8, 2), -1.25, "stop")] * 4
    remembered(draw, memory)(PolicyRef(1), asked, 2, Sampling(seed=2))
    assert drawn == [None, "a", None]
