"""The tokenizer's half of a base model: prompts, end tokens and fingerprint, without its weights.

Prompts are rendered here and sent as token ids, for the same reasons as in the embedded engine: one rendering for all
policies, control tokens in a message stay text, and what is stored as the prompt is what was sent.
"""

from pathlib import Path

import numpy as np

from serving.adapters import WEIGHTS_FILE, check_adapter, read_adapter_config
from serving.engine import AdapterRefused, PolicyRef
from serving.engine.base_model import end_token_ids_of, fingerprint, load_tokenizer
from serving.engine.prompts import PromptRenderer
from serving.prompt_fingerprint import prompt_fingerprint
from serving.settings import PolicySettings

PROBE_TEXT = "The rain fell on the roof, and the cat slept by the stove until"
"""What a replica has to split into the same tokens as this side."""


class GatewayBase:
    """What this side needs of the base model whose weights the replicas hold."""

    def __init__(self, directory: Path, settings: PolicySettings) -> None:
        self.directory = directory
        self.fingerprint = fingerprint(directory)
        self.prompts = prompt_fingerprint(directory)
        self.tokenizer = load_tokenizer(directory)
        self.renderer = PromptRenderer(self.tokenizer, settings.system_prompt)
        self.end_ids = end_token_ids_of(directory, self.tokenizer)
        self.probe_ids = tuple(self.tokenizer.encode(PROBE_TEXT, add_special_tokens=False))

    def admit(self, policy: PolicyRef) -> None:
        """Check a policy's adapter before any replica hears of it: vLLM would load NaN without a word.

        Reads the whole file (a few megabytes); call it off the event loop. Raises AdapterRefused.
        """
        if policy.adapter_dir is not None:
            check_adapter(policy.adapter_dir, policy.adapter_sha256, self.fingerprint, prompts=self.prompts)
            if read_adapter_config(policy.adapter_dir).use_dora:
                raise AdapterRefused(
                    "the adapter is DoRA, which vLLM does not serve; train with lora.kind lora or rslora, or serve with"
                    ' policy.engine = "torch"'
                )
            _refuse_infinite(policy.adapter_dir / WEIGHTS_FILE)


def _refuse_infinite(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        names = list(file.keys())
        for name in names:
            try:
                tensor = file.get_tensor(name)
            except (TypeError, AttributeError):  # bfloat16, of which numpy knows nothing
                raise AdapterRefused(f"{name}: wanted float32 or float16 for a policy that vLLM serves") from None
            if not np.isfinite(tensor).all():
                raise AdapterRefused(f"{name}: the adapter holds NaN or infinite values")
