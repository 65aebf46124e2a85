"""What the client may raise; each is also the standard error that fits it.

ThumbwiseError
├── Unreachable (ConnectionError)   no answer: wrong address, server down, or the connection broke
└── ApiError                        the server refused; `status`, `param` (the field at fault), `code`, `body`
    ├── Forbidden (PermissionError) 401, 403: no admin token, or a wrong one; or no consent
    ├── NotFound (LookupError)      404
    ├── Conflict (ValueError)       409: not in the state that the act needs, or somebody was first
    ├── Overloaded                  429: the queue is full; `retry_after_s`
    └── Unavailable                 503: starting, stopping, or the store is away; `retry_after_s`
"""

import json
from typing import Any


class ThumbwiseError(Exception):
    """Root of the tree."""


class Unreachable(ThumbwiseError, ConnectionError):
    """No answer came: the address is wrong, the server is down, or the connection broke."""


class ApiError(ThumbwiseError):
    """The server refused. `param` names the field at fault; `body` is the whole answer, which may say more."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        body: dict[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.body, self.retry_after_s = body or {}, retry_after_s


class Forbidden(ApiError, PermissionError):
    """401 or 403."""


class NotFound(ApiError, LookupError):
    """404."""


class Conflict(ApiError, ValueError):
    """409."""


class Overloaded(ApiError):
    """429."""


class Unavailable(ApiError):
    """503."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: Overloaded,
    503: Unavailable,
}


def error_of(status: int, content: bytes, retry_after: str | None) -> ApiError:
    """Build the error of an answer, whoever wrote it: a proxy's page of HTML becomes an ApiError too."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    error = body.get("error")
    error = error if isinstance(error, dict) else {}
    return _BY_STATUS.get(status, ApiError)(
        status,
        str(error.get("message") or f"the server answered {status} without saying why"),
        param=error.get("param"),
        code=error.get("code"),
        body=body,
        retry_after_s=float(retry_after) if retry_after and retry_after.isdigit() else None,
    )
