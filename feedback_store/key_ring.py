"""Secret keys in a file of their own, the newest first: it makes what is made, older ones know what was made before.

A line is 32 bytes in hex, and for a former key, if it ends, `until=TIME`. The file is its owner's alone (mode 0600), is
made on first use, and is replaced as a whole. It lives outside the database on purpose.
"""

import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from feedback_store.errors import StoreError
from feedback_store.schema import now

KEY_BYTES = 32
_UNTIL = "until="


@dataclass(frozen=True, slots=True)
class FormerKey:
    """A key that is still known. `until`: None where it does not end by itself."""

    key: bytes
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of one purpose."""

    newest: bytes
    former: tuple[FormerKey, ...] = ()

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All of them, the newest first."""
        return (self.newest, *(one.key for one in self.former))

    def __repr__(self) -> str:
        """Say how many there are, and none of them."""
        return f"KeyRing({1 + len(self.former)} keys)"


def load_or_create_ring(path: Path) -> KeyRing:
    """Return the keys in the file, less those whose time is over; one is made when there is no file.

    Raises StoreError for a file that holds anything else: it is not replaced, since what was made with its keys would
    be lost.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        made = _written(path, KeyRing(secrets.token_bytes(KEY_BYTES)))
        try:
            # A link fails where a rename would replace: of two processes that start together one key wins.
            os.link(made, path)
        except FileExistsError:
            pass
        finally:
            made.unlink()
    return read_ring(path)


def read_ring(path: Path) -> KeyRing:
    """Return the keys in the file, less those whose time is over. Raises StoreError for one that cannot be read."""
    try:
        found = [_line(line) for line in path.read_text(encoding="ascii").split("\n") if line.strip()]
        newest, *former = found
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} does not hold {KEY_BYTES} bytes in hex; restore it from a backup: without its keys, one a line, "
            "nobody knows what was made with them (raters' ids, buttons)"
        ) from error
    present = now()
    return KeyRing(newest.key, tuple(one for one in former if one.until is None or one.until > present))


def rotate(path: Path, until: datetime | None) -> KeyRing:
    """Put a new key before those of the file; the one that was the newest is known until then (None: until `drop`)."""
    ring = load_or_create_ring(path)
    return _replace(path, KeyRing(secrets.token_bytes(KEY_BYTES), (FormerKey(ring.newest, until), *ring.former)))


def drop_former(path: Path) -> KeyRing:
    """Forget all keys but the newest. Raises StoreError."""
    return _replace(path, KeyRing(read_ring(path).newest))


def _line(line: str) -> FormerKey:
    key, *rest = line.split()
    raw = bytes.fromhex(key)
    if len(raw) != KEY_BYTES or len(rest) > 1 or not all(one.startswith(_UNTIL) for one in rest):
        raise ValueError("no key")
    return FormerKey(raw, datetime.fromisoformat(rest[0].removeprefix(_UNTIL)) if rest else None)


def _replace(path: Path, ring: KeyRing) -> KeyRing:
    _written(path, ring).rename(path)
    return ring


def _written(path: Path, ring: KeyRing) -> Path:
    made = path.with_name(f"{path.name}.{os.getpid()}.new")
    made.unlink(missing_ok=True)
    lines = [ring.newest.hex()]
    lines += [one.key.hex() + (f" {_UNTIL}{one.until.isoformat()}" if one.until else "") for one in ring.former]
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return made
