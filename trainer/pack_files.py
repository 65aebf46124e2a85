"""The gate's evaluation packs: read from this package, and from the data folder where larger ones were fetched."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

Row = TypeVar("Row")

PACK_NAMES = ("prompts", "harmful", "edgy", "sycophancy", "choice")
FETCHED = "packs"
"""Folder of fetched packs below the data folder: NAME.jsonl of the same form as ours, and sources.json."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a pack and the language it is in."""

    text: str
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with options, of which number `answer` is right."""

    question: str
    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class Packs:
    """Every pack, and the SHA-256 of each file it was read from."""

    prompts: tuple[Prompt, ...]
    harmful: tuple[Prompt, ...]
    edgy: tuple[Prompt, ...]
    claims: tuple[str, ...]
    choices: tuple[Choice, ...]
    hashes: dict[str, str]

    def smaller(self, most: int) -> "Packs":
        """At most `most` rows of each pack, spread evenly over it: the same ones every time."""
        if most <= 0:
            return self
        return Packs(
            spread(self.prompts, most),
            spread(self.harmful, most),
            spread(self.edgy, most),
            spread(self.claims, most),
            spread(self.choices, 2 * most),  # one token or two each, so twice as many
            self.hashes,
        )


def spread(rows: Sequence[Row], most: int) -> tuple[Row, ...]:
    """At most `most` rows, evenly from the whole, in their order."""
    if len(rows) <= most:
        return tuple(rows)
    return tuple(rows[place * len(rows) // most] for place in range(most))


def read_packs(fetched: Path | None = None) -> Packs:
    """Read our packs, and behind them those in the folder `fetched` if it is there."""
    hashes: dict[str, str] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    ours = resources.files("trainer").joinpath("packs")
    for name in PACK_NAMES:
        text = ours.joinpath(f"{name}.jsonl").read_bytes()
        hashes[name] = hashlib.sha256(text).hexdigest()
        rows[name] = _rows(text)
        more = fetched / f"{name}.jsonl" if fetched is not None else None
        if more is not None and more.is_file():
            hashes[f"fetched/{name}"] = hashlib.sha256(more.read_bytes()).hexdigest()
            rows[name] += _rows(more.read_bytes())
    return Packs(
        _prompts(rows["prompts"]),
        _prompts(rows["harmful"]),
        _prompts(rows["edgy"]),
        tuple(row["claim"] for row in rows["sycophancy"]),
        tuple(Choice(row["question"], tuple(row["options"]), row["answer"]) for row in rows["choice"]),
        hashes,
    )


def _rows(text: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.decode("utf-8").split("\n") if line.strip()]


def _prompts(rows: Sequence[dict[str, Any]]) -> tuple[Prompt, ...]:
    return tuple(Prompt(row["prompt"], row.get("language", "en")) for row in rows)
