"""Settings of the policy and the server: sections [policy], [serving], [duels] and [vllm] of thumbwise.toml."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

MOST_HINT_CHARACTERS = 500


class PolicySettings(BaseModel):
    """[policy]: the base model and where it runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_model: str = "bundled:smollm2-135m-instruct"
    """The bundled model, a directory, or a Hugging Face id that is already in the local cache (offline at run time)."""
    engine: Literal["torch", "vllm"] = "torch"
    """What draws the replies. torch: this process. vllm: the servers of [vllm], to which it speaks over HTTP."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the model runs. auto: a GPU when there is one, else the processor."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the processor or GPU has it, else float32."""
    kernels: Literal["auto", "torch"] = "auto"
    """auto: on a processor, Llama-shaped models decode through C++ kernels built at the first start where there is a
    compiler. torch: never build or use them."""
    system_prompt: str = ""
    """Put before a conversation that brings no system message. Empty: the chat template's own."""


class ServingSettings(BaseModel):
    """[serving]: the API server and its engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    """Address to listen on. On any other than this machine's own, put TLS and a login in front."""
    port: int = Field(default=8080, ge=0, le=65535)
    """0 picks a free port."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which this server may be spoken to beside localhost and `host`, such as the one that people type where a
    proxy stands in front. A request that names another host is refused, so that no foreign name can be pointed here."""
    threads: int = Field(default=0, ge=0, le=256)
    """Torch threads of the engine. 0: all cores when alone; one fewer (at least 1) while a round trains beside it."""
    max_batch: int = Field(default=32, ge=1, le=512)
    """Replies generated together in one step."""
    max_context_tokens: int = Field(default=2048, ge=16, le=131_072)
    """Longest prompt plus reply. A longer prompt is refused with 400."""
    max_reply_tokens: int = Field(default=512, ge=1, le=32_768)
    """Most tokens a request may ask for."""
    default_reply_tokens: int = Field(default=256, ge=1, le=32_768)
    """Most tokens of a reply when the request names no limit."""
    default_temperature: float = Field(default=0.7, ge=0, le=2)
    """Sampling temperature when the request names none. 0 is greedy."""
    queue_limit: int = Field(default=256, ge=1)
    """Requests that may wait, of one user at most as many as are left free; one more gets 429 with Retry-After. With
    vLLM, max_batch and queue_limit together bound the replies under way at a replica."""
    votes_per_minute: float = Field(default=60.0, ge=0, le=1_000_000)
    """Acts of feedback that one rater may give a minute, in the long run; one more gets 429 with Retry-After. 0: no
    limit. Each server counts for itself."""
    votes_burst: int = Field(default=300, ge=1, le=1_000_000)
    """Acts that a rater who gave none lately may give at once."""
    max_connections: int = Field(default=2048, ge=8, le=65_536)
    """Connections open at a time; one more is answered 503. Where the system lets this process open fewer files, that
    many less 256."""
    max_candidates: int = Field(default=4, ge=1, le=16)
    """Largest `n`."""
    drain_timeout_s: float = Field(default=20.0, ge=0)
    """How long a stopping server lets replies in flight finish."""

    @field_validator("allowed_hosts")
    @classmethod
    def _plain_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", name):
                raise ValueError(f"names alone, such as chat.example.org, without scheme, port or star, not {name!r}")
        return names


class DuelSettings(BaseModel):
    """[duels]: which replies a comparison shows: of several that are drawn, those that teach most (serving/duels.py).
    While there is a canary none of this happens: comparisons then measure, and show what was drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    show: Literal["auto", "different", "drawn"] = "auto"
    """Of the replies drawn: auto: those that a reward model above its bar is least sure of, and where there is none
    the most different ones. different: always the latter. drawn: draw no more than are shown."""
    candidates: int = Field(default=4, ge=2, le=8)
    """Replies drawn for a comparison. No more than are shown: those are shown."""
    explore: float = Field(default=0.2, gt=0, le=1)
    """Share of the comparisons that show replies taken by chance, so that figures over all of them can be unbiased."""
    hint_share: float = Field(default=0.33, ge=0, lt=1)
    """Share of the candidates drawn under one of `hints`, taken by chance. Nobody sees the hint; the reply is kept as
    one to the plain prompt, with its log-probability there. 0: none."""
    hints: tuple[str, ...] = (
        "Answer in one or two short sentences.",
        "Use plain everyday words.",
        "Answer in detail and give an example.",
        "Be warm and encouraging.",
    )
    """Styles that the candidates are to differ in, each an instruction to the model. Let them pull both ways: hints
    that are all for brevity teach brevity by themselves."""
    min_distance: float = Field(default=0.1, ge=0, le=1)
    """Candidates made for ranking (thumbwise candidates) that are nearer than this are alike, and drawn again."""

    @field_validator("hints")
    @classmethod
    def _short_texts(cls, hints: tuple[str, ...]) -> tuple[str, ...]:
        for place, hint in enumerate(hints, start=1):
            if not 0 < len(hint.strip()) <= MOST_HINT_CHARACTERS:
                raise ValueError(f"hints of 1 to {MOST_HINT_CHARACTERS} characters, but number {place} is none")
        return hints


class VllmSettings(BaseModel):
    """[vllm]: the vLLM servers that draw the replies, where policy.engine is vllm. See docs/vllm.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    replicas: tuple[str, ...] = ()
    """Addresses, such as http://10.0.0.5:8000, in a network that only this server reaches. The key of their API is
    the secret THUMBWISE_VLLM_API_KEY."""
    served_model: str = ""
    """Name under which the replicas serve the base model. Empty: the one base model that they list."""
    adapters_dir: str = ""
    """Where the replicas see the folder DATA/adapters. Empty: at the same path as this server."""
    look_every_s: float = Field(default=1.0, gt=0, le=60)
    """How often each replica is asked for its health and its adapters."""
    answer_timeout_s: float = Field(default=5.0, gt=0)
    """A replica that takes longer to connect, or to tell its health, counts as away."""
    load_timeout_s: float = Field(default=120.0, gt=0)
    """How long a replica may take to load an adapter and to answer the request that warms it."""
    lag_timeout_s: float = Field(default=10.0, ge=0)
    """Once one replica serves a new version, how long a promote waits for the others. One that lags gets no request
    of that version before it has loaded it."""
    token_timeout_s: float = Field(default=60.0, gt=0)
    """Longest silence within a reply, its wait for a place included. Then it goes on at another replica."""
    failover_s: float = Field(default=15.0, ge=0)
    """How long a reply whose replica is lost waits for one that can go on with it."""

    @field_validator("replicas")
    @classmethod
    def _plain_addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for place, url in enumerate(urls, start=1):
            parts = urlsplit(url)
            if parts.username is not None or parts.password is not None:
                raise ValueError(
                    f"no user or password in an address (number {place}): the key is THUMBWISE_VLLM_API_KEY"
                )
            plain = parts.hostname and parts.port != 0 and not parts.query and not parts.fragment
            if parts.scheme not in ("http", "https") or not plain:
                raise ValueError(f"addresses such as http://10.0.0.5:8000, but number {place} is none")
            if parts.path.rstrip("/").endswith("/v1"):
                raise ValueError(f"addresses without the /v1 at the end of number {place}")
        cleaned = tuple(url.rstrip("/") for url in urls)
        if len(set(cleaned)) != len(cleaned):
            raise ValueError("each address once")
        return cleaned
