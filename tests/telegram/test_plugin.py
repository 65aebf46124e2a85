"""The plug-in beside a host's own bot.py, without the server's libraries; and every example of docs/telegram.md."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from feedback_store.feedback import recent_feedback
from feedback_store.replies import recent_replies
from tests.lean import host_command, lean_environment, lean_variables
from tests.telegram.conftest import decline
from tests.telegram.wire import BOT, TOKEN, Person, Wire, labels
from tests.web.parts import Site

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "telegram.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def example(containing: str, language: str = "python") -> str:
    (found,) = [block for block in blocks(language) if containing in block]
    return str(found)


@contextmanager
def host(tmp_path: Path, code: str, site: Site, telegram_url: str, wire: Wire) -> Iterator[None]:
    """Run a host's program beside modules of its own that are named like ours, and wait until it asks for updates."""
    code = code.replace("http://127.0.0.1:8080", site.url)
    code = code.replace(
        '.token(os.environ["BOT_TOKEN"])', f'.token(os.environ["BOT_TOKEN"]).base_url("{telegram_url}")'
    )
    environment = lean_variables(lean_environment(tmp_path / "lean", "telegram"), BOT_TOKEN=TOKEN)
    with (tmp_path / "host.log").open("wb") as log:
        process = subprocess.Popen(
            host_command(tmp_path / "host", code),
            cwd=tmp_path / "host",
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            # A cold start on a busy machine reads a thousand files first.
            wire.wait(lambda: wire.counts["getupdates"] or process.poll() is not None, "the host's bot", 90)
            yield
            assert process.poll() is None, (tmp_path / "host.log").read_text()
        finally:
            process.terminate()
            process.wait(30)
    assert "Traceback" not in (tmp_path / "host.log").read_text()


def test_the_plug_in_answers_in_somebody_elses_application_without_torch_or_sqlalchemy(
    tmp_path: Path, site: Site, wire: Wire, telegram_url: str, anna: Person
) -> None:
    decline(site, anna)
    with host(tmp_path, example("attach(application, AsyncThumbwise("), site, telegram_url, wire):
        anna.says("echo: from a plug-in")
        (reply,) = anna.hears()
        assert reply["text"] == "from a plug-in" and "👍" in labels(reply)
        anna.is_answered(anna.presses(reply, "👍"))
        wire.wait(lambda: "✅ 👍" in labels(reply), "the tick")
        anna.reacts(reply, "", "👎")
        wire.wait(lambda: "✅ 👎" in labels(reply), "the other tick")
    assert [one.act.thumb for one in site.store.read(recent_feedback, 10)] == ["down", "up"]


def test_a_host_that_replies_itself_gets_rating_keys_and_attribution_and_nothing_else(
    tmp_path: Path, site: Site, wire: Wire, telegram_url: str, anna: Person
) -> None:
    with host(tmp_path, example('mode="host"'), site, telegram_url, wire):
        anna.says("echo: the host's own reply")
        (reply,) = anna.hears()
        assert (reply["text"], labels(reply)) == ("the host's own reply", ["👍", "👎"])
        anna.is_answered(anna.presses(reply, "👎"))
        wire.wait(lambda: "✅ 👎" in labels(reply) and "Wrong" in labels(reply), "the tick and the reasons")
        anna.says("/privacy")
        anna.says("echo: after a command that is not ours")
        assert [message["text"] for message in anna.hears(2)][1] == "after a command that is not ours"
    (act,) = site.store.read(recent_feedback, 10)
    assert act.act.reply_id == site.store.read(recent_replies, 2)[1].reply_id
    assert wire.counts["setmycommands"] == wire.counts["sendmessagedraft"] == 0
    assert BOT["id"] not in [message["chat"]["id"] for message in wire.sent_to(anna.user_id)]


@pytest.mark.parametrize("containing", ["from openai import", "curl -sS"])
def test_the_examples_over_http_alone_work_as_they_stand(tmp_path: Path, site: Site, containing: str) -> None:
    language = "python" if "openai" in containing else "sh"
    code = example(containing, language)
    assert len([line for line in code.splitlines() if line.strip() and not line.startswith("#")]) <= 20
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
    environment = {**os.environ, "THUMBWISE_URL": site.url, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"duplicate":false' in done.stdout.replace(" ", "").lower().replace("'", '"')
    thumbs = [one.act.thumb for one in site.store.read(recent_feedback, 10)]
    assert thumbs == (["up"] if language == "python" else [None, "down", "up"])
