"""A draw as OpenAI's JSON: the whole completion, and the chunks of a stream, with our receipts beside."""

from typing import Any

from serving.api.chat_body import MODEL_NAME
from serving.api.drawing import Candidate, Draw


def completion(draw: Draw) -> dict[str, Any]:
    """Return the chat.completion object. A reply id is null if the store was away: then it could not be rated."""
    return {
        "id": draw.completion_id,
        "object": "chat.completion",
        "created": draw.created_unix_s,
        "model": MODEL_NAME,
        "choices": [
            {
                "index": candidate.index,
                "message": {"role": "assistant", "content": candidate.text, "refusal": None},
                "finish_reason": _finish_reason(candidate),
                "logprobs": None,
                "reply_id": candidate.reply_id if draw.stored else None,
                "policy_version": candidate.stream.policy.version,
            }
            for candidate in draw.candidates
        ],
        "usage": usage(draw),
        "comparison_id": draw.comparison_id if draw.stored else None,
        "conversation_id": draw.conversation_id,
        "policy_version": draw.policy_versions[0],
    }


def usage(draw: Draw) -> dict[str, int]:
    """Count tokens; the prompt once, however many candidates share it."""
    return {
        "prompt_tokens": draw.prompt_tokens,
        "completion_tokens": draw.completion_tokens,
        "total_tokens": draw.prompt_tokens + draw.completion_tokens,
    }


def receipts(draw: Draw) -> dict[str, Any]:
    """Return what the last chunk of a stream carries in `thumbwise`."""
    return {
        "reply_ids": [candidate.reply_id for candidate in draw.candidates] if draw.stored else [],
        "comparison_id": draw.comparison_id if draw.stored else None,
        "conversation_id": draw.conversation_id,
        "policy_version": draw.policy_versions[0],
        "policy_versions": list(draw.policy_versions),
    }


class Chunks:
    """Writes the chunks of one stream. With `include_usage` every chunk has a usage, null but in the last."""

    def __init__(self, draw: Draw, include_usage: bool) -> None:
        self.draw, self.include_usage = draw, include_usage
        self.head = {
            "id": draw.completion_id,
            "object": "chat.completion.chunk",
            "created": draw.created_unix_s,
            "model": MODEL_NAME,
        }

    def opening(self, index: int) -> dict[str, Any]:
        """Say that an assistant speaks in choice `index`."""
        return self._chunk(index, {"role": "assistant", "content": ""})

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """Carry new text of choice `index`."""
        return self._chunk(index, {"content": text})

    def closing(self, candidate: Candidate, last: bool) -> dict[str, Any]:
        """Say how a choice ended; the last one also carries the receipts."""
        chunk = self._chunk(candidate.index, {}, _finish_reason(candidate))
        return {**chunk, "thumbwise": receipts(self.draw)} if last else chunk

    def usage(self) -> dict[str, Any]:
        """Carry the token counts, after every choice has ended."""
        return {**self.head, "choices": [], "usage": usage(self.draw)}

    def _chunk(self, index: int, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return {**self.head, "choices": [choice], **({"usage": None} if self.include_usage else {})}


def _finish_reason(candidate: Candidate) -> str | None:
    """OpenAI's clients know stop and length; a cancelled reply has no reader left but must not read as whole."""
    return candidate.end.finish_reason if candidate.end else None
