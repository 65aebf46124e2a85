"""Is it alive, is it ready, what is it doing: /healthz, /readyz, /metrics, /v1/models, and the admin's /v1/status."""

import asyncio
import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from feedback_store.connection import Connection
from feedback_store.errors import StoreError
from feedback_store.feedback import counts
from feedback_store.records import PolicyVersion
from feedback_store.versions import canary, live_version, pointer_revision
from serving.api.answers import answer
from serving.api.auth import ADMIN
from serving.api.chat_body import MODEL_NAME
from serving.api.context import ApiContext, context_of
from serving.api.errors import RETRY_AFTER_S, ApiError
from serving.engine import ReplicaState

router = APIRouter(tags=["server"])


class Health(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: str


class Readiness(BaseModel):
    """What is ready; `ready` is all of it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ready": True, "engine": True, "store": True, "stopping": False}]}
    )

    ready: bool
    engine: bool
    """A policy is live, and where others draw the replies, at least one of them serves it."""
    store: bool
    """The database answers and takes writes: false on a full disk too, while chat goes on."""
    stopping: bool
    replicas: int | None = None
    """How many servers draw the replies; missing where this one does."""
    replicas_serving: int | None = None
    """How many of them serve the live policy now."""


class Model(BaseModel):
    """The one model of this server: whatever policy is live."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"id": "thumbwise", "object": "model", "created": 0, "owned_by": "thumbwise", "policy_version": 3}
            ]
        }
    )

    id: str
    object: str = "model"
    created: int
    owned_by: str = "thumbwise"
    policy_version: int | None


class Models(BaseModel):
    """A list as OpenAI writes one."""

    object: str = "list"
    data: list[Model]


@dataclass(frozen=True, slots=True)
class Status:
    """What this server is doing."""

    live: PolicyVersion | None
    """What the store's pointer says; None before the first version was noted."""
    canary: PolicyVersion | None
    """The version that answers a share of the conversations beside it, as the store says."""
    canary_share: float | None
    """That share, in [0, 1); 0: in comparisons alone."""
    pointer_revision: int | None
    """Rises with every promote, rollback, and start or end of a canary."""
    serving_version: int | None
    """What new replies are pinned to; it follows the pointer within a second."""
    serving_canary_version: int | None
    """What this server serves as the canary; it follows the pointer within a second."""
    loaded_versions: dict[int, int]
    """Version to replies in flight, for every generation in memory."""
    counts: dict[str, int]
    """Rows of the store, and acts that hold now."""
    uptime_s: float
    stopping: bool
    replicas: tuple[ReplicaState, ...] | None = None
    """The servers that draw the replies, and what is wrong with them; null where this one does."""


@router.get("/healthz", responses={200: {"model": Health}})
async def healthz() -> Response:
    """Answer while the process lives."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", responses={200: {"model": Readiness}, 503: {"model": Readiness}})
async def readyz(request: Request) -> Response:
    """Answer 200 when a policy is live and the store takes writes, else 503 with what is missing."""
    context = context_of(request)
    parts = {"engine": context.can_draw(), "store": await _store_answers(context)}
    ready = all(parts.values()) and not context.stopping
    headers = {} if ready else {"retry-after": str(RETRY_AFTER_S)}
    body = {"ready": ready, **parts, "stopping": context.stopping, **_replica_counts(context)}
    return JSONResponse(body, 200 if ready else 503, headers=headers)


@router.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
async def metrics(request: Request) -> Response:
    """Prometheus metrics, explained in docs/observability.md. Label values come from fixed lists."""
    context = context_of(request)
    context.metrics.look_at(context.engine, context.live_policy(), context.canary())
    if context.replicas is not None:
        counts = _replica_counts(context)
        context.metrics.replicas_serving.set(counts["replicas_serving"])
        context.metrics.replicas_away.set(counts["replicas"] - counts["replicas_serving"])
    return Response(context.metrics.render(), media_type="text/plain; version=0.0.4")


@router.get("/v1/models", responses={200: {"model": Models}})
async def list_models(request: Request) -> Response:
    """List the one model there is, as OpenAI's clients ask for it."""
    return JSONResponse(Models(data=[_model(context_of(request))]).model_dump())


@router.get("/v1/models/{model}", responses={200: {"model": Model}})
async def read_model(request: Request, model: Annotated[str, Path(max_length=256)]) -> Response:
    """Return the one model there is."""
    if model != MODEL_NAME:
        message = f"model is {model[:80]!r}, wanted {MODEL_NAME!r}, the one model of this server"
        raise ApiError(404, message, param="model", code="model_not_found")
    return JSONResponse(_model(context_of(request)).model_dump())


@router.get("/v1/status", dependencies=ADMIN, tags=["admin"], responses={200: {"model": Status}})
async def status(request: Request) -> Response:
    """Say what is live, what is in memory, and how much there is in the store."""
    context = context_of(request)
    stored = await context.store.read_async(_stored_status)
    serving, beside = context.live_policy(), context.canary()
    return answer(
        Status(
            **stored,
            serving_version=serving.version if serving else None,
            serving_canary_version=beside.version if beside else None,
            loaded_versions=context.engine.loaded_versions,
            uptime_s=round(time.monotonic() - context.started_at, 1),
            stopping=context.stopping,
            replicas=context.replicas() if context.replicas else None,
        )
    )


def _stored_status(connection: Connection) -> dict[str, Any]:
    beside = canary(connection)
    return {
        "live": live_version(connection),
        "canary": beside.version if beside else None,
        "canary_share": beside.share if beside else None,
        "pointer_revision": pointer_revision(connection),
        "counts": counts(connection),
    }


def _replica_counts(context: ApiContext) -> dict[str, int]:
    """Counts alone: where the replicas are is no stranger's business."""
    if context.replicas is None:
        return {}
    states = context.replicas()
    return {"replicas": len(states), "replicas_serving": sum(state.serving for state in states)}


async def _store_answers(context: ApiContext) -> bool:
    if context.store.refuses_writes:
        return False
    try:
        async with asyncio.timeout(context.store.patience_s):
            await context.store.read_async(pointer_revision)
    except (StoreError, TimeoutError):
        return False
    return True


def _model(context: ApiContext) -> Model:
    live = context.live_policy()
    return Model(id=MODEL_NAME, created=0, policy_version=live.version if live else None)
