"""When a request is sent again, and after how long.

A request that never reached the server (no connection) and one that the server turned away before doing anything
(429, 503) may always be sent again; one whose answer was lost only if repeating it is harmless. Pauses double from
¼ s to 8 s, each stretched by a random half so that many clients do not come back together; a Retry-After wins.
"""

import math
import random
from dataclasses import dataclass

import httpx

from thumbwise.client.errors import ApiError, ThumbwiseError, Unreachable, error_of

TURNED_AWAY = (429, 503)
LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a request is sent again at most. 0: never."""

    most: int = 5
    patience_s: float = math.inf
    """A server that asks for a longer pause than this is not waited for: where a person waits meanwhile."""

    def pause_s(self, attempt: int, error: ThumbwiseError, repeatable: bool) -> float | None:
        """Seconds to wait before the try after `attempt` (from 0), or None to give up and raise `error`."""
        if attempt >= self.most:
            return None
        if isinstance(error, ApiError):
            if error.status not in TURNED_AWAY and not (repeatable and error.status in (502, 504)):
                return None
            if error.retry_after_s is not None and error.retry_after_s > self.patience_s:
                return None
            if error.retry_after_s is not None:
                return min(error.retry_after_s, LONGEST_PAUSE_S)
        elif not (repeatable or isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)):
            return None
        return float(min(8.0, 0.25 * 2**attempt) * random.uniform(1.0, 1.5))


def refuse(response: httpx.Response) -> None:
    """Raise the error of an answer that is one. The body must have been read."""
    if response.is_error:
        raise error_of(response.status_code, response.content, response.headers.get("retry-after"))


def unreachable(error: httpx.TransportError, url: str) -> Unreachable:
    """Say which server gave no answer."""
    reason = str(error) or type(error).__name__
    found = Unreachable(f"no answer from {url}: {reason}. Is the server up? (thumbwise up)")
    found.__cause__ = error
    return found
