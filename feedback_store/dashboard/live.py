"""Live pages: `/dashboard/live/TOPIC` sends an event whenever what a page shows has changed, and the page looks again.

An event carries no data, only a pulse (a version number, a step): the page then fetches itself with its own rights, so
there is one way in which a page is drawn, and nothing to leak. The pulse is read from the store, which also knows of
what other processes did, twice a second while somebody looks. A stream ends after a minute, and the browser comes back
by itself: that is when its sign-in is looked at again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

from starlette.responses import Response, StreamingResponse

from feedback_store.access.roles import Role
from feedback_store.checks import is_storable
from feedback_store.dashboard.rendering import HEADERS
from feedback_store.dashboard.routes import Pulse, Routes
from feedback_store.dashboard.visit import Visit
from feedback_store.errors import NotFound, StoreUnavailable

LOOK_EVERY_S = 0.5
LIFE_S = 60.0
MOST_STREAMS = 64


def routes_of(topics: Mapping[str, tuple[Role, Pulse]]) -> Routes:
    """Return the route of all live topics."""
    routes = Routes()
    open_streams: set[int] = set()

    @routes.on("GET /dashboard/live/{topic}")
    async def live(visit: Visit) -> Response:
        role, pulse = topics.get(visit.word("topic"), (None, None))
        if pulse is None:
            raise NotFound("no such topic")
        visit.require(role)
        if len(open_streams) >= MOST_STREAMS:
            raise StoreUnavailable("too many live pages are open")
        which = visit.request.query_params.get("of", "")[:64]
        if not is_storable(which):
            raise NotFound("no such topic")
        await visit.read(pulse, which)  # a topic that is not there is a 404, not a stream that breaks
        return StreamingResponse(_events(visit, pulse, which, open_streams), headers=_headers())

    return routes


def _headers() -> dict[str, str]:
    return {**HEADERS, "content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}


async def _events(visit: Visit, pulse: Pulse, which: str, open_streams: set[int]) -> AsyncIterator[bytes]:
    until = time.monotonic() + LIFE_S
    sent: str | None = None
    open_streams.add(id(visit))
    try:
        yield b"retry: 1000\n\n"
        while time.monotonic() < until and not visit.parts.stopping():
            present: str | None
            try:
                present = await visit.read(pulse, which)
            except StoreUnavailable:
                present = sent  # the page stays as it is, and goes on when the store is back
            if present != sent and present is not None:
                yield f"data: {_one_line(present)}\n\n".encode()
                sent = present
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        open_streams.discard(id(visit))


def _one_line(text: str) -> str:
    return " ".join(text.split())
