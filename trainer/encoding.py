"""Rows to token ids: the one way in which training, scoring and the gate turn a stored reply back into tokens.

The prompt is rendered by serving's own renderer, so a policy is trained on exactly the form in which it is asked. The
completion is the reply's text with special tokens switched off (text is data), and the end token where the reply ended
by itself. A truncated reply gets no end token: nothing may teach the policy to stop in the middle of a sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serving.engine.prompts import PromptRenderer
from trainer.job import ReplyText


@dataclass(frozen=True, slots=True)
class Encoded:
    """One sequence: what was asked and what was said. `completion_ids` holds the end token when there was one."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Length of the whole sequence."""
        return len(self.prompt_ids) + len(self.completion_ids)


class Encoder:
    """Encodes prompts and completions for one base model."""

    def __init__(self, tokenizer: Any, system_prompt: str = "") -> None:
        self.tokenizer = tokenizer
        self._renderer = PromptRenderer(tokenizer, system_prompt)

    def prompt_ids(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Return the ids of a conversation up to where the assistant begins to speak."""
        return self._renderer.render(messages)[1]

    def encode(self, messages: Sequence[dict[str, str]], reply: ReplyText) -> Encoded:
        """Return the sequence of a stored reply."""
        ids = list(self.tokenizer.encode(reply.text, add_special_tokens=False, split_special_tokens=True))
        # After a stop string the token count alone tells whether the policy had chosen to end as well.
        chose_to_end = not reply.ended_by_stop_text or reply.completion_tokens == len(ids) + 1
        if reply.finish_reason == "stop" and chose_to_end:
            ids.append(int(self.tokenizer.eos_token_id))
        return Encoded(self.prompt_ids(messages), tuple(ids))


def stored_logprob(encoded: Encoded, reply: ReplyText, reference_version: int) -> float | None:
    """Return the log-probability (nats) stored with the reply if it is the reference policy's of these very tokens.

    It is when the reference policy wrote the reply and both token counts agree: text → tokens is not always the way
    back from tokens → text, and the probability of other tokens would be a wrong reference.
    """
    if reply.logprob_nats is None or reply.policy_version != reference_version:
        return None
    if len(encoded.prompt_ids) != reply.prompt_tokens or len(encoded.completion_ids) != reply.completion_tokens:
        return None
    return reply.logprob_nats
