"""What a client may send, hold open and leave unread: over real connections, with short times in place of long ones."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import WebSocketRoute

from benchmarks._word_engine import WordEngine
from feedback_store.access.rules import ANYONE, RULES
from feedback_store.store import Store
from feedback_store.versions import bootstrap
from serving.api import ApiContext, create_app
from serving.api.connections import ConnectionLimits
from serving.api.openapi import BODIES
from serving.api.server import refuse_undeclared, room_for_connections, server_of
from serving.settings import ServingSettings
from tests.databases import url_of
from tests.serving.conftest import ADMIN_HEADERS, ADMIN_TOKEN, serving_on_a_port
from tests.waiting import until

SHORT = ConnectionLimits(head_s=0.3, body_s=0.3, slowest_body_bytes=20, rest_s=0.3, unread_s=0.3)
PATIENCE_S = 10.0
HEAD = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n"
POST = b"POST /v1/feedback HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
LARGE = b"x" * 30_000_000


def declared(app: FastAPI, patch: pytest.MonkeyPatch) -> FastAPI:
    patch.setitem(RULES, "GET /large", ANYONE)
    return app


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, ApiContext]]:
    folder = tmp_path_factory.mktemp("limits")
    with Store.open(url_of(folder)) as store:
        store.write(bootstrap, "words")
        settings = ServingSettings(drain_timeout_s=1, max_connections=8)
        context = ApiContext(
            store=store, engine=WordEngine(), rater_key=b"k" * 32, admin_token=ADMIN_TOKEN, data_dir=folder,
            serving=settings, close_parts=False,
        )  # fmt: skip
        app = create_app(context)
        app.add_route("/large", lambda request: Response(LARGE), ["GET"])
        with pytest.MonkeyPatch.context() as patch, serving_on_a_port(context, declared(app, patch), SHORT) as url:
            parts = urlsplit(url)
            yield parts.hostname or "", parts.port or 0, context


@pytest.fixture
def connect(served) -> Iterator[Callable[[], socket.socket]]:
    with contextlib.ExitStack() as opened:

        def one() -> socket.socket:
            connection = opened.enter_context(socket.create_connection(served[:2], timeout=PATIENCE_S))
            return connection

        yield one


def to_the_end(connection: socket.socket) -> bytes:
    """Read until the server closes; a server that cuts off may also reset."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65_536):
            found += piece
    return found


def cut(served, reason: str) -> float:
    metrics = served[2].metrics
    return metrics.registry.get_sample_value("thumbwise_cut_connections_total", {"reason": reason}) or 0.0


def test_headers_that_do_not_come_in_time_are_answered_408(served, connect):
    connection = connect()
    connection.sendall(HEAD)
    assert to_the_end(connection).startswith(b"HTTP/1.1 408 ")
    assert cut(served, "slow_head") > 0


@pytest.mark.parametrize("first", [b"", HEAD + b"\r\n"], ids=["a new one", "one that was answered"])
def test_a_connection_that_sends_only_empty_lines_is_closed(connect, first):
    connection = connect()
    connection.sendall(first)
    if first:
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    connection.sendall(b"\r\n")
    assert to_the_end(connection) == b""


def test_a_body_that_does_not_come_in_time_is_answered_408(served, connect):
    connection = connect()
    connection.sendall(POST + b"content-length: 100\r\n\r\n{")
    answer = to_the_end(connection)
    assert answer.startswith(b"HTTP/1.1 408 ") and json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert cut(served, "slow_body") > 0


def test_a_body_that_comes_slowly_but_steadily_is_read(connect):
    connection, begun = connect(), time.monotonic()
    connection.sendall(POST + b"content-length: 1000\r\n\r\n")
    for _ in range(10):
        connection.sendall(b" " * 100)
        time.sleep(0.1)  # the pace is what is tested
    assert time.monotonic() - begun > SHORT.body_s
    assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_goes_on_after_its_refusal_is_cut_off(connect):
    connection = connect()
    connection.sendall(POST + b"transfer-encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    until = time.monotonic() + PATIENCE_S
    with pytest.raises(ConnectionError):
        while time.monotonic() < until:
            connection.sendall(piece)


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"x-large: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        HEAD + b"x-one: 1\r\n" * 200 + b"\r\n",
        HEAD + b"x-endless: " + b"x" * 1_000_000,
    ],
    ids=["a header", "an address", "many lines", "without an end"],
)
def test_a_head_that_is_too_large_is_refused(served, connect, head):
    before = cut(served, "large_head")
    connection = connect()
    with contextlib.suppress(ConnectionError):
        connection.sendall(head)
    answer = to_the_end(connection)
    assert answer.startswith(b"HTTP/1.1 431 ") or not answer  # reset: more came than anybody read
    assert cut(served, "large_head") == before + 1


def test_one_connection_too_many_is_told_so_and_finds_room_when_another_ends(served, connect):
    held = [connect() for _ in range(8)]
    for one in held:
        one.sendall(HEAD + b"\r\n")
        assert one.recv(65_536).startswith(b"HTTP/1.1 200 ")
    refused = to_the_end(connect())
    assert refused.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1\r\n" in refused
    held[0].close()
    until = time.monotonic() + PATIENCE_S
    answer = b""
    while not answer.startswith(b"HTTP/1.1 200 ") and time.monotonic() < until:
        last = connect()
        last.sendall(HEAD + b"connection: close\r\n\r\n")
        answer = to_the_end(last)
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_who_reads_nothing_of_an_answer_loses_the_connection(served, connect):
    connection = connect()
    connection.sendall(b"GET /large HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    until(lambda: cut(served, "unread") > 0)
    assert len(to_the_end(connection)) < len(LARGE)


def test_who_reads_slowly_keeps_the_connection(served, connect):
    before, connection = cut(served, "unread"), connect()
    connection.sendall(b"GET /large HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    until = time.monotonic() + 4 * SHORT.unread_s
    while time.monotonic() < until:
        assert connection.recv(200_000)
        time.sleep(0.05)  # the pace is what is tested
    assert cut(served, "unread") == before


def test_a_wish_for_a_websocket_is_a_plain_request(connect):
    connection = connect()
    wish = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAA\r\n\r\n"
    connection.sendall(HEAD + wish)
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_as_many_connections_are_taken_as_files_may_be_opened(monkeypatch):
    import resource

    noted: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 2000))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: noted.append(limits))
    assert room_for_connections(2048) == 2000 - 256 and noted == [(2000, 2000)]
    assert room_for_connections(100) == 100 and len(noted) == 1
    assert room_for_connections(1000) == 1000 and noted[1:] == [(1256, 2000)]


@pytest.mark.parametrize("add", [
    lambda app: app.add_route("/secret", lambda request: Response(b""), ["GET"]),
    lambda app: app.mount("/files", Response(b"")),
    lambda app: app.router.routes.append(WebSocketRoute("/socket", lambda socket: None)),
], ids=["a route", "an application", "a socket"])  # fmt: skip
def test_what_nobody_declared_is_not_served(context, add):
    app = create_app(context)
    refuse_undeclared(app)
    add(app)
    with pytest.raises(LookupError):
        server_of(app, context.serving)


DEEP = b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
DIGITS = b"9" * 5_000


@pytest.mark.parametrize(
    "body", [DEEP, DIGITS, b"-1e999", b"[" * 900_000, b"NaN", b'"\\ud800"'], ids=lambda one: one[:9]
)
def test_json_that_is_too_deep_or_too_long_a_number_is_refused(admin, body):
    for path, _ in sorted(BODIES):
        url = path.replace("{version}", "1").replace("{quarantine_id}", "1")
        for sent in (body, b'{"rater":' + body + b',"n":' + body + b',"reason":' + body + b"}"):
            answer = admin.post(url, content=sent, headers={"content-type": "application/json"})
            assert answer.status_code in (400, 413), (path, answer.status_code, answer.text[:300])


def test_an_import_with_such_json_names_the_line(admin):
    lines = [
        DEEP,
        b'{"prompt": ' + DIGITS + b"}",
        b'{"prompt": -1e999, "completion": NaN, "label": true}',
        b'"\\ud800"',
    ]
    for line in lines:
        answer = admin.post(
            "/v1/import?format=unpaired", content=b"\n" + line, headers={"content-type": "application/x-ndjson"}
        )
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "bad_rows", answer.text[:300]


@pytest.mark.parametrize(
    "path", ["/v1/versions/{}", "/v1/rounds/{}", "/v1/feedback/{}/versions", "/v1/replies?limit={}"]
)
def test_a_number_of_thousands_of_digits_in_an_address_is_refused(admin, path):
    assert admin.get(path.format("9" * 5_000)).status_code == 400


def test_admin_routes_are_as_bounded(client):
    large = b" " * (16 * 1024 * 1024 + 1)
    headers = ADMIN_HEADERS | {"content-type": "application/x-ndjson"}
    assert client.post("/v1/import?format=unpaired", content=large, headers=headers).status_code == 413
