"""What requirements.lock pins, and torch, which pyproject.toml alone pins: for the audit and the bill of materials."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"


@dataclass(frozen=True, slots=True)
class Package:
    """One pinned package. `marker`: the machines that it is for, "" being all; `sha256`: of every file of it that may
    be installed, none for torch, whose file differs by machine."""

    name: str
    version: str
    marker: str = ""
    sha256: tuple[str, ...] = ()


def locked_packages(lock: str, project: str) -> list[Package]:
    """Return all of them by name. Raises ValueError for an entry that pins nothing, or where torch is not pinned."""
    found = [_package(entry) for entry in re.split(r"\n(?=[a-z0-9])", lock.strip())]
    torch = re.search(r'"torch==([0-9.]+)"', project)
    if torch is None:
        raise ValueError("pyproject.toml pins no torch; wanted: torch==VERSION in the extra of serving")
    return sorted([*found, Package("torch", torch[1])], key=lambda one: (one.name, one.version))


def read_locked() -> list[Package]:
    """Return those of this checkout."""
    return locked_packages(LOCK.read_text(encoding="utf-8"), PROJECT.read_text(encoding="utf-8"))


def plain_name(name: str) -> str:
    """Write a package's name as the lock does: some-package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _package(entry: str) -> Package:
    head = re.match(r"([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)(?:\s*;\s*([^\\\n]*))?", entry)
    if head is None:
        raise ValueError(f"the lock's entry {entry.splitlines()[0][:80]!r} pins nothing; wanted: name==version")
    hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
    return Package(plain_name(head[1]), head[2], (head[3] or "").strip(), hashes)
