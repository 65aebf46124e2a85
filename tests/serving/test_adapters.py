"""Sealing, and everything an adapter can be refused for."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from serving.adapters import adapter_dir, adapter_hash, check_adapter, seal_adapter
from serving.engine import AdapterRefused, PolicyRef
from serving.engine.base_model import fingerprint
from serving.engine.weights import BaseWeights
from serving.settings import PolicySettings
from tests.serving.adapters_made import sealed_policy, write_adapter


@pytest.fixture(scope="module")
def base(tiny_model_dir: Path) -> BaseWeights:
    return BaseWeights(tiny_model_dir, PolicySettings(dtype="float32", device="cpu"))


def test_a_sealed_adapter_is_named_by_its_content_and_tells_no_path(tmp_path: Path, tiny_model_dir: Path) -> None:
    policy = sealed_policy(tmp_path, tiny_model_dir, version=2, seed=1)
    assert policy.adapter_dir is not None and policy.adapter_sha256 == adapter_hash(policy.adapter_dir)
    assert "private" not in "".join(file.read_text() for file in policy.adapter_dir.glob("*.json"))
    again = sealed_policy(tmp_path, tiny_model_dir, version=3, seed=1)
    assert again.adapter_sha256 == policy.adapter_sha256
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == [policy.adapter_sha256]


@pytest.mark.parametrize("name", ["../x", "", "A" * 64, "a" * 63, "a/b"])
def test_a_name_that_is_no_hash_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(AdapterRefused, match="not a SHA-256"):
        adapter_dir(tmp_path, name)


def _edit_tensors(directory: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = directory / "adapter_model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def _edit_config(directory: Path, **changes: object) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _first(tensors: dict[str, torch.Tensor], kind: str) -> str:
    return next(name for name in sorted(tensors) if kind in name)


BAD_CONTENT: dict[str, tuple[Callable[[Path], None], str]] = {
    "NaN": (lambda d: _edit_tensors(d, lambda t: t[_first(t, "lora_A")].fill_(float("nan"))), "NaN"),
    "infinite": (lambda d: _edit_tensors(d, lambda t: t[_first(t, "lora_B")].fill_(float("inf"))), "NaN or inf"),
    "missing half": (lambda d: _edit_tensors(d, lambda t: t.__delitem__(_first(t, "lora_B"))), "without"),
    "extra tensor": (lambda d: _edit_tensors(d, lambda t: t.update({"lm_head.weight": torch.ones(2)})), "no LoRA"),
    "unknown layer": (
        lambda d: _edit_tensors(
            d,
            lambda t: t.update({f"base_model.model.model.layers.99.q.lora_{k}.weight": torch.ones(4, 4) for k in "AB"}),
        ),
        "does not have",
    ),
    "wrong rank": (lambda d: _edit_config(d, r=8), "LoRA shapes"),
    "huge alpha": (lambda d: _edit_config(d, lora_alpha=1e9), "scaling"),
    "huge weights": (lambda d: _edit_tensors(d, lambda t: t[_first(t, "lora_B")].mul_(1e6)), "as large"),
    "rank zero": (lambda d: _edit_config(d, r=0), "rank 0|cannot be read"),
}


@pytest.mark.parametrize("kind", BAD_CONTENT)
def test_a_bad_adapter_is_refused_with_the_reason(
    tmp_path: Path, base: BaseWeights, tiny_model_dir: Path, kind: str
) -> None:
    damage, reason = BAD_CONTENT[kind]
    source = write_adapter(tmp_path / "source", tiny_model_dir, seed=5)
    damage(source)
    sha256 = seal_adapter(
        source, tmp_path / "adapters", base_model=fingerprint(tiny_model_dir), parent=None, round_id=None
    )
    with pytest.raises(AdapterRefused, match=reason):
        base.build(PolicyRef(2, sha256, tmp_path / "adapters" / sha256))


def test_an_adapter_altered_after_sealing_is_refused(tmp_path: Path, base: BaseWeights) -> None:
    policy = sealed_policy(tmp_path, base.directory, version=2, seed=1)
    assert policy.adapter_dir is not None
    weights = policy.adapter_dir / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(AdapterRefused, match="altered or damaged"):
        base.build(policy)


def test_an_adapter_of_another_base_model_is_refused(tmp_path: Path, base: BaseWeights) -> None:
    policy = sealed_policy(tmp_path, base.directory, version=2, seed=1)
    assert policy.adapter_dir is not None
    with pytest.raises(AdapterRefused, match="trained on base model"):
        check_adapter(policy.adapter_dir, policy.adapter_sha256, "another")


def test_weights_that_are_no_safetensors_are_refused(tmp_path: Path, base: BaseWeights) -> None:
    source = write_adapter(tmp_path / "source", base.directory, seed=5)
    (source / "adapter_model.safetensors").write_bytes(b"\x80\x04not safetensors, a pickle perhaps")
    sha256 = seal_adapter(source, tmp_path / "adapters", base_model=base.fingerprint, parent=None, round_id=None)
    with pytest.raises(AdapterRefused, match="not a safetensors file"):
        base.build(PolicyRef(2, sha256, tmp_path / "adapters" / sha256))


def test_an_unfinished_folder_is_refused(tmp_path: Path, base: BaseWeights) -> None:
    policy = sealed_policy(tmp_path, base.directory, version=2, seed=1)
    assert policy.adapter_dir is not None
    (policy.adapter_dir / "manifest.json").unlink()
    with pytest.raises(AdapterRefused, match=r"manifest\.json missing"):
        base.build(policy)


@pytest.mark.parametrize("change", [{"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}])
def test_a_shape_of_lora_that_is_not_served_is_refused_at_sealing(
    tmp_path: Path, tiny_model_dir: Path, change: dict[str, object]
) -> None:
    source = write_adapter(tmp_path / "source", tiny_model_dir, seed=5)
    _edit_config(source, **change)
    with pytest.raises(AdapterRefused, match="not served"):
        seal_adapter(source, tmp_path / "adapters", base_model="x", parent=None, round_id=None)
