"""Sealed adapters: immutable folders named by their content, made by a round and admitted by a server.

A sealed adapter is `ADAPTERS/<sha256>/` with `adapter_model.safetensors`, `adapter_config.json` and `manifest.json`.
The name is the hash of the first two, so a name is never reused for other weights and a changed byte is noticed. A
folder becomes visible by one rename after everything in it is on disk: there are no half adapters.

The files are read as data only: safetensors, and a config of which each key is known. What may not serve is refused
with the reason, here where no model is needed and in `serving.engine.admission` where one is.
"""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.engine import AdapterRefused
from serving.prompt_fingerprint import PromptFingerprint

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
MANIFEST_FILE = "manifest.json"
_MAX_SCALING = 64.0
_MAX_RANK = 512
_HASH = re.compile(r"[0-9a-f]{64}")
_KEPT_CONFIG = (
    "peft_type", "task_type", "r", "lora_alpha", "use_rslora", "use_dora", "target_modules", "layers_to_transform",
)  # fmt: skip
_MAGNITUDE = ".lora_magnitude_vector"
# What says where and how it was trained and changes no merge: dropped at sealing.
_DROPPED_CONFIG = (
    "auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout", "megatron_core", "peft_version",
    "qalora_group_size", "revision", "runtime_config",
)  # fmt: skip
# Starts of the two matrices that leave the base weights as they are; others (pissa, olora, loftq …) change them.
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", None)
_DTYPES = ("F32", "F16", "BF16")
_FILES = frozenset({WEIGHTS_FILE, CONFIG_FILE, MANIFEST_FILE})


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What of a LoRA config the merge needs."""

    rank: int
    alpha: float
    use_rslora: bool
    use_dora: bool
    """Whether each adapted layer has a magnitude beside its two matrices (Liu et al. 2024, arXiv:2402.09353)."""
    target_modules: tuple[str, ...]
    """Last parts of the adapted layers' paths."""
    layers: frozenset[int] | None
    """The adapted layers' numbers; None: all of them."""

    def adapts(self, path: str) -> bool:
        """Say whether the config names the layer at `path`, by peft's rules for a list of names."""
        if not any(path == name or path.endswith(f".{name}") for name in self.target_modules):
            return False
        numbers = [int(part) for part in path.split(".") if part.isdigit()]
        return self.layers is None or (bool(numbers) and numbers[-1] in self.layers)

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
    source_dir: Path,
    adapters_dir: Path,
    *,
    base_model: str,
    parent: int | None,
    round_id: int | None,
    prompts: PromptFingerprint | None = None,
) -> str:
    """Seal the adapter that peft saved in `source_dir`; return its SHA-256. Raises AdapterRefused.

    `base_model` is the fingerprint it was trained on, `prompts` that of its tokenizer and chat template. The config is
    reduced to the keys that a merge needs, so that no path or hub name of the training machine travels along. Sealing
    the same content again is a no-op.
    """
    adapters_dir.mkdir(parents=True, exist_ok=True)
    config = _read_object(source_dir / CONFIG_FILE)
    _refuse_other_than_plain_lora(config)
    kept = {key: config[key] for key in _KEPT_CONFIG if config.get(key) is not None}
    if kept.get("use_dora") is False:
        del kept["use_dora"]  # plain adapters are named as they were before there were others
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
            **(asdict(prompts) if prompts else {}),
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
    """Read and check a sealed adapter's config, of which every key must be a known one. Raises AdapterRefused."""
    config = _read_object(directory / CONFIG_FILE)
    unknown = sorted(config.keys() - set(_KEPT_CONFIG))
    if unknown:
        raise AdapterRefused(f"{CONFIG_FILE} has {', '.join(unknown)}; wanted: only {', '.join(_KEPT_CONFIG)}")
    if config.get("peft_type") != "LORA":
        raise AdapterRefused(f"peft_type is {config.get('peft_type')!r}; only LORA is served")
    rank, alpha, rslora = config.get("r"), config.get("lora_alpha"), config.get("use_rslora", False)
    dora = config.get("use_dora", False)
    switches = type(rslora) is bool and type(dora) is bool
    if type(rank) is not int or not isinstance(alpha, int | float) or not switches:
        raise AdapterRefused(
            f"r is {rank!r}, lora_alpha {alpha!r}, use_rslora {rslora!r}, use_dora {dora!r}; wanted: a whole number, a "
            "number, true or false twice"
        )
    if not 1 <= rank <= _MAX_RANK:
        raise AdapterRefused(f"rank {rank} is outside [1, {_MAX_RANK}]")
    layers = config.get("layers_to_transform")
    if layers is not None and not _is_list_of(int, layers):
        raise AdapterRefused(f"layers_to_transform is a {type(layers).__name__}; wanted: a list of layers' numbers")
    parsed = AdapterConfig(
        rank, float(alpha), rslora, dora, _target_modules(config), None if layers is None else frozenset(layers)
    )
    if not 0 < parsed.scaling <= _MAX_SCALING:
        raise AdapterRefused(f"rank {rank} and alpha {alpha:g} give a scaling outside (0, {_MAX_SCALING:g}]")
    return parsed


def check_adapter(
    directory: Path, sha256: str | None, base_model: str, *, prompts: PromptFingerprint | None = None
) -> None:
    """Refuse a folder that is incomplete, altered, or made for another base model. Raises AdapterRefused.

    base_model: the serving model's fingerprint. prompts: that of its tokenizer and chat template, to say which of them
    is another; a folder that was sealed without them is held to the base model's fingerprint alone, which has both.
    """
    _refuse_odd_files(directory)
    found = adapter_hash(directory)
    if found != sha256:
        raise AdapterRefused(f"adapter {sha256}: the files hash to {found}; they were altered or damaged")
    manifest = _read_object(directory / MANIFEST_FILE)
    if manifest.get("sha256") != sha256:
        raise AdapterRefused(f"adapter {sha256[:12]}: its {MANIFEST_FILE} is that of {manifest.get('sha256')!r}")
    for name, here in (asdict(prompts) if prompts else {}).items():
        if manifest.get(name, here) != here:
            raise AdapterRefused(
                f"adapter {sha256[:12]} was trained with the {name.replace('_', ' ')} {manifest[name]!r}, this base "
                f"model has {here!r}: its prompts would be of another form"
            )
    if manifest.get("base_model") != base_model:
        raise AdapterRefused(
            f"adapter {sha256[:12]} was trained on base model {manifest.get('base_model')!r}, this is {base_model!r}"
        )
    _refuse_odd_tensors(directory / WEIGHTS_FILE, read_adapter_config(directory))


def _refuse_odd_files(directory: Path) -> None:
    """Three plain files and nothing else: no pickle beside them, no link to what may change."""
    present = {entry.name for entry in directory.iterdir()} if directory.is_dir() else set()
    missing, extra = sorted(_FILES - present), sorted(present - _FILES)
    if missing:
        raise AdapterRefused(f"adapter folder {directory.name}: {', '.join(missing)} missing")
    if extra:
        raise AdapterRefused(
            f"adapter folder {directory.name} holds {', '.join(extra)}; wanted: the sealed files alone"
        )
    odd = [name for name in sorted(_FILES) if (directory / name).is_symlink() or not (directory / name).is_file()]
    if odd:
        raise AdapterRefused(f"adapter folder {directory.name}: {', '.join(odd)} is no plain file")


def _refuse_odd_tensors(path: Path, config: AdapterConfig) -> None:
    """Names come in LoRA pairs of floating point, with a magnitude each for DoRA, and nothing else; read from the
    header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            dtypes = {name: file.get_slice(name).get_dtype() for name in names}
    except (SafetensorError, OSError) as error:
        raise AdapterRefused(f"{WEIGHTS_FILE} is not a safetensors file: {error}") from error
    if not names:
        raise AdapterRefused(f"{WEIGHTS_FILE} holds no tensors")
    for name in names:
        if dtypes[name] not in _DTYPES:
            raise AdapterRefused(f"{WEIGHTS_FILE}: {name!r} is {dtypes[name]}; wanted: {', '.join(_DTYPES)}")
        stem, _, kind = name.rpartition(".lora_")
        if config.use_dora and f"{stem}{_MAGNITUDE}" not in names:
            raise AdapterRefused(f"{WEIGHTS_FILE} holds {name!r} without {f'{stem}{_MAGNITUDE}'!r}, and it is DoRA")
        if config.use_dora and name.endswith(_MAGNITUDE):
            continue
        partner = {"A.weight": f"{stem}.lora_B.weight", "B.weight": f"{stem}.lora_A.weight"}.get(kind)
        if partner is None:
            raise AdapterRefused(f"{WEIGHTS_FILE} holds {name!r}, which is no LoRA matrix")
        if partner not in names:
            raise AdapterRefused(f"{WEIGHTS_FILE} holds {name!r} without {partner!r}")


def _refuse_other_than_plain_lora(config: dict[str, Any]) -> None:
    """Every key is one that a merge needs, one that changes none, or is off: what a newer peft brings is refused."""
    known = {*_KEPT_CONFIG, *_DROPPED_CONFIG, "bias", "init_lora_weights"}
    used = sorted(key for key, value in config.items() if key not in known and value)
    used += ["bias"] if config.get("bias", "none") != "none" else []
    used += ["init_lora_weights"] if config.get("init_lora_weights") not in _PLAIN_STARTS else []
    if used:
        raise AdapterRefused(f"the adapter uses {', '.join(used)}, which is not served; train LoRA, rsLoRA or DoRA")
    _target_modules(config)


def _target_modules(config: dict[str, Any]) -> tuple[str, ...]:
    found = config.get("target_modules")
    if not found or not _is_list_of(str, found):
        raise AdapterRefused(f"target_modules is {type(found).__name__}; wanted: a list of layers' names, no pattern")
    return tuple(found)


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _read_object(path: Path) -> dict[str, Any]:
    """Read a small JSON object. Raises AdapterRefused, whatever is wrong with it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterRefused(f"{path.name} cannot be read: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise AdapterRefused(f"{path.name} holds a {type(found).__name__}; wanted: an object")
    return found


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
