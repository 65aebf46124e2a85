"""The demo's loop against a small server of our own that speaks the same routes and remembers what it was told."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from thumbwise.client import AsyncThumbwise
from thumbwise.demo import loop
from thumbwise.demo.child import DemoFailed, Server
from thumbwise.demo.crowd import CrowdPlan
from thumbwise.demo.loop import Loop, Story
from thumbwise.demo.plan import DemoPlan
from thumbwise.demo.progress import Progress

PLAN = DemoPlan(rounds=2, replies_a_round=40, fresh_prompts=5, crowd=CrowdPlan(raters=8))


@dataclass
class SmallServer:
    """Chats, keeps what it is told, and ends each round after a few looks at it, as `outcomes` say."""

    outcomes: list[str] = field(default_factory=lambda: ["published", "published"])
    looks_a_round: int = 2
    live: int = 1
    versions: list[int] = field(default_factory=lambda: [1])
    consents: set[str] = field(default_factory=set)
    chats: list[dict[str, Any]] = field(default_factory=list)
    thumbs: list[dict[str, Any]] = field(default_factory=list)
    moves: list[dict[str, Any]] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    looks: int = 0

    async def handle(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        body = json.loads(request.content) if request.content else {}
        path = request.url.path
        if path == "/v1/chat/completions":
            return httpx.Response(200, json=self.chat(body))
        if path == "/v1/consent":
            self.consents.add(body["rater"])
            return httpx.Response(200, json={"consent": True, "version": 1, "current_version": 1})
        if path == "/v1/feedback":
            self.thumbs.append(body)
            return httpx.Response(200, json={"feedback_id": len(self.thumbs), "duplicate": False})
        if path == "/v1/status":
            return httpx.Response(200, json={"live": {"version": self.live}})
        if path == "/v1/rounds":
            self.rounds.append({"round_id": len(self.rounds) + 1, "state": "requested", "method": body["method"]})
            self.looks = 0
            return httpx.Response(201, json=self.rounds[-1])
        if path.endswith("/metrics"):
            return httpx.Response(200, json={"data": [{"step": 1, "name": "loss", "value": 0.5}]})
        if path.startswith("/v1/rounds/"):
            return httpx.Response(200, json=self.look())
        if path.endswith("/promote"):
            version = int(path.split("/")[3])
            self.moves.append(body | {"version": version})
            move = {"deployment_id": 1, "action": "promote", "version": version, "from_version": self.live}
            self.live = version
            return httpx.Response(200, json=move)
        version = int(path.split("/")[3])
        return httpx.Response(200, json={"version": version, "state": "live" if version == self.live else "rejected"})

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        self.chats.append(body)
        text = "Yes, do it now." if self.live > 1 else "You can do it now or later or whenever you like to do it, and"
        number = len(self.chats)
        choice = {"message": {"content": text}, "finish_reason": "stop", "reply_id": f"r-{number}"}
        if body.get("n") == 2:
            other = {"message": {"content": "No."}, "finish_reason": "stop", "reply_id": f"r-{number}-other"}
            return {"choices": [choice, other], "policy_version": self.live, "comparison_id": f"c-{number}"}
        return {"choices": [choice], "policy_version": self.live, "conversation_id": "c", "comparison_id": None}

    def look(self) -> dict[str, Any]:
        self.looks += 1
        if self.looks < self.looks_a_round:
            return self.rounds[-1] | {"state": "training"}
        outcome = self.outcomes[len(self.rounds) - 1]
        if "candidate_version" not in self.rounds[-1] and outcome in ("published", "rejected"):
            self.versions.append(len(self.versions) + 1)
            self.rounds[-1]["candidate_version"] = self.versions[-1]
            self.live = self.versions[-1] if outcome == "published" else self.live
        gate = {"outcome": "pass" if outcome == "published" else "fail", "checks": []}
        self.rounds[-1] |= {"state": outcome, "reason": "because", "gate_report": gate}
        return self.rounds[-1]


class NoChild(Server):
    """A child that is always well: the loop only asks it whether it lives."""

    def check(self) -> None:
        pass


def run(server: SmallServer, plan: DemoPlan = PLAN) -> Story:
    async def go() -> Story:
        http = httpx.AsyncClient(transport=httpx.MockTransport(server.handle), base_url="http://server")
        async with AsyncThumbwise("http://server", "token", http=http) as client:
            return await Loop(plan, NoChild(Path("unused"), {}), client, Progress(Console(quiet=True))).run()

    return asyncio.run(go())


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "POLL_S", 0.002)


def test_the_crowd_agrees_chats_and_rates_every_reply_once() -> None:
    server = SmallServer()
    story = run(server)
    rated = Counter(thumb["reply_id"] for thumb in server.thumbs)
    assert len(rated) == len(server.thumbs) == 80
    assert {thumb["rater"] for thumb in server.thumbs} == server.consents
    assert all(thumb["channel"] == "demo" for thumb in server.thumbs)
    assert [item.up + item.down for item in story.rounds] == [40, 40]
    assert len({chat["seed"] for chat in server.chats}) == len(server.chats)


def test_a_crowd_of_duels_gives_a_verdict_on_every_pair_and_asks_for_its_method() -> None:
    server = SmallServer()
    story = run(server, replace(PLAN, votes="duels", method="dpo"))
    compared = [chat for chat in server.chats if chat.get("n") == 2]
    assert len(compared) == 40 and all(chat["metadata"]["compare"] for chat in compared)
    assert len({act["comparison_id"] for act in server.thumbs}) == len(server.thumbs) == 40
    for act in server.thumbs:
        number = act["comparison_id"].removeprefix("c-")
        assert act["verdict"] in (f"r-{number}", f"r-{number}-other", "tie", "both_bad")
    assert [sum(item.verdicts.values()) for item in story.rounds] == [20, 20]
    assert {asked["method"] for asked in server.rounds} == {"dpo"}


def test_every_version_is_measured_on_the_fresh_prompts_and_none_of_them_is_rated() -> None:
    server = SmallServer(looks_a_round=8)
    story = run(server)
    assert sorted(story.fresh) == [1, 2, 3]
    for version, replies in story.fresh.items():
        assert len(replies) == 10 and {reply.version for reply in replies} == {version}
    examined = [chat for chat in server.chats if chat["user"] == "examiner"]
    assert len(examined) == 30
    assert "examiner" not in server.consents


def test_a_round_that_ends_in_mid_measurement_leaves_no_mixed_measurement() -> None:
    server = SmallServer(looks_a_round=1)
    plan = DemoPlan(rounds=1, replies_a_round=40, fresh_prompts=60, concurrency=2, crowd=CrowdPlan(raters=8))
    story = run(server, plan)
    assert {reply.version for reply in story.fresh[1]} == {1}
    assert Counter(reply.prompt for reply in story.fresh[1]).most_common()[-1][1] == 2
    assert len(story.fresh[1]) == len(story.fresh[2]) == 120
    assert [move["version"] for move in server.moves] == [1, 2]
    assert server.live == 2


def test_what_the_gate_blocks_stays_out_and_the_base_is_measured_once() -> None:
    server = SmallServer(outcomes=["rejected", "rejected"], looks_a_round=8)
    story = run(server)
    assert sorted(story.fresh) == [1]
    assert server.moves == []
    assert [item.gate["outcome"] for item in story.rounds] == ["fail", "fail"]


def test_a_control_promotes_by_force_and_says_so() -> None:
    server = SmallServer(outcomes=["rejected", "published"], looks_a_round=8)
    plan = DemoPlan(rounds=2, replies_a_round=40, fresh_prompts=5, crowd=CrowdPlan(raters=8), force_promotion=True)
    story = run(server, plan)
    assert [item.forced for item in story.rounds] == [True, False]
    assert [(move["version"], move["force"]) for move in server.moves] == [(2, True)]
    assert "control" in server.moves[0]["reason"]


def test_a_failed_round_ends_the_demo_with_its_reason() -> None:
    with pytest.raises(DemoFailed, match="because"):
        run(SmallServer(outcomes=["failed"]))


def test_the_hidden_score_stays_in_the_demo() -> None:
    """What goes over the wire is chats, consents and thumbs: no score, and no key that could carry one."""
    server = SmallServer()
    run(server)
    assert {key for thumb in server.thumbs for key in thumb} == {"rater", "channel", "reply_id", "thumb"}
    assert {key for chat in server.chats for key in chat} == {
        "messages", "user", "temperature", "top_p", "max_tokens", "seed", "metadata",
    }  # fmt: skip
    assert {key for chat in server.chats for key in chat["metadata"]} == {"channel"}
