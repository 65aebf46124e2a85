"""A TCP proxy that misbehaves on demand, between a server and its database.

    refuse()    connections under way are reset and new ones refused: the database's machine restarts
    silence()   everything is accepted and nothing passed on, either way: a paused pooler, a network cut in half
    delay_s     every piece waits that long: a slow way
    cut()       connections under way are reset once: a failover
    restore()   all is well again; what was held back in a silence is passed on late, as networks do

It runs on an event loop of its own in a thread, so that it keeps its promises while the caller blocks.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PIECE_BYTES = 65_536
PATIENCE_S = 10


class FaultProxy:
    """Listens on 127.0.0.1:`port` and passes on to a Unix socket, as long as it is asked to."""

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.delay_s = 0.0
        self.connections = 0
        """How many were accepted so far."""
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._do(self._listen())

    def refuse(self) -> None:
        """Reset what is under way, and listen no more."""
        self._do(self._refuse())

    def cut(self) -> None:
        """Reset what is under way; new connections are welcome."""
        self._do(self._cut())

    def silence(self) -> None:
        """Accept everything and pass nothing on."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def restore(self) -> None:
        """Be an honest proxy again, at the same port."""
        self.delay_s = 0.0
        self._do(self._restore())

    def close(self) -> None:
        """End every connection and the thread."""
        self._do(self._refuse())
        self._do(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _restore(self) -> None:
        self._flowing.set()
        if self._server is None:
            await self._listen()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        database: asyncio.StreamWriter | None = None
        try:
            answers, database = await asyncio.open_unix_connection(str(self._upstream))
            self._open.add(database)
            await asyncio.gather(self._pass_on(reader, database), self._pass_on(answers, writer))
        except (OSError, asyncio.CancelledError):
            pass  # one side is gone, or the proxy ends: so does the other side, below
        finally:
            for side in (writer, database):
                if side is not None:
                    self._open.discard(side)
                    side.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(PIECE_BYTES):
            await self._flowing.wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            sink.write(piece)
            await sink.drain()
        raise ConnectionResetError("this side has ended")  # so that the other direction ends too


@contextmanager
def fault_proxy(database_url: str) -> Iterator[tuple[FaultProxy, str]]:
    """A proxy before the PostgreSQL whose URL names a socket's folder (`…?host=FOLDER`), and the URL through it."""
    parts = urlsplit(database_url)
    folder = parse_qs(parts.query)["host"][0]
    proxy = FaultProxy(Path(folder) / ".s.PGSQL.5432")
    try:
        yield proxy, f"{parts.scheme}://{parts.username}@127.0.0.1:{proxy.port}{parts.path}"
    finally:
        proxy.close()
