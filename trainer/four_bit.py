"""QLoRA: a frozen base held in 4 bits while an adapter is trained on it (Dettmers et al. 2023, arXiv:2305.14314).

NF4 with double quantisation, computed in bfloat16, by bitsandbytes. The adapter learns, and is scored, on weights that
are a little off; the gate's replies are drawn, and all others are, from the whole ones that it is merged into.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch


def load_four_bit(directory: Path, device: torch.device) -> Any:
    """Load a model in 4 bits onto a CUDA device. Raises ValueError for another device, or without bitsandbytes."""
    if device.type != "cuda":
        raise ValueError(
            f"lora.four_bit_base is on and this training computes on {device.type}: 4-bit weights are for CUDA alone; "
            "switch it off, or set policy.device to cuda on a machine that has a GPU"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError('lora.four_bit_base is on and bitsandbytes is not installed: pip install "thumbwise[qlora]"')
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        directory, local_files_only=True, quantization_config=quantised, dtype=torch.bfloat16, device_map={"": device}
    )
    return model.requires_grad_(False)
