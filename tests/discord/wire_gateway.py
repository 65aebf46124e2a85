"""The gateway of the fake Discord: HELLO, IDENTIFY, RESUME, heartbeats, and a connection that can be broken."""

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from tests.discord.wire_payloads import BOT, BOT_ID, GUILD_ID, TOKEN, Json, guild


@dataclass(slots=True)
class Session:
    """What the gateway remembers of one connection, and what it has told it."""

    session_id: str
    shard: tuple[int, int]
    events: list[Json] = field(default_factory=list)
    socket: web.WebSocketResponse | None = None


class Gateway:
    """Tells bots what happens. Thread-safe: tests speak to it from their thread, the bot over the network."""

    def __init__(self) -> None:
        self.condition = threading.Condition(threading.RLock())
        self.counts: Counter[str] = Counter()
        """identify, resume, heartbeat, refused_resume."""
        self.revoked = False
        self.repeat_on_resume = 0
        """Events before the break that come again with a RESUME: the bot had them, Discord does not know."""
        self.sessions: dict[str, Session] = {}
        self.url = ""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.door = asyncio.Event()
        """Closed, nobody is let in."""
        self.door.set()
        self._next_id = 1 << 50

    def new_id(self) -> int:
        """Return a number that is larger than every one before."""
        with self.condition:
            self._next_id += 1 << 22  # discord.py reads a time from the upper bits
            return self._next_id

    def break_connection(self, *, closed: bool = False) -> None:
        """Cut every connection, and let nobody in again before `mend`. `closed`: with a close frame of the gateway."""

        async def cut() -> None:
            self.door.clear()
            for session in self.sessions.values():
                socket, session.socket = session.socket, None
                if socket is None:
                    continue
                if closed:
                    await socket.close(code=4000)
                elif (transport := socket._req.transport if socket._req else None) is not None:
                    transport.abort()

        self._do(cut)

    def mend(self) -> None:
        """Let connections in again."""

        async def mend() -> None:
            self.door.set()

        self._do(mend)

    def forget_sessions(self) -> None:
        """Let every RESUME be refused: the bot must IDENTIFY again, and what happened meanwhile is not told."""

        async def forget() -> None:
            self.sessions.clear()

        self._do(forget)

    def emit(self, event: str, data: Json) -> None:
        """Tell every bot's connection whose shard it is of an event; one that is broken hears it after its RESUME."""
        told = json.loads(json.dumps(data))  # as it is now: a message may be edited before somebody is told of it

        async def tell() -> None:
            shard_of = int(told.get("guild_id") or 0) >> 22
            for session in list(self.sessions.values()):
                if shard_of % session.shard[1] == session.shard[0]:
                    await self._tell(session, event, told)

        self._do(tell)

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Speak with one connection until it ends."""
        await self.door.wait()
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"op": 10, "d": {"heartbeat_interval": 1_000}, "s": None, "t": None})
        async for frame in socket:
            if frame.type is WSMsgType.TEXT:
                await self._heard(socket, frame.json())
        for session in self.sessions.values():
            if session.socket is socket:
                session.socket = None
        return socket

    async def _heard(self, socket: web.WebSocketResponse, frame: Json) -> None:
        with self.condition:
            kind = {1: "heartbeat", 2: "identify", 6: "resume"}.get(frame["op"], "other")
            self.counts[kind] += 1
            self.condition.notify_all()
        if kind == "heartbeat":
            await socket.send_json({"op": 11, "d": None, "s": None, "t": None})
        elif kind == "identify":
            await self._identified(socket, frame["d"])
        elif kind == "resume":
            await self._resumed(socket, frame["d"])

    async def _identified(self, socket: web.WebSocketResponse, data: Json) -> None:
        if data["token"] != TOKEN or self.revoked:
            await socket.close(code=4004)
            return
        number, count = data.get("shard") or (0, 1)
        session = Session(f"session-{self.new_id()}", (number, count), socket=socket)
        self.sessions[session.session_id] = session
        mine = (GUILD_ID >> 22) % count == number
        ready = {
            "v": 10,
            "user": BOT,
            "session_id": session.session_id,
            "resume_gateway_url": f"ws{self.url[4:]}/resume",
            "guilds": [{"id": str(GUILD_ID), "unavailable": True}] if mine else [],
            "shard": [number, count],
            "application": {"id": str(BOT_ID), "flags": 0},
        }
        await self._tell(session, "READY", ready)
        if mine:
            await self._tell(session, "GUILD_CREATE", guild())

    async def _resumed(self, socket: web.WebSocketResponse, data: Json) -> None:
        session = self.sessions.get(data["session_id"])
        if session is None or data["token"] != TOKEN:
            self.counts["refused_resume"] += 1
            await socket.send_json({"op": 9, "d": False, "s": None, "t": None})
            return
        at = max(0, data["seq"] - self.repeat_on_resume)
        while at < len(session.events):  # looked at anew each time: something may happen while the old is told
            event, at = session.events[at], at + 1
            if event["t"] not in ("READY", "GUILD_CREATE"):
                await socket.send_json(event)
        session.socket = socket
        await self._tell(session, "RESUMED", {})

    async def _tell(self, session: Session, event: str, data: Json) -> None:
        frame = {"op": 0, "t": event, "s": len(session.events) + 1, "d": data}
        session.events.append(frame)
        if session.socket is not None:
            with contextlib.suppress(ConnectionError):
                await session.socket.send_json(frame)

    def _do(self, work: Callable[[], Any]) -> None:
        """Do something in the server's own thread, in the order in which it was asked for."""
        assert self.loop is not None, "the fake Discord does not run"
        asyncio.run_coroutine_threadsafe(work(), self.loop)
