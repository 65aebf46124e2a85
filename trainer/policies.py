"""The three policies of a round in one process: candidate, live and base share one copy of the base weights.

One PeftModel holds the trainable adapter ("default", the candidate) and, when the live version has one, that adapter
frozen ("live"). A round therefore continues from live: the candidate starts as a copy of live's adapter, live's adapter
is the reference, and what is sealed is still a single adapter against the base. One thread owns the model.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from serving.engine.allocator import keep_freed_memory
from serving.engine.base_model import choose_device, choose_dtype, load_model, load_tokenizer
from serving.settings import PolicySettings
from trainer.encoding import Encoder
from trainer.four_bit import load_four_bit
from trainer.job import Job
from trainer.settings import LoraSettings
from trainer.trunk import trunk_of

PolicyName = Literal["candidate", "live", "base"]


class Policies:
    """The opened model of a round. `use` makes one policy the active one."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        encoder: Encoder,
        *,
        live_has_adapter: bool,
        reference: Literal["live", "base"] = "live",
    ) -> None:
        """`reference`: what the candidate began as, and what every method holds it to."""
        self.model = model
        self.tokenizer = tokenizer
        self.encoder = encoder
        self.live_has_adapter = live_has_adapter
        self.reference: PolicyName = reference

    @property
    def continues(self) -> bool:
        """Whether the candidate began as a copy of an adapter, so that both its matrices move at once."""
        return self.live_has_adapter and self.reference == "live"

    @classmethod
    def open(cls, job: Job, candidate_sha256: str | None = None) -> "Policies":
        """Load the frozen base model in training.dtype and put the adapters, always float32, on it.

        The candidate starts as the sealed adapter `candidate_sha256` when given (a resumed gate), else as the job says:
        as live's, or afresh.
        """
        from peft import PeftModel, get_peft_model

        settings = PolicySettings(device=job.device, dtype=job.training.dtype)
        device = choose_device(settings)
        dtype = choose_dtype(settings, device)
        if device.type == "cpu":
            keep_freed_memory()
        base_dir = Path(job.base_model_dir)
        tokenizer = load_tokenizer(base_dir)
        base = load_four_bit(base_dir, device) if job.lora.four_bit_base else load_model(base_dir, dtype).to(device)
        torch.manual_seed(job.seed)  # the fresh adapter's A matrices
        begin = job.live_adapter_dir if job.training.start_from == "live" else None
        start = Path(job.adapters_dir) / candidate_sha256 if candidate_sha256 else begin
        if start is None:
            model = get_peft_model(base, lora_config(base, job.lora))
        else:
            model = PeftModel.from_pretrained(base, start, adapter_name="default", is_trainable=True)
        if job.live_adapter_dir is not None:
            model.load_adapter(str(job.live_adapter_dir), adapter_name="live", is_trainable=False)
            model.set_adapter("default")
        trunk_of(model).keep_at_most = job.training.activation_cache_mib << 20
        encoder = Encoder(tokenizer, job.system_prompt)
        return cls(
            model,
            tokenizer,
            encoder,
            live_has_adapter=job.live_adapter_dir is not None,
            reference="live" if job.training.start_from == "live" else "base",
        )

    @contextmanager
    def use(self, name: PolicyName) -> Iterator[Any]:
        """Make `name` the policy that the yielded model computes, for inference; afterwards the candidate is back.

        set_adapter toggles requires_grad, so training must not go on inside the block.
        """
        if name == "base" or (name == "live" and not self.live_has_adapter):
            with self.model.disable_adapter():
                yield self.model
            return
        try:
            self.model.set_adapter("live" if name == "live" else "default")
            yield self.model
        finally:
            self.model.set_adapter("default")

    def odd_weights(self) -> str | None:
        """Name a weight of the candidate that is not all finite numbers; None when there is none."""
        for name, weight in self.model.named_parameters():
            if ".default." in name and not torch.isfinite(weight).all():
                return str(name)
        return None

    def save_candidate(self, folder: Path) -> Path:
        """Save the candidate's adapter as peft does (safetensors and config) under `folder`; return its directory."""
        self.model.save_pretrained(str(folder / "adapter"), selected_adapters=["default"], safe_serialization=True)
        return folder / "adapter"


def lora_config(model: Any, lora: LoraSettings) -> Any:
    """Return peft's config for a fresh adapter on the upper layers, on those target modules that the model has.

    Adapting the upper half alone halves the backward pass and learnt as much here. Raises ValueError when the model
    has none of the modules.
    """
    from peft import LoraConfig

    layers = int(model.config.get_text_config().num_hidden_layers)
    present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    targets = sorted(set(lora.target_modules) & present)
    if not targets:
        raise ValueError(
            f"lora.target_modules is {list(lora.target_modules)}, and the base model has none of them; its linear "
            f"layers are {sorted(_linear_names(model))}"
        )
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        use_rslora=lora.kind == "rslora",
        use_dora=lora.kind == "dora",
        lora_dropout=0.0,
        target_modules=targets,
        layers_to_transform=upper_layers(layers, lora.upper_layers),
    )


def upper_layers(layers: int, share: float) -> list[int]:
    """Return the places of the upper ⌈share · layers⌉ layers."""
    return list(range(layers - math.ceil(layers * share), layers))


def _linear_names(model: Any) -> Sequence[str]:
    return [name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
