"""What `thumbwise doctor` looks at for safety: who can reach it, who can read its secrets, whether its clocks agree.

A finding never repeats a secret: it names the setting and says what is wrong with the value.
"""

import ipaddress
import os
import stat
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from thumbwise.cli.connection import TOKEN_FILE
from thumbwise.cli.examine_limits import examine_limits
from thumbwise.cli.finding import Finding

if TYPE_CHECKING:
    from thumbwise.config import Settings

SHORTEST_SECRET = 16
"""Characters; ours have 43."""
FEWEST_DIFFERENT = 6
"""Different characters: fewer is a pattern, not a secret."""
GUESSED = (
    "admin", "changeme", "change-me", "default", "example", "letmein", "password", "postgres", "qwerty", "secret",
    "test", "thumbwise", "token", "0123456789", "123456",
)  # fmt: skip
"""What examples and people in a hurry write; found as the whole value or as most of it."""
MOST_CLOCK_SKEW_S = 5.0
"""A lease is held for a minute and a session's age is counted in seconds: more than this shows in both."""
EARLIEST_CLOCK = datetime.fromisoformat("2026-01-01T00:00:00+00:00").timestamp()
"""No machine that runs this program has an earlier date: it has lost its clock."""
PINNED = ("torch", "transformers", "trl", "peft", "sqlalchemy", "fastapi")
PRIVATE = ("rater.key", "thumbwise.db", "thumbwise.db-wal", "thumbwise.db-shm", "server.json", "bots/buttons.key")


def examine_safety(data_dir: Path, settings: "Settings | None", environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at everything; without settings, at what does not need them."""
    yield from versions()
    yield sqlite()
    yield from clock(data_dir)
    yield from private_files(data_dir, environ)
    if settings is not None:
        yield bind(settings)
        yield from webhook(settings)
        yield from secrets(settings, data_dir)
        yield from postgres(settings)
        yield from examine_limits(settings)


def versions() -> Iterator[Finding]:
    """Whether what is installed is what this version was tried with."""
    try:
        from packaging.requirements import Requirement

        wanted = [Requirement(line) for line in metadata.requires("thumbwise") or ()]
    except (ImportError, ValueError):  # not installed as a package, or without what reads its requirements
        yield Finding("versions", "note", "unknown: this is not an installed thumbwise")
        return
    wrong = []
    for one in wanted:
        if one.name not in PINNED:
            continue
        try:
            present = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            continue  # "packages for …" says so
        if not one.specifier.contains(present, prereleases=True):
            wrong.append(f"{one.name} is {present}, wanted {one.specifier}")
    if wrong:
        yield Finding("versions", "bad", "; ".join(sorted(set(wrong))), "pip install 'thumbwise[all]' again")
    else:
        yield Finding("versions", "ok", "as this version was tried with")


def sqlite() -> Finding:
    """Whether SQLite has the known fault in its log."""
    from feedback_store.looking import OLDEST_SQLITE, sqlite_version

    present, wanted = (".".join(map(str, one)) for one in (sqlite_version(), OLDEST_SQLITE))
    if sqlite_version() >= OLDEST_SQLITE:
        return Finding("SQLite", "ok", present)
    return Finding(
        "SQLite", "note", f"{present}; before {wanted} two programs that write one file can damage it",
        "let nothing but thumbwise write to the database; a copy is safe while the server is stopped",
    )  # fmt: skip


def bind(settings: "Settings") -> Finding:
    """Whether strangers reach the port without TLS."""
    host, port = settings.serving.host, settings.serving.port
    if is_this_machine(host):
        return Finding("address", "ok", f"{host} port {port}: this machine alone")
    if settings.access.behind_tls:
        return Finding("address", "ok", f"{host} port {port}, behind TLS (access.behind_tls)")
    return Finding(
        "address", "bad", f"{host} port {port} is open to others, and passwords would travel in the clear",
        "set serving.host to 127.0.0.1; or put a proxy with TLS and a login in front, and set access.behind_tls",
    )  # fmt: skip


def webhook(settings: "Settings") -> Iterator[Finding]:
    """Whether strangers reach Telegram's webhook beside its proxy."""
    telegram = settings.telegram
    if telegram.webhook_url is not None and not is_this_machine(telegram.webhook_host):
        yield Finding(
            "webhook", "note", f"{telegram.webhook_host} port {telegram.webhook_port} is open to others",
            "set telegram.webhook_host to 127.0.0.1, unless the proxy is on another machine",
        )  # fmt: skip


def is_this_machine(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def secrets(settings: "Settings", data_dir: Path) -> Iterator[Finding]:
    """Whether a secret can be guessed."""
    token = settings.admin_token
    if token is None:
        token = _text_of(data_dir / TOKEN_FILE)
    key = settings.rater_key.decode("utf-8", "replace") if settings.rater_key is not None else None
    password = urlsplit(settings.store.url).password if settings.store.url else None
    found = {
        "admin token": (token, "unset THUMBWISE_ADMIN_TOKEN and remove DATA/admin.token: a start makes a new one"),
        "rater key": (
            key,
            "give 32 random characters before the first rater comes; a new key makes old ones strangers",
        ),
        "database password": (unquote(password) if password else None, "give the database's user a random one"),
    }
    for name, (value, do) in found.items():
        if value is None:
            continue
        reason = weakness(value)
        if reason:
            yield Finding(f"{name}'s strength", "bad", reason, do)
        else:
            yield Finding(f"{name}'s strength", "ok", "not to be guessed")


def weakness(secret: str) -> str | None:
    """Say why a secret can be guessed; None: it is long and mixed enough. The answer does not repeat it."""
    if len(secret) < SHORTEST_SECRET:
        return f"it has {len(secret)} characters, wanted at least {SHORTEST_SECRET} random ones"
    if len(set(secret)) < FEWEST_DIFFERENT:
        return f"it is made of {len(set(secret))} different characters: a pattern, wanted random ones"
    rest = secret.lower()
    for word in sorted(GUESSED, key=len, reverse=True):
        rest = rest.replace(word, "")
    if len(rest) < len(secret) / 2:
        return "it is made of words that everybody tries first, wanted random characters"
    return None


def clock(data_dir: Path) -> Iterator[Finding]:
    """Whether this machine's clock is a date at all, and agrees with the file system that the data lie on."""
    present = time.time()
    if present < EARLIEST_CLOCK:
        yield Finding("clock", "bad", "the date is before 2026", "set the clock, and let it be kept by NTP")
        return
    skew_s = file_system_skew_s(data_dir) if data_dir.is_dir() and os.access(data_dir, os.W_OK) else None
    if skew_s is None:
        yield Finding("clock", "ok", "plausible")
    elif abs(skew_s) > MOST_CLOCK_SKEW_S:
        yield Finding(
            "clock", "bad", f"the data folder's file system is {skew_s:+.0f} s off this machine's clock",
            "let NTP keep both; leases and sessions go by the time",
        )  # fmt: skip
    else:
        yield Finding("clock", "ok", "plausible, and the file system's agrees")


def file_system_skew_s(folder: Path) -> float | None:
    """The file system's time less ours; None where nothing can be written."""
    scratch = folder / f".clock.{os.getpid()}"
    try:
        before = time.time()
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, b"x")
            after, stamped = time.time(), os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
            scratch.unlink(missing_ok=True)
    except OSError:
        return None
    return stamped - (before + after) / 2


def private_files(data_dir: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether others of this machine can read what is private. (The admin's token has a look of its own.)"""
    open_ones = [
        path
        for path in (*(data_dir / name for name in PRIVATE), *sorted((data_dir / "bots").glob("*.db")))
        if _open_to_others(path)
    ]
    for path in open_ones:
        yield Finding("private file", "bad", f"{path} may be read by others", f"chmod 600 {path}")
    for name, value in sorted(environ.items()):
        # A platform that mounts secrets may show them to all of its container: worth knowing, not wrong.
        if name.startswith("THUMBWISE_") and name.endswith("_FILE") and _open_to_others(Path(value)):
            yield Finding("private file", "note", f"the file of {name} may be read by others", f"chmod 600 {value}")
    if _open_to_others(data_dir):
        yield Finding("private file", "note", f"{data_dir} may be listed by others", f"chmod 700 {data_dir}")
    elif data_dir.is_dir() and not open_ones:
        yield Finding("private file", "ok", f"what lies in {data_dir} is its owner's alone")


def postgres(settings: "Settings") -> Iterator[Finding]:
    """What the PostgreSQL of the settings says of itself."""
    url = settings.store.url
    if url is None or not url.startswith("postgresql"):
        return
    from feedback_store.errors import StoreError
    from feedback_store.looking import OLDEST_POSTGRESQL, look_at_postgres

    try:
        look = look_at_postgres(url)
    except StoreError as error:
        yield Finding("database", "bad", str(error), "start it, or correct THUMBWISE_STORE_URL")
        return
    if look.major < OLDEST_POSTGRESQL:
        yield Finding("database", "bad", f"PostgreSQL {look.version}", f"wanted {OLDEST_POSTGRESQL} or newer")
    else:
        yield Finding("database", "ok", f"PostgreSQL {look.version}")
    if abs(look.ahead_s) > MOST_CLOCK_SKEW_S:
        found = f"the database's clock is {look.ahead_s:+.0f} s off this machine's"
        yield Finding("database's clock", "bad", found, "let NTP keep both; leases and sessions go by the time")
    if not look.flushes:
        yield Finding(
            "database's disk", "bad", "fsync or synchronous_commit is off: confirmed votes can be lost in a crash",
            "switch both on in postgresql.conf",
        )  # fmt: skip
    if look.is_superuser:
        yield Finding("database's user", "note", "is a superuser", "give Thumbwise a user that owns its database alone")
    if not look.encrypted:
        yield Finding(
            "way to the database", "note", "is not encrypted", "add ?sslmode=verify-full, unless nobody can listen"
        )


def _open_to_others(path: Path) -> bool:
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    except OSError:
        return False  # not there, or not ours to see


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
