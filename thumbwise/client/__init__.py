"""The client of Thumbwise's HTTP API: chat, rate, and (with the admin's token) run the loop. httpx and nothing else.

    from thumbwise.client import Thumbwise

    with Thumbwise("http://127.0.0.1:8080") as bot:
        answer = bot.chat("Name three birds.", user="anna")
        bot.thumb(answer.reply_id, "up", rater="anna")

`AsyncThumbwise` is the same with `await`. Feedback carries an Idempotency-Key of its own, so that a repeated request
after a lost answer is stored once; what may be repeated safely is repeated, with growing pauses.
"""

from thumbwise.client.asynchronous import AsyncThumbwise
from thumbwise.client.blocking import Thumbwise
from thumbwise.client.errors import (
    ApiError,
    Conflict,
    Forbidden,
    NotFound,
    Overloaded,
    ThumbwiseError,
    Unavailable,
    Unreachable,
)
from thumbwise.client.results import (
    Answer,
    Choice,
    Consent,
    Deployment,
    Erasure,
    Receipt,
    Round,
    RoundMetric,
    StreamEnd,
    StreamPiece,
    Version,
)

__all__ = [
    "Answer",
    "ApiError",
    "AsyncThumbwise",
    "Choice",
    "Conflict",
    "Consent",
    "Deployment",
    "Erasure",
    "Forbidden",
    "NotFound",
    "Overloaded",
    "Receipt",
    "Round",
    "RoundMetric",
    "StreamEnd",
    "StreamPiece",
    "Thumbwise",
    "ThumbwiseError",
    "Unavailable",
    "Unreachable",
    "Version",
]
