"""Checkpoints of a training that may be killed: a folder of whole files, each named by its step and its content's hash.

    save(folder, 40, {"step": 40, "weights": {...}})      at the end of a step
    state = latest(folder)                                at the start: None, or what was saved last

A state is a tree of dicts with text keys, lists, tensors, numbers, texts, booleans and None; tuples come back as lists,
tensors as copies on the CPU. Floats come back bit for bit. A file is one safetensors file whose header holds the tree:
data only, no pickle. It becomes visible by one rename after it is on disk, so a kill leaves either the former
checkpoint or the new one; a file whose hash is not the one in its name is passed over for the one before it.

What must be in a state, so that a resumed training ends where an uninterrupted one would: the weights that are trained,
the optimiser's moments, the learning rate's place, and whatever counters draw seeds. Never texts of users.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

State = dict[str, Any]

_NAME = re.compile(r"step-(\d{8})-([0-9a-f]{64})\.safetensors")
_KEPT = 2
"""Checkpoints that stay: the newest, and the one before it should the newest be damaged."""
_TENSOR = "tensor:"


def save(folder: Path, step: int, state: State) -> Path:
    """Write the state after `step`; return its file. Older checkpoints but the one before it are removed.

    Raises TypeError for a value that a checkpoint cannot hold, ValueError for a negative step.
    """
    if not 0 <= step < 10**8:
        raise ValueError(f"step is {step}; wanted 0 to 99,999,999")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    tensors: dict[str, torch.Tensor] = {}
    tree = _without_tensors(state, tensors)
    scratch = folder / f".writing-{os.getpid()}"
    # An empty tensor: safetensors refuses a file without any.
    save_file({"nothing": torch.zeros(0), **tensors}, scratch, metadata={"state": json.dumps(tree)})
    target = folder / f"step-{step:08d}-{_hash(scratch)}.safetensors"
    _sync(scratch)
    scratch.replace(target)
    _sync(folder)
    for old in (*_newest_first(folder)[_KEPT:], *folder.glob(".writing-*")):  # the latter: what a kill left behind
        old.unlink(missing_ok=True)
    return target


def latest(folder: Path) -> State | None:
    """Return the newest state that is whole, or None when there is none."""
    for path in _newest_first(folder):
        found = _NAME.fullmatch(path.name)
        try:
            data = path.read_bytes()
            if found is None or hashlib.sha256(data).hexdigest() != found.group(2):
                continue
            tensors = load(data)
            tree = json.loads(_header(data)["__metadata__"]["state"])
        except (OSError, ValueError, KeyError, SafetensorError):
            continue  # damaged: the one before it will do
        return dict(_with_tensors(tree, tensors))
    return None


def _without_tensors(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return the value as JSON, its tensors moved to `tensors` and named there."""
    if isinstance(value, torch.Tensor):
        name = f"{_TENSOR}{len(tensors)}"
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return name
    if isinstance(value, dict):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"a checkpoint's keys are texts; found {odd[0]!r}")
        return {key: _without_tensors(item, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_tensors(item, tensors) for item in value]
    if isinstance(value, str) and value.startswith(_TENSOR):
        raise TypeError(f"a checkpoint's texts do not begin with {_TENSOR!r}")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"a checkpoint holds tensors, numbers, texts, lists and dicts, not {type(value).__name__}: convert it first"
    )


def _with_tensors(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        return {key: _with_tensors(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_tensors(item, tensors) for item in value]
    return tensors[value] if isinstance(value, str) and value.startswith(_TENSOR) else value


def _newest_first(folder: Path) -> list[Path]:
    """The checkpoints, by step and, of one step, by the time of writing."""

    def age(path: Path) -> tuple[str, float]:
        return path.name[:13], path.stat().st_mtime

    return sorted(_files(folder), key=age, reverse=True)


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _header(data: bytes) -> dict[str, Any]:
    """A safetensors file begins with the header's length (8 bytes, little-endian) and the header as JSON."""
    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
