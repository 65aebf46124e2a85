"""`thumbwise migrate`: the store's tables brought to this program's schema."""

from dataclasses import asdict, replace
from pathlib import Path

import click

from thumbwise.cli.checking import config_option
from thumbwise.cli.connection import data_option, json_option
from thumbwise.cli.say import print_json, to_stdout


@click.command("migrate")
@click.option("--check", is_flag=True, help="Only say whether an upgrade is due; exit with 1 if it is.")
@data_option
@config_option
@json_option
def migrate(check: bool, data_dir: Path, config_file: Path | None, as_json: bool) -> None:
    """Bring the tables of the store to this program's schema, or leave them as they were.

    Needed where store.upgrade is by_hand, so that no start does it; make a backup first (thumbwise backup). An older
    program refuses the store afterwards.
    """
    from feedback_store.looking import look_at_schema
    from thumbwise.cli.compose import open_store
    from thumbwise.config import load_settings

    settings = load_settings(data_dir.absolute(), config_file)
    before = look_at_schema(settings.store_url)
    if not check and before.present != before.wanted:
        by_now = settings.store.model_copy(update={"upgrade": "at_start"})
        open_store(replace(settings, store=by_now)).close()
    if as_json:
        print_json({**asdict(before), "due": before.is_older})
    elif before.present == before.wanted:
        to_stdout().print(f"The store is at revision {before.wanted}: nothing to do.")
    elif check:
        to_stdout().print(f"The store is at revision {before.present or 'none'}, this program wants {before.wanted}.")
    else:
        to_stdout().print(f"The store was at revision {before.present or 'none'} and is at {before.wanted} now.")
        if before.connections:
            to_stdout().print(f"{before.connections} connections of older programs were open: replace those now.")
    if check and before.is_older:
        raise SystemExit(1)
