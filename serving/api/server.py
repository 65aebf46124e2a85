"""The uvicorn server as we run it: one process, uvloop and httptools, no line of log per request, a bounded goodbye,
and connections that end (serving/api/connections.py).
"""

import socket
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from feedback_store.access.rules import rule_of
from serving.api.connections import ConnectionLimits, Reason, WatchingServer, bounded
from serving.api.heaps import share_heaps
from serving.settings import ServingSettings

GOODBYE_MARGIN_S = 2.0
"""Beyond the drain time, for last chunks to be written."""
LIMITS = ConnectionLimits()
SPARE_FILES = 256
"""Open files beside the connections: the store, the model, adapters, logs, exports."""


def server_of(app: FastAPI, settings: ServingSettings, limits: ConnectionLimits = LIMITS) -> uvicorn.Server:
    """Return a server for `app`; run it with `server.run(sockets=[listen(settings)])`.

    A request line would name raters (GET /v1/consent has one in its query), so there is no access log. On SIGTERM no
    connection is accepted any more, replies under way end, and then the application's lifespan closes its parts. No
    WebSocket is spoken here: a wish to change to one is read as the plain request that it came with. Raises LookupError
    for a route that nobody declared.
    """

    refuse_undeclared(app)
    share_heaps()

    def note(reason: Reason) -> None:
        app.state.context.metrics.cut_connections.labels(reason).inc()

    most = min(settings.max_connections, room_for_connections(settings.max_connections))
    config = uvicorn.Config(
        app,
        http=bounded(replace(limits, most=most), note),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # no header of a client decides who they are
        timeout_graceful_shutdown=int(settings.drain_timeout_s + GOODBYE_MARGIN_S),
        timeout_keep_alive=30,
        backlog=1024,
    )
    server = WatchingServer(config)
    # Open event streams end when this becomes true: the server waits for their connections before it ends.
    app.state.is_stopping = lambda: server.should_exit
    return server


def files_allowed() -> int | None:
    """Return how many files this process may have open, once it has raised its own limit; None: any number."""
    try:
        import resource
    except ImportError:  # a system without such limits
        return None
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def room_for_connections(wanted: int) -> int:
    """Raise this process's own limit of open files as far as needed and allowed; return how many connections fit."""
    try:
        import resource
    except ImportError:
        return wanted
    allowed = files_allowed()
    needed = wanted + SPARE_FILES if allowed is None else min(wanted + SPARE_FILES, allowed)
    present, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if present != resource.RLIM_INFINITY and present < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, highest))
    return min(wanted, max(1, needed - SPARE_FILES))


def refuse_undeclared(app: FastAPI) -> None:
    """Raise LookupError for a route that feedback_store/access/rules.py does not know: it must not be served. Whatever
    is no plain route (a folder of files, a socket, an application within this one) has no place in that table."""
    for route in app.routes:
        methods = getattr(route, "methods", None)
        if not methods:
            raise LookupError(f"{type(route).__name__} {getattr(route, 'path', '')!r} is no route with methods")
        for method in methods - {"HEAD"}:
            rule_of(f"{method} {route.path}")  # type: ignore[attr-defined]


def listen(settings: ServingSettings) -> socket.socket:
    """Bind and return the listening socket: with port 0 its name says which port it became. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host.strip("[]"), settings.port))
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
