"""The API's routes as values: what is sent, how the answer is read, and whether it may be sent twice.

Both clients, blocking and async, send these; so a route is written down once.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypedDict, TypeVar

import httpx

from thumbwise.client.results import (
    Answer,
    Consent,
    Deployment,
    Erasure,
    Receipt,
    Round,
    RoundMetric,
    Version,
    answer_of,
)

T = TypeVar("T")
Message = Mapping[str, str]
Prompt = str | Sequence[Message]
"""A user's one message, or the messages of a conversation, each with `role` and `content`."""
Thumb = Literal["up", "down"]
Channel = Literal["api", "web", "telegram", "discord", "demo"]
ExportFormat = Literal["events", "unpaired", "preference", "sft"]


class ChatOptions(TypedDict, total=False):
    """How a reply is drawn and where it belongs; what is left out is the server's default."""

    user: str
    """The rater's name; the server keeps a keyed hash of it."""
    channel: Channel
    conversation_id: str
    n: int
    compare: bool
    """Open a comparison of the `n` replies (at least 2), shown in a random, logged order."""
    temperature: float
    top_p: float
    max_tokens: int
    stop: Sequence[str]
    seed: int


class CandidateOptions(TypedDict, total=False):
    """How candidates for ranking are made; what is left out is the server's default."""

    reply_id: str
    """A stored reply, in place of a prompt: its prompt is used, while the person it came from consents."""
    replies: int
    batch: str
    temperature: float
    max_tokens: int
    overlap: int
    """How many annotators rank them."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. `repeatable`: sending it twice does no more than sending it once."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    repeatable: bool = True


def chat_body(prompt: Prompt, options: ChatOptions) -> dict[str, Any]:
    """The body of a chat request."""
    values: dict[str, Any] = dict(options)
    metadata = {name: values.pop(name) for name in ("channel", "conversation_id", "compare") if name in values}
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(one) for one in prompt]
    if "stop" in values:
        values["stop"] = list(values["stop"])
    return {"messages": messages, **values, **({"metadata": metadata} if metadata else {})}


def candidates_body(prompt: Prompt | None, options: CandidateOptions) -> dict[str, Any]:
    """The body of a wish for candidates."""
    if prompt is None:
        return dict(options)
    return {"messages": chat_body(prompt, {})["messages"], **options}


def chat(prompt: Prompt, options: ChatOptions) -> Call[Answer]:
    """Ask for one answer. Not repeatable: a second one would be another reply, stored beside the first."""
    return Call("POST", "/v1/chat/completions", _read(answer_of), chat_body(prompt, options), repeatable=False)


def feedback(rater: str, channel: Channel, act: Mapping[str, Any], idempotency_key: str | None) -> Call[Receipt]:
    """Give one act; without a key of the caller's a fresh one makes repeats harmless."""
    body = {"rater": rater, "channel": channel, **act}
    headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
    return Call("POST", "/v1/feedback", _read(Receipt.of), body, headers=headers)


def thumb_act(reply_id: str, thumb: Thumb | None, reason: str | None) -> dict[str, Any]:
    """A thumb; None takes it back."""
    return {"reply_id": reply_id, "thumb": thumb, **({"reason": reason} if reason is not None else {})}


def give_consent(rater: str, channel: Channel, given: bool) -> Call[Consent]:
    """Note a rater's yes or no."""
    body = {"rater": rater, "channel": channel, "given": given}
    return Call("POST", "/v1/consent", _read(Consent.of), body)


def consent(rater: str, channel: Channel) -> Call[Consent]:
    """What a rater has answered."""
    return Call("GET", "/v1/consent", _read(Consent.of), query={"rater": rater, "channel": channel})


def export_rater(rater: str, channel: Channel) -> Call[dict[str, Any]]:
    """Everything that is kept of a rater."""
    return Call("GET", "/v1/raters/export", _read(dict), query={"rater": rater, "channel": channel})


def erase_rater(rater: str, channel: Channel) -> Call[Erasure]:
    """Erase a rater. Repeatable: there is nothing left the second time."""
    return Call("POST", "/v1/raters/erase", _read(Erasure.of), {"rater": rater, "channel": channel})


def erasure(erasure_id: int) -> Call[dict[str, Any]]:
    """What had learnt from an erased person, and since when the database's files hold nothing of them."""
    return Call("GET", f"/v1/erasures/{erasure_id}", _read(dict))


def retire_versions(erasure_id: int, retrain: bool) -> Call[dict[str, Any]]:
    """Keep what had learnt from an erased person from serving. Repeatable."""
    return Call("POST", f"/v1/erasures/{erasure_id}/retire", _read(dict), {"retrain": retrain})


def start_round(method: str | None, force: bool) -> Call[Round]:
    """Ask for a round."""
    return Call("POST", "/v1/rounds", _read(Round.of), {"method": method, "force": force}, repeatable=False)


def list_rounds(limit: int) -> Call[list[Round]]:
    """The newest rounds."""
    return Call("GET", "/v1/rounds", _read_list(Round.of), query={"limit": limit})


def read_round(round_id: int) -> Call[Round]:
    """One round."""
    return Call("GET", f"/v1/rounds/{round_id}", _read(Round.of))


def round_metrics(round_id: int, after: int) -> Call[list[RoundMetric]]:
    """The points of a round's curves beyond step `after`."""
    return Call("GET", f"/v1/rounds/{round_id}/metrics", _read_list(RoundMetric.of), query={"after": after})


def cancel_round(round_id: int) -> Call[Round]:
    """Cancel an open round."""
    return Call("POST", f"/v1/rounds/{round_id}/cancel", _read(Round.of), repeatable=False)


def list_versions() -> Call[list[Version]]:
    """All policy versions."""
    return Call("GET", "/v1/versions", _read_list(Version.of))


def read_version(version: int) -> Call[Version]:
    """One policy version."""
    return Call("GET", f"/v1/versions/{version}", _read(Version.of))


def list_deployments(limit: int) -> Call[list[Deployment]]:
    """The newest moves of the live pointer and of the canary."""
    return Call("GET", "/v1/deployments", _read_list(Deployment.of), query={"limit": limit})


def promote(version: int, reason: str, force: bool, expected_live: int | None) -> Call[Deployment]:
    """Make a version live."""
    body = {"reason": reason, "force": force, "expected_live": expected_live}
    return Call("POST", f"/v1/versions/{version}/promote", _read(Deployment.of), body, repeatable=False)


def rollback(reason: str, expected_live: int | None) -> Call[Deployment]:
    """Bring back the version before."""
    body = {"reason": reason, "expected_live": expected_live}
    return Call("POST", "/v1/rollback", _read(Deployment.of), body, repeatable=False)


def start_canary(version: int, share: float, reason: str, expected_live: int | None) -> Call[Deployment]:
    """Let a version answer a share of the conversations."""
    body = {"share": share, "reason": reason, "expected_live": expected_live}
    return Call("POST", f"/v1/versions/{version}/canary", _read(Deployment.of), body, repeatable=False)


def stop_canary(reason: str, expected_canary: int | None) -> Call[Deployment]:
    """Let the live version answer everybody."""
    body = {"reason": reason, "expected_canary": expected_canary}
    return Call("POST", "/v1/canary/stop", _read(Deployment.of), body, repeatable=False)


def get_object(path: str) -> Call[dict[str, Any]]:
    """Any route that answers with an object: /v1/readiness, /v1/status, /v1/replies/ID, /healthz, /readyz."""
    return Call("GET", path, _read(dict))


def get_list(path: str, query: dict[str, Any]) -> Call[list[dict[str, Any]]]:
    """Any route that answers with a list of objects."""
    return Call("GET", path, _read_list(dict), query=query)


def veto(version: int, reason: str) -> Call[dict[str, Any]]:
    """Forbid a version to serve."""
    return Call("POST", f"/v1/versions/{version}/veto", _read(dict), {"reason": reason}, repeatable=False)


def lift_veto(version: int) -> Call[dict[str, Any]]:
    """Take a veto back."""
    return Call("DELETE", f"/v1/versions/{version}/veto", _read(dict), repeatable=False)


def decide_quarantine(quarantine_id: int, decision: str) -> Call[dict[str, Any]]:
    """Release a quarantine, or keep its feedback out for good."""
    return Call("POST", f"/v1/quarantines/{quarantine_id}", _read(dict), {"decision": decision}, repeatable=False)


def candidates(wish: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """Have replies to one prompt drawn for people to rank. Repeatable: a prompt of a batch is drawn once."""
    return Call("POST", "/v1/candidates", _read(dict), dict(wish))


def candidate_prompts(limit: int) -> Call[list[str]]:
    """The newest replies of which the prompts may be used."""
    return Call("GET", "/v1/candidates/prompts", _read_list(lambda one: str(one["reply_id"])), query={"limit": limit})


def export_query(export_format: ExportFormat, filters: Mapping[str, str | int | None]) -> dict[str, str | int]:
    """The query of GET /v1/export."""
    return {"format": export_format, **{name: value for name, value in filters.items() if value is not None}}


def import_rows(export_format: ExportFormat, lines: bytes) -> Call[dict[str, Any]]:
    """Bring in rows of an export. Repeatable: rows are told apart by their content."""
    return Call(
        "POST",
        "/v1/import",
        _read(dict),
        query={"format": export_format},
        headers={"content-type": "application/x-ndjson"},
        content=lines,
    )


def _read(parse: Callable[[Any], T]) -> Callable[[httpx.Response], T]:
    return lambda response: parse(response.json())


def _read_list(parse: Callable[[Any], T]) -> Callable[[httpx.Response], list[T]]:
    return lambda response: [parse(item) for item in response.json()["data"]]
