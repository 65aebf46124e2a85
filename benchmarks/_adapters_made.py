"""Random sealed adapters, made without training: for measuring and testing what is done with an adapter."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from serving.adapters import seal_adapter
from serving.engine import PolicyRef
from serving.engine.base_model import fingerprint
from serving.prompt_fingerprint import prompt_fingerprint

MODULES = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


def write_adapter(directory: Path, model_dir: Path, *, seed: int, rank: int = 4, size: float = 0.15) -> Path:
    """Write an adapter as peft would, with random matrices of standard deviation `size`, for two upper layers."""
    config = json.loads((model_dir / "config.json").read_text())
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    shapes = {
        "self_attn.q_proj": (config["num_attention_heads"] * head_dim, config["hidden_size"]),
        "self_attn.v_proj": (config["num_key_value_heads"] * head_dim, config["hidden_size"]),
        "mlp.down_proj": (config["hidden_size"], config["intermediate_size"]),
    }
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    layers = range(config["num_hidden_layers"] // 2, config["num_hidden_layers"])
    for layer in layers:
        for module, (out_features, in_features) in shapes.items():
            stem = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(rank, in_features, generator=generator) * size
            tensors[f"{stem}.lora_B.weight"] = torch.randn(out_features, rank, generator=generator) * size
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "r": rank,
                "lora_alpha": 2 * rank,
                "target_modules": [module.split(".")[1] for module in MODULES],
                "layers_to_transform": list(layers),
                "bias": "none",
                "base_model_name_or_path": "/somewhere/private",
            }
        )
    )
    return directory


def sealed_policy(
    work: Path, model_dir: Path, *, version: int, seed: int, rank: int = 4, size: float = 0.15
) -> PolicyRef:
    """Make, seal and name one policy."""
    source = write_adapter(work / f"source-{seed}", model_dir, seed=seed, rank=rank, size=size)
    sha256 = seal_adapter(
        source,
        work / "adapters",
        base_model=fingerprint(model_dir),
        parent=1,
        round_id=None,
        prompts=prompt_fingerprint(model_dir),
    )
    return PolicyRef(version, sha256, work / "adapters" / sha256)
