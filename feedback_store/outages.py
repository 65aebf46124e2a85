"""Telling a database that is away from a statement that is wrong: the drivers raise one error for both."""

import sqlite3

from sqlalchemy import exc

from feedback_store.errors import StoreUnavailable, Unconfirmed

# SQLite's primary result codes that say something about the machine. SQLITE_READONLY is among them: a disk with faults
# is remounted read-only.
_OUTAGES = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_NOMEM")
_READONLY = "SQLITE_READONLY"


def is_locked(error: BaseException) -> bool:
    """True when another program holds SQLite's lock: waiting helps."""
    return _code(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def outage_of(error: BaseException) -> StoreUnavailable | None:
    """Return what to tell the caller when the database is locked, full or away; None when the statement is at fault."""
    if isinstance(error, exc.TimeoutError):
        return StoreUnavailable("every connection to the database is busy; try again")
    if not isinstance(error, exc.OperationalError):
        return _away(error) if isinstance(error, exc.DBAPIError) and error.connection_invalidated else None
    code = _code(error)
    if code.startswith(_OUTAGES) or code.startswith(_READONLY):
        if is_locked(error):
            return StoreUnavailable("the database is locked by another program; nothing was stored, try again")
        if code.startswith("SQLITE_FULL"):
            return StoreUnavailable("the disk of the database is full; nothing was stored, make room and try again")
        return StoreUnavailable(f"the database cannot be used ({code}); nothing was stored, try again")
    if isinstance(error.orig, sqlite3.Error):
        return None
    if "No space left" in str(error.orig):
        return StoreUnavailable("the disk of the database is full; nothing was stored, make room and try again")
    return _away(error)


def _away(error: exc.DBAPIError) -> StoreUnavailable:
    name = type(error.orig).__name__
    if error.connection_invalidated:  # it may have ended between a commit and its confirmation
        return Unconfirmed(
            f"the connection to the database was lost ({name}); whether it was stored is unknown, try again"
        )
    return StoreUnavailable(f"the database does not answer ({name}); nothing was stored, try again")


def _code(error: BaseException) -> str:
    orig = getattr(error, "orig", None)
    return str(getattr(orig, "sqlite_errorname", ""))
