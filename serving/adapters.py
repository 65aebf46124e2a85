"""Sealed adapters: immutable folders named by their content, made by a round and admitted by a server.

A sealed adapter is `ADAPTERS/<sha256>/` with `adapter_model.safetensors`, `adapter_config.json` and `manifest.json`.
The name is the hash of the first two, so a name is never reused for other weights and a changed byte is noticed. A
folder becomes visible by one rename after everything in it is on disk: there are no half adapters.

The files are read as data only: safetensors, and a config of which each key is known.
"""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from serving.engine import AdapterRefused

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
MANIFEST_FILE = "manifest.json"
_MAX_SCALING = 64.0
_HASH = re.compile(r"[0-9a-f]{64}")
_KEPT_CONFIG = ("peft_type", "task_type", "r", "lora_alpha", "use_rslora", "target_modules", "layers_to_transform")
# What would change the merge in a way this server does not compute: each must be absent, empty or false.
_UNSUPPORTED = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias")


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What of a LoRA config the merge needs."""

    rank: int
    alpha: float
    use_rslora: bool

    @property
    def scaling(self) -> float:
        """α / r, or α / √r for rank-stabilised LoRA (Kalajdzievski 2023, equation 3)."""
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)


def adapter_dir(adapters_dir: Path, sha256: str) -> Path:
    """Return the folder of a sealed adapter. Raises AdapterRefused for a name that is no SHA-256 (never a path)."""
    if not _HASH.fullmatch(sha256):
        raise AdapterRefused(f"adapter {sha256!r} is not a SHA-256 in lower-case hexadecimal")
    return adapters_dir / sha256


def adapter_hash(directory: Path) -> str:
    """Return the SHA-256 of weights and config, in this order, each preceded by its length in bytes."""
    digest = hashlib.sha256()
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        data = (directory / name).read_bytes()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def seal_adapter(
    source_dir: Path, adapters_dir: Path, *, base_model: str, parent: int | None, round_id: int | None
) -> str:
    """Seal the adapter that peft saved in `source_dir`; return its SHA-256.

    `base_model` is the fingerprint it was trained on. The config is reduced to the keys a merge needs, so that no path
    or hub name of the training machine travels along. Sealing the same content again is a no-op.
    """
    adapters_dir.mkdir(parents=True, exist_ok=True)
    config = json.loads((source_dir / CONFIG_FILE).read_text())
    _refuse_unsupported(config)
    kept = {key: config[key] for key in _KEPT_CONFIG if config.get(key) is not None}
    kept["target_modules"] = sorted(kept.get("target_modules", []))
    with tempfile.TemporaryDirectory(dir=adapters_dir, prefix=".sealing-") as scratch_name:
        scratch = Path(scratch_name) / "adapter"
        scratch.mkdir()
        shutil.copyfile(source_dir / WEIGHTS_FILE, scratch / WEIGHTS_FILE)
        (scratch / CONFIG_FILE).write_text(json.dumps(kept, sort_keys=True, indent=1))
        sha256 = adapter_hash(scratch)
        manifest = {
            "sha256": sha256,
            "base_model": base_model,
            "parent": parent,
            "round_id": round_id,
            "sealed_at": datetime.now(UTC).isoformat(),
        }
        (scratch / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1))
        for name in (WEIGHTS_FILE, CONFIG_FILE, MANIFEST_FILE):
            _sync(scratch / name)
        _sync(scratch)
        target = adapters_dir / sha256
        if not target.exists():
            scratch.rename(target)
            _sync(adapters_dir)
    return sha256


def read_adapter_config(directory: Path) -> AdapterConfig:
    """Read and check an adapter's config. Raises AdapterRefused."""
    try:
        config = json.loads((directory / CONFIG_FILE).read_text())
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterRefused(f"{CONFIG_FILE} cannot be read as a LoRA config: {error!r}") from error
    _refuse_unsupported(config)
    if config.get("peft_type", "LORA") != "LORA":
        raise AdapterRefused(f"peft_type is {config['peft_type']!r}; only LORA is served")
    parsed = AdapterConfig(rank, alpha, bool(config.get("use_rslora", False)))
    if rank < 1 or not 0 < parsed.scaling <= _MAX_SCALING:
        raise AdapterRefused(f"rank {rank} and alpha {alpha:g} give a scaling outside (0, {_MAX_SCALING:g}]")
    return parsed


def check_adapter(directory: Path, sha256: str | None, base_model: str) -> None:
    """Refuse a folder that is incomplete, altered, or made for another base model. Raises AdapterRefused."""
    missing = [name for name in (WEIGHTS_FILE, CONFIG_FILE, MANIFEST_FILE) if not (directory / name).is_file()]
    if missing:
        raise AdapterRefused(f"adapter folder {directory.name}: {', '.join(missing)} missing")
    found = adapter_hash(directory)
    if found != sha256:
        raise AdapterRefused(f"adapter {sha256}: the files hash to {found}; they were altered or damaged")
    manifest = json.loads((directory / MANIFEST_FILE).read_text())
    if manifest.get("base_model") != base_model:
        raise AdapterRefused(
            f"adapter {sha256[:12]} was trained on base model {manifest.get('base_model')!r}, this is {base_model!r}"
        )
    read_adapter_config(directory)
    _refuse_odd_tensors(directory / WEIGHTS_FILE)


def _refuse_odd_tensors(path: Path) -> None:
    """Names come in LoRA pairs and nothing else; read from the header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
    except (SafetensorError, OSError) as error:
        raise AdapterRefused(f"{WEIGHTS_FILE} is not a safetensors file: {error}") from error
    if not names:
        raise AdapterRefused(f"{WEIGHTS_FILE} holds no tensors")
    for name in names:
        stem, _, kind = name.rpartition(".lora_")
        partner = {"A.weight": f"{stem}.lora_B.weight", "B.weight": f"{stem}.lora_A.weight"}.get(kind)
        if partner is None:
            raise AdapterRefused(f"{WEIGHTS_FILE} holds {name!r}, which is no LoRA matrix")
        if partner not in names:
            raise AdapterRefused(f"{WEIGHTS_FILE} holds {name!r} without {partner!r}")


def _refuse_unsupported(config: dict[str, object]) -> None:
    used = [key for key in _UNSUPPORTED if config.get(key)]
    if used or config.get("bias", "none") != "none":
        raise AdapterRefused(f"the adapter uses {', '.join(used) or 'bias'}, which is not served; train plain LoRA")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
