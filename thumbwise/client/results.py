"""What the API answers, as immutable values. A key that a newer server adds is left out, never an error."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

Json = Mapping[str, Any]


class FromJson:
    """A dataclass read from a JSON object by the names of its fields."""

    __slots__ = ()

    @classmethod
    def of(cls, values: Json) -> Self:
        """Read one; raises KeyError where a field without a default is missing."""
        known = {item.name for item in fields(cls)}  # type: ignore[arg-type]  # every subclass is a dataclass
        return cls(**{name: value for name, value in values.items() if name in known})


@dataclass(frozen=True, slots=True)
class Choice:
    """One reply. `reply_id` is its receipt, to rate it by; None if the store was away when it was drawn."""

    text: str
    finish_reason: str
    reply_id: str | None
    policy_version: int | None = None
    """The version that wrote it; they differ in a comparison of the live version with a canary."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The replies to one request, in the order in which they are to be shown."""

    choices: tuple[Choice, ...]
    policy_version: int
    """The first choice's."""
    conversation_id: str | None
    comparison_id: str | None
    prompt_tokens: int
    completion_tokens: int

    @property
    def text(self) -> str:
        """The first reply's text."""
        return self.choices[0].text

    @property
    def reply_id(self) -> str | None:
        """The first reply's receipt."""
        return self.choices[0].reply_id


def answer_of(body: Json) -> Answer:
    """Read a chat.completion object."""
    usage = body.get("usage") or {}
    return Answer(
        choices=tuple(
            Choice(
                choice["message"].get("content") or "",
                choice.get("finish_reason") or "",
                choice.get("reply_id"),
                choice.get("policy_version"),
            )
            for choice in body["choices"]
        ),
        policy_version=body["policy_version"],
        conversation_id=body.get("conversation_id"),
        comparison_id=body.get("comparison_id"),
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens", 0),
    )


@dataclass(frozen=True, slots=True)
class StreamPiece:
    """New text of one choice of a stream."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The last value of a stream: how each choice ended, and the receipts."""

    finish_reasons: tuple[str, ...]
    reply_ids: tuple[str, ...]
    policy_version: int
    """The first choice's."""
    conversation_id: str | None
    comparison_id: str | None
    policy_versions: tuple[int, ...] = ()
    """Each choice's."""


@dataclass(frozen=True, slots=True)
class Receipt(FromJson):
    """A stored act. `duplicate`: its Idempotency-Key was known, nothing was added."""

    feedback_id: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Consent(FromJson):
    """A rater's answer to the consent question; None: never asked."""

    consent: bool | None
    version: int | None = None
    current_version: int | None = None
    held_back: bool = False
    """No round learns from texts of this channel at present, whatever people answer: its platform forbids it."""

    @property
    def in_force(self) -> bool:
        """Whether the rater agreed to the text that counts now."""
        return bool(self.consent) and self.version == self.current_version


@dataclass(frozen=True, slots=True)
class Erasure(FromJson):
    """What was erased of a rater. `affected_versions` were trained on some of it, and do not unlearn it."""

    replies: int
    feedback: int
    affected_versions: list[int] = field(default_factory=list)
    erasure_id: int | None = None
    """Its number, for `erasure` and `retire_versions`; None where nobody was known, or of an older server."""


@dataclass(frozen=True, slots=True)
class Round(FromJson):
    """One turn of the loop, as the server tells it. Times are ISO 8601 texts in UTC."""

    round_id: int
    state: str
    method: str | None = None
    requested_by: str = ""
    requested_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    reference_version: int | None = None
    candidate_version: int | None = None
    selection: dict[str, Any] = field(default_factory=dict)
    gate_report: dict[str, Any] | None = None
    reason: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen in it."""
        return self.state in {"published", "rejected", "failed", "cancelled"}


@dataclass(frozen=True, slots=True)
class RoundMetric(FromJson):
    """One point of a round's curve."""

    step: int
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Version(FromJson):
    """A policy version."""

    version: int
    state: str
    base_model: str = ""
    adapter_sha256: str | None = None
    parent: int | None = None
    method: str | None = None
    round_id: int | None = None
    gate_report: dict[str, Any] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    created_at: str | None = None


@dataclass(frozen=True, slots=True)
class Deployment(FromJson):
    """One move of the live pointer, or of the canary (`action` canary or canary_stop, `version` the canary's)."""

    deployment_id: int
    action: str
    version: int
    from_version: int | None = None
    actor: str = ""
    reason: str = ""
    forced: bool = False
    share: float | None = None
    at: str | None = None
