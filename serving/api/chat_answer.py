"""The shape of a chat completion, for the documentation: `completion.py` writes it by hand."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from feedback_store.records import FinishReason

EXAMPLE: dict[str, Any] = {
    "id": "0199a6b2c3d-5f1e8a77c0d1e2f30415",
    "object": "chat.completion",
    "created": 1763712000,
    "model": "thumbwise",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Robin, wren, heron.", "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
            "reply_id": "0199a6b2c3d-5f1e8a77c0d1e2f30415",
            "policy_version": 3,
        }
    ],
    "usage": {"prompt_tokens": 31, "completion_tokens": 9, "total_tokens": 40},
    "comparison_id": None,
    "conversation_id": "c-1",
    "policy_version": 3,
}


class AnswerMessage(BaseModel):
    """What the policy said."""

    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(BaseModel):
    """One candidate; `index` is its place in the order in which candidates are to be shown."""

    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: None
    reply_id: str | None
    """The receipt for POST /v1/feedback; null if the store was away."""
    policy_version: int
    """The version that wrote this one. They differ in a comparison of the live version with a canary."""


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """OpenAI's chat.completion, with receipts."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    comparison_id: str | None
    conversation_id: str
    policy_version: int
    """The first choice's."""
