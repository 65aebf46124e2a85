"""What is still missing for a method, in numbers that can be gathered: "47 more thumbs, 12 of them down".

Thumbs are asked for by three thresholds at once (how many, how many of the rarer kind, which share of it), so what is
missing of them is one sentence: the fewest further thumbs after which all three hold.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

THUMBS = ("thumbs", "rarer thumbs", "share of rarer thumbs")
LABELS = "labels on the pairs a reward model is least sure of"
_MORE: Mapping[str, tuple[str, str]] = {
    "raters": ("rater", "raters"),
    "prompts": ("prompt", "prompts"),
    "approved corrections": ("approved correction", "approved corrections"),
    "authors of corrections": ("author of corrections", "authors of corrections"),
    "pairs": ("choice between two replies", "choices between two replies"),
    "prompts of pairs": ("prompt with a choice", "prompts with a choice"),
    "comparisons": ("comparison", "comparisons"),
    "held-out comparisons": ("held-out comparison", "held-out comparisons"),
}
"""Requirements that are counts of something that people can bring: one of them, several."""


class Threshold(Protocol):
    """One threshold of readiness."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def wanted(self) -> float: ...
    @property
    def at_most(self) -> bool: ...
    @property
    def met(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that is missing. `more`: how many of it; None where it is no count (an accuracy)."""

    name: str
    words: str
    more: int | None = None
    kind: Literal["up", "down"] | None = None
    """Of thumbs: the rarer kind …"""
    of_kind: int = 0
    """… and how many of the `more` must be of it."""


def missing_of(requirements: Sequence[Threshold], *, up: int, down: int, purpose: str = "") -> tuple[Missing, ...]:
    """Say what unmet requirements lack. up, down: the thumbs there are; purpose: what labels were asked for."""
    unmet = [item for item in requirements if not item.met]
    found: list[Missing] = []
    if any(item.name in THUMBS for item in unmet):
        wanted = {item.name: item.wanted for item in requirements}
        found.append(_thumbs(up, down, *(wanted.get(name, 0.0) for name in THUMBS)))
    for item in unmet:
        if item.name in THUMBS:
            continue
        found.append(_one(item, purpose))
    return tuple(found)


def further_thumbs(up: int, down: int, least: float, rarer: float, share: float) -> tuple[int, int]:
    """Return (n, r): the fewest further thumbs n, of which r of the rarer kind, after which there are `least` thumbs,
    `rarer` of the rarer kind, and that kind holds `share` of all."""
    minority, total = min(up, down), up + down
    of_kind = max(0, math.ceil(rarer) - minority)
    while True:
        more = max(0, math.ceil(least) - total, of_kind)
        if minority + of_kind >= share * (total + more) - 1e-9:
            return more, of_kind
        of_kind += 1


def _thumbs(up: int, down: int, least: float, rarer: float, share: float) -> Missing:
    more, of_kind = further_thumbs(up, down, least, rarer, share)
    kind: Literal["up", "down"] = "up" if up < down else "down"
    said = f"{more} more thumb{'s' if more != 1 else ''}"
    if 0 < of_kind < more:
        said += f", {of_kind} of them {kind}"
    elif of_kind:
        said += f", {'all ' if more > 1 else ''}{kind}"
    return Missing("thumbs", said, more, kind if of_kind else None, of_kind)


def _one(item: Threshold, purpose: str) -> Missing:
    if item.name == LABELS:
        return Missing(
            item.name,
            f"{item.value:g} of {item.wanted:g} labels {purpose}".rstrip(),
            math.ceil(item.wanted - item.value),
        )
    if item.name in _MORE:
        more = math.ceil(item.wanted - item.value)
        return Missing(item.name, f"{more} more {_MORE[item.name][more != 1]}", more)
    bound = "at most" if item.at_most else "at least"
    return Missing(item.name, f"{item.name} {item.value:.3g}, wanted {bound} {item.wanted:.3g}")
