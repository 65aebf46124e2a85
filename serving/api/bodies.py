"""Reading a JSON body once, strictly, with the field named in every refusal; and the types that fields share."""

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.requests import Request

from serving.api.errors import ApiError

Channel = Literal["api", "web", "telegram", "discord", "demo"]
IDENTIFIER = r"^[a-z0-9-]{1,64}$"
Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER)]
"""An id of ours: never a path, never a URL."""
NO_NUL = r"^[^\u0000]*$"
"""PostgreSQL cannot hold NUL in a text, and no rater types one. Lone surrogates fail to decode before this."""
Text = Annotated[str, StringConstraints(pattern=NO_NUL, max_length=200_000)]
RaterName = Annotated[str, StringConstraints(pattern=r"^[^\u0000-\u001f\u007f]+$", min_length=1, max_length=256)]
"""How the caller knows a person: hashed with a secret key at once, never stored, never logged."""
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**63 - 1
RowNumber = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]

Body = TypeVar("Body", bound=BaseModel)


class StrictBody(BaseModel):
    """A body in which an unknown key is an error and no value is bent into another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


async def read_body(request: Request, model: type[Body]) -> Body:
    """Parse the request's JSON as `model`. Raises ApiError 415 for another content type, 400 naming the field.

    A page of another origin can send text/plain without asking first, never JSON: hence the strict content type.
    """
    kind = request.headers.get("content-type", "")
    if kind != "application/json" and kind.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, f"content-type is {kind[:80]!r}, wanted application/json", param="content-type")
    return parse_body(await request.body(), model)


def parse_body(raw: bytes, model: type[Body]) -> Body:
    """Parse JSON bytes as `model`, or raise ApiError 400 with `param` as a path like messages.0.content."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        problem = _problem(error)
    if problem["type"] == "json_invalid":
        problem = _named_problem(raw, model) or problem
    param = ".".join(_field_path(problem)) or None
    message = f"{param}: {problem['msg']}" if param else f"the body is not as wanted: {problem['msg']}"
    raise ApiError(400, message, param=param, code=problem["type"])


def _problem(error: ValidationError) -> Any:
    """Pick the first problem; where several forms of one field were tried, that of the form that fitted furthest."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    path = _field_path(problems[0])
    return max((one for one in problems if _field_path(one)[: len(path)] == path), key=lambda one: len(one["loc"]))


def _field_path(problem: Any) -> list[str]:
    """Return where a problem lies. A union puts the name of the form it tried into the path, which is no field."""
    return [
        str(part)
        for part in problem["loc"]
        if isinstance(part, int) or not (part in ("str", "constrained-str") or part.startswith("list["))
    ]


def _named_problem(raw: bytes, model: type[BaseModel]) -> Any:
    """Find the field behind a body that the strict JSON reader refused as a whole (a lone surrogate, say).

    Python's reader lets those through, and validation of the values then says which one it was.
    """
    try:
        value = json.loads(raw)
        model.model_validate(value)
    except ValidationError as error:
        return _problem(error)
    except (ValueError, RecursionError):
        return None
    return None
