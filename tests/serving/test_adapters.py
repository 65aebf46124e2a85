"""Sealing, and everything an adapter can be refused for."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks._adapters_made import sealed_policy, write_adapter
from serving.adapters import adapter_dir, adapter_hash, check_adapter, seal_adapter
from serving.engine import AdapterRefused, PolicyRef
from serving.engine.base_model import fingerprint
from serving.engine.forward import Piece
from serving.engine.torch_engine import TorchEngine
from serving.engine.weights import BaseWeights
from serving.prompt_fingerprint import prompt_fingerprint
from serving.settings import PolicySettings, ServingSettings


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
    "rank zero": (lambda d: _edit_config(d, r=0), "rank 0 is outside"),
    "absurd rank": (lambda d: _edit_config(d, r=100_000), "rank 100000 is outside"),
    "rank that is no number": (lambda d: _edit_config(d, r="8"), "r is '8'"),
    "no alpha": (lambda d: _edit_config(d, lora_alpha=None), "lora_alpha None"),
    "negative alpha": (lambda d: _edit_config(d, lora_alpha=-8), "scaling"),
    "a layer left out": (lambda d: _edit_tensors(d, _leave_out_a_layer), "lacks model.layers.3.mlp.down_proj"),
    "a layer that its config does not name": (
        lambda d: _edit_config(d, layers_to_transform=[3]),
        "model.layers.2.* which its own config does not name",
    ),
    "a module that its config does not name": (
        lambda d: _edit_config(d, target_modules=["q_proj", "v_proj"]),
        "down_proj, which its own config does not name",
    ),
    "a module that its tensors lack": (
        lambda d: _edit_config(d, target_modules=["q_proj", "v_proj", "down_proj", "o_proj"]),
        "lacks model.layers.2.self_attn.o_proj",
    ),
    "layers that are no list": (lambda d: _edit_config(d, layers_to_transform=3), "layers_to_transform is a int"),
    "whole numbers for weights": (
        lambda d: _edit_tensors(d, lambda t: t.update({_first(t, "lora_A"): torch.ones(4, 32, dtype=torch.int32)})),
        "is I32; wanted: F32",
    ),
    "another kind of adapter": (lambda d: _edit_config(d, peft_type="LOHA"), "only LORA is served"),
    "DoRA without magnitudes": (lambda d: _edit_config(d, use_dora=True), "without .*lora_magnitude_vector.*DoRA"),
    "magnitudes of what is not DoRA": (lambda d: _make_dora(d, use_dora=False), "no LoRA matrix"),
    "a magnitude of another shape": (lambda d: _make_dora(d, lambda m: m[:3].clone()), "is of shape"),
    "a magnitude that is NaN": (lambda d: _make_dora(d, lambda m: m * float("nan")), "lengths are none of these"),
    "a negative magnitude": (lambda d: _make_dora(d, lambda m: -m), "lengths are none of these"),
    "a huge magnitude": (lambda d: _make_dora(d, lambda m: m * 1e4), "times as large as it is"),
    "use_dora that is no switch": (lambda d: _edit_config(d, use_dora="yes"), "use_dora 'yes'"),
    "no tensors": (lambda d: save_file({}, d / "adapter_model.safetensors"), "holds no tensors"),
}


def _make_dora(
    directory: Path, change: Callable[[torch.Tensor], torch.Tensor] = torch.clone, use_dora: bool = True
) -> None:
    """Give every layer a magnitude, one of them changed."""

    def add(tensors: dict[str, torch.Tensor]) -> None:
        for name, found in list(tensors.items()):
            if name.endswith(".lora_B.weight"):
                tensors[name.replace("lora_B.weight", "lora_magnitude_vector")] = torch.ones(len(found))
        name = _first(tensors, "magnitude")
        tensors[name] = change(tensors[name])

    _edit_tensors(directory, add)
    _edit_config(directory, use_dora=use_dora)


def _leave_out_a_layer(tensors: dict[str, torch.Tensor]) -> None:
    for name in [name for name in tensors if "layers.3.mlp.down_proj" in name]:
        del tensors[name]


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


def _rewrite_manifest(directory: Path, **changes: object) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


BAD_FOLDER: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights missing": (lambda d: (d / "adapter_model.safetensors").unlink(), "adapter_model.safetensors missing"),
    "a pickle beside it": (lambda d: (d / "adapter_model.bin").write_bytes(b"x"), "holds adapter_model.bin"),
    "a link": (lambda d: _move_and_link(d / "adapter_model.safetensors"), "is no plain file"),
    "a flipped bit": (lambda d: _flip_a_bit(d / "adapter_model.safetensors"), "altered or damaged"),
    "a key beyond those known": (lambda d: _edit_config(d, auto_map={"x": "y"}), "altered or damaged"),
    "a manifest that is no JSON": (lambda d: (d / "manifest.json").write_text("{"), "manifest.json cannot be read"),
    "a manifest that is no object": (lambda d: (d / "manifest.json").write_text("[]"), "wanted: an object"),
    "another's manifest": (lambda d: _rewrite_manifest(d, sha256="b" * 64), "is that of 'bbb"),
    "another base model": (lambda d: _rewrite_manifest(d, base_model="other"), "trained on base model 'other'"),
    "another tokenizer": (lambda d: _rewrite_manifest(d, tokenizer="t" * 32), "with the tokenizer 'ttt"),
    "another chat template": (lambda d: _rewrite_manifest(d, chat_template="c" * 32), "with the chat template 'ccc"),
}


def _move_and_link(path: Path) -> None:
    elsewhere = path.parents[2] / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kind", BAD_FOLDER)
def test_a_folder_that_is_not_as_it_was_sealed_is_refused_with_the_reason(
    tmp_path: Path, base: BaseWeights, kind: str
) -> None:
    damage, reason = BAD_FOLDER[kind]
    policy = sealed_policy(tmp_path, base.directory, version=2, seed=1)
    assert policy.adapter_dir is not None
    damage(policy.adapter_dir)
    with pytest.raises(AdapterRefused, match=reason):
        base.build(policy)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, base: BaseWeights) -> None:
    with pytest.raises(AdapterRefused, match="missing"):
        base.build(PolicyRef(2, "a" * 64, tmp_path / ("a" * 64)))


def test_a_sealed_config_with_a_key_beyond_those_known_is_refused_although_its_hash_is_right(
    tmp_path: Path, base: BaseWeights
) -> None:
    policy = sealed_policy(tmp_path, base.directory, version=2, seed=1)
    assert policy.adapter_dir is not None
    _edit_config(policy.adapter_dir, lora_bias=True)
    sha256 = adapter_hash(policy.adapter_dir)
    _rewrite_manifest(policy.adapter_dir, sha256=sha256)
    renamed = policy.adapter_dir.rename(tmp_path / "adapters" / sha256)
    with pytest.raises(AdapterRefused, match=r"has lora_bias; wanted: only peft_type"):
        base.build(PolicyRef(2, sha256, renamed))


def test_an_adapter_sealed_before_manifests_named_the_tokenizer_still_serves(tmp_path: Path, base: BaseWeights) -> None:
    policy = sealed_policy(tmp_path, base.directory, version=2, seed=1)
    assert policy.adapter_dir is not None
    path = policy.adapter_dir / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["tokenizer"], manifest["chat_template"]
    path.write_text(json.dumps(manifest))
    base.build(policy)


@pytest.mark.parametrize("template_file", [True, False])
def test_tokenizer_and_template_are_told_apart(tmp_path: Path, tiny_model_dir: Path, template_file: bool) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model_dir, model)
    if not template_file:  # as transformers saved it before
        template = (model / "chat_template.jinja").read_text()
        (model / "chat_template.jinja").unlink()
        config = json.loads((model / "tokenizer_config.json").read_text())
        (model / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
    first = prompt_fingerprint(model)
    assert first == prompt_fingerprint(tiny_model_dir)
    if template_file:
        (model / "chat_template.jinja").write_text("{{ messages }}")
    else:
        _edit_json(model / "tokenizer_config.json", chat_template="{{ messages }}")
    second = prompt_fingerprint(model)
    assert second.tokenizer == first.tokenizer and second.chat_template != first.chat_template
    _edit_json(model / "tokenizer.json", truncation=None, added="x")
    third = prompt_fingerprint(model)
    assert third.tokenizer != first.tokenizer and third.chat_template == second.chat_template


def _edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_refused_adapter_leaves_nothing_behind(tmp_path: Path, base: BaseWeights, tiny_model_dir: Path) -> None:
    """Every kind of bad adapter, one after the other, on one engine: same versions, same files, same replies."""
    engine = TorchEngine(base, ServingSettings(threads=1), PolicyRef(1))
    try:
        for number, (kind, (damage, reason)) in enumerate({**BAD_CONTENT, **BAD_FOLDER}.items()):
            work = tmp_path / str(number)
            if kind in BAD_CONTENT:
                source = write_adapter(work / "source", tiny_model_dir, seed=5)
                damage(source)
                sha256 = seal_adapter(
                    source, work / "adapters", base_model=base.fingerprint, parent=None, round_id=None
                )
                policy = PolicyRef(2, sha256, work / "adapters" / sha256)
            else:
                policy = sealed_policy(work, tiny_model_dir, version=2, seed=5)
                assert policy.adapter_dir is not None
                damage(policy.adapter_dir)
            before = sorted(work.rglob("*"))
            with pytest.raises(AdapterRefused, match=reason):
                engine.load(policy)
            assert (engine.loaded_versions, engine.live) == ({1: 0}, PolicyRef(1)), kind
            with pytest.raises(LookupError):
                engine.make_live(2)
            assert sorted(work.rglob("*")) == before, kind
        assert number + 1 >= 12
        sound = sealed_policy(tmp_path / "sound", tiny_model_dir, version=2, seed=5)
        engine.load(sound)  # the number itself is not spoilt
        engine.make_live(2)
        assert engine.live == sound
    finally:
        engine.close(0)


def test_what_live_would_say_next_is_the_same_to_the_bit_after_every_refused_adapter(
    tmp_path: Path, base: BaseWeights, tiny_model_dir: Path
) -> None:
    """Of an adapter that is live: its merged weights stand beside those that the refused ones were to be merged to."""
    live = sealed_policy(tmp_path / "live", tiny_model_dir, version=2, seed=1)
    engine = TorchEngine(base, ServingSettings(threads=1), PolicyRef(1))

    def logits() -> torch.Tensor:
        forward = engine._generations[engine.live.version].batch._forward  # the engine is idle: nobody else runs it
        return forward.run([Piece(0, 0, tuple(range(3, 40)))]).clone()

    try:
        of_base = logits()
        engine.load(live)
        engine.make_live(2)
        before = logits()
        assert torch.equal(before, logits()) and not torch.equal(before, of_base), "the comparison can tell"
        for number, (kind, (damage, reason)) in enumerate(BAD_CONTENT.items()):
            source = write_adapter(tmp_path / f"{number}" / "source", tiny_model_dir, seed=5)
            damage(source)
            adapters = tmp_path / f"{number}" / "adapters"
            sha256 = seal_adapter(source, adapters, base_model=base.fingerprint, parent=None, round_id=None)
            with pytest.raises(AdapterRefused, match=reason):
                engine.load(PolicyRef(3, sha256, adapters / sha256))
            assert torch.equal(logits(), before), kind
    finally:
        engine.close(0)


NOT_PLAIN: list[dict[str, object]] = [
    {"lora_bias": True},
    {"use_qalora": True},
    {"bias": "all"},
    {"modules_to_save": ["lm_head"]},
    {"init_lora_weights": "pissa"},
    {"layer_replication": [[0, 2]]},
    {"a_key_of_tomorrow": {"on": True}},
]


@pytest.mark.parametrize("pattern", ["all-linear", ".*q_proj", [], None, ["q_proj", 7]])
def test_target_modules_that_are_no_list_of_names_are_refused_at_sealing(
    tmp_path: Path, tiny_model_dir: Path, pattern: object
) -> None:
    source = write_adapter(tmp_path / "source", tiny_model_dir, seed=5)
    _edit_config(source, target_modules=pattern)
    with pytest.raises(AdapterRefused, match="wanted: a list of layers' names"):
        seal_adapter(source, tmp_path / "adapters", base_model="x", parent=None, round_id=None)
    assert list((tmp_path / "adapters").iterdir()) == []


def test_what_peft_saves_of_a_plain_adapter_is_sealed(tmp_path: Path, tiny_model_dir: Path) -> None:
    from peft import LoraConfig

    source = write_adapter(tmp_path / "source", tiny_model_dir, seed=5)
    plain = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    plain.layers_to_transform = [2, 3]
    plain.save_pretrained(source)
    seal_adapter(source, tmp_path / "adapters", base_model="x", parent=None, round_id=None)


@pytest.mark.parametrize("change", NOT_PLAIN)
def test_a_shape_of_lora_that_is_not_served_is_refused_at_sealing(
    tmp_path: Path, tiny_model_dir: Path, change: dict[str, object]
) -> None:
    source = write_adapter(tmp_path / "source", tiny_model_dir, seed=5)
    _edit_config(source, **change)
    with pytest.raises(AdapterRefused, match="not served"):
        seal_adapter(source, tmp_path / "adapters", base_model="x", parent=None, round_id=None)
