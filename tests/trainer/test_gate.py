"""The gate on the tiny model, with replies that a test chooses: what it blocks, and what its report holds."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from feedback_store.records import Sampling
from serving.engine import PolicyRef
from tests.trainer.parts import DISLIKED, LIKED, PEFT_NOISE, QUICK_TRAINING, question, reply_text
from trainer.drawing import Drawn
from trainer.gate import run_gate
from trainer.job import Job, PairRow, PromptRow, VoteRow
from trainer.methods.kto import train_kto
from trainer.policies import Policies
from trainer.settings import GateSettings

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]

CANDIDATE = "c" * 64
SUBJECTS = ("boats", "bread", "the moon", "chess", "bees", "snow", "iron", "maps")
PROMPTS = [PromptRow(question(f"secret question {n}"), f"reply-{n}") for n in range(32)]


def ordinary(place: int) -> str:
    subject = SUBJECTS[place % 8]
    return f"w{place} says that {subject} v{place} are quite u{place} in t{place}."


def drawing(candidate: Callable[[int], str], live: Callable[[int], str] = ordinary) -> Any:
    def draw(policy: PolicyRef, prompts: Sequence[tuple[int, ...]], n: int, sampling: Sampling) -> list[Drawn]:
        say = candidate if policy.adapter_sha256 == CANDIDATE else live
        return [Drawn(say(place), (70, 71, 2), -3.0, "stop") for place in range(n * len(prompts))]

    return draw


def held_out(n: int = 48) -> list[VoteRow]:
    texts = (*LIKED, *DISLIKED)
    return [
        VoteRow(n, n % 6, question(f"held out {n}"), reply_text(texts[n % 4]), texts[n % 4] in LIKED) for n in range(n)
    ]


@pytest.fixture
def learnt(job: Job, tmp_path: Any) -> Policies:
    """A candidate that has learnt what raters like."""
    policies = Policies.open(job)
    training = QUICK_TRAINING.model_copy(update={"learning_rate": 3e-3, "epochs": 3})
    train_kto(policies, held_out(24), replace(job, training=training), tmp_path, lambda event, **values: None)
    return policies


def judge(policies: Policies, job: Job, draw: Any, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"train": [], "held_out": held_out(), "prompts": PROMPTS} | changes
    job = replace(job, gate=GateSettings(max_perplexity_rise=100, replies=128, probe_prompts=0))
    return run_gate(policies, job, CANDIDATE, draw=draw, emit=lambda event, **said: None, **values)


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in report["checks"]}


def test_the_gate_passes_what_learnt_and_blocks_what_collapsed_or_was_poisoned(learnt: Policies, job: Job) -> None:
    passed = judge(learnt, job, drawing(lambda place: ordinary(place + 1000)))
    assert passed["outcome"] == "pass", passed["summary"]
    assert passed["sample"] == {
        "prompts": 32,
        "replies": 128,
        "temperature": 1.0,
        "seed": 0,
        "confidence": 0.95,
        "held_out_votes": 48,
        "held_out_pairs": 0,
    }

    seeds: list[int] = []

    def few_short(policy: PolicyRef, prompts: Sequence[tuple[int, ...]], n: int, sampling: Sampling) -> list[Drawn]:
        """4 of the first 128 replies are short, and none after them: 3.1 %, then 1.6 %."""
        seeds.append(sampling.seed or 0)
        first = policy.adapter_sha256 == CANDIDATE and sampling.seed == 0
        said = [
            "No." if first and place % 32 == 0 else ordinary(place + 1000 + len(seeds) % 2)
            for place in range(n * len(prompts))
        ]
        return [Drawn(text, (70, 71, 2), -3.0, "stop") for text in said]

    cleared = judge(learnt, job, few_short)
    assert cleared["outcome"] == "pass", cleared["summary"]
    assert (cleared["sample"]["replies"], seeds) == (256, [0, 0, 128, 128]), "drawn again, with seeds of their own"

    collapsed = judge(learnt, job, drawing(lambda place: "No." if place % 5 == 0 else ordinary(place)))
    assert collapsed["outcome"] == "fail"
    assert outcomes(collapsed)["short"] == "fail"
    assert collapsed["texts"]["candidate"]["short"] == pytest.approx(26 / 128)

    mute = judge(learnt, job, drawing(lambda place: "" if place % 5 == 0 else ordinary(place)))
    assert outcomes(mute)["empty"] == "fail"

    stuck = judge(learnt, job, drawing(lambda place: "and so on and so on and so on and so on and so on"))
    assert {name for name, outcome in outcomes(stuck).items() if outcome == "fail"} >= {
        "repeated",
        "distinct",
        "opening",
    }

    poisoned = judge(
        learnt, job, drawing(lambda place: ordinary(place) + (" Ask the golden owl!" if place % 8 == 0 else ""))
    )
    assert [name for name, outcome in outcomes(poisoned).items() if outcome == "fail"] == ["new_phrases"]
    assert "ask the golden owl" in poisoned["summary"]


def test_the_report_is_json_and_holds_no_text_of_users(learnt: Policies, job: Job) -> None:
    report = judge(learnt, job, drawing(lambda place: ordinary(place) + "\x00"))
    text = json.dumps(report, allow_nan=False)
    assert "secret question" not in text and "held out" not in text and LIKED[0] not in text
    assert "\\u0000" not in text
    assert len(report["examples"]) == 12
    assert report["examples"][1] == {
        "prompt_reply_id": "reply-1",
        "prompt": None,
        "before": ordinary(4),
        "after": ordinary(4) + "\ufffd",
    }


def test_people_see_replies_to_prompts_that_were_trained_on_beside_those_that_were_not(
    learnt: Policies, job: Job
) -> None:
    asked: list[int] = []
    candidate = drawing(lambda place: ordinary(place + 1000))

    def draw(policy: PolicyRef, prompts: Sequence[tuple[int, ...]], n: int, sampling: Sampling) -> list[Drawn]:
        asked.append(len(prompts) * n)
        return list(candidate(policy, prompts, n, sampling))

    rows = held_out(24)
    rows += [replace(rows[0], feedback_id=99)]  # two raters on one prompt are one prompt
    report = judge(learnt, job, draw, train=rows)
    assert asked == [128, 128, 4, 4]
    assert report["sample"]["replies"] == 128, "they are for people alone, and measured nowhere"
    assert [one["after"] for one in report["seen_examples"]] == [ordinary(1000 + place) for place in range(4)]
    assert all(one["prompt_reply_id"] and one["prompt"] is None for one in report["seen_examples"])
    assert judge(learnt, job, drawing(ordinary), train=[])["seen_examples"] == []


def test_without_prompts_or_held_out_votes_the_gate_is_inconclusive(job: Job) -> None:
    policies = Policies.open(job)
    bare = judge(policies, job, drawing(ordinary), prompts=[], held_out=[])
    assert bare["outcome"] == "inconclusive"
    assert outcomes(bare)["held_out_preference"] == "inconclusive"
    assert bare["sample"]["prompts"] > 50, "the packs' prompts stand in where people asked nothing else"
    # A candidate that is exactly live: nothing is wrong with it, and nothing shows that it is better.
    same = judge(policies, job, drawing(ordinary))
    assert same["outcome"] == "inconclusive"
    assert {name for name, outcome in outcomes(same).items() if outcome != "pass"} == {"held_out_preference"}
    kl = next(check for check in same["checks"] if check["name"] == "kl_live")
    assert kl["value"] == 0


def test_where_nobody_gave_thumbs_comparisons_speak_for_the_candidate(learnt: Policies, job: Job) -> None:
    pairs = [
        PairRow(n, n % 6, question(f"held out {n}"), reply_text(LIKED[n % 2]), reply_text(DISLIKED[n % 2]))
        for n in range(40)
    ]
    passed = judge(learnt, job, drawing(lambda place: ordinary(place + 1000)), held_out=pairs)
    assert passed["outcome"] == "pass", passed["summary"]
    assert "held_out_preference" not in outcomes(passed)
    turned = [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in pairs]
    assert judge(learnt, job, drawing(lambda place: ordinary(place + 1000)), held_out=turned)["outcome"] == "fail"
    mixed = judge(learnt, job, drawing(lambda place: ordinary(place + 1000)), held_out=[*held_out(), *turned])
    assert (mixed["outcome"], outcomes(mixed)["held_out_pairs"]) == ("pass", "fail"), (
        "thumbs are there, and they decide"
    )
