"""What the API costs around a reply: admission, attribution, the store's commit, the answer.

The engine answers at once with eight words, so all that is measured is ours: HTTP, validation, rendering, the durable
row that makes the reply's id a receipt. Requests arrive at a fixed rate whether or not earlier ones are answered (open
loop), and the time counts from when a request was due: a server that stalls is not spared the requests it kept waiting.
The peer is the least that could be done: a bare FastAPI route that answers a fixed completion and stores nothing.

    make bench-gateway ARGS="--rate 200 --seconds 20"
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._server_process import running_server
from benchmarks._vote_client import Connection
from benchmarks.report import Row, report

CONNECTIONS = 32
BODY = {"messages": [{"role": "user", "content": "What shall we cook tonight?"}], "max_tokens": 16, "user": "bench"}
BARE = """
import sys, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
app = FastAPI()
class Request(BaseModel):
    messages: list[dict[str, str]]
    max_tokens: int = 16
    user: str = ""
@app.post("/v1/chat/completions")
async def chat(request: Request):
    text = "bird boat stove kettle song rain roof cat"
    return {"id": "fixed", "object": "chat.completion", "created": 0, "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


async def drive(port: int, rate: int, seconds: float) -> list[float]:
    """Ask `rate` times a second for `seconds`; return the milliseconds from due to answered, in order of arrival."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await Connection.open(port))
    taken_ms: list[float] = []

    async def ask(due: float) -> None:
        connection = await free.get()
        await connection.post("/v1/chat/completions", BODY)
        free.put_nowait(connection)
        taken_ms.append(1000 * (time.perf_counter() - due))

    began_at = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for place in range(int(rate * seconds)):
            due = began_at + place / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(ask(due))
    while not free.empty():
        await free.get_nowait().close()
    return taken_ms


def quantiles(taken_ms: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    ordered = sorted(taken_ms)
    return statistics.median(ordered), ordered[int(0.99 * len(ordered))]


async def _when_listening(port: int) -> None:
    for _ in range(200):
        try:
            await (await Connection.open(port)).close()
            return
        except OSError:
            await asyncio.sleep(0.05)
    raise RuntimeError("the bare server did not start")


def bare(rate: int, seconds: float, port: int) -> tuple[float, float]:
    """The same load on the bare route."""
    server = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    try:
        asyncio.run(_when_listening(port))
        asyncio.run(drive(port, rate, 2))
        return quantiles(asyncio.run(drive(port, rate, seconds)))
    finally:
        server.terminate()
        server.wait(20)


def ours(rate: int, seconds: float) -> tuple[float, float]:
    """The load on the real application, over SQLite."""
    with tempfile.TemporaryDirectory(prefix="thumbwise-bench-") as data, running_server(Path(data)) as server:
        asyncio.run(drive(server.port, rate, 2))
        return quantiles(asyncio.run(drive(server.port, rate, seconds)))


def main() -> None:
    """Run, print, write benchmarks/results/gateway.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    from benchmarks._vllm_server import free_port

    runs = [
        (ours(options.rate, options.seconds), bare(options.rate, options.seconds, free_port()))
        for _ in range(options.repeats)
    ]
    our_half, our_most = (statistics.median(run[0][place] for run in runs) for place in (0, 1))
    bare_half, bare_most = (statistics.median(run[1][place] for run in runs) for place in (0, 1))
    report(
        "gateway",
        [
            Row(f"half of the replies at {options.rate}/s within", our_half, bare_half, unit="ms"),
            Row(f"99 % of the replies at {options.rate}/s within", our_most, bare_most, unit="ms"),
        ],
        "POST /v1/chat/completions with an engine that answers at once; each reply's row is on disk before its answer. "
        "Open loop, client on the same machine, times from when a request was due. Peer: a bare FastAPI route that "
        f"returns a constant and stores nothing. Median of {options.repeats} runs of {options.seconds:.0f} s.",
    )


if __name__ == "__main__":
    main()
