"""Tiny random models of several architectures, each a whole directory with the tiny model's tokenizer and template."""

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"tie_word_embeddings": True}),
    "llama-biases-and-own-head": ("Llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}),
    "llama-stretched-rope": (
        "Llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "mistral-window": ("Mistral", {"sliding_window": 128, "head_dim": 32}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "qwen3": ("Qwen3", {"head_dim": 64}),
}
"""Name → (class prefix, what differs from SIZES): every shape that the packed forward takes."""

OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma": ("Gemma", {"head_dim": 16}),
    "llama-gelu": ("Llama", {"hidden_act": "gelu"}),
    "llama-growing-rope": (
        "Llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}},
    ),
    "olmo2": ("Olmo2", {}),
    "phi3": ("Phi3", {}),
}
"""Shapes that look alike and are run by transformers."""


def build_shape(name: str, directory: Path, tokenizer_dir: Path) -> Path:
    """Write the model `name` into `directory`, with random biases and norms where it has them; return the directory."""
    prefix, differences = {**SHAPES, **OTHERS}[name]
    directory.mkdir()
    for path in tokenizer_dir.iterdir():
        if "token" in path.name or "template" in path.name:
            shutil.copy(path, directory)
    config = getattr(transformers, f"{prefix}Config")(**{**SIZES, **differences})
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = getattr(transformers, f"{prefix}ForCausalLM")(config)
        for path, parameter in model.named_parameters():
            if path.endswith(".bias"):
                torch.nn.init.normal_(parameter, std=0.3)
            elif "norm" in path:
                torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    model.save_pretrained(directory)
    return directory
