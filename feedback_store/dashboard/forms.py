"""Reading a form: fields by name into a pydantic model, the first problem said in words.

Only `application/x-www-form-urlencoded`: no file is ever uploaded, and the standard library reads it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar, get_origin
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from starlette.requests import Request

from feedback_store.checks import is_storable
from feedback_store.errors import Refused

CSRF_FIELD = "csrf"
MOST_FIELDS = 2_000
LARGEST_NUMBER = 2**31 - 1
"""PostgreSQL looks for no larger one in a column of this size, and no number of a page comes near it."""


class Form(BaseModel):
    """A form's fields. Unknown ones are refused; text is stripped at its ends; an empty field is one not filled in."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    @model_validator(mode="after")
    def _numbers_that_a_database_holds(self) -> Self:
        for name, value in self:
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, int) and abs(one) > LARGEST_NUMBER:
                    raise ValueError(f"{name} is too large a number")
        return self


Model = TypeVar("Model", bound=Form)


async def read_fields(request: Request) -> list[tuple[str, str]]:
    """Return the fields in order. Raises Refused for another content type or what is no form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused("content-type", f"content-type is {kind[:60]!r}; wanted: application/x-www-form-urlencoded")
    try:
        text = (await request.body()).decode("ascii")
        fields = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError as error:  # also what UTF-8 forbids
        raise Refused("form", "the form cannot be read; wanted: UTF-8, percent-encoded") from error
    return fields


def parse_form(fields: list[tuple[str, str]], model: type[Model]) -> Model:
    """Put the fields of a body or an address into `model`. A tuple field takes every value of its name. Raises Refused
    naming the field, also for text that cannot be stored."""
    values: dict[str, Any] = {}
    for name, value in fields:
        if name == CSRF_FIELD:
            continue
        if not is_storable(value):
            raise Refused(name, f"{name} holds a character that cannot be stored (NUL or half a surrogate pair)")
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is tuple:
            values.setdefault(name, []).append(value)
        elif value != "":
            values[name] = value.replace("\r\n", "\n")
    return checked(values, model)


def checked(values: Mapping[str, Any], model: type[Model]) -> Model:
    """Return `values` as `model`, or raise Refused with the first problem."""
    try:
        found = model.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = str(problem["loc"][0]) if problem["loc"] else "form"
        raise Refused(name, f"{name}: {problem['msg']}") from error
    for name, value in found:
        if any(isinstance(one, int) and abs(one) > LARGEST_NUMBER for one in _each(value)):
            raise Refused(name, f"{name} is too large; wanted: at most {LARGEST_NUMBER}")
    return found


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, tuple) else (value,)
