"""The capacity table of docs/operations.md: derived from benchmarks/results and a few assumptions that it names.

It is arithmetic, not a measurement, and says so. A figure that no result holds leaves its cells empty: nothing is
guessed. scripts/measured.py writes it, so that it changes with the measurements.
"""

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


def filled(text: str, results: list[dict[str, Any]]) -> str:
    """Return `text` with the table between its marks. Raises ValueError when a mark is missing."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"docs/operations.md must hold {BEGIN} and {END} exactly once each")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table(results)}{END}{rest.partition(END)[2]}"


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


def _figure_of(results: list[dict[str, Any]], benchmark: str, case: str) -> float | None:
    rows = [row for result in results if result["name"] == benchmark for row in result["rows"]]
    return next((float(row["ours"]) for row in rows if row["case"].startswith(case)), None)


def _cell(value: float | None) -> str:
    """Two digits are all that the assumptions are good for."""
    if value is None:
        return "–"
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"
