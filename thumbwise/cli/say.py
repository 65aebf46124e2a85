"""How the command speaks: tables and JSON on stdout, everything else on stderr, and errors that a person can act on.

Exit codes: 0 done, 1 it could not be done (the reason is on stderr), 2 the command was called wrongly.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table


class Failure(click.ClickException):
    """Something could not be done; the message says what, and what to do."""

    def show(self, file: Any = None) -> None:
        """Print the message, in red where the terminal has colours."""
        to_stderr().print(f"[bold red]error:[/] {escaped(self.message)}", soft_wrap=True, highlight=False)


class FriendlyGroup(click.Group):
    """A group whose commands' errors become one sentence instead of a traceback; a bug still shows its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn the errors that are meant for people into a Failure."""
        from thumbwise.client import ApiError, ThumbwiseError

        try:
            return super().invoke(ctx)
        except ApiError as error:
            raise Failure(_with_reasons(error.message, error.body)) from error
        except ThumbwiseError as error:
            raise Failure(str(error)) from error
        except (ValueError, RuntimeError, OSError) as error:
            if not _is_for_people(error):
                raise
            raise Failure(str(error)) from error


def _is_for_people(error: Exception) -> bool:
    """Whether an error's text was written by us for whoever runs the command (its class is ours)."""
    return type(error).__module__.partition(".")[0] in {"thumbwise", "feedback_store", "serving", "trainer", "bot"}


def _with_reasons(message: str, body: dict[str, Any]) -> str:
    report = body.get("readiness")
    reason = report.get("reason") if isinstance(report, dict) else None
    return f"{message}\n{reason}" if reason else message


def to_stdout() -> Console:
    """The console for results; 120 columns wide where there is no terminal that has a width."""
    console = Console(file=sys.stdout, highlight=False)
    return console if console.is_terminal else Console(file=sys.stdout, highlight=False, width=120)


def to_stderr() -> Console:
    """The console for progress, notes and errors."""
    return Console(file=sys.stderr, highlight=False)


def escaped(text: str) -> str:
    """A text that rich shall print as it is."""
    from rich.markup import escape

    return escape(text)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A plain table; `empty` is said instead when there are no rows."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("" if cell is None else escaped(str(cell)) for cell in row))
    if table.row_count:
        to_stdout().print(table)
    else:
        to_stderr().print(empty)


def local_time(stamp: str | None) -> str:
    """A time of the API in this machine's zone, to the minute."""
    if not stamp:
        return ""
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M")
