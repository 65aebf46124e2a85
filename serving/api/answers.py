"""Store records as JSON: one writer for all of them, so that a time or a tuple looks the same on every route."""

from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from starlette.responses import Response

from feedback_store.records import Feedback

Row = TypeVar("Row")
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row]):
    """A list as OpenAI writes one."""

    data: list[Row]
    object: str = "list"


def answer(value: Any, status: int = 200) -> Response:
    """Write records (or dicts of them) as JSON; times as ISO 8601 in UTC."""
    return Response(_ANY.dump_json(value), status, media_type="application/json")


def feedback_row(feedback: Feedback) -> dict[str, Any]:
    """Lay an event flat: its id beside its fields. The Idempotency-Key is the caller's and stays out."""
    row = asdict(feedback.act)
    del row["idempotency_key"]
    return {"feedback_id": feedback.feedback_id, **row}
