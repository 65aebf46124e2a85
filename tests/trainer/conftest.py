"""Fixtures of the trainer's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from feedback_store import versions
from feedback_store.store import Store
from serving.engine.base_model import fingerprint
from tests.databases import url_of
from tests.trainer.parts import EASY_GATE, EASY_ROUNDS, QUICK_TRAINING, House
from trainer.context import TrainerContext
from trainer.job import Job


@pytest.fixture
def job(tiny_model_dir: Path, tmp_path: Path) -> Job:
    """A KTO job over the tiny model."""
    return Job(
        round_id=1,
        method="kto",
        seed=0,
        base_model_dir=str(tiny_model_dir),
        base_model=fingerprint(tiny_model_dir),
        adapters_dir=str(tmp_path / "adapters"),
        live_version=1,
        training=QUICK_TRAINING,
        gate=EASY_GATE,
    )


@pytest.fixture
def make_house(tiny_model_dir: Path, tmp_path: Path) -> Iterator[Callable[..., House]]:
    """Make a store with version 1 live and a trainer's context over it; `settings` are the context's."""
    opened: list[Store] = []

    def make(**settings: Any) -> House:
        store = Store.open(url_of(tmp_path))
        opened.append(store)
        base_model = fingerprint(tiny_model_dir)
        store.write(versions.bootstrap, base_model)
        values = {"rounds": EASY_ROUNDS, "training": QUICK_TRAINING, "gate": EASY_GATE} | settings
        return House(store, TrainerContext(store, tmp_path, tiny_model_dir, base_model, **values))

    yield make
    for store in opened:
        store.close()
