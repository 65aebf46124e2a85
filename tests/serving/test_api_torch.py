"""The torch engine (a tiny random model) behind the HTTP API: what the engine of words cannot show."""

import json

import httpx
import pytest

from feedback_store.replies import get_reply, recent_replies
from serving.engine import PolicyRef
from serving.engine.torch_engine import TorchEngine
from serving.engine.weights import BaseWeights
from serving.settings import PolicySettings, ServingSettings
from tests.serving.conftest import serving_on_a_port
from tests.waiting import until

GREEDY = {"messages": [{"role": "user", "content": "tell me a story"}], "temperature": 0, "max_tokens": 48}


@pytest.fixture
def torch_url(context, tiny_model_dir):
    base = BaseWeights(tiny_model_dir, PolicySettings(dtype="float32", device="cpu"))
    context.engine = TorchEngine(base, ServingSettings(threads=1), PolicyRef(1))
    context.close_parts = False
    try:
        with serving_on_a_port(context) as url:
            yield url
    finally:
        context.engine.close(0)


def streamed(url, body):
    pieces, receipts = [], None
    with httpx.stream("POST", f"{url}/v1/chat/completions", json={**body, "stream": True}, trust_env=False) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                pieces.append(chunk["choices"][0]["delta"].get("content", ""))
                receipts = chunk.get("thumbwise", receipts)
    return "".join(pieces), receipts


def test_a_greedy_reply_is_the_same_streamed_or_whole_and_its_row_is_complete(torch_url, store):
    whole = httpx.post(f"{torch_url}/v1/chat/completions", json=GREEDY, trust_env=False, timeout=30).json()
    text, receipts = streamed(torch_url, GREEDY)
    assert text == whole["choices"][0]["message"]["content"] != ""
    reply = store.read(get_reply, receipts["reply_ids"][0])
    assert reply.text == text and reply.rendered_prompt.endswith("assistant\n")
    assert reply.logprob_nats < 0 and reply.completion_tokens == whole["usage"]["completion_tokens"]


def test_two_candidates_of_one_seed_can_be_drawn_again(torch_url):
    body = {**GREEDY, "temperature": 1.0, "seed": 11, "n": 2}
    first, again = (
        httpx.post(f"{torch_url}/v1/chat/completions", json=body, trust_env=False, timeout=30).json() for _ in range(2)
    )
    texts = [[choice["message"]["content"] for choice in completion["choices"]] for completion in (first, again)]
    assert texts[0] == texts[1] and texts[0][0] != texts[0][1]


def test_a_reader_who_leaves_frees_the_engine(torch_url, context, store):
    body = {**GREEDY, "stream": True, "max_tokens": 64}
    with httpx.stream("POST", f"{torch_url}/v1/chat/completions", json=body, trust_env=False) as answer:
        events = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {"))
        next(event for event in events if event["choices"][0]["delta"].get("content"))
    until(lambda: context.engine.loaded_versions == {1: 0})
    until(lambda: store.read(recent_replies, 1))


def test_a_prompt_longer_than_the_model_is_refused(torch_url):
    long = {**GREEDY, "messages": [{"role": "user", "content": "rain " * 3000}]}
    answer = httpx.post(f"{torch_url}/v1/chat/completions", json=long, trust_env=False, timeout=30)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "context_length_exceeded"
