"""What a training process tells its supervisor: one JSON object a line on its standard output.

{"event": "state", "state": "training", "detail": {...}}   where it stands
{"event": "metric", "step": 3, "values": {"loss": 0.41}}   points of the live curves
{"event": "sealed", "adapter_sha256": "…"}                 the candidate is on disk
{"event": "reward_model", "sha256": "…", "report": {...}}  a reward model is on disk, and how it stands to its bar
{"event": "gate", "report": {...}}                         what the gate found
{"event": "done", "metrics": {...}}                        the last line of a round that came to its end
{"event": "failed", "reason": "…"}                         the last line of one that did not
{"event": "refused", "reason": "…"}                        … of one that must not go on: its reward model is too weak
{"event": "cancelled"}                                     the last line of one that was told to stop
"""

import json
import math
from typing import Any, Protocol, TextIO

EVENT_NAMES = frozenset({"state", "metric", "sealed", "reward_model", "gate", "done", "failed", "refused", "cancelled"})


class Emit(Protocol):
    """Sends one event."""

    def __call__(self, event: str, **values: Any) -> None: ...


class EventWriter:
    """Writes events to a text stream, flushed one by one: a reader sees a step when it is done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: str, **values: Any) -> None:
        self._stream.write(json.dumps({"event": event, **_finite(values)}, allow_nan=False) + "\n")
        self._stream.flush()


def parse_event(line: str) -> dict[str, Any] | None:
    """Read one line; None when it is no event (a library's print, a line cut short by a kill)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and event.get("event") in EVENT_NAMES else None


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity: what is not a finite number is missing."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
