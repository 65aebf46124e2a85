"""Turning a growing list of token ids into text that can be sent: whole characters only, nothing past a stop string."""

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"


class TextStream:
    """The text of one reply as it grows. `push` returns what may be shown; `finish` what was held back.

    A piece is held back while it ends inside a multi-byte character or in the beginning of a stop string. When a stop
    string is complete, `stopped` is set and neither it nor anything after it is ever shown.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(text for text in stop if text)
        self._ids: list[int] = []
        self._context, self._read = 0, 0
        self._held = ""
        self.text = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Add one token; return the new text that may be shown (possibly empty)."""
        self._ids.append(token_id)
        known = self._decode(self._ids[self._context : self._read])
        grown = self._decode(self._ids[self._context :])
        if grown.endswith(_REPLACEMENT) and len(self._ids) - self._read < 8:  # an unfinished multi-byte character
            return ""
        self._context, self._read = self._read, len(self._ids)
        return self._release(grown[len(known) :])

    def finish(self) -> str:
        """Return what was held back, now that no token follows."""
        if self.stopped:
            return ""
        known = self._decode(self._ids[self._context : self._read])
        rest = self._held + self._decode(self._ids[self._context :])[len(known) :]
        self._held = ""
        self._read = len(self._ids)
        self.text += rest
        return rest

    def _release(self, piece: str) -> str:
        pending = self._held + piece
        ends = [place for place in (pending.find(stop) for stop in self._stop) if place >= 0]
        if ends:
            self.stopped = True
            shown, self._held = pending[: min(ends)], ""
        else:
            keep = max((_overlap(pending, stop) for stop in self._stop), default=0)
            shown, self._held = pending[: len(pending) - keep], pending[len(pending) - keep :]
        self.text += shown
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
