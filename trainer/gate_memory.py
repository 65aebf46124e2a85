"""What a gate found out about a sealed policy and our own packs, kept for the next gate.

The base model's perplexity on plain English, a version's answers to the packs' probes and its replies to the packs'
prompts do not change from round to round. They are kept as small files under the data folder: what was computed of the
base model is there for every round, and a candidate's own answers are the live version's once it is promoted. No text
of users and nothing about them is kept: whatever depends on a round's prompts or votes is computed afresh.

A file is named by the SHA-256 of everything that its values depend on: the base model's fingerprint, the adapter's
hash, the very token ids that were asked (and so the packs, the template and the system prompt), the type of the
weights, the device, the number of threads, the versions of the libraries and the source code that computes them. The
file repeats all this, with a hash over the whole. One that does not say exactly what was asked of it, in the right
form, is removed and computed again: a damaged or planted file cannot move a gate without knowing the answer to
everything that it claims. (Whoever can write there can write adapters and the database just as well.)
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch

import serving.engine
from feedback_store.records import FinishReason, Sampling
from serving.engine import PolicyRef
from trainer.drawing import Draw, Drawn
from trainer.job import Job, write_whole
from trainer.packing import Ids
from trainer.policies import Policies

logger = logging.getLogger(__name__)

FOLDER = "gate-memory"
MOST_BYTES = 32 << 20
"""Of all files; those unused for longest go first. A version's answers take some ten kilobytes."""
_FORM = 1
_SOURCES = ("branch_packing", "branching", "encoding", "gate_probes", "head", "packing", "scoring", "trunk")
_ENDS = get_args(FinishReason)
_LIBRARIES = ("torch", "transformers", "peft", "tokenizers")

T = TypeVar("T")


class GateMemory:
    """The files of one data folder."""

    def __init__(self, folder: Path, common: Mapping[str, Any]) -> None:
        """`common`: what everything that is kept depends on."""
        self._folder, self._common = folder, common

    @classmethod
    def of(cls, policies: Policies, job: Job) -> "GateMemory":
        """The memory beside the job's adapters."""
        device = next(policies.model.parameters()).device
        return cls(
            Path(job.adapters_dir).parent / FOLDER,
            {
                "base_model": job.base_model,
                "dtype": str(policies.model.get_base_model().dtype),
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
                "processor": torch.backends.cpu.get_cpu_capability(),
                "threads": torch.get_num_threads(),
                "libraries": {name: metadata.version(name) for name in _LIBRARIES},
                "code": _code_sha256(),
            },
        )

    def recall(
        self, what: str, adapter_sha256: str | None, asked: Any, parse: Callable[[Any], T], compute: Callable[[], Any]
    ) -> T:
        """Return what `compute` gives (JSON) for `asked` (JSON) of a policy, from the file if there is a sound one, in
        the form that `parse` makes of it. `parse` raises ValueError or TypeError for what cannot be an answer.
        `adapter_sha256`: None for the base model."""
        key = {**self._common, "form": _FORM, "what": what, "adapter": adapter_sha256, "asked": _sha256_of(asked)}
        path = self._folder / f"{_sha256_of(key)}.json"
        if (kept := _read(path, key, parse)) is not None:
            return kept
        values = compute()
        found = parse(values)
        self._keep(path, key, values)
        return found

    def _keep(self, path: Path, key: Mapping[str, Any], values: Any) -> None:
        """Write the file, and make room for it. A full disk costs the memory and not the gate."""
        body = {"key": key, "values": values}
        try:
            text = json.dumps(body | {"sha256": _sha256_of(body)}, allow_nan=False)
        except ValueError:  # a policy that says no numbers: the gate deals with it, and every gate looks anew
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make_room(path.parent, MOST_BYTES - len(text))
            write_whole(path, text)
        except OSError as error:
            logger.warning("what a gate computed could not be kept for the next one: %s", error.strerror)
            with contextlib.suppress(OSError):
                path.with_suffix(path.suffix + ".part").unlink(missing_ok=True)


def numbers(sizes: Sequence[int]) -> Callable[[Any], list[list[float]]]:
    """Return what reads rows of so many numbers; it raises ValueError or TypeError for anything else."""

    def parse(values: Any) -> list[list[float]]:
        rows = [[float(value) for value in row] for row in values]
        if (found := [len(row) for row in rows]) != list(sizes):
            raise ValueError(f"rows of {found} numbers; wanted: of {list(sizes)}")
        return rows

    return parse


def remembered(draw: Draw, memory: GateMemory) -> Draw:
    """Return a Draw that looks for its replies in `memory` first. Only for prompts that are our own."""

    def drawn(policy: PolicyRef, prompts: Sequence[Ids], n: int, sampling: Sampling) -> list[Drawn]:
        def parse(values: Any) -> list[Drawn]:
            if len(values) != n * len(prompts) or any(reason not in _ENDS for *_, reason in values):
                raise ValueError("as many replies were wanted as were asked for")
            return [Drawn(str(text), tuple(map(int, ids)), float(nats), reason) for text, ids, nats, reason in values]

        def compute() -> Any:
            found = draw(policy, prompts, n, sampling)
            return [[one.text, one.token_ids, one.logprob_nats, one.finish_reason] for one in found]

        asked = [prompts, n, asdict(sampling)]
        return memory.recall("replies", policy.adapter_sha256, asked, parse, compute)

    return drawn


def _read(path: Path, key: Mapping[str, Any], parse: Callable[[Any], T]) -> T | None:
    """Return what a sound file of this key holds; None where there is none. One that is not sound is removed."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        claimed = body.pop("sha256")
        if claimed != _sha256_of(body) or set(body) != {"key", "values"} or body["key"] != key:
            raise ValueError("it is not what it says")
        values = parse(body["values"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        logger.warning("a kept file of the gate is damaged and computed again: %s", path.name)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # those unused for longest go first
    return values


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number that is kept")


def _make_room(folder: Path, most_bytes: int) -> None:
    """Remove the files unused for longest until all of them have at most `most_bytes`."""
    files = sorted((found.stat().st_mtime_ns, found.stat().st_size, found) for found in folder.glob("*.json"))
    total = sum(size for _, size, _ in files)
    for _, size, found in files:
        if total <= most_bytes:
            return
        found.unlink(missing_ok=True)
        total -= size


def _sha256_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@cache
def _code_sha256() -> str:
    """Of the source that computes what is kept, so that no change of it meets an older answer."""
    here = Path(__file__).parent
    engine = Path(serving.engine.__file__).parent
    sources = [here / f"{name}.py" for name in _SOURCES]
    sources += sorted(path for path in engine.iterdir() if path.suffix in {".py", ".cpp"})
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
