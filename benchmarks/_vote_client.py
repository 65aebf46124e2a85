"""A lean HTTP client for votes: one keep-alive connection, requests written as bytes, answers read without a parser.

A full HTTP client costs several times what the server spends on a vote; on two cores it would be the thing measured.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Vote:
    """One click: who, on what, which way, under which Idempotency-Key."""

    rater: str
    reply_id: str
    thumb: str
    key: str

    def request(self, port: int) -> bytes:
        """Return the whole request."""
        body = json.dumps({"rater": self.rater, "reply_id": self.reply_id, "thumb": self.thumb}).encode()
        head = (
            f"POST /v1/feedback HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {self.key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A vote that the server said it has stored."""

    vote: Vote
    feedback_id: int
    duplicate: bool
    latency_ms: float


class Refused(RuntimeError):
    """The server answered something else than 200: `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Connection:
    """One keep-alive connection to 127.0.0.1:`port`."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._port, self._reader, self._writer = port, reader, writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect. Raises OSError."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        return cls(port, reader, writer)

    async def send(self, vote: Vote) -> Acknowledged:
        """Send a vote and wait for its receipt. Raises OSError or EOFError when the server goes away before."""
        begun = time.perf_counter()
        self._writer.write(vote.request(self._port))
        status, body = await self._answer()
        latency_ms = (time.perf_counter() - begun) * 1000
        if status != 200:
            raise Refused(status, f"a vote got {status}: {body.decode(errors='replace')[:300]}")
        receipt = json.loads(body)
        return Acknowledged(vote, receipt["feedback_id"], receipt["duplicate"], latency_ms)

    async def post(self, path: str, value: Any) -> Any:
        """Send any JSON and return the JSON of a 200."""
        body = json.dumps(value).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status, found = await self._answer()
        if status != 200:
            raise Refused(status, f"{path} got {status}: {found.decode(errors='replace')[:300]}")
        return json.loads(found)

    async def status_of(self, path: str) -> int:
        """Get a path and return the status alone."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())
        return (await self._answer())[0]

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass  # the server was first

    async def _answer(self) -> tuple[int, bytes]:
        head = await self._reader.readuntil(b"\r\n\r\n")
        at = head.lower().index(b"content-length:") + len(b"content-length:")
        length = int(head[at : head.index(b"\r\n", at)])
        return int(head[9:12]), await self._reader.readexactly(length)
