"""What the store may raise; each is also the standard error that fits it.

StoreError
├── NotFound (LookupError)      no such record
├── Conflict (ValueError)       the record is not in the state that the act needs, or somebody was first
├── Refused (ValueError)        the data breaks a rule: the message names field, value, wanted
└── StoreUnavailable (OSError)  locked, full or away for longer than the bounded wait: nothing was stored
    └── Unconfirmed             no answer in time: it may be stored yet, and a repetition under its key counts once
"""


class StoreError(Exception):
    """Root of the tree."""


class NotFound(StoreError, LookupError):
    """No such record."""


class Conflict(StoreError, ValueError):
    """The record is not in the state that the act needs (stale page, double click, lost lease)."""


class Refused(StoreError, ValueError):
    """The data breaks a rule of the store; nothing was stored. `field` names what was wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class StoreUnavailable(StoreError, OSError):
    """The database is locked, full or away: nothing was stored, the caller may try again."""


class Unconfirmed(StoreUnavailable):
    """The database did not answer in time. Whether the write was or will be stored is unknown: repeat it as it was."""
