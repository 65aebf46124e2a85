"""The base model: found, opened once in full precision, and named by a fingerprint that adapters are bound to."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.engine.bundled_model import BUNDLED_MODEL, ensure_bundled_model
from serving.settings import PolicySettings

if TYPE_CHECKING:
    import torch


class BaseModelError(ValueError):
    """policy.base_model cannot be used; the message says why and what to do."""


def resolve_base_model(setting: str, models_dir: Path, progress: Callable[[str], None] = lambda step: None) -> Path:
    """Return the local directory of `setting`: the bundled model, a directory, or an id in the local hub cache.

    Nothing is fetched but the bundled model (at set-up). Raises BaseModelError.
    """
    if setting == BUNDLED_MODEL:
        return ensure_bundled_model(models_dir, progress)
    path = Path(setting).expanduser()
    if path.is_dir():
        directory = path
    else:
        os.environ["HF_HUB_OFFLINE"] = "1"
        from huggingface_hub import snapshot_download

        try:
            directory = Path(snapshot_download(setting, local_files_only=True))
        except Exception as error:
            raise BaseModelError(
                f"policy.base_model is {setting!r}: neither a directory nor a model in the local cache. Give a "
                f"directory, fetch the model beforehand, or use {BUNDLED_MODEL!r}."
            ) from error
    if not (directory / "config.json").is_file():
        raise BaseModelError(f"policy.base_model {setting!r}: {directory} has no config.json, so it holds no model")
    config = json.loads((directory / "config.json").read_text())
    if "auto_map" in config:
        raise BaseModelError(
            f"policy.base_model {setting!r} needs code of its own (auto_map in config.json), which is never run; "
            "choose a model whose architecture transformers has"
        )
    if not list(directory.glob("*.safetensors")):
        raise BaseModelError(f"policy.base_model {setting!r}: no .safetensors weights; pickled weights are not loaded")
    return directory


def fingerprint(directory: Path) -> str:
    """Return a short hash of what an adapter depends on: config, tokenizer, template, and the weights' layout and head.

    Whole weight files are not read (seconds a gigabyte at each start): their safetensors header, size and first
    mebibyte of data are, which tells apart any two models that were trained apart.
    """
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        path = directory / name
        digest.update(name.encode() + b"\0" + (path.read_bytes() if path.is_file() else b""))
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            digest.update(file.read(header_bytes) + file.read(1 << 20) + str(path.stat().st_size).encode())
    return digest.hexdigest()[:32]


def choose_device(settings: PolicySettings) -> "torch.device":
    """The setting's device; auto takes a GPU when there is one."""
    import torch

    if settings.device != "auto":
        return torch.device(settings.device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_dtype(settings: PolicySettings, device: "torch.device") -> "torch.dtype":
    """The setting's dtype; auto takes bfloat16 where it is native (GPU, AVX-512 BF16, AMX), else float32."""
    import torch

    if settings.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[settings.dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported() and _native_bf16():
        return torch.bfloat16
    return torch.float32


def _native_bf16() -> bool:
    import torch

    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("arm_bf16"))


def load_tokenizer(directory: Path) -> Any:
    """Open the tokenizer, offline and without running foreign code."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)


def load_model(directory: Path, dtype: "torch.dtype") -> Any:
    """Open the weights (safetensors only), offline and without running foreign code."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    model.eval()
    return model


def end_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a reply: the generation config's, the config's and the tokenizer's."""
    ids: set[int] = set()
    for found in (model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id):
        ids.update(found if isinstance(found, list | tuple) else [found] if found is not None else [])
    return frozenset(ids)


def end_token_ids_of(directory: Path, tokenizer: Any) -> frozenset[int]:
    """The same as `end_token_ids`, read from the files: for who has the tokenizer and not the weights."""
    ids: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        path = directory / name
        found = json.loads(path.read_text()).get("eos_token_id") if path.is_file() else None
        ids.update(found if isinstance(found, list) else [found] if found is not None else [])
    return frozenset(ids | ({tokenizer.eos_token_id} - {None}))
