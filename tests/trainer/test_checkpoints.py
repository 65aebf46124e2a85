"""A checkpoint is whole or it is not there, and gives back what it was given."""

from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.checkpoints import latest, save


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    state: dict[str, Any] = {
        "step": 3,
        "rate": 0.1 + 0.2,
        "nothing": None,
        "deep": {"bits": torch.tensor([True, False]), "list": [1, torch.randn(3, dtype=torch.float64), {"a": "b"}]},
        "half": torch.randn(2, 2).bfloat16().T,
        "chance": torch.get_rng_state(),
    }
    save(tmp_path, 3, state)
    found = latest(tmp_path)
    assert found is not None
    assert (found["step"], found["rate"], found["nothing"]) == (3, 0.1 + 0.2, None)
    assert found["deep"]["list"][2] == {"a": "b"}
    for mine, theirs in (
        (state["deep"]["list"][1], found["deep"]["list"][1]),
        (state["half"], found["half"]),
        (state["chance"], found["chance"]),
    ):
        assert torch.equal(mine, theirs) and mine.dtype == theirs.dtype


def test_the_newest_is_given_and_one_older_is_kept(tmp_path: Path) -> None:
    assert latest(tmp_path / "none") is None
    for step in (1, 2, 10, 9):
        save(tmp_path, step, {"step": step})
    found = latest(tmp_path)
    assert found is not None and found["step"] == 10
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-1] + b"\x07"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path: Path, damage: Any) -> None:
    save(tmp_path, 1, {"step": 1, "weights": torch.ones(4)})
    newest = save(tmp_path, 2, {"step": 2, "weights": torch.ones(4)})
    newest.write_bytes(damage(newest.read_bytes()))
    found = latest(tmp_path)
    assert found is not None and found["step"] == 1
    newest.rename(tmp_path / ".writing-7")  # what a kill in the middle leaves
    found = latest(tmp_path)
    assert found is not None and found["step"] == 1


@pytest.mark.parametrize("value", [{1: 2}, {"a": object()}, {"a": "tensor:0"}, {"a": {1, 2}}])
def test_what_a_checkpoint_cannot_hold_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError):
        save(tmp_path, 1, value)
    assert latest(tmp_path) is None


def test_a_state_may_have_no_tensor_and_shared_ones(tmp_path: Path) -> None:
    shared = torch.ones(3)
    save(tmp_path, 0, {"a": shared, "b": shared})
    found = latest(tmp_path)
    assert found is not None and torch.equal(found["a"], found["b"])
