"""The Telegram bot against a Telegram that others wrote: npm's telegram-test-api, in a process of its own.

Our own fake (`wire`) could share a mistake with the bot; this one knows nothing of us. It is small: it sends messages
with buttons, takes edits of text and buttons, and hands out messages, commands and presses. It cannot do the rest, and
answers 500 to it: chat actions, drafts, menus, documents, reactions, groups. It confirms an update when it hands it
out, keeps no order of offsets, and never asks to wait. So what is proven here is small as well: our requests are
understood by somebody else's server, and a chat with a vote comes through. `scripts/telegram_test_api.sh` installs it.
"""

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from telegram.request import HTTPXRequest

from bot.settings import TelegramSettings
from bot.telegram.process import TelegramBot, run_until
from feedback_store.feedback import recent_feedback
from tests.bots import RunningBot
from tests.telegram.wire import Json
from tests.waiting import until
from tests.web.parts import Site

HOME = Path(__file__).parents[2] / ".telegram-test-api"
TOKEN = "666666:AAtoken-of-the-independent-test-canary-67890"
"""A number as long as those of real tokens; its getMe says 666 to any."""
ANNA = 7_123
SERVER = """
const Server = require("telegram-test-api");
const server = new Server({ host: "127.0.0.1", port: Number(process.argv[1]), storeTimeout: 600 });
server.start().then(() => console.log("listening"));
process.stdin.on("end", () => process.exit(0)).resume();
"""

pytestmark = pytest.mark.skipif(
    not (HOME / ".installed").is_file(),
    reason="telegram-test-api is not here: scripts/telegram_test_api.sh installs it",
)


class SmoothedRequest(HTTPXRequest):
    """Adds to its answers what Telegram's have and python-telegram-bot insists on."""

    async def do_request(self, url: str, method: str, *args: Any, **values: Any) -> tuple[int, bytes]:
        status, content = await super().do_request(url, method, *args, **values)
        answer = json.loads(content)
        name = url.rpartition("/")[2].lower()
        if name == "getme":
            answer["result"]["is_bot"] = True
        elif name == "getupdates" and not answer["result"]:
            # It answers at once, where Telegram keeps the request open until there is something.
            await asyncio.sleep(0.05)
        elif isinstance(message := answer.get("result"), dict) and "date" in message:
            message["date"] //= 1000  # milliseconds
            message.pop("link_preview_options", None)  # what it was sent comes back as it was written in the form
        elif status == 200 and answer.get("result", 0) is None:
            answer["result"] = True
        for update in answer["result"] if name == "getupdates" else ():
            update.get("callback_query", {}).setdefault("chat_instance", "1")
        return status, json.dumps(answer).encode()


@dataclass(frozen=True, slots=True)
class Independent:
    """The other Telegram, seen by a person in one private chat."""

    url: str

    @property
    def _person(self) -> Json:
        return {"id": ANNA, "is_bot": False, "first_name": "Anna", "language_code": "en"}

    def says(self, text: str) -> None:
        """Write a message or a command."""
        message = {"botToken": TOKEN, "date": int(time.time()), "text": text, "from": self._person, "chat": self._chat}
        if text.startswith("/"):
            message["entities"] = [{"type": "bot_command", "offset": 0, "length": len(text)}]
        self._post("sendCommand" if text.startswith("/") else "sendMessage", message)

    @property
    def _chat(self) -> Json:
        return {"id": ANNA, "type": "private", "first_name": "Anna"}

    def presses(self, stored: Json, label: str) -> None:
        """Press the button whose label holds `label`."""
        shown = stored["message"]
        (data,) = [key["callback_data"] for key in keys(stored) if label in key["text"]]
        message = {"message_id": stored["messageId"], "date": int(time.time()), "chat": self._chat,
                   "text": shown["text"], "reply_markup": shown["reply_markup"],
                   "from": {"id": 666, "is_bot": True, "first_name": "Bot"}}  # fmt: skip
        press = {"botToken": TOKEN, "date": int(time.time()), "from": self._person, "message": message, "data": data}
        self._post("sendCallback", press)

    def hears(self) -> list[Json]:
        """Return what the bot sent, as it is now, oldest first."""
        found = self._post("getUpdatesHistory", {"token": TOKEN})["result"]
        return [stored for stored in found if "chat_id" in stored.get("message", {})]

    def _post(self, path: str, body: Json) -> Json:
        answer: Json = httpx.post(f"{self.url}/{path}", json=body, trust_env=False).raise_for_status().json()
        return answer


def keys(stored: Json) -> list[Json]:
    """Return the buttons below a message."""
    return [key for row in stored["message"].get("reply_markup", {}).get("inline_keyboard", []) for key in row]


@pytest.fixture
def independent(tmp_path: Path) -> Iterator[Independent]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    node = (HOME / "node").read_text().strip()
    environment = {**os.environ, "NODE_PATH": str(HOME / "node_modules")}
    process = subprocess.Popen(
        [node, "-e", SERVER, str(port)],
        cwd=HOME,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "listening\n"
        yield Independent(f"http://127.0.0.1:{port}")
    finally:
        process.stdin.close()  # it ends with its input, so it never outlives the tests
        process.wait(30)
        process.stdout.close()


@contextmanager
def bot_at(independent: Independent, site: Site, data: Path) -> Iterator[RunningBot]:
    settings = TelegramSettings(api_url=f"{independent.url}/bot", compare_share=0)
    bot = TelegramBot(data, site.url, settings, TOKEN)
    running = RunningBot(lambda stopping: run_until(bot, stopping))
    try:
        yield running
    finally:
        running.stop()
        assert running.error is None


def test_a_chat_and_a_vote_come_through_a_telegram_that_others_wrote(
    independent: Independent, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.telegram.process.HTTPXRequest", SmoothedRequest)
    with bot_at(independent, site, tmp_path / "bot"):
        independent.says("/privacy")
        (privacy,) = until(independent.hears, "the answer to a command")
        assert "keyed hash" in privacy["message"]["text"]
        independent.says("echo: Hello **there**.")
        consent, reply = until(lambda: independent.hears()[1:] if len(independent.hears()) >= 3 else None, "a reply")
        assert "learn" in consent["message"]["text"] and [key["text"] for key in keys(consent)]
        assert reply["message"]["text"] == "Hello there."
        assert reply["message"]["entities"] == [{"type": "bold", "offset": 6, "length": 5}]
        assert [key["text"] for key in keys(reply)][:2] == ["👍", "👎"]

        def now() -> list[str]:
            return [key["text"] for key in keys(independent.hears()[2])]

        independent.presses(reply, "👍")
        until(lambda: "✅ 👍" in now(), "the tick")
        independent.presses(independent.hears()[2], "👎")
        until(lambda: "✅ 👎" in now(), "the other tick")
    assert [one.act.thumb for one in site.store.read(recent_feedback, 10)] == ["down", "up"]
