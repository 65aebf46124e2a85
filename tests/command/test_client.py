"""The client: what it sends, how it reads answers, when it tries again. The server here is a function of ours."""

import inspect
import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest

from thumbwise.client import (
    ApiError,
    AsyncThumbwise,
    Conflict,
    Forbidden,
    NotFound,
    StreamEnd,
    StreamPiece,
    Thumbwise,
    ThumbwiseError,
    Unavailable,
    Unreachable,
    asynchronous,
    blocking,
)
from thumbwise.client.retries import Retries

Handler = Callable[[httpx.Request], httpx.Response]
COMPLETION = {
    "id": "r-1",
    "choices": [
        {"index": 0, "message": {"content": "Robin."}, "finish_reason": "stop", "reply_id": "r-1", "future": 1},
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    "policy_version": 3,
    "conversation_id": "c-1",
    "comparison_id": None,
}


def talking_to(handler: Handler, retries: int = 3) -> Thumbwise:
    http = httpx.Client(transport=httpx.MockTransport(handler), base_url="http://server")
    return Thumbwise("http://server", "token", http=http, retries=Retries(retries))


def answering(*responses: httpx.Response) -> tuple[Thumbwise, list[httpx.Request]]:
    """A client whose server gives these answers in turn, the last one for ever, and the requests it got."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return responses[min(len(seen), len(responses)) - 1]

    return talking_to(handle), seen


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_a_chat_sends_openai_fields_and_reads_the_receipt() -> None:
    client, seen = answering(httpx.Response(200, json=COMPLETION))
    answer = client.chat(
        "Name a bird.", user="anna", channel="demo", conversation_id="c-1", temperature=1.0, stop=("x",)
    )
    assert json.loads(seen[0].content) == {
        "messages": [{"role": "user", "content": "Name a bird."}],
        "user": "anna",
        "temperature": 1.0,
        "stop": ["x"],
        "metadata": {"channel": "demo", "conversation_id": "c-1"},
    }
    assert (answer.text, answer.reply_id, answer.policy_version) == ("Robin.", "r-1", 3)
    assert seen[0].headers["authorization"] == "Bearer token"


def test_a_comparison_with_a_canary_names_each_choices_version() -> None:
    choices = [{**COMPLETION["choices"][0], "reply_id": f"r-{n}", "policy_version": n} for n in (3, 4)]
    client, _ = answering(httpx.Response(200, json={**COMPLETION, "choices": choices}))
    assert [choice.policy_version for choice in client.chat("Name a bird.", n=2, compare=True).choices] == [3, 4]


def test_a_canary_is_started_and_stopped_on_what_the_caller_saw() -> None:
    move = {"deployment_id": 4, "action": "canary", "version": 2, "from_version": 1, "share": 0.1, "future": 0}
    client, seen = answering(httpx.Response(200, json=move))
    assert client.start_canary(2, 0.1, "a tenth", expected_live=1).share == 0.1
    client.stop_canary("enough", expected_canary=2)
    assert [(request.url.path, json.loads(request.content)) for request in seen] == [
        ("/v1/versions/2/canary", {"share": 0.1, "reason": "a tenth", "expected_live": 1}),
        ("/v1/canary/stop", {"reason": "enough", "expected_canary": 2}),
    ]


def test_feedback_is_tried_again_with_the_same_key() -> None:
    receipt = {"feedback_id": 7, "duplicate": False, "reply_id": "r-1"}
    client, seen = answering(httpx.Response(503), httpx.Response(502), httpx.Response(200, json=receipt))
    assert client.thumb("r-1", "up", rater="anna").feedback_id == 7
    keys = {request.headers["idempotency-key"] for request in seen}
    assert len(seen) == 3 and len(keys) == 1


def test_two_acts_carry_different_keys_and_a_key_of_ones_own_is_kept() -> None:
    client, seen = answering(httpx.Response(200, json={"feedback_id": 7, "duplicate": False}))
    client.thumb("r-1", None, rater="anna")
    client.verdict("p-1", "tie", rater="anna")
    client.ranking("p-1", ["a", "b"], rater="anna")
    client.correction("r-1", "Wren.", rater="anna", idempotency_key="mine")
    keys = [request.headers["idempotency-key"] for request in seen]
    assert len(set(keys)) == 4 and keys[-1] == "mine"
    assert json.loads(seen[0].content)["thumb"] is None
    assert json.loads(seen[2].content)["ranking"] == ["a", "b"]


def test_a_chat_is_not_repeated_when_its_answer_was_lost_but_is_when_it_was_turned_away() -> None:
    def break_off(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise httpx.ReadError("reset")

    calls: list[httpx.Request] = []
    with pytest.raises(Unreachable, match="Is the server up"):
        talking_to(break_off).chat("Hello?")
    assert len(calls) == 1
    client, seen = answering(httpx.Response(429, headers={"retry-after": "1"}), httpx.Response(200, json=COMPLETION))
    assert client.chat("Hello?").text == "Robin."
    assert len(seen) == 2


def test_a_server_that_is_not_there_yet_is_tried_again() -> None:
    tries: list[int] = []

    def refuse_twice(request: httpx.Request) -> httpx.Response:
        tries.append(1)
        if len(tries) < 3:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=COMPLETION)

    assert talking_to(refuse_twice).chat("Hello?").text == "Robin."


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Forbidden), (403, Forbidden), (404, NotFound), (409, Conflict), (503, Unavailable), (400, ApiError)],
)
def test_a_refusal_becomes_the_error_that_fits_and_names_the_field(status: int, kind: type[ApiError]) -> None:
    error = {"error": {"message": "no", "type": "x", "param": "thumb", "code": "c"}, "readiness": {"ready": False}}
    client, _ = answering(httpx.Response(status, json=error))
    with pytest.raises(kind) as caught:
        client.rounds()
    assert (caught.value.status, caught.value.param, caught.value.code) == (status, "thumb", "c")
    assert caught.value.body["readiness"] == {"ready": False}


def test_an_answer_that_is_not_ours_is_an_error_too() -> None:
    client, _ = answering(httpx.Response(502, text="<html>Bad gateway</html>"))
    with pytest.raises(ApiError, match="answered 502"):
        client.promote(2, "better")


def events(*lines: Mapping[str, object] | str) -> httpx.Response:
    text = "".join(f"data: {line if isinstance(line, str) else json.dumps(line)}\n\n" for line in lines)
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


END = {
    "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    "thumbwise": {"reply_ids": ["r-1"], "comparison_id": None, "conversation_id": "c", "policy_version": 2},
}


def test_a_stream_yields_text_and_one_end_with_the_receipts() -> None:
    piece = {"choices": [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}]}
    client, seen = answering(events(piece, piece, END, "[DONE]"))
    values = list(client.stream("Hello?"))
    assert values[:2] == [StreamPiece(0, "Hel")] * 2
    assert values[2:] == [StreamEnd(("stop",), ("r-1",), 2, "c", None)]
    assert json.loads(seen[0].content)["stream"] is True


def test_a_stream_that_breaks_off_is_an_error() -> None:
    client, _ = answering(events({"choices": [{"index": 0, "delta": {"content": "Hel"}}]}))
    with pytest.raises(ThumbwiseError, match="before the reply ended"):
        list(client.stream("Hello?"))
    client, _ = answering(events({"error": {"message": "the reply broke off"}}))
    with pytest.raises(ApiError, match="broke off"):
        list(client.stream("Hello?"))


def test_lists_and_unknown_keys_are_read() -> None:
    found = {"data": [{"round_id": 2, "state": "training", "brand_new_key": 1}], "object": "list"}
    client, _ = answering(httpx.Response(200, json=found))
    (round_,) = client.rounds()
    assert (round_.round_id, round_.ended) == (2, False)


async def _chat_async() -> str:
    http = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda request: httpx.Response(200, json=COMPLETION)), base_url="http://server"
    )
    async with AsyncThumbwise(http=http) as client:
        return (await client.chat("Hello?")).text


def test_the_async_client_speaks_the_same_way() -> None:
    import asyncio

    assert asyncio.run(_chat_async()) == "Robin."


def test_the_two_clients_are_one_text_but_for_async() -> None:
    """So a route added to one cannot be forgotten in the other."""
    renames = {
        "async client": "blocking client",
        "AsyncThumbwise": "Thumbwise", "AsyncClient": "Client", "AsyncIterator": "Iterator", "__aenter__": "__enter__",
        "__aexit__": "__exit__", "aclose": "close", "aread": "read", "aiter_lines": "iter_lines",
        "import asyncio": "import time", "asyncio.sleep": "time.sleep",
        "Speaks to a Thumbwise server from one event loop.":
            "Speaks to a Thumbwise server. Safe to use from several threads.",
    }  # fmt: skip
    text = Path(inspect.getfile(asynchronous)).read_text()
    for found, wanted in renames.items():
        text = text.replace(found, wanted)
    text = re.sub(r"\b(async|await) ", "", text)
    squeezed = [re.sub(r"\s+", "", source) for source in (text, Path(inspect.getfile(blocking)).read_text())]
    assert squeezed[0] == squeezed[1]
