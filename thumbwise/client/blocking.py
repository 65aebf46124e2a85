"""The blocking client. Every method says what it does on the server; what may be raised stands in `errors`."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack

import httpx

from thumbwise.client import calls
from thumbwise.client.calls import Call, CandidateOptions, Channel, ChatOptions, ExportFormat, Prompt, Thumb
from thumbwise.client.errors import ThumbwiseError
from thumbwise.client.results import (
    Answer,
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
from thumbwise.client.retries import Retries, refuse, unreachable
from thumbwise.client.streams import StreamReader

T = TypeVar("T")
DEFAULT_TIMEOUT = httpx.Timeout(10.0, read=300.0)
"""A reply may wait in a queue and take its time; a connection may not."""
DEFAULT_RETRIES = Retries()


class Thumbwise:
    """Speaks to a Thumbwise server. Safe to use from several threads.

    `admin_token` is needed for what runs the loop (rounds, versions, exports), not for chatting or rating. Proxies of
    the environment are not used: the server is usually on this machine. Bring an `http` of your own to change that.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        admin_token: str | None = None,
        *,
        timeout: httpx.Timeout | float = DEFAULT_TIMEOUT,
        retries: Retries = DEFAULT_RETRIES,
        http: httpx.Client | None = None,
    ) -> None:
        """Prepare; nothing is sent yet. `http` brings a client of your own (its base URL and limits are then yours)."""
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {admin_token}"} if admin_token else {}
        self.retries = retries
        self._http = http or httpx.Client(base_url=self.url, timeout=timeout, trust_env=False)
        self._http.headers.update(headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def chat(self, prompt: Prompt, **options: Unpack[ChatOptions]) -> Answer:
        """Ask for an answer to a message or a conversation."""
        return self.send(calls.chat(prompt, options))

    def stream(self, prompt: Prompt, **options: Unpack[ChatOptions]) -> Iterator[StreamPiece | StreamEnd]:
        """Ask for an answer and yield its text as it grows, then one StreamEnd with the receipts."""
        body = calls.chat_body(prompt, options) | {"stream": True}
        reader = StreamReader()
        try:
            with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.is_error:
                    response.read()
                refuse(response)
                for line in response.iter_lines():
                    if (value := reader.feed(line)) is not None:
                        yield value
        except httpx.TransportError as error:
            raise unreachable(error, self.url) from error
        reader.close()

    def thumb(
        self,
        reply_id: str,
        thumb: Thumb | None,
        *,
        rater: str,
        channel: Channel = "api",
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Rate a reply; None takes the thumb back. Returns after the server has committed it."""
        act = calls.thumb_act(reply_id, thumb, reason)
        return self.send(calls.feedback(rater, channel, act, idempotency_key))

    def verdict(
        self,
        comparison_id: str,
        verdict: str | None,
        *,
        rater: str,
        channel: Channel = "api",
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Judge a comparison: the better reply's id, "tie" or "both_bad"; None takes the verdict back."""
        act = {"comparison_id": comparison_id, "verdict": verdict}
        return self.send(calls.feedback(rater, channel, act, idempotency_key))

    def ranking(
        self,
        comparison_id: str,
        ranking: Sequence[str],
        *,
        rater: str,
        channel: Channel = "api",
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Rank all replies of a comparison, the best first."""
        act = {"comparison_id": comparison_id, "ranking": list(ranking)}
        return self.send(calls.feedback(rater, channel, act, idempotency_key))

    def correction(
        self,
        reply_id: str,
        correction: str,
        *,
        rater: str,
        channel: Channel = "api",
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Give a better answer than the reply was. Forbidden unless the rater's words may be kept."""
        act = {"reply_id": reply_id, "correction": correction}
        return self.send(calls.feedback(rater, channel, act, idempotency_key))

    def give_consent(self, rater: str, channel: Channel, given: bool) -> Consent:
        """Note whether a rater's words may be kept and learnt from."""
        return self.send(calls.give_consent(rater, channel, given))

    def consent(self, rater: str, channel: Channel) -> Consent:
        """Return what a rater has answered."""
        return self.send(calls.consent(rater, channel))

    def export_rater(self, rater: str, channel: Channel) -> dict[str, Any]:
        """Return everything that is kept of a rater. The admin's token is needed, but for the web's channel."""
        return self.send(calls.export_rater(rater, channel))

    def erase_rater(self, rater: str, channel: Channel) -> Erasure:
        """Erase everything that is kept of a rater. The admin's token is needed, but for the web's channel."""
        return self.send(calls.erase_rater(rater, channel))

    def erasure(self, erasure_id: int) -> dict[str, Any]:
        """Return which versions had learnt from an erased person, and since when the database's files hold nothing of
        them (`overwritten_at`)."""
        return self.send(calls.erasure(erasure_id))

    def retire_versions(self, erasure_id: int, *, retrain: bool = False) -> dict[str, Any]:
        """Keep every version that had learnt from an erased person from serving; `retrain`: ask for a round as well."""
        return self.send(calls.retire_versions(erasure_id, retrain))

    def start_round(self, method: str | None = None, *, force: bool = False) -> Round:
        """Ask for a round; `method` None: as the settings say. Conflict if one is open or feedback is scarce."""
        return self.send(calls.start_round(method, force))

    def rounds(self, limit: int = 50) -> list[Round]:
        """Return the rounds, the newest first."""
        return self.send(calls.list_rounds(limit))

    def round(self, round_id: int) -> Round:
        """Return one round."""
        return self.send(calls.read_round(round_id))

    def round_metrics(self, round_id: int, after: int = -1) -> list[RoundMetric]:
        """Return the points of a round's curves beyond step `after`."""
        return self.send(calls.round_metrics(round_id, after))

    def cancel_round(self, round_id: int) -> Round:
        """Cancel an open round."""
        return self.send(calls.cancel_round(round_id))

    def versions(self) -> list[Version]:
        """Return all policy versions."""
        return self.send(calls.list_versions())

    def version(self, version: int) -> Version:
        """Return one policy version."""
        return self.send(calls.read_version(version))

    def deployments(self, limit: int = 50) -> list[Deployment]:
        """Return the moves of the live pointer and of the canary, the newest first."""
        return self.send(calls.list_deployments(limit))

    def promote(
        self, version: int, reason: str, *, force: bool = False, expected_live: int | None = None
    ) -> Deployment:
        """Make a version live; `force` passes over a gate that rejected it, and the log says so."""
        return self.send(calls.promote(version, reason, force, expected_live))

    def rollback(self, reason: str, *, expected_live: int | None = None) -> Deployment:
        """Bring back the version that was live before."""
        return self.send(calls.rollback(reason, expected_live))

    def start_canary(self, version: int, share: float, reason: str, *, expected_live: int | None = None) -> Deployment:
        """Let a version answer `share` (in [0, 1)) of the conversations beside the live one; again: another share."""
        return self.send(calls.start_canary(version, share, reason, expected_live))

    def stop_canary(self, reason: str, *, expected_canary: int | None = None) -> Deployment:
        """Let the live version answer everybody again."""
        return self.send(calls.stop_canary(reason, expected_canary))

    def canary(self) -> dict[str, Any]:
        """Return how the canary stands by the evidence so far; `canary` is None when there is none."""
        return self.send(calls.get_object("/v1/canary"))

    def lineage(self, version: int) -> dict[str, Any]:
        """Return what a version was trained on, its parents' feedback too, and what is wrong with it by now."""
        return self.send(calls.get_object(f"/v1/versions/{version}/lineage"))

    def veto(self, version: int, reason: str) -> dict[str, Any]:
        """Forbid a version to go live or to be a canary, however green its gate."""
        return self.send(calls.veto(version, reason))

    def lift_veto(self, version: int) -> dict[str, Any]:
        """Take a veto back."""
        return self.send(calls.lift_veto(version))

    def trust(self) -> dict[str, Any]:
        """Return how far raters agree, and what looks like false feedback."""
        return self.send(calls.get_object("/v1/trust"))

    def quarantines(self, *, open_only: bool = False) -> list[dict[str, Any]]:
        """Return the quarantines, the newest first."""
        return self.send(calls.get_list("/v1/quarantines", {"open_only": open_only}))

    def decide_quarantine(self, quarantine_id: int, decision: str) -> dict[str, Any]:
        """Decide a quarantine: "released" or "kept"."""
        return self.send(calls.decide_quarantine(quarantine_id, decision))

    def readiness(self) -> dict[str, Any]:
        """Return whether a round could run now, and what is missing."""
        return self.send(calls.get_object("/v1/readiness"))

    def status(self) -> dict[str, Any]:
        """Return what the server is doing."""
        return self.send(calls.get_object("/v1/status"))

    def ready(self) -> dict[str, Any]:
        """Return what is ready; Unavailable while something is not."""
        return self.send(calls.get_object("/readyz"))

    def reply(self, reply_id: str) -> dict[str, Any]:
        """Return a reply with its version, adapter and sampling."""
        return self.send(calls.get_object(f"/v1/replies/{reply_id}"))

    def candidates(self, prompt: Prompt | None = None, **wish: Unpack[CandidateOptions]) -> dict[str, Any]:
        """Have two to four replies drawn that differ, to a prompt of yours or to that of a stored reply (`reply_id`),
        for people to rank. Once a prompt and batch: again, it says what is there."""
        return self.send(calls.candidates(calls.candidates_body(prompt, wish)))

    def candidate_prompts(self, limit: int = 100) -> list[str]:
        """Return ids of replies whose prompts may be used for candidates: newest first, each prompt once."""
        return self.send(calls.candidate_prompts(limit))

    def export(
        self, export_format: ExportFormat, filters: Mapping[str, str | int | None] | None = None
    ) -> Iterator[str]:
        """Yield the rows of an export as lines of JSON. Filters: since, until, channel, policy_version."""
        query = calls.export_query(export_format, filters or {})
        try:
            with self._http.stream("GET", "/v1/export", params=query) as response:
                if response.is_error:
                    response.read()
                refuse(response)
                for line in response.iter_lines():
                    if line:
                        yield line
        except httpx.TransportError as error:
            raise unreachable(error, self.url) from error

    def import_rows(self, export_format: ExportFormat, lines: bytes) -> dict[str, Any]:
        """Bring in rows of an export (lines of JSON); all of them or, if one is bad, none."""
        return self.send(calls.import_rows(export_format, lines))

    def send(self, call: Call[T]) -> T:
        """Send one call, again where that is safe."""
        attempt = 0
        while True:
            try:
                return self._send_once(call)
            except ThumbwiseError as error:
                pause_s = self.retries.pause_s(attempt, error, call.repeatable)
                if pause_s is None:
                    raise
            time.sleep(pause_s)
            attempt += 1

    def _send_once(self, call: Call[T]) -> T:
        try:
            response = self._http.request(
                call.method,
                call.path,
                params=dict(call.query) or None,
                json=call.body,
                content=call.content,
                headers=dict(call.headers),
            )
        except httpx.TransportError as error:
            raise unreachable(error, self.url) from error
        refuse(response)
        return call.read(response)
