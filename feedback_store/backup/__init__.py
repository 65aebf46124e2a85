"""A backup of the running product as one file, and the way back, into SQLite or PostgreSQL whichever it came from.

One format for both databases, and one way to write it: the rows of our tables, read in one transaction that sees one
moment (`tables.py`), in a zip beside the sealed adapters, the keys and the settings, each with its SHA-256
(`archive.py`). A copy of SQLite's pages would be quicker, but it could not be restored into PostgreSQL, would carry
deleted texts in its free pages, and would be a second thing to test; a read that lasts as long holds back the same log.

Restoring (`restoring.py`) is one transaction of the database; files wait beside until it has committed, and the next
start finishes what a crash cut short.
"""

from feedback_store.backup.archive import Archive, BackupRefused, FileToKeep
from feedback_store.backup.making import Snapshot, make_backup
from feedback_store.backup.restoring import finish_restore, restore

__all__ = ["Archive", "BackupRefused", "FileToKeep", "Snapshot", "finish_restore", "make_backup", "restore"]
