"""Who may use the API's closed routes: the admin token, or an API key with the route's scope. No cookies here.

The scope of a route stands in feedback_store/access/rules.py; a closed route that is not in it does not answer.
"""

import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from feedback_store.access import keys
from feedback_store.access.rules import scope_of
from feedback_store.schema import now
from serving.api.context import context_of
from serving.api.errors import ApiError

BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="admin",
    description="The admin token (DATA/admin.token, or THUMBWISE_ADMIN_TOKEN), or an API key tw-… with the scope.",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """A program that was let in: `name` in lists of rounds and moves, `actor` in the log of acts."""

    name: str
    actor: str


async def require_admin(
    request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None
) -> None:
    """Find out who calls (see `caller_of`). Raises ApiError 401 without a bearer token, 403 with a wrong one or a key
    without the scope."""
    if bearer is None or not bearer.credentials:
        raise ApiError(
            401,
            "this route needs the admin token: send Authorization: Bearer TOKEN (it is in DATA/admin.token)",
            code="admin_token_missing",
            headers={"www-authenticate": "Bearer"},
        )
    context = context_of(request)
    if is_admin_token(context.admin_token, bearer.credentials):
        request.state.caller = Caller("admin", "token")
        return
    key = await context.store.read_async(keys.find_key, bearer.credentials)
    if key is None:
        raise ApiError(403, "the admin token is wrong: compare it with DATA/admin.token", code="admin_token_wrong")
    scope = scope_of(f"{request.method} {request.scope['route'].path}")
    if scope not in key.scopes:
        message = f"key {key.key_id} may {', '.join(key.scopes)}; wanted: {scope}. An admin can make another key"
        raise ApiError(403, message, code="scope_missing")
    if keys.wants_noting(key, now()):
        await context.store.write_async(keys.note_use, key.key_id)
    request.state.caller = Caller(f"key:{key.key_id}", f"key:{key.key_id}")


def caller_of(request: Request) -> Caller:
    """Return who was let in by `require_admin`."""
    caller: Caller = request.state.caller
    return caller


def is_admin_token(wanted: str, found: str) -> bool:
    """Compare in constant time. An empty configured token admits nobody."""
    return bool(wanted) and hmac.compare_digest(wanted.encode(), found.encode("utf-8", "surrogateescape"))


ADMIN = [Depends(require_admin)]
"""Dependencies of a route or router that only the admin may use."""
