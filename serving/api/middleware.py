"""What stands before every route, in one plain ASGI layer: Host, Origin, body size, security headers, request counts.

Plain ASGI, because a layer built on request and response objects costs more than the whole vote behind it; and a route
that a click storm meets has a lane of its own from here, past the framework's layers (measured: 330 → 240 µs a vote).
A server on
a home machine is reached by every page its user visits: the Host check stops DNS rebinding (a name that an attacker
points at 127.0.0.1), the Origin check stops another site's form or script from voting or promoting.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping
from urllib.parse import urlsplit

from prometheus_client import Counter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.errors import ApiError, as_api_error
from serving.api.metrics import ApiMetrics

Endpoint = Callable[[Request], Awaitable[Response]]
MEBIBYTE = 1024 * 1024
BODY_LIMIT_BYTES = MEBIBYTE
IMPORT_LIMIT_BYTES = 16 * MEBIBYTE
"""An import runs on the writing thread: a larger file is sent in parts."""
MOST_LENGTH_DIGITS = 19
"""Python refuses to read a number of thousands of digits, and none this long is a length."""
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARD_HOSTS = frozenset({"0.0.0.0", "::", ""})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""Put on every response that does not bring its own (a page brings its own policy)."""


class Guard:
    """The layer. `hosts` may be spoken to; `any_address` also admits every bare IP address, which cannot be rebound."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str],
        any_address: bool,
        metrics: ApiMetrics,
        body_limits: Mapping[str, int] | None = None,
        lanes: Mapping[tuple[str, str], Endpoint] | None = None,
    ) -> None:
        self.app = app
        self.hosts = LOOPBACK_HOSTS | {host.lower().strip("[]") for host in hosts} - WILDCARD_HOSTS
        self.any_address = any_address
        self.metrics = metrics
        self.body_limits = dict(body_limits or {})
        self.lanes = dict(lanes or {})
        self._known_good: set[bytes] = set()
        self._counters: dict[tuple[str, int], Counter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        lane = self.lanes.get((scope["method"], scope["path"]))

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                headers += [pair for pair in SECURITY_HEADERS if pair[0] not in present]
            await send(message)

        try:
            limit_bytes = self.body_limits.get(scope["path"], BODY_LIMIT_BYTES)
            refusal = self._refusal(scope, limit_bytes)
            if refusal is not None:
                await refusal.response()(scope, receive, send_guarded)
                return
            if lane is None:
                await self.app(scope, _limited(receive, limit_bytes), send_guarded)
            else:
                await _drive(lane, Request(scope, _limited(receive, limit_bytes)), send_guarded)
        except ClientDisconnect:
            status = 499  # they left before their request was whole: there is nobody to answer, and nothing is wrong
        finally:
            # A route leaves its template in the scope; what matched nothing is one label, whatever was asked for.
            template = scope["path"] if lane else getattr(scope.get("route"), "path", "unmatched")
            self._count(template, status)

    def _count(self, template: str, status: int) -> None:
        counter = self._counters.get((template, status))
        if counter is None:
            counter = self._counters[template, status] = self.metrics.requests.labels(template, str(status))
        counter.inc()

    def _refusal(self, scope: Scope, limit_bytes: int) -> ApiError | None:
        host = origin = b""
        length = b"0"
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"content-length":
                length = value
        if host not in self._known_good and not self._is_allowed(host):
            return ApiError(
                403,
                f"this server is not spoken to as {host[:80].decode('latin-1')!r}: use localhost, or add the name to "
                "serving.allowed_hosts",
                param="host",
                code="host_not_allowed",
            )
        if origin and scope["method"] not in SAFE_METHODS and not _same_origin(origin, host):
            return ApiError(
                403, "another site may not do this: the Origin is not this server", param="origin", code="cross_origin"
            )
        if not length.isdigit() or len(length) > MOST_LENGTH_DIGITS or int(length) > limit_bytes:
            return too_large(limit_bytes)
        return None

    def _is_allowed(self, host: bytes) -> bool:
        try:
            name = urlsplit(f"//{host.decode('ascii')}").hostname or ""
        except (UnicodeDecodeError, ValueError):
            return False
        if name not in self.hosts and not (self.any_address and _is_address(name)):
            return False
        if len(self._known_good) < 64:  # a memo, bounded: addresses with any port are many
            self._known_good.add(host)
        return True


async def _drive(endpoint: Endpoint, request: Request, send: Send) -> None:
    """Answer a request as the framework would: what we do not know of rises to the layer that logs it."""
    try:
        response = await endpoint(request)
    except Exception as error:
        refusal = as_api_error(error)
        if refusal.status == 500:
            raise
        response = refusal.response()
    await response(request.scope, request.receive, send)


def too_large(limit_bytes: int) -> ApiError:
    """Say how much a body may hold."""
    return ApiError(413, f"the body is too large: at most {limit_bytes:,} bytes", param="body", code="body_too_large")


def is_wildcard(host: str) -> bool:
    """Say whether a server bound to `host` listens on every address."""
    return host in WILDCARD_HOSTS


def _limited(receive: Receive, limit_bytes: int) -> Receive:
    """Count what a body without a content-length brings; raises ApiError 413 in the middle of it."""
    seen_bytes = 0

    async def counted() -> Message:
        nonlocal seen_bytes
        message = await receive()
        if message["type"] == "http.request":
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > limit_bytes:
                raise too_large(limit_bytes)
        return message

    return counted


def _same_origin(origin: bytes, host: bytes) -> bool:
    """An origin is scheme://host[:port]; a page of ours has exactly the Host it was fetched from."""
    scheme, _, authority = origin.partition(b"://")
    return scheme in (b"http", b"https") and authority == host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
