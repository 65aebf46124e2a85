"""The file of a backup: a zip whose last member says what is in it, with the size and SHA-256 of every other one.

Data alone: rows as JSON lines, safetensors, a bot's SQLite file, keys, the settings. Names are those of a short list of
forms, so that nothing in a file can choose where it is put. The file is made for its owner alone (mode 0600) and
appears under its name when it is whole.
"""

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from feedback_store.errors import Refused

FORMAT = 1
MANIFEST = "manifest.json"
_BLOCK = 1 << 20
_NAME = re.compile(
    r"tables/[a-z_]{1,64}\.jsonl"
    r"|(adapters|rewards)/[0-9a-f]{64}/(adapter_model\.safetensors|head\.safetensors|adapter_config\.json|manifest\.json)"
    r"|keys/(rater\.key|admin\.token)"
    r"|bots/([a-z0-9][a-z0-9_-]{0,63}\.db|buttons\.key)"
    r"|thumbwise\.toml"
)
_INCOMPRESSIBLE = ".safetensors"


class BackupRefused(Refused):
    """A file is no backup that can be restored here; the message says why."""

    def __init__(self, message: str) -> None:
        super().__init__("backup", message)


@dataclass(frozen=True, slots=True)
class FileToKeep:
    """A file beside the store. `name`: where it stands in the backup; `secret`: whoever has it can do harm with it."""

    name: str
    path: Path
    secret: bool = False


class ArchiveWriter:
    """A backup that is being written."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self.members: dict[str, dict[str, Any]] = {}

    def add_lines(self, name: str, lines: Iterable[str]) -> int:
        """Add a member of these lines, and return how many there were."""
        count = 0

        def blocks() -> Iterator[bytes]:
            nonlocal count
            for line in lines:
                count += 1
                yield line.encode()

        self._add(name, blocks(), {})
        return count

    def add_file(self, one: FileToKeep) -> None:
        """Add a file. Raises OSError where it cannot be read."""
        with one.path.open("rb") as source:
            self._add(one.name, iter(lambda: source.read(_BLOCK), b""), {"secret": True} if one.secret else {})

    def _add(self, name: str, blocks: Iterable[bytes], more: dict[str, Any]) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a backup's member")
        digest, size = hashlib.sha256(), 0
        with self._file.open(_info(name), "w", force_zip64=True) as member:
            for block in blocks:
                digest.update(block)
                size += len(block)
                member.write(block)
        self.members[name] = {"size": size, "sha256": digest.hexdigest(), **more}

    def finish(self, manifest: dict[str, Any]) -> None:
        """Add what says what is in it."""
        whole = {"format": FORMAT, **manifest, "members": self.members}
        with self._file.open(_info(MANIFEST), "w") as member:
            member.write(json.dumps(whole, indent=1, ensure_ascii=False).encode())


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_STORED if name.endswith(_INCOMPRESSIBLE) else zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    return info


@contextmanager
def writing(target: Path) -> Iterator[ArchiveWriter]:
    """A backup that appears as `target` when the block ends well. Raises FileExistsError where one is there."""
    if target.exists():
        raise FileExistsError(f"{target} is there already; wanted: a new name for a backup")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as raw:
            with zipfile.ZipFile(raw, "w", compresslevel=6) as file:
                yield ArchiveWriter(file)
            raw.flush()
            os.fsync(raw.fileno())
        part.rename(target)
        sync(target.parent)
    finally:
        part.unlink(missing_ok=True)


class Archive:
    """A backup to read. Use it in a with statement. Raises BackupRefused for what is none, or of a newer program."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise BackupRefused(f"{path} is no whole backup: {error}; wanted a file of `thumbwise backup`") from error
        try:
            self.manifest: dict[str, Any] = json.loads(self._file.read(MANIFEST))
            self.members: dict[str, dict[str, Any]] = self.manifest["members"]
            present = int(self.manifest["format"])
        except (KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
            self._file.close()
            raise BackupRefused(f"{path} has no {MANIFEST} that can be read: it is no backup of ours") from error
        if present != FORMAT:
            self._file.close()
            raise BackupRefused(f"{path} is of format {present}, this program reads {FORMAT}; use a newer thumbwise")

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def verify(self) -> None:
        """Read everything once. Raises BackupRefused unless every member is there, named as ours are, and unchanged."""
        present = set(self._file.namelist()) - {MANIFEST}
        if unknown := sorted(present.symmetric_difference(self.members)):
            raise BackupRefused(f"the backup and its manifest differ: {', '.join(unknown[:5])}")
        for name, wanted in self.members.items():
            if not _NAME.fullmatch(name):
                raise BackupRefused(f"{name!r} is no name of a backup's member")
            digest, size = hashlib.sha256(), 0
            try:
                with self._file.open(name) as member:
                    while block := member.read(_BLOCK):
                        digest.update(block)
                        size += len(block)
            except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
                raise BackupRefused(f"{name} in the backup cannot be read: {error}") from error
            if (size, digest.hexdigest()) != (wanted["size"], wanted["sha256"]):
                raise BackupRefused(f"{name} in the backup is not what was written: its SHA-256 differs")

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of a member."""
        with self._file.open(name) as member:
            for line in member:
                yield line.decode()

    def read(self, name: str) -> bytes:
        """Return a member whole."""
        return self._file.read(name)

    def extract(self, name: str, target: Path) -> None:
        """Write a member to a new file, mode 0600, and see it onto the disk."""
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, self._open(name) as member:
            shutil.copyfileobj(member, file, _BLOCK)
            file.flush()
            os.fsync(file.fileno())

    def _open(self, name: str) -> IO[bytes]:
        return self._file.open(name)


def sync(folder: Path) -> None:
    """See a folder's entries onto the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
