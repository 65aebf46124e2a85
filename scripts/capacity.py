"""The capacity tables of docs/operations.md: derived from benchmarks/results and a few assumptions that it names.

They are arithmetic, not a measurement, and say so. A figure that no result holds leaves its cells empty: nothing is
guessed. scripts/measured.py writes it, so that it changes with the measurements.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OPERATIONS = Path(__file__).parent.parent / "docs" / "operations.md"
BEGIN, END = "<!-- capacity:begin -->", "<!-- capacity:end -->"
REPLY_TOKENS = 64
"""Tokens of a reply, as in the measurements of serving and sharing."""
LOAD = 0.5
"""Part of the measured most that is planned with: queues grow without bound near the whole of it."""
MESSAGE_EVERY_S = 60.0
"""How often somebody who is chatting sends a message."""
MESSAGES_A_DAY = 10
"""Messages of one person a day."""
BUSIEST_HOUR = 0.15
"""Part of a day's messages that fall into its busiest hour."""
VOTES_A_REPLY = 0.1
"""Votes for each reply."""
ROUND_THUMBS = 200
"""Thumbs that KTO asks for (rounds.min_thumbs)."""
GATEWAY_REPLIES_S = 200.0
"""Rate at which bench-gateway measures; its rows name it."""
RATERS_BEGIN, RATERS_END = "<!-- raters:begin -->", "<!-- raters:end -->"
SIZES = (10_000, 100_000, 1_000_000)
DAYS_OF_A_MONTH = 30
REPLIES_A_RATER = 1.1
"""In the stores that bench-capacity fills."""
TRAINED = 0.85 * 0.85
"""Part of the votes that neither their rater nor their prompt holds out."""


def filled(text: str, results: list[dict[str, Any]]) -> str:
    """Return `text` with the tables between their marks. Raises ValueError when a mark is missing."""
    text = _between(text, BEGIN, END, table(results))
    return _between(text, RATERS_BEGIN, RATERS_END, raters_table(results))


def _between(text: str, begin: str, end: str, filling: str) -> str:
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"docs/operations.md must hold {begin} and {end} exactly once each")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{filling}{end}{rest.partition(end)[2]}"


def table(results: list[dict[str, Any]]) -> str:
    """Return the table: what is planned with for each way to serve, a column each."""
    alone = _figure_of(results, "serving", "16 streams; transformers generate, adapter merged")
    beside = _figure_of(results, "sharing", "chat at 16 streams")
    through = GATEWAY_REPLIES_S if _figure_of(results, "gateway", "99 % of the replies at 200/s") is not None else None
    most = [rate and rate / REPLY_TOKENS for rate in (alone, beside)] + [through]
    planned = [rate and rate * LOAD for rate in most]
    people = [rate and rate * 3600 / (MESSAGES_A_DAY * BUSIEST_HOUR) for rate in planned]
    votes = [count and count * MESSAGES_A_DAY * VOTES_A_REPLY for count in people]
    rows = [
        ("replies a second at most (measured, or tokens a second / 64)", most),
        ("… planned with: half of it", planned),
        ("people who chat at the same time", [rate and rate * MESSAGE_EVERY_S for rate in planned]),
        ("people a day", people),
        ("votes a day", votes),
        ("hours until a round has its 200 thumbs", [count and ROUND_THUMBS / count * 24 for count in votes]),
    ]
    head = "| derived, not measured | engine alone | while a round trains beside it | gateway before vLLM |\n"
    lines = [f"| {name} | {' | '.join(map(_cell, values))} |" for name, values in rows]
    return head + "| --- | --- | --- | --- |\n" + "\n".join(lines) + "\n"


def raters_table(results: list[dict[str, Any]]) -> str:
    """Return what so many raters bring and cost: a column for each size of store that bench-capacity fills."""
    alone = _figure_of(results, "serving", "16 streams; transformers generate, adapter merged")
    drawn = alone and alone / REPLY_TOKENS
    through = _figure_of(results, "gateway", "99 % of the replies at 200/s") and GATEWAY_REPLIES_S
    kto_rows_s = _figure_of(results, "training", "KTO as a round runs it")
    votes = [size * MESSAGES_A_DAY * VOTES_A_REPLY for size in SIZES]
    busiest = [size * MESSAGES_A_DAY * BUSIEST_HOUR / 3600 for size in SIZES]

    def measured(case: str) -> list[float | None]:
        return [_figure_of(results, "capacity", f"{size:,} raters: {case}") for size in SIZES]

    looks = [measured(case) for case in ("readiness", "false feedback looked for", "a round's selection")]
    replies = [size * MESSAGES_A_DAY * DAYS_OF_A_MONTH / (REPLIES_A_RATER * size) for size in SIZES]
    rows: list[tuple[str, Sequence[float | None]]] = [
        ("votes a day", votes),
        ("replies a second in the busiest hour", busiest),
        ("… servers that draw them with the bundled model", [_servers(rate, drawn) for rate in busiest]),
        ("… gateways, where vLLM draws them", [_servers(rate, through) for rate in busiest]),
        (
            "a day's votes in one round: minutes to judge and select them (measured)",
            [_minutes(parts) for parts in zip(*looks, strict=True)],
        ),
        (
            "… minutes of KTO over them on two cores",
            [kto_rows_s and count * TRAINED / kto_rows_s / 60 for count in votes],
        ),
        (
            "… most memory of a process that reads them, GiB (measured)",
            [mib and mib / 1024 for mib in measured("most memory")],
        ),
        (
            "database after a month, GiB",
            [mib and mib * times / 1024 for mib, times in zip(measured("database"), replies, strict=True)],
        ),
    ]
    lines = [f"| {name} | {' | '.join(map(_cell, values))} |" for name, values in rows]
    head = " | ".join(f"{size:,} raters" for size in SIZES)
    return f"| derived where it does not say measured | {head} |\n| --- | --- | --- | --- |\n" + "\n".join(lines) + "\n"


def _servers(rate: float, most: float | None) -> float | None:
    return None if most is None else max(1.0, math.ceil(rate / (most * LOAD)))


def _minutes(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) / 60 if len(known) == len(parts) else None


def _figure_of(results: list[dict[str, Any]], benchmark: str, case: str) -> float | None:
    rows = [row for result in results if result["name"] == benchmark for row in result["rows"]]
    return next((float(row["ours"]) for row in rows if row["case"].startswith(case)), None)


def _cell(value: float | None) -> str:
    """Two digits are all that the assumptions are good for."""
    if value is None:
        return "–"
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"
