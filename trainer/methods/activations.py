"""How much of a step a process computes at once, by the memory that it takes on its way to a gradient.

Between a forward pass and its backward pass every layer's activations are held: half a megabyte a token of the bundled
model. A reward model learns from 32 comparisons a step, so that those of one prompt are together: 64 replies, 2.7 GB.
But a step's rows need not be held together, since the gradients of its parts add up to its own (parts.py). And a part
of a few hundred tokens keeps a processor as busy as one of thousands, so the bound costs no time worth naming; nothing
is computed twice.

What a token takes depends on the model, its adapters and what autograd keeps of them. It is not guessed but measured,
on one short row, before a training begins: equal models make equal parts, whatever else the machine does.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from trainer import trunk
from trainer.encoding import Encoded
from trainer.job import Job
from trainer.methods.forward import batch_of, logprobs
from trainer.methods.parts import AtOnce
from trainer.policies import Policies

_MEASURED_TOKENS = 64
_ON_A_PROCESSOR_BYTES = 512 << 20
"""A thousand tokens of the bundled model; more at once is no faster there."""
_SHARE_OF_FREE = 0.25


def at_once(policies: Policies, job: Job) -> AtOnce:
    """Return what a process shall compute at once, by `training.rows_at_once` and `training.activation_mib`."""
    limit = job.training.activation_mib
    device = policies.model.device
    most = activations_by_default(device) if limit == "auto" else limit << 20
    return AtOnce(job.training.rows_at_once, max(1, int(most / bytes_a_token(policies.model))))


def activations_by_default(device: torch.device) -> int:
    """Bytes of activations where the setting names none: a quarter of what is free, and on a processor no more than
    pays there."""
    if device.type == "cuda":
        return int(_SHARE_OF_FREE * torch.cuda.mem_get_info(device)[0])
    return min(_ON_A_PROCESSOR_BYTES, int(_SHARE_OF_FREE * _free_bytes()))


def bytes_a_token(model: Any) -> float:
    """Return how many bytes a token of a completion takes between the two passes, with the adapter that is trained."""
    vocabulary = int(model.get_base_model().config.get_text_config().vocab_size)
    ids = tuple(place % vocabulary for place in range(_MEASURED_TOKENS))
    row = Encoded(ids[:1], ids[1:])
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    held: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.eval()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        graph = logprobs(model, batch_of([row], model.device))
    del graph
    if trunk.fits(model, row.tokens):
        trunk.trunk_of(model).forget([row.prompt_ids + row.completion_ids])
    return max(1.0, sum(held.values()) / _MEASURED_TOKENS)


def distinct_tokens(sequences: Iterable[Encoded]) -> int:
    """How many tokens are computed for sequences of which some come twice and some share a prompt."""
    once = set(sequences)
    prompts = {row.prompt_ids for row in once}
    return sum(len(row.completion_ids) for row in once) + sum(map(len, prompts))


def _free_bytes() -> int:
    """What this machine could still give away; without /proc/meminfo as much as one likes."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 1 << 62
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 1 << 62)
