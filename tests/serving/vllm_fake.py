"""A stand-in for a vLLM server, over real HTTP: adapters by name, streamed tokens, and the ways in which it fails.

The next token depends on the model's name and on every token before it, prompt included, and on nothing else: so a
reply says which policy drew it, and one that goes on at another server must come out as if it had stayed. `reply_of`
computes the same without a server.
"""

import asyncio
import hashlib
import json
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

BASE = "base-model"
END = 2
VOCABULARY = 320
LONGEST_TOKENS = 512


def next_token(model: str, context: Sequence[int]) -> int:
    """An ordinary token of the tiny model, or its end token now and then."""
    digest = hashlib.sha256(repr((model, tuple(context))).encode()).digest()
    return END if digest[0] < 4 else 3 + int.from_bytes(digest[1:3], "big") % (VOCABULARY - 3)


def logprob_of(model: str, context: Sequence[int]) -> float:
    """In nats, in (-4, -0.1)."""
    return -0.1 - hashlib.sha256(repr((context[-1], model)).encode()).digest()[0] / 66


def reply_of(model: str, prompt: Sequence[int], max_tokens: int) -> tuple[tuple[int, ...], float]:
    """The tokens of a whole reply and their summed log-probability."""
    context, total = list(prompt), 0.0
    for _ in range(max_tokens):
        token = next_token(model, context)
        total += logprob_of(model, context)
        context.append(token)
        if token == END:
            break
    return tuple(context[len(prompt) :]), total


class FakeVllm:
    """One server on a port that it keeps over restarts. What it is to do wrong are plain attributes."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.port = 0
        self.api_key: str | None = None
        self.adapters: dict[str, str] = {}
        self.step_s = 0.0
        self.tokens_a_chunk = 1
        self.deaf_to_stops = False
        """It finds no stop string by itself."""
        self.load_lag_s = 0.0
        self.loads_held = False
        """It goes on loading until this is False again."""
        self.silent = False
        """It takes requests and says nothing."""
        self.completion_status = 200
        self.load_status = 200
        self.health_status = 200
        self.processed_logprobs = False
        self.dies_after_tokens: int | None = None
        """The next reply to come so far takes the server down, in mid-connection."""
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        """Path and body of every POST, in order."""
        self.replies_under_way: Counter[str] = Counter()
        self.most_under_way = 0
        self.aborted = 0
        self.paths: set[str] = set()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def under_way(self) -> int:
        return sum(self.replies_under_way.values())

    def posted(self, path: str) -> list[dict[str, Any]]:
        return [body for posted, body in self.bodies if posted == path]

    def replies_to(self, model: str) -> list[dict[str, Any]]:
        """The requests for replies of more than a probe's few tokens."""
        return [body for body in self.posted("/v1/completions") if body["model"] == model and body["max_tokens"] > 4]

    def start(self) -> None:
        routes = [
            Route("/health", self._health),
            Route("/v1/models", self._models),
            Route("/tokenize", self._tokenize, methods=["POST"]),
            Route("/v1/completions", self._completions, methods=["POST"]),
            Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
            Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
        ]
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(Starlette(routes=routes), log_config=None, lifespan="off", timeout_graceful_shutdown=0)
        self._server = uvicorn.Server(config)
        server = self._server

        def run() -> None:
            server.run(sockets=[listener])
            listener.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """As a crash: connections break, adapters are forgotten."""
        assert self._server is not None and self._thread is not None
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.adapters.clear()
        self.replies_under_way.clear()

    def restart(self) -> None:
        self.kill()
        self.start()

    async def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        self.bodies.append((request.url.path, body))
        return body

    def _refusal(self, request: Request) -> Response | None:
        self.paths.add(request.url.path)
        guarded = self.api_key is not None and request.url.path.startswith("/v1")
        if guarded and request.headers.get("authorization") != f"Bearer {self.api_key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        return None

    async def _health(self, request: Request) -> Response:
        return self._refusal(request) or Response(status_code=self.health_status)

    async def _models(self, request: Request) -> Response:
        cards: list[dict[str, Any]] = [{"id": BASE, "root": BASE, "parent": None, "max_model_len": LONGEST_TOKENS}]
        cards += [{"id": name, "root": path, "parent": BASE} for name, path in self.adapters.items()]
        return self._refusal(request) or JSONResponse({"object": "list", "data": cards})

    async def _tokenize(self, request: Request) -> Response:
        body = await self._body(request)
        ids = self.tokenizer.encode(body["prompt"], add_special_tokens=False)
        return JSONResponse({"tokens": ids, "count": len(ids), "max_model_len": LONGEST_TOKENS})

    async def _load(self, request: Request) -> Response:
        body = await self._body(request)
        if refusal := self._refusal(request):
            return refusal
        await asyncio.sleep(self.load_lag_s)
        while self.loads_held:
            await asyncio.sleep(0.01)
        if self.load_status != 200:
            return _error("LoRA rank 64 is greater than max_lora_rank 8.", self.load_status)
        if body["lora_name"] in self.adapters and not body.get("load_inplace"):
            return _error(f"The lora adapter '{body['lora_name']}' has already been loaded.", 400)
        self.adapters[body["lora_name"]] = body["lora_path"]
        return PlainTextResponse("Success")

    async def _unload(self, request: Request) -> Response:
        body = await self._body(request)
        if refusal := self._refusal(request):
            return refusal
        body["under_way"] = self.replies_under_way[body["lora_name"]]
        if self.adapters.pop(body["lora_name"], None) is None:
            return _error(f"The lora adapter '{body['lora_name']}' cannot be found.", 404)
        return PlainTextResponse("Success")

    async def _completions(self, request: Request) -> Response:
        body = await self._body(request)
        if refusal := self._refusal(request):
            return refusal
        if self.completion_status != 200:
            return _error("planted", self.completion_status)
        if body["model"] != BASE and body["model"] not in self.adapters:
            return _error(f"The model `{body['model']}` does not exist.", 404)
        if len(body["prompt"]) + body["max_tokens"] > LONGEST_TOKENS:
            return _error("too long", 400)
        return StreamingResponse(self._events(request, body), media_type="text/event-stream")

    async def _events(self, request: Request, body: dict[str, Any]) -> AsyncIterator[bytes]:
        model, context, ended = body["model"], list(body["prompt"]), False
        self.replies_under_way[model] += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        chunk: list[tuple[int, float]] = []
        try:
            while not ended:
                while self.silent:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(self.step_s)
                token = next_token(model, context)
                chunk.append((token, 0.0 if self.processed_logprobs else logprob_of(model, context)))
                context.append(token)
                drawn = len(context) - len(body["prompt"])
                if drawn == self.dies_after_tokens and body["max_tokens"] > 4:
                    self.dies_after_tokens = None
                    threading.Thread(target=self.restart, daemon=True).start()
                    await asyncio.sleep(60)
                text = self.tokenizer.decode(context[len(body["prompt"]) :])
                stops = [] if self.deaf_to_stops else body["stop"]
                stopped = token in body["stop_token_ids"] or any(stop in text for stop in stops)
                reason = "stop" if stopped else "length" if drawn == body["max_tokens"] else None
                ended = reason is not None
                if ended or len(chunk) == self.tokens_a_chunk:
                    yield _event(model, chunk, reason)
                    chunk = []
            yield b"data: [DONE]\n\n"
        finally:
            self.replies_under_way[model] -= 1
            self.aborted += not ended


def _event(model: str, chunk: list[tuple[int, float]], reason: str | None) -> bytes:
    choice = {
        "index": 0,
        "text": "",
        "logprobs": {"token_logprobs": [logprob for _, logprob in chunk]},
        "finish_reason": reason,
        "token_ids": [token for token, _ in chunk],
    }
    return f"data: {json.dumps({'model': model, 'choices': [choice]})}\n\n".encode()


def _error(message: str, status: int) -> Response:
    headers = {"retry-after": "7"} if status in (429, 503) else {}
    return JSONResponse({"error": {"message": message, "type": "planted", "code": status}}, status, headers=headers)
