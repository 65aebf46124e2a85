"""What only a real connection shows: receipts before the last chunk, readers who leave, and an orderly end."""

import asyncio
import json
import socket
import threading

import httpx
import pytest

from feedback_store.records import Reply
from feedback_store.replies import get_reply, recent_replies
from serving.api.app import stop
from tests.waiting import until

BODY = {"messages": [{"role": "user", "content": "hello"}], "stream": True}


def read_events(answer, count):
    events = []
    for line in answer.iter_lines():
        if line.startswith("data: {"):
            events.append(json.loads(line.removeprefix("data: ")))
            if len(events) == count:
                break
    return events


def leave_after(url, body, chunks):
    with httpx.Client(trust_env=False) as http, http.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        return read_events(answer, chunks)


def test_the_reply_is_stored_before_the_last_chunk_is_sent(base_url, store):
    with httpx.stream("POST", f"{base_url}/v1/chat/completions", json=BODY, trust_env=False) as answer:
        assert answer.headers["x-policy-version"] == "1"
        for line in answer.iter_lines():
            if '"thumbwise":{' in line:
                assert store.read(get_reply, json.loads(line.removeprefix("data: "))["id"]).text
                return
    pytest.fail("no chunk had a receipt")


def test_generation_stops_within_two_steps_when_the_reader_leaves(base_url, words, store):
    words.length, words.step_s = 64, 0.1
    seen = leave_after(base_url, {**BODY, "max_tokens": 64}, chunks=4)
    written_when_leaving = words.words_written
    until(lambda: words.in_flight[1] == 0)
    # The connection's end takes a moment to arrive; from then on it is two steps.
    assert words.words_written <= written_when_leaving + 4
    until(lambda: store.read(recent_replies, 1))
    reply: Reply = store.read(recent_replies, 1)[0]
    assert reply.finish_reason == "cancelled" and reply.reply_id == seen[0]["id"]
    assert reply.text.startswith("".join(chunk["choices"][0]["delta"].get("content", "") for chunk in seen))


def test_a_rating_that_overtakes_its_replys_row_waits_for_it(base_url, words):
    words.length, words.step_s = 40, 0.02
    body = {**BODY, "max_tokens": 40}
    with (
        httpx.Client(trust_env=False) as http,
        http.stream("POST", f"{base_url}/v1/chat/completions", json=body) as said,
    ):
        lines = said.iter_lines()
        first = json.loads(next(lines).removeprefix("data: "))
        act = {"reply_id": first["id"], "rater": "ada", "channel": "web", "thumb": "down"}
        # The reply takes most of a second more, and its row comes after it.
        rated = httpx.post(f"{base_url}/v1/feedback", json=act, trust_env=False)
        assert "[DONE]" in list(lines)[-2]
    assert rated.status_code == 200, rated.text


def test_a_rating_of_a_reply_that_is_not_under_way_is_refused_at_once(base_url, words):
    act = {"reply_id": "0" * 32, "rater": "ada", "channel": "web", "thumb": "down"}
    assert httpx.post(f"{base_url}/v1/feedback", json=act, trust_env=False).status_code == 404


def test_a_client_that_leaves_within_its_own_request_is_no_error(base_url, context, caplog):
    port = int(base_url.rpartition(":")[2])
    for path in ("/v1/feedback", "/v1/consent"):
        with socket.create_connection(("127.0.0.1", port)) as client:
            head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
            client.sendall(f'{head}content-length: 100\r\n\r\n{{"rater"'.encode())
    requests = context.metrics.requests
    until(lambda: all(requests.labels(path, "499")._value.get() for path in ("/v1/feedback", "/v1/consent")))
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_comparison_that_was_not_seen_to_its_end_is_not_stored(base_url, words, store):
    words.length, words.step_s = 64, 0.1
    # The two openings come at once, the words when all that is drawn has ended and the two to show are chosen.
    leave_after(base_url, {**BODY, "max_tokens": 64, "n": 2, "metadata": {"compare": True}}, chunks=2)
    until(lambda: words.in_flight[1] == 0)
    assert words.words_written < 64
    assert store.read(recent_replies, 1) == []


def test_nothing_is_kept_of_a_whole_answer_that_nobody_waited_for(base_url, words, store):
    words.length, words.step_s = 64, 0.1
    body = {**BODY, "stream": False, "max_tokens": 64}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{base_url}/v1/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.1), trust_env=False)
    until(lambda: words.in_flight[1] == 0)
    assert words.words_written < 64
    assert store.read(recent_replies, 1) == []


def test_many_streams_at_once_do_not_mix_their_words(base_url):
    words_by_seed = {}

    async def ask(http, seed):
        answer = await http.post("/v1/chat/completions", json={**BODY, "stream": False, "seed": seed})
        words_by_seed.setdefault(seed, set()).add(answer.json()["choices"][0]["message"]["content"])

    async def all_of_them():
        async with httpx.AsyncClient(base_url=base_url, trust_env=False) as http:
            await asyncio.gather(*(ask(http, seed) for seed in [*range(20), *range(20)]))

    asyncio.run(all_of_them())
    assert all(len(texts) == 1 for texts in words_by_seed.values()) and len(words_by_seed) == 20


def test_a_stopping_server_admits_no_reply_and_ends_in_order(client, context, words, store):
    asyncio.run(stop(context))
    answer = client.post("/v1/chat/completions", json={**BODY, "stream": False})
    assert answer.status_code == 503 and answer.headers["retry-after"]
    assert client.get("/readyz").status_code == 503
    assert words.closed_after_s == context.serving.drain_timeout_s
    feedback = client.post("/v1/feedback", json={"rater": "anna", "reply_id": "r-1", "thumb": "up"})
    assert feedback.status_code == 503  # the store is closed


def test_a_reply_under_way_is_finished_when_the_server_is_told_to_stop(context, words, store):
    from tests.serving.conftest import serving_on_a_port

    words.length, words.step_s = 8, 0.1
    context.close_parts = False
    found = {}

    def ask(url):
        found["answer"] = httpx.post(f"{url}/v1/chat/completions", json={**BODY, "stream": False}, trust_env=False)

    with serving_on_a_port(context) as url:
        asking = threading.Thread(target=ask, args=(url,))
        asking.start()
        until(lambda: words.in_flight[1] == 1)
    asking.join()
    assert found["answer"].status_code == 200
    assert store.read(get_reply, found["answer"].json()["id"]).finish_reason == "stop"
