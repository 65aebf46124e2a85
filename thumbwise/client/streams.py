"""A streamed answer, read from its server-sent events into pieces of text and one end with the receipts."""

import json

from thumbwise.client.errors import ApiError, ThumbwiseError
from thumbwise.client.results import StreamEnd, StreamPiece


class StreamReader:
    """Feed it the lines of the response; it gives back what each line means. One reader a stream."""

    def __init__(self) -> None:
        self._reasons: dict[int, str] = {}
        self.ended = False

    def feed(self, line: str) -> StreamPiece | StreamEnd | None:
        """Read one line: a piece, the end, or nothing. Raises ApiError when the server broke the stream off."""
        if not line.startswith("data:"):
            return None
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return None
        chunk = json.loads(data)
        if "error" in chunk:
            raise ApiError(500, str(chunk["error"].get("message", "the reply broke off")), body=chunk)
        piece = None
        for choice in chunk.get("choices", ()):
            if choice.get("finish_reason"):
                self._reasons[choice["index"]] = choice["finish_reason"]
            if text := choice.get("delta", {}).get("content"):
                piece = StreamPiece(choice["index"], text)
        if receipts := chunk.get("thumbwise"):
            self.ended = True
            return StreamEnd(
                finish_reasons=tuple(self._reasons[index] for index in sorted(self._reasons)),
                reply_ids=tuple(receipts.get("reply_ids", ())),
                policy_version=receipts["policy_version"],
                conversation_id=receipts.get("conversation_id"),
                comparison_id=receipts.get("comparison_id"),
                policy_versions=tuple(receipts.get("policy_versions", ())),
            )
        return piece

    def close(self) -> None:
        """Raise ThumbwiseError unless the end was read: the connection broke in mid-reply."""
        if not self.ended:
            raise ThumbwiseError("the connection broke before the reply ended")
