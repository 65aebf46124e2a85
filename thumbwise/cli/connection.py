"""Finding the running server: `--url` and the environment first, else what `thumbwise up` left in the data folder."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from thumbwise.cli.say import Failure

if TYPE_CHECKING:
    from thumbwise.client import Thumbwise

F = TypeVar("F", bound=Callable[..., Any])
SERVER_FILE = "server.json"
TOKEN_FILE = "admin.token"
DEFAULT_URL = "http://127.0.0.1:8080"
PERSON_WAITS = 2
"""Repeats of a request while somebody waits at the terminal: about a second."""


def data_option(function: F) -> F:
    """Add `--data DIR`."""
    return click.option(
        "--data",
        "data_dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("data"),
        envvar="THUMBWISE_DATA",
        show_default=True,
        help="Folder that holds everything Thumbwise writes.",
    )(function)


def server_options(function: F) -> F:
    """Add `--data DIR` and `--url URL`, for a command that speaks to a running server."""
    url = click.option(
        "--url", envvar="THUMBWISE_URL", help="Address of the server. Without it: the one that runs over --data."
    )
    return data_option(url(function))


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")(function)


def connect(data_dir: Path, url: str | None) -> "Thumbwise":
    """Return a client of the server that `url` or the data folder names, with the admin's token where it is known."""
    from thumbwise.client import Thumbwise
    from thumbwise.client.retries import Retries

    return Thumbwise(url or server_url(data_dir), admin_token(data_dir), retries=Retries(PERSON_WAITS))


def server_url(data_dir: Path) -> str:
    """Return the address that the running server noted in its data folder, else the usual one."""
    path = data_dir / SERVER_FILE
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["url"])
    except FileNotFoundError:
        return DEFAULT_URL
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failure(f"{path} cannot be read ({error}); name the server with --url") from error


def admin_token(data_dir: Path) -> str | None:
    """Return the admin's token from the environment or the data folder; None where there is none."""
    if token := os.environ.get("THUMBWISE_ADMIN_TOKEN"):
        return token
    path = Path(os.environ.get("THUMBWISE_ADMIN_TOKEN_FILE") or data_dir / TOKEN_FILE)
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"the admin token in {path} cannot be read: {error.strerror}") from error
