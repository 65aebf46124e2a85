"""Processes that train one round together, over torch.distributed: started by torchrun or by Ray, on one host or
several.

Each process holds the whole model and does every part of a training that is cheap. Of each step's rows it computes its
own share; the gradients of the shares are summed, and all take the same step. A share's loss is weighed by its part of
the batch, so that the sum is the very gradient of one process: the same losses, whatever the number of processes.

Only the lead (rank 0) writes files and speaks to the supervisor. What must not come out differently anywhere, it
decides and tells (`lead_says`): a check that ends in another way on one host would leave the others waiting.

Without a group all of this is nothing: `count()` is 1, every row is one's own, and no call communicates.

The processes trust one another: torch's rendezvous has no password, and its objects are pickles. Use it on one machine,
or on a network where every machine is yours.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

T = TypeVar("T")

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: the slowest may be drawing replies, or reading a model from a slow disk."""
_RENDEZVOUS = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE",
    "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
_connections: dict[str, Any] = {}
""""cuda": the process group that connects GPU to GPU, where models are on GPUs. All else goes from host to host."""


class PeerLost(ConnectionError):
    """Another process of the group is gone, or does not answer: the training cannot go on from here."""


class NotAlike(ValueError):
    """Processes of one group were given different things; names what."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} differ between the processes of this training; wanted: one version of Thumbwise, one base model "
            "and one data directory, reached by every host at the same path"
        )


def take_own_gpu() -> None:
    """Leave this process one of the host's GPUs, by its number on the host, or none if there are fewer: each library
    then finds just that one. Before CUDA is first used."""
    place = int(os.environ.get("LOCAL_RANK", "0"))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [str(number) for number in range(torch.cuda.device_count())] if named is None else named.split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = devices[place] if place < len(devices) else ""


def join() -> None:
    """Join the group that torchrun's variables describe."""
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    forget_rendezvous()


def connect(device: str) -> None:
    """Say where this process's model is, "cpu" or "cuda". Raises ValueError when the others' are elsewhere."""
    if count() == 1:
        return
    devices = gathered(device)
    if len(set(devices)) > 1 or device not in ("cpu", "cuda"):
        raise ValueError(
            f"the {len(devices)} processes of this training compute on {', '.join(devices)}; wanted: a GPU for each, "
            "or the CPU for all: set training.processes to at most the number of GPUs, or policy.device to cpu"
        )
    if device == "cuda":
        _connections["cuda"] = distributed.new_group(backend="nccl", timeout=_PATIENCE)


def forget_rendezvous() -> None:
    """Hide from libraries that there is a group: accelerate would split the rows and wrap the model once more."""
    for name in _RENDEZVOUS:
        os.environ.pop(name, None)


def leave() -> None:
    """Leave the group, if there is one."""
    _connections.clear()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def count() -> int:
    """How many processes train together."""
    return int(distributed.get_world_size()) if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return int(distributed.get_rank()) if count() > 1 else 0


def is_lead() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def own(rows: Sequence[T]) -> Sequence[T]:
    """Return this process's share: a stretch of `rows`, as long as the others' or longer by one. It may be empty."""
    return rows[len(rows) * rank() // count() : len(rows) * (rank() + 1) // count()]


@torch.no_grad()
def begin_alike(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give every parameter the lead's values: seeds give other numbers on another kind of GPU. Raises PeerLost."""
    if count() == 1:
        return
    held = list(parameters)
    flat = torch.cat([found.reshape(-1) for found in held])
    _together(lambda: distributed.broadcast(flat, src=0, group=_connections.get(flat.device.type)))
    for parameter, values in zip(held, torch.split(flat, [found.numel() for found in held]), strict=True):
        parameter.copy_(values.view_as(parameter))


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give every parameter the sum of all processes' gradients. Raises PeerLost."""
    if count() == 1:
        return
    held = list(parameters)
    gradients = [torch.zeros_like(found) if found.grad is None else found.grad for found in held]
    flat = torch.cat([found.reshape(-1) for found in gradients])
    _together(lambda: distributed.all_reduce(flat, group=_connections.get(flat.device.type)))
    for parameter, summed in zip(held, torch.split(flat, [found.numel() for found in gradients]), strict=True):
        parameter.grad = summed.view_as(parameter).clone()


def gathered(value: T) -> list[T]:
    """Return every process's value, by rank. Raises PeerLost."""
    if count() == 1:
        return [value]
    found: list[Any] = [None] * count()
    _together(lambda: distributed.all_gather_object(found, value))
    return found


def gathered_rows(compute: Callable[[Sequence[T]], Sequence[Any]], rows: Sequence[T]) -> list[Any]:
    """Return what `compute` makes of each of `rows`, of which this process computes its share. Raises PeerLost."""
    return [value for part in gathered(list(compute(own(rows)))) for value in part]


def lead_says(value: T) -> T:
    """Return the lead's value. Raises PeerLost."""
    if count() == 1:
        return value
    held = [value]
    _together(lambda: distributed.broadcast_object_list(held, src=0))
    return held[0]


def require_alike(what: str, value: bytes) -> None:
    """Raise NotAlike when the processes hold different values, PeerLost when one is gone."""
    if len(set(gathered(hashlib.sha256(value).hexdigest()))) > 1:
        raise NotAlike(what)


def _together(call: Callable[[], object]) -> None:
    try:
        call()
    except RuntimeError as error:  # torch says no more of what is a closed connection, a reset or a timeout
        raise PeerLost(f"a process of this training is gone or does not answer: {error}") from error
