"""An adapter that changes nothing, as which vLLM serves the base model.

On a processor vLLM gives a request without an adapter the changes of the last adapter in memory whenever both are in
one batch: its operators take the index -1, which means none, for the last one (vllm-project/vllm#48421, open in
2026-11). A reply of the base model beside those of an adapter was then of neither, with no word said. A request that
names a blank adapter has an index of its own, and zero is added to its products. It costs what any adapter costs.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from serving.adapters import CONFIG_FILE, WEIGHTS_FILE, seal_adapter
from serving.engine import PolicyRef
from serving.engine.vllm.base import GatewayBase

_PATH = "model.layers.0.self_attn.q_proj"
_RANK = 8
"""vLLM's smallest."""


def blank_policy(base: GatewayBase, adapters_dir: Path) -> PolicyRef | None:
    """Seal a blank adapter in `adapters_dir`, or find it there; None for a model without a layer of the usual name."""
    shape = _shape_of(base.directory, f"{_PATH}.weight")
    if shape is None:
        return None
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": _RANK,
        "lora_alpha": _RANK,
        "target_modules": ["q_proj"],
        "layers_to_transform": [0],
        "bias": "none",
    }
    tensors = {
        f"base_model.model.{_PATH}.lora_A.weight": np.zeros((_RANK, shape[1]), np.float32),
        f"base_model.model.{_PATH}.lora_B.weight": np.zeros((shape[0], _RANK), np.float32),
    }
    with tempfile.TemporaryDirectory() as scratch:
        save_file(tensors, Path(scratch) / WEIGHTS_FILE)
        (Path(scratch) / CONFIG_FILE).write_text(json.dumps(config))
        sha256 = seal_adapter(
            Path(scratch), adapters_dir, base_model=base.fingerprint, parent=None, round_id=None, prompts=base.prompts
        )
    return PolicyRef(1, sha256, adapters_dir / sha256)


def _shape_of(directory: Path, name: str) -> tuple[int, int] | None:
    """The shape of a tensor of the checkpoint, from the files' headers; None where it is not there."""
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            if name in file.keys():  # noqa: SIM118 - no mapping, it only looks like one
                rows, columns = file.get_slice(name).get_shape()
                return rows, columns
    return None
