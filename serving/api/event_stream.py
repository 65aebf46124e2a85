"""Server-sent events, with the reader watched: when they leave, the source is told at once, not at its next event."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

DONE = b"data: [DONE]\n\n"


def event(data: Mapping[str, Any]) -> bytes:
    """One event, as OpenAI's clients read it."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed its connection (or the whole response has been sent)."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Sends the events of `source`. If the client leaves first, `on_gone` is called once, and the source is still read
    to its end, unsent: it is the source that decides what to keep of a reply cut short."""

    media_type = "text/event-stream"

    def __init__(
        self, source: AsyncIterator[bytes], on_gone: Callable[[], None], headers: Mapping[str, str] | None = None
    ) -> None:
        self.source, self.on_gone = source, on_gone
        self.status_code, self.background = 200, None
        self.init_headers({"x-accel-buffering": "no", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the source ends."""
        gone = False

        async def watch() -> None:
            nonlocal gone
            await until_gone(receive)
            gone = True
            self.on_gone()

        watcher = asyncio.create_task(watch())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for data in self.source:
                if not gone:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            # Stop watching before the last send: after it the server reports a disconnect that is none.
            watcher.cancel()
            if not gone:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            if not gone:
                self.on_gone()  # cancelled by a stopping server: nothing may go on generating; a no-op after the end
