"""The base model's own weights, matrix by matrix, as its checkpoint holds them.

Every merge starts from these and never from merged weights. Read one by one from the mapped file, since opening the
whole model with transformers for each merge took longer than the merge and held up replies under way.
"""

from pathlib import Path

import torch
from safetensors import safe_open

from serving.engine.base_model import load_model


class PristineWeights:
    """Reads the weights of linear layers by the path of the layer. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = _files_of(directory)

    def read(self, paths: list[str]) -> dict[str, torch.Tensor]:
        """Path → weight [out, in] in float32, for each of `paths`.

        Where the checkpoint names a layer otherwise than the model does, transformers reads it.
        """
        names = {path: f"{path}.weight" for path in paths}
        if not all(name in self._files for name in names.values()):
            model = load_model(self._directory, torch.float32)
            return {path: model.get_submodule(path).weight.detach() for path in paths}
        found = {}
        for file in sorted({self._files[name] for name in names.values()}):
            with safe_open(file, framework="pt") as tensors:
                for path, name in names.items():
                    if self._files[name] == file:
                        found[path] = tensors.get_tensor(name).float()
        return found


def _files_of(directory: Path) -> dict[str, Path]:
    """Name of a tensor → the file that holds it."""
    found: dict[str, Path] = {}
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            found.update(dict.fromkeys(tensors.keys(), file))
    return found
