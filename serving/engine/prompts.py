"""Messages to prompt: one rendering for serving, training and the gate, so that no policy is judged on another form.

Control tokens belong to the template alone. A message that spells one (`<|im_end|>` typed by a user) would otherwise
end its own turn and begin a forged one; its text is encoded with special tokens switched off, so it stays text.
"""

import re
from collections.abc import Sequence
from typing import Any

from feedback_store.records import Message


class PromptRenderer:
    """Renders messages through a tokenizer's chat template. Holds no state of a conversation; thread-safe."""

    def __init__(self, tokenizer: Any, system_prompt: str = "") -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError("the base model has no chat template; choose an instruct model for policy.base_model")
        self._tokenizer = tokenizer
        self._system_prompt = system_prompt
        controls = sorted(set(tokenizer.all_special_tokens), key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, controls))) if controls else None

    def render(self, messages: Sequence[Message]) -> tuple[str, tuple[int, ...]]:
        """Return the prompt as text and token ids, ending where the assistant begins to speak."""
        turns = [dict(message) for message in messages]
        if self._system_prompt and (not turns or turns[0]["role"] != "system"):
            turns.insert(0, {"role": "system", "content": self._system_prompt})
        text = self._template(turns)
        if self._controls is None or not any(self._controls.search(turn["content"]) for turn in turns):
            return text, tuple(self._encode(text, specials=True))
        return text, tuple(self._encode_with_inert_contents(turns))

    def _encode_with_inert_contents(self, turns: list[dict[str, str]]) -> list[int]:
        marked = [{**turn, "content": f"\ue000{place}\ue001"} for place, turn in enumerate(turns)]
        ids: list[int] = []
        for piece in re.split(r"(\ue000\d+\ue001)", self._template(marked)):
            if piece.startswith("\ue000"):
                ids += self._encode(turns[int(piece[1:-1])]["content"], specials=False)
            elif piece:
                ids += self._encode(piece, specials=True)
        return ids

    def _template(self, turns: list[dict[str, str]]) -> str:
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _encode(self, text: str, *, specials: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not specials))
