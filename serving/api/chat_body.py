"""The body of POST /v1/chat/completions: OpenAI's fields, each honoured, known to be neutral, or refused by name.

A field that would change the reply and that we do not offer (tools, logprobs, penalties) is accepted only at the value
that asks for nothing: silently dropping it would serve something else than what was asked.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from feedback_store.records import Message
from serving.api.bodies import (
    LARGEST_INTEGER,
    NO_NUL,
    SMALLEST_INTEGER,
    Channel,
    Identifier,
    RaterName,
    StrictBody,
    Text,
)
from serving.settings import PolicySettings

MODEL_NAME = "thumbwise"


def _only_a_bool(value: Any) -> Any:
    """Python holds 0 and False for equal, JSON does not."""
    if value is not None and not isinstance(value, bool):
        raise ValueError("wanted false or null")
    return value


No = Annotated[Literal[False], BeforeValidator(_only_a_bool)]
Zero = Annotated[float, Field(ge=0, le=0)]
StopText = Annotated[str, StringConstraints(pattern=NO_NUL, min_length=1, max_length=64)]
MOST_METADATA_KEYS = 16
MetadataValue = Annotated[str, StringConstraints(pattern=NO_NUL, max_length=512)]


class TextPart(BaseModel):
    """One part of a message in OpenAI's long form. Only text: the policies here read nothing else."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, use_attribute_docstrings=True)

    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    """One message. Further keys are let pass, so that a reply of ours can be sent back as it came."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, use_attribute_docstrings=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=256)]

    def plain(self) -> Message:
        """Return role and content as a template knows them ("developer" is today's word for "system")."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class TextFormat(StrictBody):
    """The one response format there is."""

    type: Literal["text"]


class StreamOptions(StrictBody):
    """What a stream adds."""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Known and neutral: nothing is padded here."""


def _flag(value: Any) -> Any:
    """OpenAI's typed clients send metadata values as text."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


class ChatMetadata(BaseModel):
    """Where a reply belongs. Further keys are kept with the reply if its text is (at most 16, as at OpenAI)."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, MetadataValue] = Field(init=False)

    channel: Channel = "api"
    """Where the chat takes place."""
    conversation_id: Identifier | None = None
    """Your id of the conversation, so that its replies are found together."""
    compare: Annotated[bool, BeforeValidator(_flag)] = False
    """With n of 2 or more: open a comparison, shown in random order and logged."""

    @model_validator(mode="after")
    def _few_short_keys(self) -> Self:
        keys = self.__pydantic_extra__ or {}
        if len(keys) > MOST_METADATA_KEYS:
            raise ValueError(f"{len(keys)} keys of your own, at most {MOST_METADATA_KEYS} are kept")
        if any(len(key) > 64 or "\0" in key for key in keys):
            raise ValueError("a key is longer than 64 characters or holds NUL")
        return self

    def further(self) -> dict[str, str]:
        """Return the keys that are the caller's own."""
        return dict(self.__pydantic_extra__ or {})


class ChatBody(StrictBody):
    """A chat request. Upper limits that are settings are checked by the route, which knows them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": MODEL_NAME,
                    "messages": [{"role": "user", "content": "Name three birds."}],
                    "max_tokens": 32,
                    "user": "anna",
                    "metadata": {"channel": "api", "conversation_id": "c-1"},
                }
            ]
        }
    )

    messages: list[ChatMessage] = Field(min_length=1, max_length=1024)
    """The conversation so far, the last message last."""
    model: Annotated[str, StringConstraints(pattern=NO_NUL, max_length=256)] = MODEL_NAME
    """Always thumbwise: which version of the policy answers is the server's affair. Another name gets 404."""
    n: int | None = Field(default=None, ge=1, le=16)
    """How many replies to draw, at most the setting serving.max_candidates."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """0 is greedy. Left out: the setting serving.default_temperature."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draw only from the likeliest tokens that together have this share."""
    max_tokens: int | None = Field(default=None, ge=1, le=LARGEST_INTEGER)
    """Most tokens of a reply, at most the setting serving.max_reply_tokens."""
    max_completion_tokens: int | None = Field(default=None, ge=1, le=LARGEST_INTEGER)
    """OpenAI's newer name of max_tokens; it wins."""
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    """A text, or up to four, at which a reply ends; it is not part of the reply."""
    seed: int | None = Field(default=None, ge=SMALLEST_INTEGER, le=LARGEST_INTEGER)
    """The same seed, prompt and version give the same reply."""
    user: RaterName | None = None
    """Who chats, as you know them: hashed with a secret key at once. Rate with the same name."""
    metadata: ChatMetadata | None = None
    stream: bool | None = None
    """Answer with server-sent events, a piece at a time."""
    stream_options: StreamOptions | None = None

    # Neutral values only.
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logprobs: No | None = None
    top_logprobs: Zero | None = None
    logit_bias: Annotated[dict[str, int], Field(max_length=0)] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    response_format: TextFormat | None = None
    # Hints about billing and caching, which change no reply.
    store: bool | None = None
    service_tier: Literal["auto", "default"] | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: Annotated[str, StringConstraints(pattern=NO_NUL, max_length=256)] | None = None
    safety_identifier: Annotated[str, StringConstraints(pattern=NO_NUL, max_length=256)] | None = None

    def prompt(self, policy: PolicySettings) -> tuple[Message, ...]:
        """Return the messages a reply answers, led by the policy's own system prompt if they bring none."""
        messages = tuple(message.plain() for message in self.messages)
        if policy.system_prompt and not any(message["role"] == "system" for message in messages):
            return ({"role": "system", "content": policy.system_prompt}, *messages)
        return messages

    def stops(self) -> tuple[str, ...]:
        """Return the stop texts."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
