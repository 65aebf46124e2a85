"""The admin's routes over policy versions: list, promote, roll back, try one as a canary.

Each move is one transaction and one row of the log.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from feedback_store import versions
from feedback_store.audit import Act, audited
from feedback_store.records import Deployment, PolicyVersion
from serving.api.answers import Listing, answer
from serving.api.auth import ADMIN, caller_of
from serving.api.bodies import NO_NUL, StrictBody, read_body
from serving.api.context import context_of

router = APIRouter(tags=["versions"], dependencies=ADMIN)

LARGEST_VERSION = 2**31 - 1
VersionNumber = Annotated[int, Path(ge=1, le=LARGEST_VERSION)]
Reason = Annotated[str, StringConstraints(pattern=NO_NUL, min_length=1, max_length=1000)]


class PromoteBody(StrictBody):
    """Why a version goes live."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reason": "gate passed", "force": False, "expected_live": 1}]}
    )

    reason: Reason
    force: bool = False
    """Promote a version that its gate rejected; the log says so."""
    expected_live: int | None = Field(default=None, ge=1, le=LARGEST_VERSION)
    """The version you saw live: 409 if another one is, by then."""


class RollbackBody(StrictBody):
    """Why the former version comes back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "replies too short"}]})

    reason: Reason
    expected_live: int | None = Field(default=None, ge=1, le=LARGEST_VERSION)
    """The version you want to leave: 409 if another one is live, by then (a double click, a stale page)."""


class CanaryBody(StrictBody):
    """Which share of the conversations a version answers, and why."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"share": 0.1, "reason": "a tenth for a day", "expected_live": 1}]}
    )

    share: float = Field(ge=0, lt=1)
    """Part of the conversations; each stays on its side. 0: the canary is seen in comparisons alone."""
    reason: Reason
    expected_live: int | None = Field(default=None, ge=1, le=LARGEST_VERSION)
    """The version you saw live: 409 if another one is, by then."""


class StopCanaryBody(StrictBody):
    """Why the canary ends."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "seen enough", "expected_canary": 2}]})

    reason: Reason
    expected_canary: int | None = Field(default=None, ge=1, le=LARGEST_VERSION)
    """The version you saw as the canary: 409 if another one is, by then."""


@router.get("/v1/versions", responses={200: {"model": Listing[PolicyVersion]}})
async def list_versions(request: Request) -> Response:
    """List every policy version with its gate report."""
    return answer(Listing(await context_of(request).store.read_async(versions.list_versions)))


@router.get("/v1/versions/{version}", responses={200: {"model": PolicyVersion}})
async def read_version(request: Request, version: VersionNumber) -> Response:
    """Return one policy version."""
    return answer(await context_of(request).store.read_async(versions.get_version, version))


@router.get("/v1/deployments", responses={200: {"model": Listing[Deployment]}})
async def list_deployments(request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Response:
    """List the moves of the live pointer and of the canary, the newest first."""
    return answer(Listing(await context_of(request).store.read_async(versions.deployments, limit)))


@router.post("/v1/versions/{version}/promote", responses={200: {"model": Deployment}})
async def promote_version(request: Request, version: VersionNumber) -> Response:
    """Make a version live. New replies are of it within a second; replies under way end on their own version.

    The canary ends with it, whichever version that was.
    409 when its gate rejected it (unless forced), when its adapter is refused, or when `expected_live` is stale.
    """
    context = context_of(request)
    body = await read_body(request, PromoteBody)
    await context.store.read_async(versions.get_version, version)
    await run_in_threadpool(context.prepare_version, version)
    deployment = await context.store.write_async(
        audited,
        Act(caller_of(request).actor, "version.promote", f"version {version}", body.reason, {"force": body.force}),
        versions.promote,
        version,
        actor=caller_of(request).name,
        reason=body.reason,
        forced=body.force,
        expected_live=body.expected_live,
    )
    await run_in_threadpool(context.on_pointer_moved)
    return answer(deployment)


@router.post("/v1/rollback", responses={200: {"model": Deployment}})
async def roll_back(request: Request) -> Response:
    """Bring back the version that was live before the present one, and end the canary. 409 when there is none."""
    context = context_of(request)
    body = await read_body(request, RollbackBody)
    # Loaded first, as for a promote: once the pointer has moved, the very next reply is of the former version.
    await run_in_threadpool(context.prepare_version, await context.store.read_async(versions.rollback_target))
    deployment = await context.store.write_async(
        audited,
        Act(caller_of(request).actor, "version.rollback", reason=body.reason),
        versions.rollback,
        actor=caller_of(request).name,
        reason=body.reason,
        expected_live=body.expected_live,
    )
    await run_in_threadpool(context.on_pointer_moved)
    return answer(deployment)


@router.post("/v1/versions/{version}/canary", responses={200: {"model": Deployment}})
async def start_canary(request: Request, version: VersionNumber) -> Response:
    """Let a version answer a share of the conversations beside the live one, and be its opponent in comparisons.

    Sent again for the same version it changes the share. 409 while another version is the canary, when the version is
    live or was rejected by its gate, when its adapter is refused, or when `expected_live` is stale.
    """
    context = context_of(request)
    body = await read_body(request, CanaryBody)
    await context.store.read_async(versions.get_version, version)
    await run_in_threadpool(context.prepare_version, version)
    deployment = await context.store.write_async(
        audited,
        Act(caller_of(request).actor, "version.canary", f"version {version}", body.reason, {"share": body.share}),
        versions.start_canary,
        version,
        body.share,
        actor=caller_of(request).name,
        reason=body.reason,
        expected_live=body.expected_live,
    )
    await run_in_threadpool(context.on_pointer_moved)
    return answer(deployment)


@router.post("/v1/canary/stop", responses={200: {"model": Deployment}})
async def stop_canary(request: Request) -> Response:
    """Let the live version answer everybody again. 409 when there is no canary."""
    context = context_of(request)
    body = await read_body(request, StopCanaryBody)
    deployment = await context.store.write_async(
        audited,
        Act(caller_of(request).actor, "version.canary_stop", reason=body.reason),
        versions.stop_canary,
        actor=caller_of(request).name,
        reason=body.reason,
        expected_canary=body.expected_canary,
    )
    await run_in_threadpool(context.on_pointer_moved)
    return answer(deployment)
