"""The base model below the head: hidden states of chosen tokens, each token of a batch computed once, and the layers
below every adapter once for all who ask.

Adapters sit on the upper layers (`lora.upper_layers`). What lies below them is frozen and alike for candidate, live,
base and reward model, in every pass over the rows and at every step. So the hidden states that enter the first adapted
layer are kept for each sequence, in the base model's own type: the reference's pass leaves them for the training's, one
epoch for the next, the gate's first policy for its second. No gradient goes below that layer, so none is missing. A
budget bounds what is kept (`keep_at_most`); what no longer fits is computed each time.

Sequences are packed (see packing.py): no padding, and what they begin with alike is computed once.

For models of Llama's shape on a processor; `fits` says so. Others take transformers' way over padded rows.
"""

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import AttentionInterface

from trainer.packing import Ids, Packed, pack, tree_attention

_MODELS = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
_STATIC_ROPES = {"default", "linear", "llama3", "yarn"}
_ATTENTION = "thumbwise_tree"
_TOKENS_AT_ONCE = 1024
"""Of one pass below the adapters: their intermediate states (3 MB a thousand tokens and layer) stay small."""
_BUDGET_BYTES = 1 << 30

AttentionInterface.register(_ATTENTION, tree_attention)


class Trunk:
    """The decoder of one opened model, with what is kept of its lower layers. One thread owns it, as it does the model.

    `keep_at_most`: bytes of hidden states that are kept; a sequence takes its tokens times the model's width times two
    in bfloat16 (a hundred tokens of the bundled model: 113 KB).
    """

    def __init__(self, model: Any) -> None:
        self._model = weakref.ref(model)
        self._decoder = model.get_base_model().base_model
        self._kept: dict[Ids, torch.Tensor] = {}
        self._rows: dict[tuple[Ids, Ids], torch.Tensor] = {}
        """The same of whole rows, by their ids and positions."""
        self._kept_bytes = 0
        self._full = False
        """Since one did not fit nothing more is kept: two passes over the same rows then compute the very same."""
        self._adapters: tuple[str, ...] = ()
        self._split = 0
        self.keep_at_most = _BUDGET_BYTES

    def states(self, sequences: Sequence[Ids], wanted: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the last layer's normalised hidden states at the `wanted` places of each sequence, one sequence after
        the other [tokens, width], under the adapter that is active, with its gradient."""
        self._look_at_adapters()
        packed = pack(sequences)
        lower = self.lower(sequences)
        entering = torch.empty(1, packed.ids.shape[1], lower[0].shape[-1], dtype=lower[0].dtype)
        for path, own in zip(packed.paths, lower, strict=True):
            entering[0, path] = own
        hidden = self._run(entering, packed, self._split, len(self._decoder.layers))
        places = torch.cat([path[want] for path, want in zip(packed.paths, wanted, strict=True)])
        found: torch.Tensor = self._decoder.norm(hidden[0, places])
        return found

    @torch.no_grad()
    def row_states(self, packed: Packed, places: torch.Tensor) -> torch.Tensor:
        """Return the last layer's normalised hidden states at `places` of a row that was packed already, under the
        adapter that is active, without a gradient [places, width]."""
        self._look_at_adapters()
        row = (tuple(packed.ids[0].tolist()), tuple(packed.positions[0].tolist()))
        entering = self._rows.get(row)
        if entering is None:
            entering = self._run(self._decoder.embed_tokens(packed.ids), packed, 0, self._split)
            if self._kept_bytes + entering.nbytes <= self.keep_at_most:
                self._rows[row] = entering
                self._kept_bytes += entering.nbytes
        hidden = self._run(entering, packed, self._split, len(self._decoder.layers))
        found: torch.Tensor = self._decoder.norm(hidden[0, places])
        return found

    @torch.no_grad()
    def lower(self, sequences: Sequence[Ids]) -> list[torch.Tensor]:
        """Return what enters the first adapted layer for each sequence [tokens, width], kept or computed now."""
        self._look_at_adapters()
        missing = [sequence for sequence in dict.fromkeys(sequences) if sequence not in self._kept]
        fresh: dict[Ids, torch.Tensor] = {}
        for group in _groups(missing, _TOKENS_AT_ONCE):
            packed = pack(group)
            hidden = self._run(self._decoder.embed_tokens(packed.ids), packed, 0, self._split)[0]
            fresh |= {sequence: hidden[path] for sequence, path in zip(group, packed.paths, strict=True)}
        for sequence, found in fresh.items():
            self._keep(sequence, found)
        return [fresh[sequence] if sequence in fresh else self._kept[sequence] for sequence in sequences]

    def forget(self, sequences: Iterable[Ids]) -> None:
        """Keep nothing of these any longer: they will not come again."""
        for sequence in sequences:
            if (found := self._kept.pop(sequence, None)) is not None:
                self._kept_bytes -= found.nbytes
        self._full = False

    def _keep(self, sequence: Ids, found: torch.Tensor) -> None:
        self._full = self._full or self._kept_bytes + found.nbytes > self.keep_at_most
        if not self._full:
            self._kept[sequence] = found
            self._kept_bytes += found.nbytes

    def _look_at_adapters(self) -> None:
        """Find the first layer that an adapter changes; what was kept for another one is of no use."""
        model = self._model()
        adapters = tuple(model.peft_config) if model is not None else ()
        if adapters == self._adapters:
            return
        self._adapters = adapters
        before, self._split = self._split, first_adapted_layer(self._decoder.layers)
        if self._split != before:
            self._kept, self._rows, self._kept_bytes, self._full = {}, {}, 0, False

    def _run(self, hidden: torch.Tensor, packed: Packed, first: int, last: int) -> torch.Tensor:
        """Layers [first, last) over a packed row."""
        config = self._decoder.config
        usual = config._attn_implementation
        rotary = self._decoder.rotary_emb(hidden, position_ids=packed.positions)
        config._attn_implementation = _ATTENTION
        try:
            for layer in self._decoder.layers[first:last]:
                hidden = layer(
                    hidden,
                    attention_mask=None,
                    position_ids=packed.positions,
                    position_embeddings=rotary,
                    use_cache=False,
                    packed=packed,
                )
        finally:
            config._attn_implementation = usual
        return hidden


_trunks: weakref.WeakKeyDictionary[Any, Trunk] = weakref.WeakKeyDictionary()


def trunk_of(model: Any) -> Trunk:
    """The trunk of a peft model: one for as long as the model lives."""
    if model not in _trunks:
        _trunks[model] = Trunk(model)
    return _trunks[model]


def fits(model: Any, longest: int) -> bool:
    """Whether `states` computes what this model's own forward would, for sequences of at most `longest` tokens."""
    causal = model.get_base_model()
    if type(causal).__name__ not in _MODELS or not type(causal).__module__.startswith("transformers.models."):
        return False
    decoder, config = causal.base_model, causal.config
    window = getattr(config, "sliding_window", None)
    return (
        causal.device.type == "cpu"
        and getattr(decoder.rotary_emb, "rope_type", None) in _STATIC_ROPES
        and (window is None or longest <= window)
        and not (model.training and getattr(config, "attention_dropout", 0.0))
    )


def first_adapted_layer(layers: Sequence[torch.nn.Module]) -> int:
    """The place of the first layer that holds an adapter's module or anything that is trained."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for place, layer in enumerate(layers):
        if any(isinstance(module, BaseTunerLayer) for module in layer.modules()):
            return place
        if any(parameter.requires_grad for parameter in layer.parameters()):
            return place
    return len(layers)


def _groups(sequences: Sequence[Ids], most: int) -> list[list[Ids]]:
    """Sequences in groups of at most `most` tokens, those with one beginning together."""
    found: list[list[Ids]] = []
    left = 0
    for sequence in sorted(sequences):
        if not found or len(sequence) > left:
            found.append([])
            left = most
        found[-1].append(sequence)
        left -= len(sequence)
    return found
