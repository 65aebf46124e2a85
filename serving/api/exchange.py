"""Feedback out and in: GET /v1/export and POST /v1/import, in trl's column formats, as JSON lines or Parquet.

An export is written to a temporary file first. So an error has a status instead of a torn body, and a slow reader does
not hold a transaction of the database open.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from feedback_store.audit import Act, audited, record
from feedback_store.exports import Format, ImportReport, chunks_of, export_file, import_jsonl
from serving.api.answers import answer
from serving.api.auth import ADMIN, caller_of
from serving.api.context import context_of
from serving.api.errors import ApiError
from serving.api.versions import LARGEST_VERSION

router = APIRouter(tags=["exchange"], dependencies=ADMIN)

JSON_LINES, PARQUET = "application/x-ndjson", "application/vnd.apache.parquet"
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Beyond these a time cannot be moved between zones."""


def _written_out(value: str) -> str:
    """A bare number would be read as seconds since 1970; whoever sends one rather mistook the parameter."""
    if "T" not in value.upper():
        raise ValueError("wanted a time like 2026-01-31T00:00:00Z")
    return value


Time = Annotated[AwareDatetime, Field(ge=EARLIEST, le=LATEST), BeforeValidator(_written_out)]
FormatQuery = Annotated[Format, Query(description="Which columns: trl's unpaired preference, preference, or SFT.")]
_FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The rows, one JSON object a line, or a Parquet file.",
        "content": {
            JSON_LINES: {"schema": {"type": "string"}},
            PARQUET: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.get("/v1/export", responses=_FILES, response_class=Response)
async def export_feedback(
    request: Request,
    format: FormatQuery = "events",
    file: Annotated[Literal["jsonl", "parquet"], Query()] = "jsonl",
    since: Annotated[
        Time | None, Query(description="Acts given at or after this time, as 2026-01-31T00:00:00Z.")
    ] = None,
    until: Annotated[Time | None, Query(description="Acts given before this time.")] = None,
    channel: Annotated[str | None, Query(pattern=r"^[a-z0-9_-]{1,32}$")] = None,
    policy_version: Annotated[int | None, Query(ge=1, le=LARGEST_VERSION)] = None,
) -> Response:
    """Export feedback in a column format of trl, with ids that lead back to replies and raters' hashes."""
    act = Act(caller_of(request).actor, "feedback.export", details={"format": format, "channel": channel})
    await context_of(request).store.write_async(record, act)
    filters = {"since": since, "until": until, "channel": channel, "policy_version": policy_version}
    written = await context_of(request).store.read_async(export_file, format, file, filters)
    name = f"thumbwise-{format}.{file}"
    return StreamingResponse(
        chunks_of(written),
        media_type=JSON_LINES if file == "jsonl" else PARQUET,
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


@router.post("/v1/import", responses={200: {"model": ImportReport}})
async def import_feedback(request: Request, format: FormatQuery) -> Response:
    """Import rows of an export, or of any program that writes trl's columns: JSON lines, all of them or none.

    Rows that are known add nothing. 400 with the report beside the error when a row is bad; `param` names the first.
    """
    lines = (await request.body()).splitlines()
    if not lines:
        raise ApiError(400, "the body is empty: wanted a JSON object a line", param="body", code="empty_body")
    act = Act(caller_of(request).actor, "feedback.import", details={"format": format, "lines": len(lines)})
    report = await context_of(request).store.write_async(audited, act, import_jsonl, format, lines)
    if report.bad_rows:
        first = report.errors[0]
        raise ApiError(
            400,
            f"{report.bad_rows} of {report.rows} rows are bad, so none was stored; line {first.line}: {first.message}",
            param=f"{first.line}.{first.field}".rstrip("."),
            code="bad_rows",
            extra={"report": report_fields(report)},
        )
    return answer(report)


def report_fields(report: ImportReport) -> dict[str, Any]:
    """Return the parts of a report on bad rows that a person needs to mend them."""
    errors = [{"line": error.line, "field": error.field, "message": error.message} for error in report.errors]
    return {"rows": report.rows, "bad_rows": report.bad_rows, "errors": errors}
