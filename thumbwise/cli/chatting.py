"""`thumbwise chat`: talk to the live policy in a terminal, and rate what it says."""

import getpass
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import click

from thumbwise.cli.connection import connect, server_options
from thumbwise.cli.say import to_stderr, to_stdout

if TYPE_CHECKING:
    from thumbwise.client import StreamEnd, Thumbwise

HELP = "/up · /down [reason] · /undo rate the last reply   /new begins anew   /quit ends"


@click.command("chat")
@click.option("--user", default=None, help="Your name as a rater; without it, that of your login.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="0 is greedy. Without it: as the server says.")
@click.option("--max-tokens", type=click.IntRange(1), help="Longest reply.")
@click.option("--once", metavar="TEXT", help="Ask this one question, print the reply, and end.")
@server_options
def chat(
    user: str | None,
    temperature: float | None,
    max_tokens: int | None,
    once: str | None,
    data_dir: Path,
    url: str | None,
) -> None:
    """Chat with the live policy; rate its replies with /up and /down."""
    options: dict[str, float | int] = {}
    if temperature is not None:
        options["temperature"] = temperature
    if max_tokens is not None:
        options["max_tokens"] = max_tokens
    with connect(data_dir, url) as client:
        talk = Talk(client, user or _login(), options)
        if once is not None:
            talk.say(once)
            return
        to_stderr().print(f"[dim]{HELP}[/]")
        while (line := _read_line()) is not None:
            if line in ("/quit", "/exit"):
                return
            if line:
                talk.take(line)


class Talk:
    """One person's chat: the messages so far and the last reply's receipt."""

    def __init__(self, client: "Thumbwise", user: str, options: dict[str, float | int]) -> None:
        self._client, self._user, self._options = client, user, options
        self._begin()

    def _begin(self) -> None:
        self._messages: list[dict[str, str]] = []
        self._conversation_id = uuid.uuid4().hex
        self._last_reply_id: str | None = None

    def take(self, line: str) -> None:
        """Follow a command, or say a line to the policy."""
        command, _, rest = line.partition(" ")
        match command:
            case "/up":
                self._rate("up", rest)
            case "/down":
                self._rate("down", rest)
            case "/undo":
                self._rate(None, "")
            case "/new":
                self._begin()
                to_stderr().print("[dim]a new conversation[/]")
            case _ if command.startswith("/"):
                to_stderr().print(f"[dim]{HELP}[/]")
            case _:
                self.say(line)

    def say(self, line: str) -> None:
        """Send a message and print the reply as it grows."""
        from thumbwise.client import StreamPiece

        messages = [*self._messages, {"role": "user", "content": line}]
        text = ""
        stream = self._client.stream(
            messages,
            user=self._user,
            conversation_id=self._conversation_id,
            **self._options,  # type: ignore[arg-type]
        )
        for value in stream:
            if isinstance(value, StreamPiece):
                text += value.text
                click.echo(value.text, nl=False)
            else:
                self._end(value)
        self._messages = [*messages, {"role": "assistant", "content": text}]

    def _end(self, end: "StreamEnd") -> None:
        click.echo()
        self._last_reply_id = end.reply_ids[0] if end.reply_ids else None
        cut = ", cut at the token limit" if end.finish_reasons[:1] == ("length",) else ""
        to_stderr().print(f"[dim]version {end.policy_version}{cut}[/]")

    def _rate(self, thumb: str | None, reason: str) -> None:
        if self._last_reply_id is None:
            to_stderr().print("There is no reply to rate yet.")
            return
        self._client.thumb(self._last_reply_id, thumb, rater=self._user, reason=reason or None)  # type: ignore[arg-type]
        to_stdout().print({"up": "👍 kept", "down": "👎 kept", None: "taken back"}[thumb])


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "terminal"


def _read_line() -> str | None:
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        click.echo()
        return None
