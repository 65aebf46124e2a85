"""What a look of `thumbwise doctor` found."""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One look. note: worth knowing; bad: something will not work or is not safe; `do` says what helps."""

    what: str
    state: Literal["ok", "note", "bad"]
    found: str
    do: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)
