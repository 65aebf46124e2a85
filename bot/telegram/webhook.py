"""Being told of updates: Telegram posts them to a route of our own, which stores them and only then says 200.

The route proves its sender by the secret that was given to Telegram with the address, made from the bot's token so that
there is nothing to configure. It listens on this machine alone; a proxy with a certificate stands in front of it.
"""

import contextlib
import hashlib
import hmac
import json
import logging
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bot.telegram.dispatch import Dispatcher
from bot.telegram.inbox import Inbox
from feedback_store.errors import StoreUnavailable

log = logging.getLogger(__name__)

PATH = "/telegram"
LARGEST_BYTES = 1024 * 1024
LARGEST_NUMBER = 2**63 - 1
MOST_CONNECTIONS = 256
"""At a time, of a proxy in front and of Telegram behind it, which opens at most 100."""
SECRET_HEADER = "x-telegram-bot-api-secret-token"


def secret_of(token: str) -> str:
    """Return the webhook's secret: 64 characters that only who knows the bot's token can make."""
    return hmac.new(token.encode(), b"thumbwise webhook", hashlib.sha256).hexdigest()


def webhook_app(inbox: Inbox, dispatcher: Dispatcher, secret: str) -> Starlette:
    """Build the application of the one route there is."""

    async def receive(request: Request) -> Response:
        given = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode(), secret.encode()):
            log.warning("a post without the webhook's secret was refused")
            return Response(status_code=403)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_BYTES:
                return Response(status_code=413)
        try:
            update = json.loads(body)
            update_id = int(update["update_id"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return Response(status_code=400)
        if not 0 <= update_id <= LARGEST_NUMBER:
            return Response(status_code=400)
        await dispatcher.room()
        try:
            new = await inbox.take([update])
        except StoreUnavailable:
            return Response(status_code=503, headers={"retry-after": "5"})  # Telegram will send it again
        for stored in new:
            dispatcher.add(stored)
        log.debug("an update came update=%d new=%s", update_id, bool(new))
        return Response(status_code=200)

    return Starlette(routes=[Route(PATH, receive, methods=["POST"])])


class SignalFreeServer(uvicorn.Server):
    """A server that leaves the signals to the process it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


def webhook_server(app: Starlette, host: str, port: int) -> uvicorn.Server:
    """Return the server of the route: h11, which bounds the size of a request's head, and a bound on connections. Slow
    senders are the proxy's affair."""
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False,
        http="h11", limit_concurrency=MOST_CONNECTIONS,
    )  # fmt: skip
    return SignalFreeServer(config)
