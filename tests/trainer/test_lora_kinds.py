"""LoRA, rsLoRA, DoRA, QLoRA: what is trained with peft is what is sealed, merged, served, and can be gone on with."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from serving.adapters import seal_adapter
from serving.engine import AdapterRefused, PolicyRef
from serving.engine.base_model import fingerprint
from serving.engine.vllm.base import GatewayBase
from serving.engine.weights import BaseWeights
from serving.settings import PolicySettings
from tests.trainer.parts import PEFT_NOISE, MakeHouse
from tests.trainer.test_methods import one_step, votes
from trainer.job import Job
from trainer.job_settings import settings_of
from trainer.methods.kto import train_kto
from trainer.policies import Policies
from trainer.settings import LoraSettings
from trainer.worker import seal

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]
KINDS = ("lora", "rslora", "dora")


def of_kind(job: Job, kind: str, **settings: Any) -> Job:
    return replace(job, lora=LoraSettings.model_validate({"kind": kind, "rank": 4, "alpha": 6.0} | settings))


def move(policies: Policies) -> None:
    """Give all of the candidate's adapter something to say: a fresh one computes the base exactly."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in policies.model.named_parameters():
            if parameter.requires_grad:
                stretch = "magnitude" in name
                parameter.copy_(parameter * (1 + 0.3 * torch.rand_like(parameter)) if stretch else parameter + 0.1)


def logprobs(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_merged_for_serving_says_what_peft_says(job: Job, tmp_path: Path, kind: str) -> None:
    policies = Policies.open(of_kind(job, kind))
    move(policies)
    ids = torch.tensor([policies.encoder.prompt_ids(({"role": "user", "content": "tell me a story"},))])
    sha256 = seal(policies, job, tmp_path)
    base = BaseWeights(Path(job.base_model_dir), PolicySettings(dtype="float32", device="cpu"))
    policy = PolicyRef(2, sha256, Path(job.adapters_dir) / sha256)
    merged = base._module(base._merge(policy))
    wanted = logprobs(policies.model, ids)
    torch.testing.assert_close(logprobs(merged, ids), wanted, rtol=0, atol=1e-4)
    with policies.use("base") as model:
        assert float((logprobs(model, ids) - wanted).abs().max()) > 0.05, "the adapter says something"

    live = replace(job, live_version=2, live_adapter_sha256=sha256)
    again = Policies.open(of_kind(live, "lora"))  # live's own kind goes on, whatever the settings say now
    torch.testing.assert_close(logprobs(again.model, ids), wanted, rtol=0, atol=1e-5)
    with again.use("live") as model:
        torch.testing.assert_close(logprobs(model, ids), wanted, rtol=0, atol=1e-5)
    assert seal(again, live, tmp_path / "again") == sha256, "sealed again, it is the same adapter"


def test_the_kinds_differ_where_their_papers_say(job: Job, tmp_path: Path) -> None:
    saved = {kind: Policies.open(of_kind(job, kind)).save_candidate(tmp_path / kind) for kind in KINDS}
    configs = {kind: json.loads((path / "adapter_config.json").read_text()) for kind, path in saved.items()}
    assert [(configs[kind]["use_rslora"], configs[kind]["use_dora"]) for kind in KINDS] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    dora = Policies.open(of_kind(job, "dora"))
    magnitudes = [found for name, found in dora.model.named_parameters() if "magnitude" in name]
    assert len(magnitudes) == 8 and all(found.requires_grad for found in magnitudes)


@pytest.mark.parametrize("kind", ["rslora", "dora"])
def test_resumed_equals_uninterrupted_for_every_kind(job: Job, tmp_path: Path, kind: str) -> None:
    job = of_kind(one_step(job, "kto", batch_size=2, epochs=1, learning_rate=1e-2, checkpoint_every=1), kind)

    def run(folder: Path, dies_at: int | None = None) -> tuple[dict[str, torch.Tensor], int]:
        policies, steps = Policies.open(job), 0

        def emit(event: str, **values: Any) -> None:
            nonlocal steps
            steps += 1
            if steps == dies_at:
                raise InterruptedError

        folder.mkdir(exist_ok=True)
        train_kto(policies, votes(), job, folder, emit)
        return {name: found.detach() for name, found in policies.model.named_parameters() if found.requires_grad}, steps

    whole, _ = run(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        run(tmp_path / "killed", dies_at=2)
    resumed, steps = run(tmp_path / "killed")
    assert steps < 3 and any("magnitude" in name for name in whole) == (kind == "dora")
    assert max(float((whole[name] - resumed[name]).abs().max()) for name in whole) <= 1e-6


def test_four_bits_are_refused_on_a_processor(job: Job) -> None:
    with pytest.raises(ValueError, match="4-bit weights are for CUDA alone"):
        Policies.open(of_kind(job, "lora", four_bit_base=True))


def test_vllm_is_never_given_dora(job: Job, tmp_path: Path, make_house: MakeHouse) -> None:
    policies = Policies.open(of_kind(job, "dora"))
    saved = policies.save_candidate(tmp_path)
    base_model_dir = Path(job.base_model_dir)
    sha256 = seal_adapter(
        saved, tmp_path / "adapters", base_model=fingerprint(base_model_dir), parent=None, round_id=None
    )
    with pytest.raises(AdapterRefused, match="vLLM does not serve"):
        GatewayBase(base_model_dir, PolicySettings()).admit(PolicyRef(2, sha256, tmp_path / "adapters" / sha256))
    context = make_house(policy=PolicySettings(engine="vllm")).context
    with pytest.raises(ValueError, match=r"lora\.kind is 'dora'"):
        settings_of(context, {"lora": {"kind": "dora"}})
