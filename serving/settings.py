"""Settings of the policy and the server: sections [policy] and [serving] of thumbwise.toml."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PolicySettings(BaseModel):
    """[policy]: the base model and where it runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_model: str = "bundled:smollm2-135m-instruct"
    """The bundled model, a directory, or a Hugging Face id that is already in the local cache (offline at run time)."""
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
    """Requests that may wait; one more gets 429 with Retry-After."""
    max_candidates: int = Field(default=4, ge=1, le=16)
    """Largest `n`."""
    drain_timeout_s: float = Field(default=20.0, ge=0)
    """How long a stopping server lets replies in flight finish."""
