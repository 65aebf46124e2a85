"""Sealed reward models: immutable folders named by their content, as sealed adapters are (see serving.adapters).

`REWARDS/<sha256>/` holds `adapter_model.safetensors` (the LoRA matrices), `adapter_config.json` (the few keys that
shape them), `head.safetensors` (weight [dimensions, width] and bias) and `manifest.json` (base model, round, dimensions
with their weights, and the report of its bar). The name is the hash of the first three. It scores replies; it never
serves.
"""

import hashlib
import json
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from trainer.method_settings import RewardSettings
from trainer.settings import LoraSettings

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
HEAD_FILE = "head.safetensors"
MANIFEST_FILE = "manifest.json"
_HASHED = (WEIGHTS_FILE, CONFIG_FILE, HEAD_FILE)


class RewardRefused(ValueError):
    """A sealed reward model cannot be used; the message says why."""


def seal_reward(
    rewards_dir: Path,
    adapter: dict[str, torch.Tensor],
    head: dict[str, torch.Tensor],
    config: dict[str, Any],
    manifest: dict[str, Any],
) -> str:
    """Write a reward model; return its SHA-256. The same content sealed again is a no-op."""
    rewards_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=rewards_dir, prefix=".sealing-") as name:
        scratch = Path(name) / "reward"
        scratch.mkdir()
        save_file(_plain(adapter), scratch / WEIGHTS_FILE)
        save_file(_plain(head), scratch / HEAD_FILE)
        (scratch / CONFIG_FILE).write_text(json.dumps(config, sort_keys=True, indent=1), encoding="utf-8")
        sha256 = reward_hash(scratch)
        whole = {"sha256": sha256, **manifest, "sealed_at": datetime.now(UTC).isoformat()}
        (scratch / MANIFEST_FILE).write_text(json.dumps(whole, indent=1), encoding="utf-8")
        for path in (*scratch.iterdir(), scratch):
            _sync(path)
        target = rewards_dir / sha256
        if not target.exists():
            scratch.rename(target)
            _sync(rewards_dir)
        else:  # sealed before: what a kill between sealing and the round's note of it leaves
            shutil.rmtree(scratch)
    return sha256


def read_reward(
    directory: Path, sha256: str, base_model: str
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, Any]]:
    """Return the adapter's tensors, the head's, and the manifest. Raises RewardRefused when it is not that model, was
    altered, or was trained on another base model."""
    missing = [name for name in (*_HASHED, MANIFEST_FILE) if not (directory / name).is_file()]
    if missing:
        raise RewardRefused(f"reward model {sha256[:12]}: {', '.join(missing)} missing; train it again")
    found = reward_hash(directory)
    if found != sha256:
        raise RewardRefused(f"reward model {sha256[:12]}: its files hash to {found[:12]}; they were altered or damaged")
    manifest: dict[str, Any] = json.loads((directory / MANIFEST_FILE).read_text(encoding="utf-8"))
    if manifest.get("base_model") != base_model:
        raise RewardRefused(
            f"reward model {sha256[:12]} was trained on base model {manifest.get('base_model')!r}, this is "
            f"{base_model!r}; train one on this"
        )
    return load_file(directory / WEIGHTS_FILE), load_file(directory / HEAD_FILE), manifest


def reward_shape(directory: Path, sha256: str, base_model: str) -> tuple[LoraSettings, RewardSettings]:
    """Return the settings that shaped a sealed reward model, for whoever opens it without its round's. Raises
    RewardRefused."""
    adapter, _, manifest = read_reward(directory, sha256, base_model)
    config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    shape = {name: value for name, value in config.items() if name in LoraSettings.model_fields}
    shape["target_modules"] = sorted({name.partition(".lora_")[0].rpartition(".")[2] for name in adapter})
    dimensions = tuple(f"{name}={weight}" for name, weight in manifest["weights"].items())
    return LoraSettings.model_validate(shape), RewardSettings(dimensions=dimensions)


def reward_hash(directory: Path) -> str:
    """Return the SHA-256 of weights, config and head, in this order, each preceded by its length in bytes."""
    digest = hashlib.sha256()
    for name in _HASHED:
        data = (directory / name).read_bytes()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _plain(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
