"""Every example of docs/discord.md as it stands: a host's program over the wire, without the server's libraries."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feedback_store.feedback import recent_feedback
from feedback_store.replies import recent_replies
from tests.discord.conftest import TOKEN
from tests.discord.wire import Wire, wire_at_port
from tests.discord.wire_payloads import labels
from tests.discord.wire_people import Person
from tests.lean import host_command, lean_environment, lean_variables
from tests.web.parts import Site

PAGE = (Path(__file__).parents[2] / "docs" / "discord.md").read_text(encoding="utf-8")
AT_THE_WIRE = """
import discord.gateway, discord.http, yarl
discord.http.Route.BASE = "{url}/api"
discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL("ws{rest}")
"""


def example(containing: str) -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


@contextmanager
def host(tmp_path: Path, code: str, site: Site) -> Iterator[Wire]:
    """Run a host's program, and wait until it is connected."""
    lean = lean_environment(tmp_path / "lean", "discord")
    environment = lean_variables(lean, BOT_TOKEN=TOKEN, THUMBWISE_URL=site.url)
    wire = Wire()
    with wire_at_port(wire) as url, (tmp_path / "host.log").open("wb") as log:
        command = host_command(tmp_path / "host", AT_THE_WIRE.format(url=url, rest=url[4:]) + code)
        process = subprocess.Popen(command, cwd=tmp_path / "host", env=environment, stdout=log, stderr=log)
        try:
            wire.wait(lambda: wire.sessions or process.poll() is not None, "the host's bot", 90)
            assert process.poll() is None, (tmp_path / "host.log").read_text()
            yield wire
        finally:
            process.terminate()
            process.wait(30)
    assert "Traceback" not in (tmp_path / "host.log").read_text()


def test_the_plug_in_answers_in_somebody_elses_bot(tmp_path: Path, site: Site) -> None:
    with host(tmp_path, example('load_extension("thumbwise.discord")'), site) as wire:
        anna = Person(wire, 41)
        anna.says("echo: from a plug-in")
        *_, reply = anna.hears(2)  # the first asks for consent
        wire.wait(lambda: labels(reply), "the buttons")
        assert reply["content"] == "from a plug-in"
        anna.is_answered(anna.presses(reply, "👍"))
        wire.wait(lambda: "✅ 👍" in labels(reply), "the tick")
        anna.reacts(reply, "👎")
        wire.wait(lambda: len(site.store.read(recent_feedback, 10)) == 2, "the other vote")
    assert [one.act.thumb for one in site.store.read(recent_feedback, 10)] == ["down", "up"]


def test_a_host_that_replies_itself_gets_buttons_and_attribution_and_nothing_else(tmp_path: Path, site: Site) -> None:
    with host(tmp_path, example('load_extension("thumbwise.discord.host")'), site) as wire:
        anna = Person(wire, 41)
        anna.says("echo: the host's own reply")
        (reply,) = anna.hears()
        assert (reply["content"], labels(reply)) == ("the host's own reply", ["👍", "👎"])
        anna.is_answered(anna.presses(reply, "👎"))
        wire.wait(lambda: "✅ 👎" in labels(reply), "the tick")
        assert not wire.calls_of("PUT", ".*"), "commands were told to Discord"
    (vote,) = site.store.read(recent_feedback, 10)
    assert vote.act.reply_id == site.store.read(recent_replies, 1)[0].reply_id
