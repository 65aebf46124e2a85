"""The peer of the load, run as `python -m benchmarks._bare_server --data DIR`: the least that could be done.

A bare FastAPI over the engine of words: a route that streams them in OpenAI's chunks and stores nothing, and one that
puts a vote into SQLite with a commit of its own. No attribution, no consent, no receipts that can be looked up, no
dashboard. Prints {"port": …} when it listens.
"""

import argparse
import json
import socket
import sqlite3
import threading
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from benchmarks._word_engine import WordEngine
from feedback_store.records import Message, Sampling
from serving.engine import ReplyDelta, ReplyRequest


class Chat(BaseModel):
    """A chat request."""

    messages: list[Message]
    max_tokens: int = 64
    user: str = ""
    stream: bool = True
    metadata: dict[str, Any] = {}


class Vote(BaseModel):
    """A vote."""

    rater: str
    reply_id: str
    thumb: str | None


def app_of(data: Path, engine: WordEngine) -> FastAPI:
    """The two routes."""
    database = sqlite3.connect(data / "votes.db", check_same_thread=False, isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL"):
        database.execute(statement)
    database.execute("CREATE TABLE votes (number INTEGER PRIMARY KEY, rater TEXT, reply_id TEXT, thumb TEXT)")
    lock, app = threading.Lock(), FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(body: Chat) -> StreamingResponse:
        _, prompt_ids = engine.render(tuple(body.messages))
        stream = engine.start(ReplyRequest(prompt_ids, Sampling(max_tokens=body.max_tokens)))
        reply_id = uuid.uuid4().hex

        def event(delta: dict[str, str], reason: str | None = None, **more: Any) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
            head = {"id": reply_id, "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
            return f"data: {json.dumps({**head, **more}, separators=(',', ':'))}\n\n"

        async def events() -> AsyncIterator[str]:
            yield event({"role": "assistant", "content": ""})
            async for one in stream:
                if isinstance(one, ReplyDelta):
                    yield event({"content": one.text})
                else:
                    yield event({}, one.finish_reason, thumbwise={"reply_ids": [reply_id]})
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.post("/v1/feedback")
    def vote(body: Vote) -> dict[str, Any]:
        with lock:
            row = (body.rater, body.reply_id, body.thumb)
            number = database.execute("INSERT INTO votes (rater, reply_id, thumb) VALUES (?, ?, ?)", row).lastrowid
        return {"feedback_id": number, "duplicate": False}

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--step-s", type=float, default=0.0)
    parser.add_argument("--words", type=int, default=8)
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    app = app_of(arguments.data, WordEngine(length=arguments.words, step_s=arguments.step_s))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_keep_alive=30)).run([listener])


if __name__ == "__main__":
    main()
