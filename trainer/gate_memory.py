"""What a gate found out about a sealed policy and our own packs, kept for the next gate.

The base model's perplexity on plain English and a version's answers to the packs' probes do not change from round to
round. They are kept as small files under the data folder: what was computed of the base model is there for every round,
and a candidate's own answers are the live version's once it is promoted. No text of users and nothing about them is
kept: whatever depends on a round's prompts or votes is computed afresh.

A file is named by the SHA-256 of everything that its values depend on: the base model's fingerprint, the adapter's
hash, the very token ids that were asked (and so the packs, the template and the system prompt), the type of the
weights, the device, the number of threads, the versions of the libraries and the source code that computes them. The
file repeats all this, with a hash over the whole. One that does not say exactly what was asked of it, in the right
form, is removed and computed again: a damaged or planted file cannot move a gate without knowing the answer to
everything that it claims. (Whoever can write there can write adapters and the database just as well.)
"""

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from trainer.job import Job, write_whole
from trainer.policies import Policies

logger = logging.getLogger(__name__)

FOLDER = "gate-memory"
MOST_BYTES = 32 << 20
"""Of all files; those unused for longest go first. A version's answers take some ten kilobytes."""
_FORM = 1
_SOURCES = ("branch_packing", "branching", "encoding", "gate_probes", "head", "packing", "scoring", "trunk")
_LIBRARIES = ("torch", "transformers", "peft", "tokenizers")

Values = list[list[float]]


class GateMemory:
    """The files of one data folder; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, common: Mapping[str, Any] | None = None) -> None:
        """`common`: what everything that is kept depends on."""
        self._folder = folder
        self._common = dict(common or {})

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
        self,
        what: str,
        adapter_sha256: str | None,
        asked: Any,
        sizes: Sequence[int],
        compute: Callable[[], Sequence[Sequence[float]]],
    ) -> Values:
        """Return what `compute` gives for `asked` (JSON) of a policy, rows of `sizes` numbers; from the file
        if there is a sound one. `adapter_sha256`: None for the base model."""
        key = {**self._common, "form": _FORM, "what": what, "adapter": adapter_sha256, "asked": _sha256_of(asked)}
        path = self._folder / f"{_sha256_of(key)}.json" if self._folder is not None else None
        if path is not None and (kept := _read(path, key, sizes)) is not None:
            return kept
        values = [[float(value) for value in row] for row in compute()]
        if path is not None and all(math.isfinite(value) for row in values for value in row):
            self._keep(path, key, values)
        return values

    def _keep(self, path: Path, key: Mapping[str, Any], values: Values) -> None:
        """Write the file, and make room for it. A full disk costs the memory and not the gate."""
        body = {"key": key, "values": values}
        text = json.dumps(body | {"sha256": _sha256_of(body)})
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make_room(path.parent, MOST_BYTES - len(text))
            write_whole(path, text)
        except OSError as error:
            logger.warning("what a gate computed could not be kept for the next one: %s", error.strerror)
            path.with_suffix(path.suffix + ".part").unlink(missing_ok=True)


def _read(path: Path, key: Mapping[str, Any], sizes: Sequence[int]) -> Values | None:
    """Return the values of a sound file of this key, rows of `sizes` numbers; None where there is none. One that is not
    sound is removed."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        text = ""
    try:
        body = json.loads(text)
        claimed = body.pop("sha256")
        sound = claimed == _sha256_of(body) and body["key"] == key and set(body) == {"key", "values"}
        values = [[float(value) for value in row] for row in body["values"]] if sound else None
    except (ValueError, TypeError, KeyError, AttributeError):
        values = None
    if (
        values is None
        or [len(row) for row in values] != list(sizes)
        or not all(math.isfinite(value) for row in values for value in row)
    ):
        logger.warning("a kept file of the gate is damaged and computed again: %s", path.name)
        path.unlink(missing_ok=True)
        return None
    os.utime(path)  # those unused for longest go first
    return values


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
    return hashlib.sha256(b"\0".join((here / f"{name}.py").read_bytes() for name in _SOURCES)).hexdigest()
