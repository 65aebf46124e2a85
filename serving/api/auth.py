"""Who may use the admin's routes: whoever brings the token that `thumbwise up` printed once. There are no cookies."""

import hmac
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from serving.api.context import context_of
from serving.api.errors import ApiError

BEARER = HTTPBearer(
    auto_error=False, scheme_name="admin", description="The admin token: DATA/admin.token, or THUMBWISE_ADMIN_TOKEN."
)


def require_admin(
    request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None
) -> None:
    """Raise ApiError 401 without a bearer token and 403 with a wrong one."""
    if bearer is None or not bearer.credentials:
        raise ApiError(
            401,
            "this route needs the admin token: send Authorization: Bearer TOKEN (it is in DATA/admin.token)",
            code="admin_token_missing",
            headers={"www-authenticate": "Bearer"},
        )
    if not is_admin_token(context_of(request).admin_token, bearer.credentials):
        raise ApiError(403, "the admin token is wrong: compare it with DATA/admin.token", code="admin_token_wrong")


def is_admin_token(wanted: str, found: str) -> bool:
    """Compare in constant time. An empty configured token admits nobody."""
    return bool(wanted) and hmac.compare_digest(wanted.encode(), found.encode("utf-8", "surrogateescape"))


ADMIN = [Depends(require_admin)]
"""Dependencies of a route or router that only the admin may use."""
