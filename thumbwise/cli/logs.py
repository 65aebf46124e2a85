"""Logging, configured here alone: a file that rotates in DATA/logs, and the terminal for what needs a person.

The modules log ids at state changes, never texts, names or tokens.
"""

import logging
import logging.handlers
from pathlib import Path

LARGEST_FILE_BYTES = 5 * 2**20
OLD_FILES = 3


def log_to(folder: Path, verbose: bool, *, name: str = "thumbwise.log", debug: bool = False) -> None:
    """Log to `folder`/`name` from INFO on (`debug`: from DEBUG on); to stderr from WARNING on, or INFO if `verbose`."""
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    file = logging.handlers.RotatingFileHandler(
        folder / name, maxBytes=LARGEST_FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8", delay=True
    )
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.INFO if verbose else logging.WARNING)
    for handler in (file, terminal):
        handler.setFormatter(form)
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[file, terminal], force=True)
    for chatty in ("httpx", "httpcore", "urllib3", "filelock", "apscheduler", "alembic.runtime.plugins", "sqlalchemy"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
