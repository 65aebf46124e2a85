"""The uvicorn server as we run it: one process, uvloop and httptools, no line of log per request, a bounded goodbye,
and connections that end (serving/api/connections.py).
"""

import socket
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from serving.api.connections import ConnectionLimits, Reason, WatchingServer, bounded
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
    WebSocket is spoken here: a wish to change to one is read as the plain request that it came with.
    """

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


def room_for_connections(wanted: int) -> int:
    """Raise this process's own limit of open files as far as needed and allowed; return how many connections fit."""
    try:
        import resource
    except ImportError:  # a system without such limits
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, soft - SPARE_FILES)


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
