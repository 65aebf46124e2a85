"""Print the entries of a lock file, hashes and all, for the packages that a list names: `part_of_lock.py LIST LOCK`.

So the bots' image is built from the same lock as everything else, without the gigabytes that only an engine needs.
tests/house holds the list to what the package's own metadata ask for.
"""

import re
import sys
from pathlib import Path


def names_of(text: str) -> set[str]:
    """Return the names in a list: one a line, # begins a comment."""
    return {line.partition("#")[0].strip() for line in text.splitlines()} - {""}


def part_of(lock: str, names: set[str]) -> str:
    """Return the entries of `names`. Raises ValueError when one is not locked."""
    entries = re.split(r"\n(?=[a-z0-9])", lock.strip())
    wanted = [entry for entry in entries if entry.partition("==")[0] in names]
    missing = names - {entry.partition("==")[0] for entry in wanted}
    if missing:
        raise ValueError(f"not in the lock: {', '.join(sorted(missing))}; correct the list, or lock them")
    return "\n".join(wanted) + "\n"


if __name__ == "__main__":
    print(part_of(Path(sys.argv[2]).read_text("utf-8"), names_of(Path(sys.argv[1]).read_text("utf-8"))), end="")
