"""`thumbwise feedback export|import|clean`: votes and replies as files that other tools read."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import click

from thumbwise.cli.connection import connect, json_option, server_options
from thumbwise.cli.say import Failure, FriendlyGroup, print_json, to_stderr

if TYPE_CHECKING:
    from thumbwise.client import Thumbwise
    from thumbwise.client.calls import ExportFormat

FORMATS = click.Choice(["events", "unpaired", "preference", "sft"])


@click.group("feedback", cls=FriendlyGroup)
def feedback() -> None:
    """Take feedback out, as trl's trainers read it, or bring some in."""


@feedback.command("export")
@click.option(
    "--format",
    "export_format",
    type=FORMATS,
    default="unpaired",
    show_default=True,
    help="events: every act as it came; the others are trl's column formats.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File: .jsonl or .parquet. Else stdout.")
@click.option("--since", help="Only what came at or after this time (ISO 8601).")
@click.option("--until", help="Only what came before this time (ISO 8601).")
@click.option("--channel", help="Only of this channel.")
@click.option("--policy-version", type=click.IntRange(1), help="Only on replies of this version.")
@server_options
def export(
    export_format: str,
    out: Path | None,
    since: str | None,
    until: str | None,
    channel: str | None,
    policy_version: int | None,
    data_dir: Path,
    url: str | None,
) -> None:
    """Write feedback as JSON lines or Parquet."""
    if out is not None and out.suffix not in (".jsonl", ".parquet"):
        raise click.BadParameter(f"{out.name} ends in {out.suffix!r}; wanted .jsonl or .parquet", param_hint="--out")
    filters = {"since": since, "until": until, "channel": channel, "policy_version": policy_version}
    with connect(data_dir, url) as client:
        lines = _counted(client.export(cast("ExportFormat", export_format), filters), out)
        if out is None:
            for line in lines:
                click.echo(line)
        elif out.suffix == ".parquet":
            _write_parquet(out, lines)
        else:
            with _replacing(out) as file:
                file.writelines(line + "\n" for line in lines)


@feedback.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--format", "import_format", type=FORMATS, default="unpaired", show_default=True)
@server_options
@json_option
def import_file(file: Path, import_format: str, data_dir: Path, url: str | None, as_json: bool) -> None:
    """Bring in rows of FILE (.jsonl or .parquet). All of them or, if one is bad, none; repeating it adds nothing."""
    content = _parquet_as_lines(file) if file.suffix == ".parquet" else file.read_bytes()
    with connect(data_dir, url) as client:
        report = client.import_rows(cast("ExportFormat", import_format), content)
    if as_json:
        print_json(report)
    else:
        to_stderr().print(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in report.items()))


@feedback.command("clean")
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@server_options
def clean(files: tuple[Path, ...], data_dir: Path, url: str | None) -> None:
    """Bring export FILES up to what may still be handed out: rows of people who were erased since, or who took their
    consent back, leave them; the others say what they would say now."""
    with connect(data_dir, url) as client:
        for file in files:
            kept, before = _clean(client, file)
            to_stderr().print(f"{file}: {before - kept} of {before} rows left, {kept} stay", soft_wrap=True)


def _clean(client: "Thumbwise", file: Path) -> tuple[int, int]:
    """Rewrite one file and return how many rows stayed, and how many there were."""
    if not file.is_file():
        raise Failure(f"{file} is not there; wanted a file that `thumbwise feedback export` wrote")
    content = _parquet_as_lines(file) if file.suffix == ".parquet" else file.read_bytes()
    try:
        rows = [json.loads(line) for line in content.splitlines() if line.strip()]
        export_format = _format_of(rows[0]) if rows else "events"
        wanted = {_key(row) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"{file} is no export of feedback; wanted one that `thumbwise feedback export` wrote") from error
    lines = [line for line in client.export(export_format) if _key(json.loads(line)) in wanted]
    if file.suffix == ".parquet":
        _write_parquet(file, iter(lines))
    else:
        with _replacing(file) as out:
            out.writelines(line + "\n" for line in lines)
    return len(lines), len(rows)


def _format_of(row: dict[str, Any]) -> "ExportFormat":
    """Which format a row is of, by the column that it has alone. Raises KeyError."""
    columns: tuple[tuple[str, ExportFormat], ...] = (
        ("kind", "events"), ("label", "unpaired"), ("chosen", "preference"), ("approved", "sft"),
    )  # fmt: skip
    for column, export_format in columns:
        if column in row:
            return export_format
    raise KeyError("no column of an export")


def _key(row: dict[str, Any]) -> tuple[object, ...]:
    """What names a row in every export: the act, and of several pairs of one act the replies."""
    return (row["feedback_id"], row.get("chosen_reply_id"), row.get("rejected_reply_id"))


def _counted(lines: Iterator[str], out: Path | None) -> Iterator[str]:
    """Pass the lines on and count them on stderr, if somebody is watching there."""
    from rich.progress import Progress, SpinnerColumn, TextColumn

    if out is None or not sys.stderr.isatty():
        count = 0
        for line in lines:
            yield line
            count += 1
        if out is not None:
            to_stderr().print(f"{count} rows written to {out}")
        return
    with Progress(SpinnerColumn(), TextColumn("{task.completed} rows"), console=to_stderr()) as progress:
        task = progress.add_task("", total=None)
        for line in lines:
            yield line
            progress.advance(task)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A file that appears under its name when it is whole, so that a broken export leaves no half file."""
    scratch = path.with_name(path.name + ".part")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            yield file
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _write_parquet(out: Path, lines: Iterator[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in lines]
    scratch = out.with_name(out.name + ".part")
    try:
        pq.write_table(pa.Table.from_pylist(rows), scratch)
        scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)


def _parquet_as_lines(file: Path) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(file).to_pylist()
    except pa.ArrowInvalid as error:
        raise Failure(f"{file} is no Parquet file: {error}") from error
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows).encode()
