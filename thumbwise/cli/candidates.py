"""`thumbwise candidates`: replies for people to rank.

Every prompt is kept by the server as soon as its replies are drawn, and a prompt of a batch is drawn for once. So a run
that was interrupted, even killed, goes on with the same command: there is no state here to lose.
"""

import json
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from thumbwise.cli.connection import connect, json_option, server_options
from thumbwise.cli.say import Failure, escaped, print_json, to_stderr, to_stdout

if TYPE_CHECKING:
    from thumbwise.client import Thumbwise


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt: where it stands, for people, and what is sent."""

    where: str
    prompt: Any = None
    reply_id: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a prompt: made, known, alike, or failed with a reason."""

    where: str
    outcome: str
    comparison_id: str | None = None
    distance: float | None = None
    drawn: int = 0
    reason: str | None = None


@click.command("candidates")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--from-store",
    type=click.IntRange(1, 2000),
    metavar="N",
    help="Instead of FILE: the newest N prompts of real conversations whose people consent.",
)
@click.option("--replies", default=3, show_default=True, type=click.IntRange(2, 4), help="Replies to each prompt.")
@click.option(
    "--batch",
    default="1",
    show_default=True,
    help="A prompt is drawn for once a batch: name another to draw again, with a newer version, say.",
)
@click.option("--temperature", default=1.0, show_default=True, type=click.FloatRange(0, 2, min_open=True))
@click.option("--max-tokens", type=click.IntRange(1), help="Most tokens of a reply. Without it: the server's default.")
@click.option(
    "--overlap",
    default=2,
    show_default=True,
    type=click.IntRange(1, 10),
    help="Annotators who are to rank each prompt's replies.",
)
@click.option("--at-once", default=2, show_default=True, type=click.IntRange(1, 32), help="Prompts under way together.")
@server_options
@json_option
def candidates(
    file: Path | None,
    from_store: int | None,
    replies: int,
    batch: str,
    temperature: float,
    max_tokens: int | None,
    overlap: int,
    at_once: int,
    data_dir: Path,
    url: str | None,
    as_json: bool,
) -> None:
    """Draw two to four varied replies to each prompt of FILE, for people to rank on the Annotate page.

    FILE has a prompt a line, or, as .jsonl, an object with `prompt` or `messages`. Replies that are alike are drawn
    again; prompts that give only alike ones are named. Everything is kept at once: after an interruption the same
    command goes on where it was.
    """  # fmt: skip
    if (file is None) == (from_store is None):
        raise click.UsageError("give a FILE of prompts, or --from-store N")
    wish: dict[str, Any] = {"replies": replies, "batch": batch, "temperature": temperature, "overlap": overlap}
    if max_tokens is not None:
        wish["max_tokens"] = max_tokens
    with connect(data_dir, url) as client:
        if file is not None:
            asked = read_prompts(file)
        else:
            asked = [Asked(f"reply {name}", reply_id=name) for name in client.candidate_prompts(from_store or 1)]
        answered = _ask_all(client, asked, wish, at_once)
    if as_json:
        print_json([asdict(one) for one in answered])
    else:
        _tell(answered)
    if any(one.outcome == "failed" for one in answered):
        raise SystemExit(1)


def read_prompts(path: Path) -> list[Asked]:
    """Read a file of prompts, each once. Raises Failure naming the line that cannot be read."""
    found: dict[str, Asked] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            prompt = _prompt(path, number, line) if path.suffix == ".jsonl" else line.strip()
            found.setdefault(json.dumps(prompt, sort_keys=True), Asked(f"line {number}", prompt))
    if not found:
        raise Failure(f"{path} holds no prompt; wanted one a line")
    return list(found.values())


def _prompt(path: Path, number: int, line: str) -> Any:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise Failure(f"{path} line {number} is no JSON ({error}); wanted an object with prompt or messages") from error
    prompt = row.get("prompt", row.get("messages")) if isinstance(row, dict) else row
    is_text = isinstance(prompt, str) and bool(prompt.strip())
    is_conversation = isinstance(prompt, list) and bool(prompt) and all(isinstance(turn, dict) for turn in prompt)
    if not (is_text or is_conversation):
        raise Failure(f"{path} line {number} holds no prompt; wanted a text, or messages with role and content")
    return prompt


def _ask_all(client: "Thumbwise", asked: Sequence[Asked], wish: dict[str, Any], at_once: int) -> list[Answered]:
    """Ask for every prompt, some at once, and show how far it is; return the answers in the prompts' order."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    answers: dict[int, Answered] = {}
    stop = threading.Event()
    console = to_stderr()
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(at_once) as pool,
    ):
        task = progress.add_task("candidates", total=len(asked))
        futures = {pool.submit(_ask, client, one, wish, stop): place for place, one in enumerate(asked)}
        try:
            for future in as_completed(futures):
                answers[futures[future]] = future.result()
                progress.advance(task)
        except BaseException as error:
            stop.set()
            pool.shutdown(cancel_futures=True)
            kept = sum(one.outcome in ("made", "known") for one in answers.values())
            if isinstance(error, KeyboardInterrupt | Failure):
                reason = "stopped" if isinstance(error, KeyboardInterrupt) else error.message
                raise Failure(
                    f"{reason}; {kept} of {len(asked)} prompts are kept, and the same command goes on"
                ) from error
            raise
    return [answers[place] for place in range(len(asked))]


def _ask(client: "Thumbwise", one: Asked, wish: dict[str, Any], stop: threading.Event) -> Answered:
    """Ask for one prompt. One that the server cannot take is an answer; a server that is away ends the run."""
    from thumbwise.client import ApiError, Forbidden, ThumbwiseError, Unavailable

    if stop.is_set():
        return Answered(one.where, "failed", reason="stopped")
    try:
        if one.reply_id is not None:
            found = client.candidates(**wish, reply_id=one.reply_id)
        else:
            found = client.candidates(one.prompt, **wish)
    except (Forbidden, Unavailable) as error:
        raise Failure(str(error)) from error
    except ApiError as error:
        if error.status >= 500 or error.status in (401, 429):
            raise Failure(error.message) from error
        return Answered(one.where, "failed", reason=error.message)
    except ThumbwiseError as error:
        raise Failure(str(error)) from error
    return Answered(one.where, found["outcome"], found["comparison_id"], found["distance"], found["drawn"])


def _tell(answered: Sequence[Answered]) -> None:
    """Say what came of it, and which prompts gave nothing to rank."""
    counts = Counter(one.outcome for one in answered)
    said = [f"{counts['made']} of {len(answered)} prompts have new candidates on the Annotate page"]
    if counts["known"]:
        said.append(f"{counts['known']} had them before")
    to_stdout().print(", ".join(said), soft_wrap=True)
    for one in answered:
        if one.outcome == "alike":
            to_stdout().print(
                f"[yellow]only alike replies[/]: {escaped(one.where)} ({one.drawn} drawn, distance "
                f"{one.distance:.2f}); try a higher --temperature, or another prompt",
                soft_wrap=True,
            )
        elif one.outcome == "failed":
            to_stdout().print(f"[red]not drawn[/]: {escaped(one.where)}: {escaped(one.reason or '')}", soft_wrap=True)
