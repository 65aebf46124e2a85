"""Every failure as OpenAI's error object: {"error": {"message", "type", "param", "code"}}.

ApiError carries its status and goes out as it is. NotFound → 404 · Conflict → 409 · Refused → 400 (param: its field) ·
StoreUnavailable, Unconfirmed → 503 (Retry-After) · QueueFull, TooManyVotes → 429 (Retry-After) · EngineClosed,
EngineUnavailable → 503 (Retry-After) · PromptTooLong → 400 · AdapterRefused → 409 · anything else → 500, without
details.
"""

import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from feedback_store.errors import Conflict, NotFound, Refused, StoreUnavailable, Unconfirmed
from serving.engine import AdapterRefused, EngineClosed, EngineUnavailable, PromptTooLong, QueueFull
from serving.vote_limit import TooManyVotes

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1
"""What a caller is told to wait when the store or the server is briefly unable."""


class ApiError(Exception):
    """A refusal with its HTTP status. `param` names the field at fault; `extra` stands beside `error` in the body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers, self.extra = dict(headers or {}), dict(extra or {})

    def body(self) -> dict[str, Any]:
        """Return OpenAI's error object."""
        error = {"message": self.message, "type": error_type(self.status), "param": self.param, "code": self.code}
        return {"error": error, **self.extra}

    def response(self) -> Response:
        """Render this refusal as OpenAI's error object."""
        return JSONResponse(self.body(), self.status, self.headers)


def error_type(status: int) -> str:
    """Name the class of an error as OpenAI's clients know it."""
    names = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    return names.get(status, "invalid_request_error" if status < 500 else "server_error")


def unavailable(message: str, code: str) -> ApiError:
    """A 503 that asks to be tried again soon."""
    return ApiError(503, message, code=code, headers={"retry-after": str(RETRY_AFTER_S)})


def as_api_error(error: Exception) -> ApiError:
    """Translate what the store, the engine or the framework raised; an unknown error becomes a bare 500."""
    match error:
        case ApiError():
            return error
        case NotFound():
            return ApiError(404, str(error), code="not_found")
        case Conflict():
            return ApiError(409, str(error), code="conflict")
        case Refused():
            return ApiError(400, str(error), param=error.field, code="refused")
        case Unconfirmed():
            message = "the store did not confirm in time: send the same again; with its Idempotency-Key it counts once"
            return unavailable(message, "store_unconfirmed")
        case StoreUnavailable():
            return unavailable("the store is unavailable: nothing was stored, try again", "store_unavailable")
        case QueueFull():
            headers = {"retry-after": str(max(1, round(error.retry_after_s)))}
            return ApiError(429, str(error), code="queue_full", headers=headers)
        case TooManyVotes():
            headers = {"retry-after": str(math.ceil(error.retry_after_s))}
            return ApiError(429, str(error), code="too_many_votes", headers=headers)
        case EngineClosed():
            return unavailable(str(error), "stopping")
        case EngineUnavailable():
            headers = {"retry-after": str(max(1, round(error.retry_after_s)))}
            return ApiError(503, str(error), code="engine_unavailable", headers=headers)
        case PromptTooLong():
            return ApiError(400, str(error), param="messages", code="context_length_exceeded")
        case AdapterRefused():
            return ApiError(409, str(error), code="adapter_refused")
        case RequestValidationError():
            return _parameter_error(error)
        case HTTPException():
            return ApiError(
                error.status_code, _spoken(error), code=_http_code(error.status_code), headers=error.headers
            )
        case _:
            return ApiError(500, "the server failed on this request; its log says where", code="internal_error")


def add_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every exception as `as_api_error` says."""

    async def answer(request: Request, error: Exception) -> Response:
        refusal = as_api_error(error)
        if refusal.status == 405:  # the framework names the methods of the first route on this path alone
            refusal.headers["allow"] = ", ".join(_methods_on(app, request))
        return refusal.response()

    known = (
        ApiError, NotFound, Conflict, Refused, StoreUnavailable, QueueFull, EngineClosed, EngineUnavailable,
        PromptTooLong, AdapterRefused, TooManyVotes, RequestValidationError, HTTPException, Exception,
    )  # fmt: skip
    for kind in known:
        app.add_exception_handler(kind, answer)


def _methods_on(app: FastAPI, request: Request) -> list[str]:
    matching = (route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in matching for method in getattr(route, "methods", None) or ()})


def _parameter_error(error: RequestValidationError) -> ApiError:
    """Name the first query, path or header parameter that was wrong."""
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return ApiError(400, f"{name}: {first['msg']}", param=name, code=str(first["type"]))


def _spoken(error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return "no such route: /openapi.json lists them all"
        case 405:
            return "this route does not take this method: the Allow header names those it takes"
    return str(error.detail)


def _http_code(status: int) -> str:
    return {404: "route_not_found", 405: "method_not_allowed"}.get(status, "http_error")
