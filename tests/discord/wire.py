"""Discord on the wire, as far as a bot can tell: the gateway (HELLO, IDENTIFY, RESUME, heartbeats) and REST.

What `simcord` cannot show, because it hands events to discord.py in its own process: a connection that breaks, events
that wait for it and come again after RESUME, a session that Discord has forgotten, 429 with a time to wait, an answer
that is lost on its way. REST refuses what Discord refuses: 2,000 characters (50035), a custom_id over 100 (50035), an
interaction after three seconds (10062) or answered twice (40060), messages that are gone (10008) or somebody else's
(50005). Text of people reaches the bot only as Discord gives it to one without the privileged intent.
"""

import asyncio
import contextlib
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.discord.wire_gateway import Gateway
from tests.discord.wire_payloads import (
    BOT,
    BOT_ID,
    COMPONENTS_V2,
    EPHEMERAL,
    GUILD_ID,
    TOKEN,
    Json,
    application,
    custom_ids,
    dm_channel,
    message,
    text_channel,
    user,
)
from tests.waiting import PATIENCE_S

LOOK_EVERY_S = 0.05
DEADLINE_S = 3.0
"""An interaction must be answered within this."""


class Refused(Exception):
    """What Discord answers with another status than 2xx."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.status, self.code = status, code


@dataclass(slots=True)
class Call:
    """One request of the bot."""

    method: str
    path: str
    body: Json
    at: float
    status: int = 0


@dataclass(slots=True)
class Flood:
    """The next request like this one is answered with 429."""

    method: str
    path: str
    """A regular expression."""
    retry_after_s: float


@dataclass(slots=True)
class Asked:
    """An interaction, and how the bot answered it."""

    payload: Json
    at: float
    answers: list[Json] = field(default_factory=list)
    original: int | None = None
    """The message that is its first answer."""


class Wire(Gateway):
    """The state of the fake."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.messages: dict[int, Json] = {}
        self.channels: dict[int, Json] = {int(text_channel()["id"]): text_channel()}
        self.asked: dict[str, Asked] = {}
        """Token of an interaction → the interaction."""
        self.floods: deque[Flood] = deque()
        self.lost_answers: deque[tuple[str, str]] = deque()
        """Method and path (a regular expression) of requests that are done and answered with 502 all the same."""
        self.shards = 1
        self._nonces: dict[str, int] = {}

    # What tests do

    def wait(self, found: Callable[[], Any], what: str = "a condition", patience_s: float = PATIENCE_S) -> Any:
        """Wait until `found()` is true, and return it."""
        looks = patience_s / LOOK_EVERY_S
        with self.condition:
            while not (value := found()):
                if not self.condition.wait(LOOK_EVERY_S) and (looks := looks - 1) < 0:
                    raise AssertionError(f"waited {patience_s:.0f} s in vain for {what}")
            return value

    def sent_to(self, channel: int) -> list[Json]:
        """Return the bot's messages in a channel, as they are now, oldest first. Ephemeral ones too."""
        with self.condition:
            of_bot = [found for found in self.messages.values() if found["author"]["id"] == str(BOT_ID)]
            return [found for found in of_bot if found["channel_id"] == str(channel)]

    def calls_of(self, method: str, path: str) -> list[Call]:
        """Return the requests whose path a regular expression matches."""
        with self.condition:
            return [call for call in self.calls if call.method == method and re.fullmatch(path, call.path)]

    def dm_of(self, user_id: int) -> int:
        """Return the channel of a person's direct messages."""
        with self.condition:
            for number, channel in self.channels.items():
                if channel["type"] == 1 and channel["recipients"][0]["id"] == str(user_id):
                    return number
            number = self.new_id()
            self.channels[number] = dm_channel(number, user_id)
            return number

    # REST

    async def rest(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        path = request.path.removeprefix("/api")
        call = Call(request.method, path, await _body(request), time.monotonic())
        known_by_path = path.startswith(("/webhooks/", "/interactions/"))
        with self.condition:
            self.calls.append(call)
            try:
                if not known_by_path and (request.headers.get("Authorization") != f"Bot {TOKEN}" or self.revoked):
                    raise Refused(401, 0, "401: Unauthorized")
                if self.floods and self._is(call, self.floods[0].method, self.floods[0].path):
                    return _too_many(call, self.floods.popleft().retry_after_s)
                result = self._act(call, "with_response" in request.query)
                if self.lost_answers and self._is(call, *self.lost_answers[0]):
                    self.lost_answers.popleft()
                    raise Refused(502, 0, "Bad Gateway")
            except Refused as refused:
                call.status = refused.status
                return _json({"code": refused.code, "message": str(refused)}, refused.status)
            finally:
                self.condition.notify_all()
        call.status = 204 if result is None else 200
        return web.Response(status=204) if result is None else _json(result, 200)

    def _is(self, call: Call, method: str, path: str) -> bool:
        return call.method == method and re.fullmatch(path, call.path) is not None

    def _act(self, call: Call, with_response: bool) -> Any:
        match [call.method, *call.path.strip("/").split("/")]:
            case ["GET", "users", "@me"]:
                return BOT
            case ["GET", "oauth2", "applications", "@me"]:
                return application()
            case ["GET", "gateway", *rest]:
                limit = {"total": 1000, "remaining": 999, "reset_after": 0, "max_concurrency": 1}
                return {"url": f"ws{self.url[4:]}", "shards": self.shards, "session_start_limit": limit} if rest else {}
            case ["POST", "users", "@me", "channels"]:
                return self.channels[self.dm_of(int(call.body["recipient_id"]))]
            case ["GET", "users", number]:
                return user(int(number))
            case ["GET", "channels", number]:
                return self._channel(number)
            case ["POST", "channels", number, "typing"]:
                self._channel(number)
                return None
            case ["POST", "channels", number, "messages"]:
                return self._send(int(self._channel(number)["id"]), call.body)
            case ["GET", "channels", _, "messages", number]:
                return self._message(number)
            case ["PATCH", "channels", _, "messages", number]:
                return self._edit(number, call.body)
            case ["DELETE", "channels", _, "messages", number]:
                self._delete(number)
                return None
            case ["POST", "interactions", _, token, "callback"]:
                return self._answer(self._asked(token), call.body, with_response)
            case ["POST", "webhooks", _, token]:
                return self._follow_up(self._asked(token), call.body)
            case ["PATCH" | "GET" | "DELETE", "webhooks", _, token, "messages", number]:
                asked = self._asked(token)
                found = str(asked.original) if number == "@original" else number
                if call.method == "DELETE":
                    self._delete(found)
                    return None
                return self._message(found) if call.method == "GET" else self._edit(found, call.body)
            case ["PUT" | "GET", "applications", _, *rest] if rest[-1:] == ["commands"]:
                listed: list[Json] = call.body.get("commands", [])
                return [{**one, "id": str(self.new_id()), "application_id": str(BOT_ID), "version": "1",
                         "default_member_permissions": None} for one in listed]  # fmt: skip
        raise Refused(404, 0, f"404: Not Found ({call.method} {call.path})")

    def _channel(self, number: str) -> Json:
        if (found := self.channels.get(int(number))) is None:
            raise Refused(404, 10003, "Unknown Channel")
        return found

    def _message(self, number: str) -> Json:
        if not number.isdigit() or (found := self.messages.get(int(number))) is None:
            raise Refused(404, 10008, "Unknown Message")
        return found

    def _send(self, channel: int, body: Json, flags: int = 0) -> Json:
        _check(body)
        nonce = f"{channel} {body.get('nonce')}"
        if body.get("enforce_nonce") and nonce in self._nonces:
            return self.messages[self._nonces[nonce]]
        values: Json = {"components": body.get("components") or [], "flags": int(body.get("flags") or 0) | flags}
        if "type" in self.channels[channel] and self.channels[channel]["type"] != 1:
            values["guild_id"] = str(GUILD_ID)
        if body.get("nonce") is not None:
            values["nonce"] = body["nonce"]
        if reference := body.get("message_reference"):
            values |= {"type": 19, "message_reference": {**reference, "channel_id": str(channel)}}
        sent = message(self.new_id(), channel, BOT, body.get("content") or "", **values)
        self.messages[int(sent["id"])] = sent
        self._nonces[nonce] = int(sent["id"])
        if not sent["flags"] & EPHEMERAL:
            self.emit("MESSAGE_CREATE", sent)
        return sent

    def _edit(self, number: str, body: Json) -> Json:
        found = self._message(number)
        if found["author"]["id"] != str(BOT_ID):
            raise Refused(403, 50005, "Cannot edit a message authored by another user")
        _check({"content": found["content"], **body})
        for name in ("content", "components"):
            if name in body:
                found[name] = body[name] or ("" if name == "content" else [])
        return found

    def _delete(self, number: str) -> None:
        del self.messages[int(self._message(number)["id"])]

    def _asked(self, token: str) -> Asked:
        if (found := self.asked.get(token)) is None:
            raise Refused(404, 10062, "Unknown interaction")
        return found

    def _answer(self, asked: Asked, body: Json, with_response: bool) -> Any:
        if asked.answers:
            raise Refused(400, 40060, "Interaction has already been acknowledged.")
        if time.monotonic() - asked.at > DEADLINE_S:
            raise Refused(404, 10062, "Unknown interaction")
        data, channel = body.get("data") or {}, int(asked.payload["channel"]["id"])
        if body["type"] == 4:
            asked.original = int(self._send(channel, data)["id"])
        elif body["type"] == 7:
            asked.original = int(self._edit(asked.payload["message"]["id"], data)["id"])
        elif body["type"] == 6:
            asked.original = int(asked.payload["message"]["id"])
        asked.answers.append(body)
        if not with_response:
            return None
        told: Json = {"interaction": {"id": asked.payload["id"], "type": asked.payload["type"]}}
        if asked.original is not None and body["type"] in (4, 7):
            told["resource"] = {"type": body["type"], "message": self.messages[asked.original]}
        return told

    def _follow_up(self, asked: Asked, body: Json) -> Json:
        if not asked.answers:
            raise Refused(404, 10015, "Unknown Webhook")
        waits = asked.original is None and asked.answers[0]["type"] == 5
        flags = int((asked.answers[0].get("data") or {}).get("flags") or 0) if waits else 0
        sent = self._send(int(asked.payload["channel"]["id"]), body, flags)
        asked.original = int(sent["id"]) if waits else asked.original
        return sent


def _check(body: Json) -> None:
    if len(body.get("content") or "") > 2000:
        raise Refused(400, 50035, "Invalid Form Body: content must be 2000 or fewer in length")
    if int(body.get("flags") or 0) & COMPONENTS_V2 and body.get("content"):
        raise Refused(400, 50035, "Invalid Form Body: content cannot be used with components of version 2")
    if any(not 1 <= len(found) <= 100 for found in custom_ids(body.get("components") or [])):
        raise Refused(400, 50035, "Invalid Form Body: custom_id must be between 1 and 100 in length")


async def _body(request: web.Request) -> Json:
    if request.content_type.startswith("multipart/"):
        found = (await request.post()).get("payload_json")
        return json.loads(found) if isinstance(found, str) else {}
    told = json.loads(await request.text() or "{}")
    return {"commands": told} if isinstance(told, list) else told


def _json(value: Any, status: int, **headers: str) -> web.Response:
    # discord.py reads JSON only where the type is this and nothing else, no charset behind it.
    return web.Response(
        body=json.dumps(value).encode(), status=status, content_type="application/json", headers=headers
    )


def _too_many(call: Call, retry_after_s: float) -> web.Response:
    call.status = 429
    body = {"message": "You are being rate limited.", "retry_after": retry_after_s, "global": False}
    # Without "Via" discord.py takes a 429 for a ban by the network in front of Discord.
    return _json(body, 429, Via="1.1 wire", **{"Retry-After": str(retry_after_s), "X-RateLimit-Scope": "user"})


@contextlib.contextmanager
def wire_at_port(wire: Wire) -> Iterator[str]:
    """Serve the fake on a free loopback port; gives its address, REST at /api and the gateway at /."""
    started = threading.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/api/{tail:.*}", wire.rest)
        app.router.add_get("/", wire.connect)
        app.router.add_get("/resume", wire.connect)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        wire.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(serve())
        wire.loop = loop
        started.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if not started.wait(PATIENCE_S):
        raise AssertionError("the fake Discord did not start")
    try:
        yield wire.url
    finally:
        loop.call_soon_threadsafe(wire.door.set)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
