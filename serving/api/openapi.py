"""/openapi.json: FastAPI's document, completed with what our routes read and refuse by themselves.

The routes parse their bodies with `read_body`, so the framework does not see the models; and errors have OpenAI's
shape, not the framework's. Both are put in here, from the same models that the routes use.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema

from serving.api.candidates import CandidatesBody
from serving.api.chat_answer import ChatCompletion
from serving.api.chat_body import ChatBody
from serving.api.consent import ConsentBody, ConsentState
from serving.api.erasures import RetireBody
from serving.api.exchange import JSON_LINES
from serving.api.feedback import FeedbackBody, FeedbackReceipt
from serving.api.oversight import NewQuarantineBody, QuarantineBody, SideBySideVoteBody, VetoBody
from serving.api.raters import EraseBody
from serving.api.rounds import RoundBody
from serving.api.versions import CanaryBody, PromoteBody, RollbackBody, StopCanaryBody

BODIES: dict[tuple[str, str], type[BaseModel]] = {
    ("/v1/chat/completions", "post"): ChatBody,
    ("/v1/feedback", "post"): FeedbackBody,
    ("/v1/consent", "post"): ConsentBody,
    ("/v1/raters/erase", "post"): EraseBody,
    ("/v1/erasures/{erasure_id}/retire", "post"): RetireBody,
    ("/v1/rounds", "post"): RoundBody,
    ("/v1/versions/{version}/promote", "post"): PromoteBody,
    ("/v1/rollback", "post"): RollbackBody,
    ("/v1/versions/{version}/canary", "post"): CanaryBody,
    ("/v1/canary/stop", "post"): StopCanaryBody,
    ("/v1/versions/{version}/side-by-sides", "post"): SideBySideVoteBody,
    ("/v1/versions/{version}/veto", "post"): VetoBody,
    ("/v1/quarantines", "post"): NewQuarantineBody,
    ("/v1/quarantines/{quarantine_id}", "post"): QuarantineBody,
    ("/v1/candidates", "post"): CandidatesBody,
}
"""What each route reads. A test holds this against the routes."""

ANSWERS: dict[tuple[str, str], type[BaseModel]] = {
    ("/v1/chat/completions", "post"): ChatCompletion,
    ("/v1/feedback", "post"): FeedbackReceipt,
    ("/v1/consent", "post"): ConsentState,
    ("/v1/consent", "get"): ConsentState,
}

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Any text, unique per rater: a repeated request with the same key is stored once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    "example": "2f1c9a0e",
}

STATUS_WORDS = {
    "400": "A field, a parameter or a header is wrong: `param` names it.",
    "401": "The admin token, or an API key, is missing.",
    "403": "Not allowed: a wrong admin token, a key without the scope, a foreign Host or Origin, or no consent.",
    "404": "There is no such thing.",
    "409": "Something is not in the state that this needs; look again.",
    "413": "The body is too large.",
    "415": "The content type is not the wanted one.",
    "429": "The queue of replies is full or holds too many of this user, or a rater votes too fast; Retry-After says "
    "when to come back.",
    "503": "The server is starting or stopping, or the store is away; Retry-After says when to come back.",
}


class ErrorBody(BaseModel):
    """OpenAI's error."""

    message: str
    type: str
    param: str | None
    """The field, parameter or header at fault; fields within fields as messages.0.content."""
    code: str | None


class Error(BaseModel):
    """How every failure is answered. A 409 of POST /v1/rounds has `readiness` beside it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "message": "n is 9, wanted at most 4 (setting serving.max_candidates)",
                        "type": "invalid_request_error",
                        "param": "n",
                        "code": "too_large",
                    }
                }
            ]
        }
    )

    error: ErrorBody


def document(app: FastAPI) -> None:
    """Give `app` its complete OpenAPI document, written when it is first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(get_openapi(title=app.title, version=app.version, routes=app.routes))
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(schema: dict[str, Any]) -> dict[str, Any]:
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    models: set[type[BaseModel]] = {*BODIES.values(), *ANSWERS.values(), Error}
    _, definitions = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template="#/components/schemas/{model}",
    )
    components.update(definitions["$defs"])
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            _complete_operation(path, method, operation)
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    return schema


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    if (path, method) in BODIES:
        operation["requestBody"] = {"required": True, "content": _json(BODIES[path, method])}
    if path == "/v1/import":
        operation["requestBody"] = {"required": True, "content": {JSON_LINES: {"schema": {"type": "string"}}}}
    if (path, method) in ANSWERS:
        responses["200"]["content"] = _json(ANSWERS[path, method])
    if (path, method) == ("/v1/chat/completions", "post"):
        events = {
            "schema": {
                "type": "object",
                "description": "An event of the stream; the last one is [DONE].",
                "properties": {"data": {"type": "string", "description": "A chat.completion.chunk as JSON."}},
            }
        }
        responses["200"]["content"]["text/event-stream"] = events
        responses["200"]["headers"] = {
            "x-policy-version": {
                "description": "The version that wrote this reply; of two versions compared, one a choice.",
                "schema": {"type": "string"},
            }
        }
    if path.startswith(("/v1/conversations", "/v1/raters")):
        operation["security"] = [{}, *operation["security"]]  # the web's own data is open to who knows its secret
    if (path, method) == ("/v1/feedback", "post"):
        operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
    for status in _refusals(path, method, operation):
        responses.setdefault(status, {"description": STATUS_WORDS[status], "content": _json(Error)})


NAMED_IN_BODIES = (
    "/v1/chat/completions",
    "/v1/feedback",
    "/v1/replies",
    "/v1/status",
    "/v1/quarantines",
    "/v1/candidates",
)
"""Routes that may not find what a body or a query names."""


def _refusals(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    """List with which statuses an operation may refuse."""
    found = ["403"]
    if operation.get("parameters") or method == "post":
        found.append("400")
    if operation.get("security"):
        found.append("401")
    if "{" in path or path in NAMED_IN_BODIES:
        found.append("404")
    if method == "post":
        found += ["409", "413", "415"]
    if path.endswith("/veto") and method == "delete":
        found.append("409")
    if path in ("/v1/chat/completions", "/v1/candidates", "/v1/feedback"):
        found.append("429")
    if path.startswith("/v1/"):
        found.append("503")
    return found


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
