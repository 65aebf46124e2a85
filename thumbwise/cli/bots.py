"""`thumbwise bot telegram` and `thumbwise bot discord`: a bot of ours, as a process beside the server."""

from pathlib import Path
from typing import Any

import click

from thumbwise.cli.checking import config_option
from thumbwise.cli.connection import admin_token, server_options, server_url
from thumbwise.cli.say import Failure, FriendlyGroup, to_stderr


@click.group("bot", cls=FriendlyGroup)
def bot_group() -> None:
    """Run a bot on a chat platform, beside a running server."""


def bot_options(function: Any) -> Any:
    """Add what every bot takes."""
    options = (
        server_options,
        config_option,
        click.option("-v", "--verbose", is_flag=True, help="Log to the terminal too, not only to DATA/logs."),
        click.option("--debug", is_flag=True, help="Log more. Texts and tokens stay out of the logs all the same."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@bot_group.command("telegram")
@bot_options
def telegram(data_dir: Path, url: str | None, config_file: Path | None, verbose: bool, debug: bool) -> None:
    """Run the Telegram bot whose token is in THUMBWISE_TELEGRAM_TOKEN (or the file THUMBWISE_TELEGRAM_TOKEN_FILE).

    It speaks to the running server over HTTP (--url, or the one over --data) and keeps its inbox in DATA/bots. With the
    admin's token (DATA/admin.token) it also answers /export and /forget, and the operators' commands. Ctrl-C stops it.
    """
    from thumbwise.cli.data_folder import make_data_dir
    from thumbwise.cli.logs import log_to
    from thumbwise.config import load_settings
    from thumbwise.rating.private_logs import keep_logs_private

    settings = load_settings(data_dir.absolute(), config_file)
    token = settings.telegram_token
    if token is None:
        raise Failure("THUMBWISE_TELEGRAM_TOKEN is not set; get a token from @BotFather (docs/telegram.md, step 2)")
    make_data_dir(settings.data_dir)
    log_to(settings.data_dir / "logs", verbose, name="telegram.log", debug=debug)
    admin = admin_token(data_dir)
    keep_logs_private(token, *([admin] if admin else []))
    from bot.telegram.process import TelegramBot, run

    address = url or server_url(data_dir)
    to_stderr().print(f"Telegram bot over {address}. Stop with Ctrl-C.", highlight=False)
    run(TelegramBot(settings.data_dir, address, settings.telegram, token, admin))


@bot_group.command("discord")
@bot_options
def discord(data_dir: Path, url: str | None, config_file: Path | None, verbose: bool, debug: bool) -> None:
    """Run the Discord bot whose token is in THUMBWISE_DISCORD_TOKEN (or the file THUMBWISE_DISCORD_TOKEN_FILE).

    It speaks to the running server over HTTP (--url, or the one over --data) and keeps its marks in DATA/bots. With the
    admin's token (DATA/admin.token) it also answers /export and /forget, and the operators' commands. Ctrl-C stops it.
    """
    from thumbwise.cli.data_folder import make_data_dir
    from thumbwise.cli.logs import log_to
    from thumbwise.config import load_settings
    from thumbwise.rating.private_logs import keep_logs_private

    settings = load_settings(data_dir.absolute(), config_file)
    token = settings.discord_token
    if token is None:
        raise Failure(
            "THUMBWISE_DISCORD_TOKEN is not set; get a token from Discord's developer portal (docs/discord.md, step 2)"
        )
    make_data_dir(settings.data_dir)
    log_to(settings.data_dir / "logs", verbose, name="discord.log", debug=debug)
    admin = admin_token(data_dir)
    keep_logs_private(token, *([admin] if admin else []))
    from bot.discord.process import DiscordBot, run

    address = url or server_url(data_dir)
    to_stderr().print(f"Discord bot over {address}. Stop with Ctrl-C.", highlight=False)
    run(DiscordBot(settings.data_dir, address, settings.discord, token, admin))
