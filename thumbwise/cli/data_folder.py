"""The data folder: who may read it, the admin's token, and the note that says where the server is."""

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from thumbwise.cli.connection import SERVER_FILE, TOKEN_FILE
from thumbwise.cli.say import Failure

if TYPE_CHECKING:
    from thumbwise.config import Settings

RATER_KEY_FILE = "rater.key"


def make_data_dir(data_dir: Path) -> None:
    """Make the folder, readable by its owner alone; one that is there keeps its mode. Raises Failure."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        (data_dir / "logs").mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise Failure(f"the data folder {data_dir} cannot be made: {error.strerror}; choose another --data") from error


def load_or_create_token(data_dir: Path) -> tuple[str, bool]:
    """Return the admin's token and whether it was made just now. It is written with mode 0600, whole or not at all."""
    path = data_dir / TOKEN_FILE
    if path.exists() and (token := path.read_text(encoding="utf-8").strip()):
        return token, False
    return new_token(data_dir), True


def new_token(data_dir: Path) -> str:
    """Make the admin's token anew and return it; a running server goes on with the one before until it is restarted."""
    token = secrets.token_urlsafe(32)
    _write_private(data_dir / TOKEN_FILE, token + "\n")
    return token


def rater_keys(settings: "Settings") -> tuple[bytes, ...]:
    """Return the rater key and, behind it, what it was before: from the environment, else DATA/rater.key."""
    from feedback_store.key_ring import load_or_create_ring

    if settings.rater_key is not None:
        return (settings.rater_key, *settings.former_rater_keys)
    return load_or_create_ring(settings.data_dir / RATER_KEY_FILE).keys


def write_server_file(data_dir: Path, url: str) -> None:
    """Note where the server is, for the commands that speak to it."""
    _write_private(data_dir / SERVER_FILE, json.dumps({"url": url, "pid": os.getpid()}) + "\n")


def remove_server_file(data_dir: Path) -> None:
    """Remove the note, unless another server has written its own by now."""
    path = data_dir / SERVER_FILE
    try:
        if json.loads(path.read_text(encoding="utf-8")).get("pid") == os.getpid():
            path.unlink()
    except (OSError, ValueError):
        pass  # gone, or not ours to judge


def _write_private(path: Path, text: str) -> None:
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
