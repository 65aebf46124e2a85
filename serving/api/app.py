"""The HTTP application: routes, guard, errors, documentation, and an orderly end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.concurrency import run_in_threadpool

from serving.api import (
    candidates,
    chat,
    consent,
    conversations,
    erasures,
    exchange,
    feedback,
    health,
    oversight,
    raters,
    records,
    rounds,
    versions,
)
from serving.api.context import ApiContext
from serving.api.errors import add_error_handlers
from serving.api.middleware import IMPORT_LIMIT_BYTES, Guard, is_wildcard
from serving.api.openapi import document

ROUTERS = (
    feedback.router,
    chat.router,
    health.router,
    consent.router,
    conversations.router,
    raters.router,
    erasures.router,
    records.router,
    rounds.router,
    versions.router,
    oversight.router,
    exchange.router,
    candidates.router,
)

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}
"""The framework's own would put names from queries and values from bodies into traces."""


def create_app(context: ApiContext) -> FastAPI:
    """Build the application of one server. Pages may be mounted on it afterwards.

    Its lifespan ends in order: no reply is admitted, those under way end (at most serving.drain_timeout_s), the store
    is closed. The documentation is /openapi.json alone: the usual page about it loads scripts from elsewhere.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await stop(context)

    app = FastAPI(
        title="Thumbwise", version=_version(), docs_url=None, redoc_url=None, lifespan=lifespan, telemetry=NO_TELEMETRY
    )
    app.state.context = context
    for router in ROUTERS:
        app.router.routes.extend(router.routes)  # flat: including a router would match in two steps
    add_error_handlers(app)
    document(app)
    app.add_middleware(
        Guard,
        hosts=(context.serving.host, *context.extra_hosts),
        any_address=is_wildcard(context.serving.host),
        metrics=context.metrics,
        body_limits={"/v1/import": IMPORT_LIMIT_BYTES},
        lanes={("POST", "/v1/feedback"): feedback.give_feedback},
    )
    return app


async def stop(context: ApiContext) -> None:
    """Admit no more replies, let those under way end, and close engine and store (unless the composer does)."""
    context.stopping = True
    if context.close_parts:
        await run_in_threadpool(context.engine.close, context.serving.drain_timeout_s)
        await run_in_threadpool(context.store.close)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("thumbwise")
    except PackageNotFoundError:
        return "0"
