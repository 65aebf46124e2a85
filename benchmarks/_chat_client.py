"""A lean HTTP client for chats: streams are read as bytes, and the clock stops at the first word.

Like _vote_client.py, and for the same reason: a full client would be the thing measured. One keep-alive connection, as
a browser has one; after a pause it is made again, since a server closes idle ones.
"""

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import Any

IDLE_S = 20.0
"""A connection that was idle for longer is not trusted: ours closes it after 30."""
FIRST_WORD = b'"delta":{"content":"'
"""The opening chunk has a role before its empty content."""
_WORD = re.compile(r'"delta":\{"content":("(?:[^"\\]|\\.)*")\}')


class Broken(RuntimeError):
    """An answer that is none: its `kind` is short enough to be counted."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Streamed:
    """A reply that came whole."""

    text: str
    reply_id: str
    first_word_ms: float
    whole_ms: float


class Line:
    """Somebody's connection to 127.0.0.1:`port`, opened when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used_at = 0.0
        self.opened = 0

    async def chat(self, body: dict[str, Any]) -> Streamed:
        """Ask for a reply as a stream. Raises Broken, OSError or EOFError."""
        reader = await self._send("POST", "/v1/chat/completions", {**body, "stream": True})
        begun = self._used_at
        status, head = await self._head(reader)
        if status != 200 or b"transfer-encoding: chunked" not in head:
            await self.close()
            raise Broken(f"chat {status}")
        data, first_word_at = b"", 0.0
        while not data.endswith(b"0\r\n\r\n"):
            piece = await reader.read(65_536)
            if not piece:
                raise Broken("chat: the stream ended early")
            data += piece
            if not first_word_at and FIRST_WORD in data:
                first_word_at = time.perf_counter()
        self._used_at = time.perf_counter()
        return _read(data, 1000 * (first_word_at - begun), 1000 * (self._used_at - begun))

    async def post(self, path: str, body: Any, key: str = "") -> tuple[dict[str, Any], float]:
        """Send JSON; return the JSON of a 200, and the milliseconds. Raises Broken, OSError or EOFError."""
        reader = await self._send("POST", path, body, f"Idempotency-Key: {key}\r\n" if key else "")
        begun = self._used_at
        found = await self._whole(reader, path)
        self._used_at = time.perf_counter()
        value: dict[str, Any] = json.loads(found)
        return value, 1000 * (self._used_at - begun)

    async def get(self, path: str, cookie: str = "") -> bytes:
        """Return the body of a 200. Raises Broken, OSError or EOFError."""
        reader = await self._send("GET", path, None, f"Cookie: {cookie}\r\n" if cookie else "")
        return await self._whole(reader, path)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        ends, self._ends = self._ends, None
        if ends is not None:
            ends[1].close()
            try:
                await ends[1].wait_closed()
            except OSError:
                pass  # the server was first

    async def _send(self, method: str, path: str, body: Any, headers: str = "") -> asyncio.StreamReader:
        if self._ends is None or time.perf_counter() - self._used_at > IDLE_S:
            await self.close()
            self._ends = await asyncio.open_connection("127.0.0.1", self._port)
            self.opened += 1
        reader, writer = self._ends
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{headers}"
        sent = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n"
        writer.write(f"{head}\r\n".encode() + sent)
        self._used_at = time.perf_counter()
        return reader

    async def _head(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        return int(head[9:12]), head

    async def _whole(self, reader: asyncio.StreamReader, path: str) -> bytes:
        status, head = await self._head(reader)
        length = re.search(rb"content-length: (\d+)", head)
        if status != 200 or length is None:
            await self.close()
            raise Broken(f"{path.partition('?')[0]} {status}")
        return await reader.readexactly(int(length[1]))


def _read(data: bytes, first_word_ms: float, whole_ms: float) -> Streamed:
    """Take a chunked stream apart: the words, the receipt and that it is whole."""
    parts, at = [], 0
    while True:
        end = data.index(b"\r\n", at)
        size = int(data[at:end], 16)
        if size == 0:
            break
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    events = b"".join(parts).decode().split("\n\n")
    if events[-2:] != ["data: [DONE]", ""]:
        raise Broken("chat: no end")
    closing = json.loads(events[-3].removeprefix("data: "))
    if closing["choices"][0]["finish_reason"] not in ("stop", "length"):
        raise Broken("chat: broken off")
    text = "".join(json.loads(found[1]) for event in events if (found := _WORD.search(event)))
    if not text or first_word_ms <= 0:
        raise Broken("chat: empty")
    receipts = closing["thumbwise"]["reply_ids"]
    if not receipts:
        raise Broken("chat: no receipt")
    return Streamed(text, receipts[0], first_word_ms, whole_ms)
