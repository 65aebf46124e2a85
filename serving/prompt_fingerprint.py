"""What decides which tokens a conversation becomes: tokenizer and chat template, each named by a hash.

An adapter has learnt on prompts of one form. The base model's fingerprint changes with either of them as well; these
two say which it was.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")


@dataclass(frozen=True, slots=True)
class PromptFingerprint:
    """The first 32 hexadecimal digits of SHA-256 each."""

    tokenizer: str
    chat_template: str


def prompt_fingerprint(directory: Path) -> PromptFingerprint:
    """Read both from a model's directory. A part that is not there counts as empty."""
    tokenizer = hashlib.sha256()
    for name in _TOKENIZER_FILES:
        path = directory / name
        data = path.read_bytes() if path.is_file() else b""
        tokenizer.update(name.encode() + len(data).to_bytes(8, "little") + data)
    return PromptFingerprint(tokenizer.hexdigest()[:32], hashlib.sha256(_template(directory)).hexdigest()[:32])


def _template(directory: Path) -> bytes:
    """A file of its own, as transformers saves it today, or a key of the tokenizer's config, as it did before."""
    own = directory / "chat_template.jinja"
    if own.is_file():
        return own.read_bytes()
    config = directory / "tokenizer_config.json"
    found = json.loads(config.read_text()).get("chat_template", "") if config.is_file() else ""
    return (found if isinstance(found, str) else json.dumps(found, sort_keys=True)).encode()
