"""Telegram on the wire, as far as a bot can tell: HTTP, long polls, offsets, redelivery, limits, 429, webhooks.

It keeps chats as Telegram does and refuses what Telegram refuses (4,096 UTF-16 units, 64 bytes of button data, an edit
that changes nothing, entities outside their text). Updates are confirmed by the offset of the next request alone, and
come again until then. Every update and every message it hands out is checked with aiogram's models in `checked`.
People write, press and react through `Person`.
"""

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from typing import Any
from urllib.parse import parse_qsl

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.canaries import said
from tests.waiting import PATIENCE_S, until

Json = dict[str, Any]
BOT_ID = 123456789
TOKEN = f"{BOT_ID}:AAtoken-of-the-wire-tests-canary-12345"
BOT = {"id": BOT_ID, "is_bot": True, "first_name": "Thumbwise", "username": "thumbwise_test_bot"}
LOOK_EVERY_S = 0.05

"""How long a condition is waited for: the machine may be busy with other things."""


class Refused(Exception):
    """What Telegram answers with another status than 200."""

    def __init__(self, status: int, description: str, retry_after_s: float | None = None) -> None:
        super().__init__(description)
        self.status, self.description, self.retry_after_s = status, description, retry_after_s


def checked(kind: str, value: Json) -> Json:
    """Return a value that an author other than ours holds for one of Telegram's ("Update", "Message")."""
    from aiogram import types

    getattr(types, kind).model_validate(value, context={"bot": None})
    return value


@dataclass(slots=True)
class Call:
    """One request of the bot."""

    method: str
    values: Json
    at: float
    refused: bool = False


class Wire:
    """The state of the fake. Thread-safe: tests speak to it from their thread, the bot over HTTP."""

    def __init__(self, *, validate: bool = True) -> None:
        self.condition = threading.Condition()
        self.calls: list[Call] = []
        self.keep_calls = True
        self.counts: Counter[str] = Counter()
        self.messages: dict[tuple[int, int], Json] = {}
        self.documents: list[tuple[int, bytes]] = []
        self.answers: dict[str, Json] = {}
        """Press → how the bot answered it."""
        self.answered_at: dict[str, float] = {}
        self.confirmed = 0
        """Updates below this number are confirmed."""
        self.allowed: list[str] | None = None
        self.webhook: tuple[str, str] | None = None
        self.revoked = False
        self.floods: deque[tuple[str, float]] = deque()
        """Methods whose next call is answered with 429, and the seconds to wait."""
        self.lost_answers: Counter[str] = Counter()
        """Methods whose next calls are done, but whose answers do not arrive."""
        self.away = False
        """True: every request is answered with 502."""
        self.on_call: Callable[[Call], None] = lambda call: None
        self._validate = validate
        self._updates: deque[Json] = deque()
        self._next_update, self._next_message = 1, 1
        self._polls = 0
        self.closing = False
        self._wake: Callable[[], None] = lambda: None

    # What people do

    def push(self, kind: str, content: Json) -> int:
        """Hand the bot an update; returns its number."""
        with self.condition:
            number = self._next_update
            self._next_update += 1
            update = {"update_id": number, kind: content}
            if self._validate:
                checked("Update", update)
            self._updates.append(update)
        self._wake()
        return number

    def redeliver(self, number: int, kind: str, content: Json) -> None:
        """Hand out an update under a number that was used before."""
        with self.condition:
            self._updates.append({"update_id": number, kind: content})
        self._wake()

    def new_message(self, chat: Json, sender: Json, **values: Any) -> Json:
        """Make a message and keep it."""
        with self.condition:
            message_id = self._next_message
            self._next_message += 1
            message = {"message_id": message_id, "date": int(time.time()), "chat": chat, "from": sender, **values}
            self.messages[chat["id"], message_id] = message
            return message

    def sent_to(self, chat: int) -> list[Json]:
        """Return the bot's messages in a chat, as they are now, oldest first."""
        with self.condition:
            return [
                message
                for (where, _), message in sorted(self.messages.items())
                if where == chat and message["from"]["id"] == BOT_ID
            ]

    def calls_of(self, method: str) -> list[Call]:
        """Return the requests of one method."""
        with self.condition:
            return [call for call in self.calls if call.method == method.lower()]

    def wait(self, found: Callable[[], Any], what: str = "a condition", patience_s: float = PATIENCE_S) -> Any:
        """Wait until `found()` is true, and return it."""
        looks = patience_s / LOOK_EVERY_S
        with self.condition:
            while not (value := found()):
                # Counted in looks: time in which the whole machine stood still is nobody's failure.
                if not self.condition.wait(LOOK_EVERY_S) and (looks := looks - 1) < 0:
                    raise AssertionError(f"waited {patience_s:.0f} s in vain for {what}")
            return value

    # What the bot asks for

    async def handle(self, token: str, method: str, values: Json, files: list[bytes]) -> Any:
        """Answer one request."""
        call = Call(method.lower(), values, time.monotonic())
        with self.condition:
            if self.keep_calls:
                self.calls.append(call)
            self.counts[call.method] += 1
            if self.away:
                raise Refused(502, "Bad Gateway")
            if token != TOKEN or self.revoked:
                raise Refused(401, "Unauthorized")
            if self.floods and self.floods[0][0].lower() == call.method:
                call.refused = True
                _, wait_s = self.floods.popleft()
                raise Refused(429, f"Too Many Requests: retry after {wait_s}", wait_s)
        if call.method == "getupdates":
            return await self._get_updates(values)
        with self.condition:
            try:
                result = self._act(call, files)
            except Refused:
                call.refused = True
                raise
            finally:
                self.condition.notify_all()
            if self.lost_answers[call.method]:
                self.lost_answers[call.method] -= 1
                raise Refused(502, "Bad Gateway")
        self.on_call(call)
        return result

    def _act(self, call: Call, files: list[bytes]) -> Any:
        values = call.values
        match call.method:
            case "getme":
                return {**BOT, "can_join_groups": True, "can_read_all_group_messages": False,
                        "supports_inline_queries": False}  # fmt: skip
            case "sendmessage":
                return self._send(values)
            case "editmessagetext" | "editmessagereplymarkup":
                return self._edit(call.method, values)
            case "answercallbackquery":
                self.answers[values["callback_query_id"]] = values
                self.answered_at[values["callback_query_id"]] = call.at
                return True
            case "sendmessagedraft":
                if values["chat_id"] < 0 or not values["draft_id"]:
                    raise Refused(400, "Bad Request: drafts are for private chats")
                _fits(values.get("text", ""))
                return True
            case "senddocument":
                self.documents.append((values["chat_id"], files[0]))
                return self._send({"chat_id": values["chat_id"], "text": "(document)"})
            case "setwebhook":
                self.webhook = (values["url"], values["secret_token"])
                self.allowed = values.get("allowed_updates")
                return True
            case "deletewebhook":
                self.webhook = None
                return True
            case "sendchataction" | "setmycommands":
                return True
        raise Refused(404, "Not Found")

    async def _get_updates(self, values: Json) -> list[Json]:
        if self.webhook is not None:
            raise Refused(409, "Conflict: can't use getUpdates method while webhook is active")
        self._polls += 1  # the newest one goes on, one before it is cut off
        mine = self._polls
        self.allowed = values.get("allowed_updates", self.allowed)
        deadline = time.monotonic() + float(values.get("timeout", 0))
        while True:
            with self.condition:
                offset = int(values.get("offset", 0))
                while self._updates and self._updates[0]["update_id"] < offset:
                    self.confirmed = self._updates.popleft()["update_id"] + 1
                self.condition.notify_all()
                kinds = {"update_id", *(self.allowed or ())}
                ready = [update for update in self._updates if set(update) <= kinds][: values.get("limit", 100)]
            if mine != self._polls:
                raise Refused(409, "Conflict: terminated by other getUpdates request")
            if ready or self.closing or time.monotonic() >= deadline:
                return ready
            await asyncio.sleep(0.005)

    def _send(self, values: Json) -> Json:
        chat = self._chat(values["chat_id"])
        _fits(values["text"])
        if not values["text"].strip():
            raise Refused(400, "Bad Request: message text is empty")
        message = self.new_message(chat, dict(BOT), text=values["text"])
        _take(message, values, ("entities", "reply_markup"))
        if self._validate:
            checked("Message", message)
        return message

    def _edit(self, method: str, values: Json) -> Json:
        message = self.messages.get((values["chat_id"], values["message_id"]))
        if message is None or message["from"]["id"] != BOT_ID:
            raise Refused(400, "Bad Request: message to edit not found")
        before = json.dumps(message, sort_keys=True)
        if method == "editmessagetext":
            _fits(values["text"])
            message["text"] = values["text"]
            message.pop("entities", None)
        message.pop("reply_markup", None)
        _take(message, values, ("entities", "reply_markup"))
        if json.dumps(message, sort_keys=True) == before:
            raise Refused(400, "Bad Request: message is not modified")
        message["edit_date"] = int(time.time())
        return message

    def _chat(self, chat: int) -> Json:
        for (where, _), message in self.messages.items():
            if where == chat:
                return dict(message["chat"])
        return {"id": chat, "type": "private", "first_name": "Somebody"}


def _fits(text: str) -> None:
    if len(text.encode("utf-16-le")) // 2 > 4096:
        raise Refused(400, "Bad Request: message is too long")


def _take(message: Json, values: Json, names: tuple[str, ...]) -> None:
    for name in names:
        if values.get(name) not in (None, []):
            message[name] = values[name]
    units = len(message["text"].encode("utf-16-le")) // 2
    for entity in message.get("entities", ()):
        if entity["offset"] < 0 or entity["length"] < 1 or entity["offset"] + entity["length"] > units:
            raise Refused(400, "Bad Request: can't parse entities: out of the text")
    markup = message.get("reply_markup", {})
    for row in markup.get("inline_keyboard", ()):
        for key in row:
            if "callback_data" in key and not 1 <= len(key["callback_data"].encode()) <= 64:
                raise Refused(400, "Bad Request: BUTTON_DATA_INVALID")
    if "force_reply" in markup:
        del message["reply_markup"]  # a message as others see it does not hold it


@dataclass(slots=True)
class Person:
    """Somebody with a Telegram account."""

    wire: Wire
    user_id: int
    language: str = "en"
    chat: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chat = self.chat or {"id": self.user_id, "type": "private", "first_name": "Somebody"}

    @property
    def as_user(self) -> Json:
        """This person as Telegram shows them."""
        return {"id": self.user_id, "is_bot": False, "first_name": "Somebody", "language_code": self.language}

    def says(self, text: str, *, to: Json | None = None, **values: Any) -> Json:
        """Write a message, in reply `to` another one; commands and mentions are marked as Telegram marks them."""
        said(text)
        entities: list[Json] = []
        if text.startswith("/"):
            entities.append({"type": "bot_command", "offset": 0, "length": len(text.split(maxsplit=1)[0])})
        if (at := text.find(f"@{BOT['username']}")) >= 0 and not entities:
            entities.append({"type": "mention", "offset": at, "length": len(str(BOT["username"])) + 1})
        if entities:
            values["entities"] = entities
        if to is not None:
            values["reply_to_message"] = {key: value for key, value in to.items() if key != "reply_to_message"}
        message = self.wire.new_message(self.chat, self.as_user, text=text, **values)
        self.wire.push("message", message)
        return message

    def presses(self, message: Json, label: str) -> str:
        """Press the key whose label holds `label`, once it is there, and return the press's id."""
        key = self.wire.wait(
            lambda: next((one for one in keys(message) if label in one["text"]), None),
            f"a key {label!r} below {message['message_id']}",
        )
        return self.sends_data(message, key["callback_data"])

    def sends_data(self, message: Json, data: str) -> str:
        """Press a key with data of one's own choice, as a modified app can."""
        with self.wire.condition:
            press = f"press-{self.user_id}-{self.wire._next_update}"
        query = {"id": press, "from": self.as_user, "message": message, "chat_instance": "1", "data": data}
        self.wire.push("callback_query", query)
        return press

    def reacts(self, message: Json, before: str, now: str) -> int:
        """Change one's reaction to a message from `before` to `now`; "" is none."""
        content = {
            "chat": self.chat,
            "message_id": message["message_id"],
            "user": self.as_user,
            "date": int(time.time()),
            "old_reaction": [{"type": "emoji", "emoji": before}] if before else [],
            "new_reaction": [{"type": "emoji", "emoji": now}] if now else [],
        }
        return self.wire.push("message_reaction", content)

    def hears(self, count: int = 1) -> list[Json]:
        """Wait until the bot has sent `count` messages to this chat, and return them all."""
        chat = self.chat["id"]
        return list(
            self.wire.wait(
                lambda: found if len(found := self.wire.sent_to(chat)) >= count else None, f"{count} messages in {chat}"
            )
        )

    def is_answered(self, press: str) -> Json:
        """Wait until a press is answered, and return the answer."""
        return dict(self.wire.wait(lambda: self.wire.answers.get(press), f"the answer to {press}"))


def keys(message: Json) -> list[Json]:
    """Return a message's keys."""
    return [key for row in message.get("reply_markup", {}).get("inline_keyboard", []) for key in row]


def labels(message: Json) -> list[str]:
    """Return the labels of a message's keys."""
    return [key["text"] for key in keys(message)]


@contextlib.contextmanager
def wire_at_port(wire: Wire) -> Iterator[str]:
    """Serve the fake on a free loopback port; gives the Bot API's address up to the token."""

    async def answer(request: Request) -> Response:
        try:
            values, files = _read(request.headers.get("content-type", ""), await request.body())
            result = await wire.handle(request.path_params["token"], request.path_params["method"], values, files)
        except ClientDisconnect:
            return Response(status_code=499)  # the bot was killed in the middle of its request
        except Refused as refused:
            body: Json = {"ok": False, "error_code": refused.status, "description": refused.description}
            if refused.retry_after_s is not None:
                body["parameters"] = {"retry_after": refused.retry_after_s}
            return JSONResponse(body, refused.status)
        # Escaped, as Telegram writes it: half a character is a text too.
        return Response(json.dumps({"ok": True, "result": result}), media_type="application/json")

    app = Starlette(routes=[Route("/bot{token}/{method}", answer, methods=["GET", "POST"])])
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none", lifespan="off",
                            timeout_graceful_shutdown=1)  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started, "the fake Telegram to start")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/bot"
    finally:
        wire.closing = server.should_exit = True
        thread.join(10)


def post_to_webhook(wire: Wire, url: str, secret: str | None, update: Mapping[str, Any]) -> int:
    """Post an update as Telegram does, and return the status."""
    headers = {} if secret is None else {"X-Telegram-Bot-Api-Secret-Token": secret}
    return httpx.post(url, json=update, headers=headers, trust_env=False).status_code


def _read(kind: str, body: bytes) -> tuple[Json, list[bytes]]:
    """Read a form as the bot's library writes it: lists and objects are JSON within it."""
    if kind.startswith("multipart/"):
        parsed = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        values: Json = {}
        files: list[bytes] = []
        for part in parsed.walk():
            if part.is_multipart():
                continue
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            if part.get_filename():
                files.append(content)
            else:
                name = str(part.get_param("name", header="content-disposition"))
                values[name] = _value(name, content.decode())
        return values, files
    if kind.startswith("application/json"):
        return json.loads(body), []
    return {name: _value(name, text) for name, text in parse_qsl(body.decode(), keep_blank_values=True)}, []


NUMERIC = ("chat_id", "message_id", "draft_id", "offset", "timeout", "limit", "message_thread_id")
AS_JSON = ("entities", "reply_markup", "reply_parameters", "allowed_updates", "link_preview_options", "commands")


def _value(name: str, text: str) -> Any:
    if name in NUMERIC:
        return int(text)
    return json.loads(text) if name in AS_JSON else text
