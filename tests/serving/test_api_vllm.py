"""The HTTP API over vLLM servers (stand-ins): receipts, streams, a promote, readiness, and errors by their kinds."""

import json

import httpx
import pytest

from benchmarks._adapters_made import sealed_policy
from feedback_store.replies import get_reply
from feedback_store.versions import add_candidate
from serving.policies import PolicyFollower
from tests.serving.conftest import ADMIN_HEADERS, serving_on_a_port
from tests.serving.vllm_fake import BASE, reply_of
from tests.waiting import until

BODY = {
    "messages": [{"role": "user", "content": "tell me a story"}],
    "temperature": 0,
    "max_tokens": 24,
    "user": "anna",
}


@pytest.fixture
def fake(make_vllm):
    return make_vllm()


@pytest.fixture
def url(context, fake, make_gateway, store, tmp_path):
    context.engine = engine = make_gateway(fake, failover_s=0.2)
    context.replicas = engine.replicas
    context.close_parts = False
    follower = PolicyFollower(store, engine, tmp_path / "adapters")
    context.prepare_version, context.on_pointer_moved = follower.prepare, follower.pointer_moved
    with serving_on_a_port(context) as url:
        yield url


def ask(url, **fields):
    return httpx.post(f"{url}/v1/chat/completions", json={**BODY, **fields}, trust_env=False, timeout=30)


def streamed(url, **fields):
    body = {**BODY, **fields, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, trust_env=False, timeout=30) as answer:
        return [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]


def test_a_replys_row_is_complete_streamed_or_whole(url, store, fake):
    whole = ask(url)
    completion = whole.json()
    *_, last = events = streamed(url)
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert text == completion["choices"][0]["message"]["content"] != ""
    (sent, _) = fake.replies_to(BASE)
    token_ids, logprob = reply_of(BASE, sent["prompt"], 24)
    for reply_id in (completion["id"], last["thumbwise"]["reply_ids"][0]):
        reply = store.read(get_reply, reply_id)
        assert reply.logprob_nats == pytest.approx(logprob)
        assert (reply.completion_tokens, reply.prompt_tokens) == (len(token_ids), len(sent["prompt"]))
        assert (reply.policy_version, reply.adapter_sha256, reply.sampling.temperature) == (1, None, 0)
    assert whole.headers["x-policy-version"] == "1"


def test_candidates_are_of_one_version_each_with_a_seed_of_its_own(url, fake):
    completion = ask(url, n=3, temperature=1, seed=5).json()
    assert len(completion["choices"]) == 3
    assert sorted(body["seed"] for body in fake.replies_to(BASE)) == [5, 6, 7]


def test_a_promote_is_served_by_the_very_next_reply_and_a_rollback_too(url, store, fake, tmp_path, tiny_model_dir):
    policy = sealed_policy(tmp_path, tiny_model_dir, version=2, seed=2)
    store.write(
        add_candidate,
        base_model="words",  # as the store of these tests was begun
        adapter_sha256=policy.adapter_sha256,
        parent=1,
        method="kto",
        round_id=None,
        gate_report=None,
        metrics={},
    )
    name = f"policy-{policy.adapter_sha256}"
    with httpx.Client(base_url=url, headers=ADMIN_HEADERS, trust_env=False, timeout=30) as admin:
        moved = admin.post("/v1/versions/2/promote", json={"reason": "test", "force": True})
        assert moved.status_code == 200, moved.text
        assert ask(url).headers["x-policy-version"] == "2"
        assert len(fake.replies_to(name)) == 1
        assert admin.post("/v1/rollback", json={"reason": "test"}).status_code == 200
        assert ask(url).headers["x-policy-version"] == "1"
    until(lambda: not fake.adapters)


def test_readiness_counts_the_servers_and_only_the_admin_sees_where_they_are(url, fake, context):
    ready = httpx.get(f"{url}/readyz", trust_env=False)
    assert ready.json() == {
        "ready": True, "engine": True, "store": True, "stopping": False, "replicas": 1, "replicas_serving": 1,
    }  # fmt: skip
    fake.health_status = 503
    until(lambda: not context.can_draw())
    unready = httpx.get(f"{url}/readyz", trust_env=False)
    assert unready.status_code == 503 and unready.json()["engine"] is False
    (state,) = httpx.get(f"{url}/v1/status", headers=ADMIN_HEADERS, trust_env=False).json()["replicas"]
    assert state == {"url": fake.url, "serving": False, "trouble": "HTTP 503", "in_flight": 0}
    metrics = httpx.get(f"{url}/metrics", trust_env=False).text
    assert "thumbwise_replicas_away 1.0" in metrics and str(fake.port) not in metrics + ready.text + unready.text


def test_a_reply_without_a_server_is_a_503_with_retry_after(url, fake, context):
    fake.health_status = 503
    until(lambda: not context.can_draw())
    answer = ask(url)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "engine_unavailable"
    assert int(answer.headers["retry-after"]) >= 1
    assert str(fake.port) not in answer.text


def test_a_full_server_is_a_429_with_its_retry_after_and_in_a_stream_an_error_of_that_kind(url, fake):
    fake.completion_status = 429
    answer = ask(url)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["code"] == "queue_full"
    assert streamed(url)[-1]["error"]["code"] == "queue_full"


def test_a_server_that_refuses_a_request_is_a_500_that_repeats_nothing_of_it(url, fake, caplog):
    fake.completion_status = 400
    answer = ask(url)
    assert answer.status_code == 500
    assert "planted" not in answer.text + caplog.text


def test_a_reader_who_leaves_frees_the_server(url, fake, context):
    fake.step_s = 0.02
    with httpx.stream(
        "POST", f"{url}/v1/chat/completions", json={**BODY, "stream": True, "max_tokens": 64}, trust_env=False
    ) as answer:
        next(answer.iter_lines())
    until(lambda: context.engine.loaded_versions == {1: 0} and fake.under_way == 0)
