"""`thumbwise up`, `serve` and `train`: the commands that run until they are stopped."""

from pathlib import Path
from typing import Any

import click

from thumbwise.cli.checking import config_option
from thumbwise.cli.connection import data_option


def start_options(function: Any) -> Any:
    """Add what every running command takes. A flag beats the environment, which beats the file."""
    options = (
        data_option,
        config_option,
        click.option("--base-model", help="Directory or cached Hugging Face id; beats policy.base_model."),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="Beats policy.device."),
        click.option("-v", "--verbose", is_flag=True, help="Log to the terminal too, not only to DATA/logs."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def server_start_options(function: Any) -> Any:
    """Add what a server takes."""
    options = (
        click.option("--host", help="Address to listen at; beats serving.host."),
        click.option("--port", type=click.IntRange(0, 65535), help="0 picks a free one; beats serving.port."),
        click.option("--threads", type=click.IntRange(1, 256), help="Torch threads; beats serving.threads."),
    )
    for option in reversed(options):
        function = option(function)
    return start_options(function)


@click.command("up")
@server_start_options
def up(**given: Any) -> None:
    """Start everything on this machine: chat, dashboard, API, and the rounds.

    Open the printed address to chat. The admin commands need the admin's token, which is printed when it is made and
    kept in DATA/admin.token; with it the first admin of the dashboard is made, at /dashboard/set-up.
    Ctrl-C stops it; replies under way may end first.
    """
    _run_server(given, with_trainer=True)


@click.command("serve")
@server_start_options
def serve(**given: Any) -> None:
    """Start chat, dashboard and API without the rounds, which then run elsewhere (thumbwise train)."""
    _run_server(given, with_trainer=False)


@click.command("train")
@start_options
def train(**given: Any) -> None:
    """Run the clock and the rounds, without a server: beside `thumbwise serve`, over one PostgreSQL."""
    from thumbwise.cli.compose import run_trainer

    run_trainer(_settings(given), verbose=given["verbose"])


def _run_server(given: dict[str, Any], *, with_trainer: bool) -> None:
    from thumbwise.cli.compose import run_server

    run_server(_settings(given), with_trainer=with_trainer, verbose=given["verbose"])


def _settings(given: dict[str, Any]) -> Any:
    from thumbwise.config import load_settings

    data_dir: Path = given["data_dir"]
    flags = {
        "serving.host": given.get("host"),
        "serving.port": given.get("port"),
        "serving.threads": given.get("threads"),
        "policy.base_model": given["base_model"],
        "policy.device": given["device"],
    }
    return load_settings(data_dir.absolute(), given["config_file"], flags=flags)
