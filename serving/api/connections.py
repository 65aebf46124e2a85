"""Connections that end: what a client may send, hold open and leave unread, below the layer that knows of requests.

uvicorn waits for ever for a head (the request's line and headers), a body, or a reader, and takes a head of any size. A
few thousand connections that do nothing would then be all that a server has. So each connection here has a stage with a
time limit, looked at twice a second, which costs a request nothing but the noting of the time:

    head     until the request's headers are whole: `head_s`, from the first byte (of a new connection: from its start)
    body     until its body is: `body_s` and a second more for each `slowest_body_bytes` that came
    rest     a body that goes on after its answer (a refusal, say): `rest_s`
    answer   ours to do; a client that reads nothing for `unread_s` loses its connection, and its reply is ended
    between two requests uvicorn's own timeout_keep_alive holds

The size of bodies is the guard's affair (serving/api/middleware.py), which knows the route.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = logging.getLogger(__name__)

Stage = Literal["head", "body", "rest", "answer"]
Reason = Literal["busy", "large_head", "slow_head", "slow_body", "unread"]
LOOK_EVERY_TICKS = 5
"""uvicorn's clock ticks ten times a second."""
WORDS: dict[Reason, tuple[str, str, str]] = {
    "busy": (
        "503 Service Unavailable",
        "too_many_connections",
        "more connections are open than serving.max_connections",
    ),
    "large_head": ("431 Request Header Fields Too Large", "head_too_large", "the address or the headers are too large"),
    "slow_head": ("408 Request Timeout", "slow_request", "the request's headers did not come in time"),
    "slow_body": ("408 Request Timeout", "slow_request", "the request's body did not come in time"),
}


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one client, and all together, may use."""

    most: int = 2048
    """Connections at a time."""
    head_bytes: int = 64 * 1024
    """Of a request's address and headers."""
    head_lines: int = 128
    head_s: float = 15.0
    body_s: float = 20.0
    slowest_body_bytes: int = 2048
    rest_s: float = 10.0
    unread_s: float = 60.0


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection with limits. `limits` and `note` (told of each that is cut off) are set by `bounded`."""

    limits = ConnectionLimits()
    note: Callable[[Reason], None] = staticmethod(lambda reason: None)

    def connection_made(self, transport: Any) -> None:
        """Take a connection, or turn it away when there are too many."""
        super().connection_made(transport)
        self.stage: Stage = "head"
        self.since = self.loop.time()
        self.has_begun = self._began_in_this_piece = False
        self.head_bytes = self.body_bytes = self.unread_bytes = self._piece_bytes = 0
        self.unread_since: float | None = None
        if len(self.connections) > self.limits.most:
            self.turn_away("busy")

    def data_received(self, data: bytes) -> None:
        """Read on. A head that spans several pieces is counted by the piece, since its unfinished line is not ours."""
        self._began_in_this_piece = False
        self._piece_bytes = len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.stage == "head":
            if not self._began_in_this_piece:
                self.head_bytes += len(data)
            if self.head_bytes > self.limits.head_bytes:
                self.turn_away("large_head")
        elif self.stage == "answer" and self.cycle.response_complete:
            # Bytes that begin no request (empty lines) have stopped uvicorn's timer of an idle connection.
            self._await_head()

    def on_message_begin(self) -> None:
        """A request's first byte came."""
        super().on_message_begin()
        self._await_head()
        self._began_in_this_piece = self.has_begun = True

    def on_headers_complete(self) -> None:
        """The head is whole: answer it, or refuse one that is too large."""
        large = self.head_bytes + self._piece_bytes > self.limits.head_bytes and self._whole() > self.limits.head_bytes
        if large or len(self.headers) > self.limits.head_lines:
            self.note("large_head")
            self.app, self.url = _refuse_head, b"/"
        super().on_headers_complete()
        self.stage, self.since, self.body_bytes = "body", self.loop.time(), 0

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        super().on_body(body)
        self.body_bytes += len(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        super().on_message_complete()
        self.stage = "answer"

    def on_response_complete(self) -> None:
        """It is answered; a body that still comes has to end soon."""
        if self.stage == "body":
            self.stage, self.since = "rest", self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        self.unread_since, self.unread_bytes = self.loop.time(), self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self.unread_since = None

    def overdue(self, present: float) -> Reason | None:
        """Say what this connection has taken too long for, at the time `present` of its loop."""
        left_bytes = self.transport.get_write_buffer_size()
        closing = self.transport.is_closing() and self.unread_since is None
        if closing or (self.unread_since is not None and left_bytes < self.unread_bytes):
            # Its last bytes wait for a reader; or it reads on, however slowly.
            self.unread_since, self.unread_bytes = present, left_bytes
        if self.unread_since is not None and present - self.unread_since > self.limits.unread_s:
            return "unread"
        if self.flow.read_paused:
            self.since = present  # it is we who do not read: a request before this one is being answered
            return None
        waited_s, limits = present - self.since, self.limits
        match self.stage:
            case "head" if waited_s > limits.head_s:
                return "slow_head"
            case "body" if waited_s > limits.body_s + self.body_bytes / limits.slowest_body_bytes:
                return "slow_body"
            case "rest" if waited_s > limits.rest_s:
                return "slow_body"
        return None

    def cut_off(self, reason: Reason) -> None:
        """End this connection, with a word where one can still be said."""
        if reason == "unread" or self.transport.is_closing():
            self.note(reason)
            self.transport.abort()
        elif self._may_speak():
            self.turn_away(reason)
        else:
            self.note(reason)
            self.transport.close()

    def turn_away(self, reason: Reason) -> None:
        """Say why, and close. Only where no answer is being written."""
        self.note(reason)
        status, code, message = WORDS[reason]
        body = _error(code, message)
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        retry = "retry-after: 1\r\n" if reason == "busy" else ""
        self.transport.write(f"{head}{retry}connection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _may_speak(self) -> bool:
        """Whether a request was begun here that nobody is answering."""
        if self.stage == "head":
            before: RequestResponseCycle | None = self.cycle  # uvicorn says that there always is one
            return self.has_begun and (before is None or before.response_complete)
        return self.stage == "body" and not self.cycle.response_started

    def _await_head(self) -> None:
        self.stage, self.since, self.head_bytes, self.has_begun = "head", self.loop.time(), 0, False

    def _unsupported_upgrade_warning(self) -> None:
        """No WebSocket is spoken here: a wish for one is no news, and nobody may fill the log with it."""

    def _whole(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)


class WatchingServer(uvicorn.Server):
    """A server that looks after its connections."""

    async def on_tick(self, counter: int) -> bool:
        """Do what uvicorn does ten times a second, and end the connections whose time is up."""
        if counter % LOOK_EVERY_TICKS == 0:
            cut_off_overdue(self.server_state.connections)
        return await super().on_tick(counter)


def cut_off_overdue(connections: Any) -> None:
    """End each connection that has taken too long."""
    for connection in list(connections):
        if isinstance(connection, BoundedConnection):
            reason = connection.overdue(connection.loop.time())
            if reason is not None:
                connection.cut_off(reason)


def bounded(limits: ConnectionLimits, note: Callable[[Reason], None]) -> type[BoundedConnection]:
    """Return the class of connections with these limits: uvicorn makes them itself, and passes no arguments of ours."""

    class Bounded(BoundedConnection):
        pass

    Bounded.limits, Bounded.note = limits, staticmethod(note)
    return Bounded


async def _refuse_head(scope: Any, receive: Any, send: Any) -> None:
    status, code, message = WORDS["large_head"]
    body = _error(code, message)
    headers = [
        (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": int(status[:3]), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _error(code: str, message: str) -> bytes:
    return f'{{"error":{{"message":"{message}","type":"invalid_request_error","param":null,"code":"{code}"}}}}'.encode()
