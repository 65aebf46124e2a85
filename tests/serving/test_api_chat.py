"""Chatting over HTTP: OpenAI's shapes, receipts that always work, and what is kept of a reply."""

import json
from collections import Counter

import pytest

from feedback_store.errors import StoreUnavailable
from feedback_store.raters import rater_id_of
from feedback_store.records import Sampling
from feedback_store.replies import get_comparison, get_reply, recent_replies
from serving.api.drawing import start_candidates
from serving.engine import EngineClosed, PolicyRef, QueueFull, ReplyDelta

USER = [{"role": "user", "content": "hello"}]


def chunks_of(answer):
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def stream(client, **fields):
    answer = client.post("/v1/chat/completions", json={"messages": USER, "stream": True, **fields})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    return chunks_of(answer)


def test_a_completion_has_openais_shape_and_its_id_is_the_receipt(client, store):
    answer = client.post("/v1/chat/completions", json={"messages": USER, "max_tokens": 3})
    completion = answer.json()
    assert answer.headers["x-policy-version"] == "1"
    (choice,) = completion["choices"]
    assert choice["reply_id"] == completion["id"]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"].split()) == 3
    assert completion["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert completion["model"] == "thumbwise" and completion["object"] == "chat.completion"
    assert store.read(get_reply, completion["id"]).text == choice["message"]["content"]


def test_a_reply_row_says_how_the_reply_came_about(client, chat, store, context):
    completion = chat(
        user="anna", temperature=0.5, top_p=0.9, seed=7, stop=["\n"], max_tokens=5,
        metadata={"conversation_id": "c-1", "mood": "curious"},
    )  # fmt: skip
    reply = store.read(get_reply, completion["id"])
    assert reply.rater_id == rater_id_of(context.rater_key, "api", "anna")
    assert (reply.policy_version, reply.adapter_sha256, reply.conversation_id) == (1, None, "c-1")
    assert reply.sampling.seed == 7 and reply.sampling.stop == ("\n",) and reply.sampling.top_p == 0.9
    assert reply.rendered_prompt == "user: hello" and reply.messages == ({"role": "user", "content": "hello"},)
    assert reply.logprob_nats == pytest.approx(-2.5 * 5)
    assert reply.latency_ms > 0 and reply.metadata == {"mood": "curious"}


def test_a_stream_brings_the_same_words_and_its_receipt_in_the_last_chunk(client, chat, store):
    whole = chat(seed=3)
    chunks = stream(client, seed=3)
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    last = chunks[-1]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["thumbwise"]["reply_ids"] == [last["id"]] and last["thumbwise"]["policy_version"] == 1
    assert store.read(get_reply, last["id"]).text == text


def test_usage_comes_after_the_choices_when_it_is_asked_for(client):
    chunks = stream(client, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 8
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_n_replies_come_with_an_id_each_and_without_compare_open_no_comparison(chat, store):
    completion = chat(n=3, seed=5)
    ids = [choice["reply_id"] for choice in completion["choices"]]
    assert ids == [f"{completion['id']}-{index}" for index in range(3)]
    assert completion["comparison_id"] is None
    assert [store.read(get_reply, reply_id).shown_position for reply_id in ids] == [None, None, None]
    assert completion["usage"]["prompt_tokens"] == 2


def test_a_comparison_logs_where_each_candidate_was_shown(chat, store):
    completion = chat(n=2, seed=5, user="anna", metadata={"compare": True})
    comparison = store.read(get_comparison, completion["comparison_id"])
    assert list(comparison.reply_ids) == [choice["reply_id"] for choice in completion["choices"]]
    for position, choice in enumerate(completion["choices"]):
        reply = store.read(get_reply, choice["reply_id"])
        assert reply.text == choice["message"]["content"]
        assert (reply.shown_position, reply.comparison_id) == (position, comparison.comparison_id)
        assert reply.sampling.seed == 5 + reply.metadata["drawn"]


def test_the_shown_order_is_random_and_every_candidate_has_its_own_seed(chat, store):
    first_drawn = Counter()
    for _ in range(24):
        completion = chat(n=2, metadata={"compare": "true"})
        replies = [store.read(get_reply, choice["reply_id"]) for choice in completion["choices"]]
        assert replies[0].sampling.seed != replies[1].sampling.seed
        first_drawn[replies[0].metadata["drawn"] < replies[1].metadata["drawn"]] += 1
    assert set(first_drawn) == {True, False}  # one chance in 8 million that a fair shuffle fails here


def test_a_streamed_comparison_closes_every_choice_and_then_gives_the_receipts(client, store):
    chunks = stream(client, n=2, metadata={"compare": True})
    closing = [chunk for chunk in chunks if chunk["choices"][0]["finish_reason"]]
    assert [chunk["choices"][0]["index"] for chunk in closing] == [0, 1]
    assert "thumbwise" not in closing[0]
    receipts = closing[1]["thumbwise"]
    assert store.read(get_comparison, receipts["comparison_id"]).reply_ids == tuple(receipts["reply_ids"])


@pytest.mark.parametrize("seed", [2**63 - 1, -(2**63)])
def test_the_extreme_seeds_have_neighbours(chat, seed):
    assert len(chat(n=2, seed=seed)["choices"]) == 2


def test_a_system_prompt_of_the_policy_leads_only_a_conversation_without_one(context, chat, store):
    context.policy = context.policy.model_copy(update={"system_prompt": "be brief"})
    assert store.read(get_reply, chat()["id"]).rendered_prompt == "system: be brief\nuser: hello"
    own = chat(messages=[{"role": "developer", "content": "rhyme"}, *USER])
    assert store.read(get_reply, own["id"]).rendered_prompt == "system: rhyme\nuser: hello"


def test_a_message_in_parts_is_its_text(chat, store):
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    completion = chat(messages=[{"role": "user", "content": parts}])
    assert store.read(get_reply, completion["id"]).rendered_prompt == "user: hello"


def test_a_reply_can_be_sent_back_as_it_came(chat):
    first = chat()
    chat(messages=[*USER, first["choices"][0]["message"], {"role": "user", "content": "more"}])


def test_a_reply_goes_out_without_a_receipt_while_the_store_is_away(client, context, monkeypatch):
    async def away(*args, **kwargs):
        raise StoreUnavailable("locked")

    monkeypatch.setattr(context.store, "write_async", away)
    completion = client.post("/v1/chat/completions", json={"messages": USER}).json()
    assert completion["choices"][0]["message"]["content"] and completion["choices"][0]["reply_id"] is None
    last = stream(client)[-1]
    assert last["thumbwise"]["reply_ids"] == []
    feedback = client.post("/v1/feedback", json={"rater": "anna", "reply_id": "r-1", "thumb": "up"})
    assert feedback.status_code == 503 and feedback.headers["retry-after"]


def test_a_full_queue_says_when_to_come_back(client, words):
    words.limit = 0
    answer = client.post("/v1/chat/completions", json={"messages": USER})
    assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["type"] == "rate_limit_error"


def test_the_queue_knows_whose_request_it_is_by_the_raters_hash(client, words, context):
    asked = []
    start = words.start

    def noting(request):
        asked.append(request.user)
        return start(request)

    words.start = noting
    for user in ("anna", None):
        client.post("/v1/chat/completions", json={"messages": USER, "user": user, "n": 2})
    anna = rater_id_of(context.rater_key, "api", "anna")
    assert asked == [anna, anna, None, None]


def test_a_user_with_too_many_requests_is_told_so_and_when_to_come_back(client, words):
    def refuse(request):
        raise QueueFull(12.4, own=128)

    words.start = refuse
    answer = client.post("/v1/chat/completions", json={"messages": USER, "user": "anna"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "12")
    assert answer.json()["error"]["message"] == "128 requests of this user wait already; try again in 12 s"


class BrokenStream:
    """Says one word and breaks."""

    policy = PolicyRef(1)

    async def __aiter__(self):
        yield ReplyDelta("well")
        raise ZeroDivisionError("secret detail")

    def cancel(self):
        pass


def test_a_reply_that_breaks_off_says_so_and_is_not_kept(client, words, store):
    words.start = lambda request: BrokenStream()
    answer = client.post("/v1/chat/completions", json={"messages": USER, "stream": True})
    *_, last = [line for line in answer.text.split("\n\n") if line]
    assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
    assert "secret" not in answer.text and "[DONE]" not in answer.text
    whole = client.post("/v1/chat/completions", json={"messages": USER})
    assert whole.status_code == 500 and "secret" not in whole.text
    assert store.read(recent_replies, 10) == []


def test_an_engine_that_is_stopping_says_so(client, words):
    def closed(request):
        raise EngineClosed("the server is stopping")

    words.start = closed
    answer = client.post("/v1/chat/completions", json={"messages": USER})
    assert answer.status_code == 503 and answer.headers["retry-after"]


def test_a_prompt_that_is_too_long_names_its_messages(client, words):
    words.longest_prompt = 1
    answer = client.post("/v1/chat/completions", json={"messages": USER})
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == ("messages", "context_length_exceeded")


def test_another_model_is_not_found(client):
    answer = client.post("/v1/chat/completions", json={"messages": USER, "model": "gpt-5"})
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "model_not_found"


def test_a_reply_of_a_new_version_says_so(client, words, store, candidate):
    words.load(PolicyRef(2, "a" * 64))
    words.make_live(2)
    answer = client.post("/v1/chat/completions", json={"messages": USER})
    assert answer.headers["x-policy-version"] == "2"
    assert store.read(get_reply, answer.json()["id"]).adapter_sha256 == "a" * 64


def test_a_swap_between_two_candidates_starts_both_again(words):
    words.load(PolicyRef(2, "a" * 64))
    start, started = words.start, []

    def swapping_start(request):
        found = start(request)
        started.append(found)
        words.make_live(2)
        return found

    words.start = swapping_start
    candidates = start_candidates(words, "c", (1, 2), Sampling(seed=1), lambda: (None, None), shuffle=False)
    assert [candidate.stream.policy.version for candidate in candidates] == [2, 2]
    assert [found._cancelled for found in started] == [True, True, False, False]


def test_the_metrics_count_replies_and_tokens(client, chat):
    chat(metadata={"channel": "web"}, user="anna")
    text = client.get("/metrics").text
    assert 'thumbwise_replies_total{channel="web",finish_reason="stop"} 1.0' in text
    assert "thumbwise_reply_tokens_total 8.0" in text
    assert "thumbwise_live_policy_version 1.0" in text


def test_nothing_is_stored_of_a_request_that_was_refused(client, store):
    client.post("/v1/chat/completions", json={"messages": USER, "temperature": 9})
    assert store.read(recent_replies, 10) == []
