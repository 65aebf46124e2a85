"""`thumbwise retention`: what is too old, and deleting it now rather than tonight."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from thumbwise.cli.checking import config_option
from thumbwise.cli.connection import data_option, json_option
from thumbwise.cli.say import Failure, print_json, to_stdout

if TYPE_CHECKING:
    from feedback_store.retention import RetentionReport
    from thumbwise.config import Settings


@click.command("retention")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted; works beside a running server.")
@data_option
@config_option
@json_option
def retention(dry_run: bool, data_dir: Path, config_file: Path | None, as_json: bool) -> None:
    """Delete what is older than the [retention] settings allow. The trainer does it once a day by itself.

    Texts go, rows and votes stay. What a version in service learnt from stays too, unless retention.keep_trained is
    off. Over SQLite the server must be stopped, but for --dry-run.
    """
    from thumbwise.config import load_settings
    from trainer.retention import old_log_files

    settings = load_settings(data_dir.absolute(), config_file)
    logs = old_log_files(settings.data_dir, settings.retention.log_days)
    report = _planned(settings) if dry_run else _done(settings)
    if not dry_run:
        for path in logs:
            path.unlink(missing_ok=True)
    if as_json:
        print_json({**report.as_dict(), "log_files": len(logs), "dry_run": dry_run})
        return
    _print(report, len(logs), "would be deleted" if dry_run else "deleted", settings.retention.model_dump())


def _planned(settings: "Settings") -> "RetentionReport":
    from feedback_store.looking import read_beside
    from feedback_store.retention import plan_retention

    return read_beside(
        settings.store_url, lambda connection: plan_retention(connection, settings.retention, datetime.now(UTC))
    )


def _done(settings: "Settings") -> "RetentionReport":
    from feedback_store.retention import run_retention
    from thumbwise.cli.compose import open_store

    try:
        store = open_store(settings)
    except Failure as failure:
        by_itself = settings.retention.at or "nothing"
        raise Failure(f"{failure.message}\nA running trainer deletes at retention.at: {by_itself}.") from failure
    with store:
        return run_retention(store, settings.retention, datetime.now(UTC), "command")


def _print(report: "RetentionReport", logs: int, verb: str, settings: dict[str, Any]) -> None:
    said = to_stdout()
    days = {name: value for name, value in settings.items() if name.endswith("_days")}
    said.print(", ".join(f"{name} {'never' if value is None else value}" for name, value in days.items()))
    for count, what in (
        (report.unrated_texts, "replies that nobody rated: their words, and whose they were"),
        (report.rated_texts, "rated replies: their words, corrections, reasons and notes"),
        (report.sign_ins, "sign-ins that have run out"),
        (report.api_keys, "API keys that have ended"),
        (report.audit_lines, "lines of the log of acts"),
        (logs, "old log files"),
    ):
        said.print(f"{count:>8} {verb}: {what}")
    if report.kept_trained:
        said.print(f"{report.kept_trained:>8} stay: rated replies from which a version in service learnt")
    if report.trained_versions:
        said.print(f"[yellow]Learnt from what is {verb}, and keep it:[/] "
                   f"versions {', '.join(map(str, report.trained_versions))}")  # fmt: skip
