"""The uvicorn server as we run it: one process, uvloop and httptools, no line of log per request, a bounded goodbye."""

import socket

import uvicorn
from fastapi import FastAPI

from serving.settings import ServingSettings

GOODBYE_MARGIN_S = 2.0
"""Beyond the drain time, for last chunks to be written."""


def server_of(app: FastAPI, settings: ServingSettings) -> uvicorn.Server:
    """Return a server for `app`; run it with `server.run(sockets=[listen(settings)])`.

    A request line would name raters (GET /v1/consent has one in its query), so there is no access log. On SIGTERM no
    connection is accepted any more, replies under way end, and then the application's lifespan closes its parts.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # no header of a client decides who they are
        timeout_graceful_shutdown=int(settings.drain_timeout_s + GOODBYE_MARGIN_S),
        timeout_keep_alive=30,
        backlog=1024,
    )
    server = uvicorn.Server(config)
    # Open event streams end when this becomes true: the server waits for their connections before it ends.
    app.state.is_stopping = lambda: server.should_exit
    return server


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
