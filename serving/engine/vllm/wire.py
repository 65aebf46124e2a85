"""What is said to one vLLM server, and what its answers mean. Knows no policy and keeps no state.

Only the paths below are ever asked for, and nothing of a caller's request chooses one: the server's other routes (its
LoRA routes, of which not every version asks for the API key, its metrics and its developer's routes) stay behind us.

    ReplicaError (RuntimeError)
    ├── ReplicaAway      not reached, silent for too long, broken off, or an error of its own (5xx)
    ├── ReplicaBusy      429 or 503: full; retry_after_s
    ├── AdapterMissing   404: it does not know the model's name (any more)
    └── ReplicaRefusal   it will not, however often it is asked: another 4xx, or an answer that cannot be used
"""

import contextlib
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from feedback_store.records import Sampling
from serving.settings import VllmSettings

_LARGEST_SEED = 2**63 - 1
_OTHERS_WORDS = 300
"""Characters of a replica's own words that are repeated: of answers about adapters, never of those about a prompt."""


class ReplicaError(RuntimeError):
    """A replica did not do what it was asked; the message says why, for an operator."""


class ReplicaAway(ReplicaError):
    """Not reached, silent for too long, broken off, or failing by itself."""


class ReplicaBusy(ReplicaError):
    """It is full."""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class AdapterMissing(ReplicaError):
    """It does not know the model's name."""


class ReplicaRefusal(ReplicaError):
    """It will not do it, however often it is asked."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model that a replica lists: the base model, or an adapter on it (`parent` is then the base model's name)."""

    parent: str | None
    longest_tokens: int | None
    """Prompt and reply together; of the base model alone."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Tokens of a reply, as they come: ids, their log-probabilities at temperature 1 in nats, and why it ended."""

    token_ids: tuple[int, ...]
    logprobs_nats: tuple[float, ...]
    finish_reason: str | None


class Wire:
    """One vLLM server's HTTP. Bound to the event loop in which `client` is used."""

    def __init__(self, client: httpx.AsyncClient, url: str, settings: VllmSettings) -> None:
        self._client, self._url, self._settings = client, url, settings

    async def check_health(self) -> None:
        """Ask whether its engine runs. Raises ReplicaError."""
        await self._ask("GET", "/health", timeout_s=self._settings.answer_timeout_s)

    async def models(self) -> dict[str, Served]:
        """Return what it serves, by name. Raises ReplicaError."""
        answer = await self._ask("GET", "/v1/models", timeout_s=self._settings.answer_timeout_s)
        with _understood("/v1/models"):
            return {
                str(card["id"]): Served(card.get("parent"), card.get("max_model_len")) for card in answer.json()["data"]
            }

    async def tokenize(self, model: str, text: str) -> tuple[int, ...] | None:
        """Return the token ids of a text without special tokens, or None where the server does not say."""
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        try:
            answer = await self._ask("POST", "/tokenize", body, timeout_s=self._settings.answer_timeout_s)
        except AdapterMissing:
            return None
        with _understood("/tokenize"):
            return tuple(int(token) for token in answer.json()["tokens"])

    async def load(self, name: str, path: str) -> None:
        """Load an adapter under a new name; one that is there already is left as it is. Raises ReplicaError.

        Never with `load_inplace`: that changes weights under a name whose prefixes are cached and whose replies are
        under way.
        """
        body = {"lora_name": name, "lora_path": path}
        try:
            await self._ask("POST", "/v1/load_lora_adapter", body, timeout_s=self._settings.load_timeout_s, words=True)
        except AdapterMissing as error:
            raise ReplicaRefusal(
                f"it has no way to load {path}: {error}. Start vLLM with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, where that folder can be read (setting vllm.adapters_dir)"
            ) from error
        except ReplicaRefusal:
            if name not in await self.models():
                raise

    async def unload(self, name: str) -> None:
        """Take an adapter away; one that is gone already is no error. Replies under way end on it all the same."""
        with contextlib.suppress(AdapterMissing):
            await self._ask(
                "POST",
                "/v1/unload_lora_adapter",
                {"lora_name": name},
                timeout_s=self._settings.load_timeout_s,
                words=True,
            )

    async def draw(
        self,
        model: str,
        prompt_ids: tuple[int, ...],
        sampling: Sampling,
        end_ids: frozenset[int],
        *,
        silence_s: float | None = None,
    ) -> AsyncGenerator[Drawn, None]:
        """Draw one reply, tokens as they come, its last item with a finish_reason. Raises ReplicaError.

        Closing the iterator closes the connection, and vLLM then stops drawing. Every sampling parameter is said: what
        is left out would be taken from the model's generation_config.json, and replies would not be of the
        distribution that their row names. `prompt_logprobs` is never asked for: on an adapter it ends vLLM's engine.
        """
        body = {
            "model": model,
            "prompt": list(prompt_ids),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop": list(sampling.stop),
            "stop_token_ids": sorted(end_ids),
            "seed": None if sampling.seed is None else sampling.seed & _LARGEST_SEED,
            "logprobs": 0,
            "return_token_ids": True,
            "skip_special_tokens": False,
            "stream": True,
        }
        timeout = self._timeout(silence_s or self._settings.token_timeout_s)
        try:
            async with self._client.stream("POST", f"{self._url}/v1/completions", json=body, timeout=timeout) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    raise _error_of(answer, words=False)
                async for line in answer.aiter_lines():
                    drawn = _drawn(line)
                    if drawn is not None:
                        yield drawn
                        if drawn.finish_reason is not None:
                            return
        except httpx.HTTPError as error:
            raise ReplicaAway(_what_happened(error)) from error
        raise ReplicaAway("a reply broke off")

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float, words: bool = False
    ) -> httpx.Response:
        try:
            answer = await self._client.request(method, self._url + path, json=body, timeout=self._timeout(timeout_s))
        except httpx.HTTPError as error:
            raise ReplicaAway(_what_happened(error)) from error
        if answer.status_code != 200:
            raise _error_of(answer, words)
        return answer

    def _timeout(self, read_s: float) -> httpx.Timeout:
        return httpx.Timeout(read_s, connect=self._settings.answer_timeout_s, pool=None)


def _drawn(line: str) -> Drawn | None:
    """Read one line of the event stream; None for one that brings no token."""
    if not line.startswith("data: {"):
        return None
    with _understood("a reply"):
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            raise ReplicaAway("its engine failed within a reply")
        if not event["choices"]:
            return None
        (choice,) = event["choices"]
        token_ids = choice.get("token_ids")
        if token_ids is None:
            raise ReplicaRefusal("its replies name no token ids (return_token_ids): vLLM 0.10.2 or newer is needed")
        logprobs = (choice.get("logprobs") or {}).get("token_logprobs") or []
        if len(logprobs) != len(token_ids) or None in logprobs:
            raise ReplicaRefusal(
                f"a piece of a reply has {len(token_ids)} tokens and {len(logprobs)} log-probabilities"
            )
        reason = choice.get("finish_reason")
        if reason not in (None, "stop", "length"):
            raise ReplicaAway(f"it ended a reply with {reason!r}")
        return Drawn(tuple(map(int, token_ids)), tuple(map(float, logprobs)), reason)


@contextlib.contextmanager
def _understood(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReplicaRefusal(f"its answer to {what} is not vLLM's ({type(error).__name__})") from error


def _error_of(answer: httpx.Response, words: bool) -> ReplicaError:
    """Translate a status. `words`: repeat the server's own message, which of a reply could hold a user's text."""
    status = answer.status_code
    reason = f"HTTP {status}" + (f": {_message(answer)}" if words else "")
    if status in (429, 503):
        return ReplicaBusy(reason, _retry_after_s(answer))
    if status == 404:
        return AdapterMissing(reason)
    if status in (401, 403):
        return ReplicaRefusal(f"{reason}: it refuses the API key; set THUMBWISE_VLLM_API_KEY to the key it was given")
    if words and status >= 400:  # about an adapter, also a 500 is a verdict: too high a rank, an unknown layer
        return ReplicaRefusal(reason)
    return ReplicaAway(reason) if status >= 500 else ReplicaRefusal(reason)


def _message(answer: httpx.Response) -> str:
    try:
        body = answer.json()
        message = body["error"]["message"] if "error" in body else body.get("message") or body["detail"]
    except (ValueError, KeyError, TypeError, AttributeError):
        message = answer.text
    return str(message)[:_OTHERS_WORDS]


def _retry_after_s(answer: httpx.Response) -> float:
    """The header's seconds within [1, 600]; 5 where it is missing or a date."""
    try:
        return min(600.0, max(1.0, float(answer.headers["retry-after"])))
    except (KeyError, ValueError):
        return 5.0


def _what_happened(error: httpx.HTTPError) -> str:
    """Say it without the request: an exception of httpx may spell out more than its kind."""
    match error:
        case httpx.ConnectTimeout() | httpx.ConnectError():
            return "it cannot be connected to"
        case httpx.TimeoutException():
            return "it was silent for too long"
    return f"the connection broke ({type(error).__name__})"
