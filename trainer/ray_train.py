"""A round's training on a Ray cluster, by Ray Train's TorchTrainer.

Ray starts the workers, connects them by torch.distributed and ends them all when one dies; the rest is what torchrun's
processes do (group.py). The worker of rank 0 is the lead: it seals the adapter into the round's folder, which every
host of the cluster reaches at the same path, and its events come back through a queue. This process, which asks, runs
the gate afterwards.

A cluster on this host is started for the training and ends with it: no dashboard, no usage report, a token that only
its processes know, and its files in a folder that is removed.
"""

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.events import Emit
from trainer.job import Job, read_job

_LOOK_EVERY_S = 0.2
_SHORT = Path("/tmp")
"""Where Ray's files are for the time: it makes sockets there, whose whole paths must be below 107 characters."""
_FILES = "tw-ray-"
_OBJECT_STORE_BYTES = 80 * 2**20
"""Ray's least: nothing but events passes through it."""


def train_on_ray(folder: Path, job: Job, emit: Emit) -> None:
    """Train the round of `folder`; its sealed adapter lies there afterwards. Raises what the lead raised (Cancelled,
    BelowBar), PeerLost when a worker died, ValueError where Ray is not installed."""
    _set_environment(job)
    try:
        from ray.util.queue import Empty, Queue
    except ImportError as error:
        raise ValueError(
            'training.launcher is "ray", and Ray is not installed: pip install "thumbwise[ray]"'
        ) from error
    with _cluster(job):
        said: Any = Queue(actor_options={"num_cpus": 0})
        ended = _Ended()
        fit = threading.Thread(target=_fit, args=(folder, job, said, ended), name="ray-fit", daemon=True)
        fit.start()
        while fit.is_alive() or not said.empty():
            with contextlib.suppress(Empty):
                event, values = said.get(timeout=_LOOK_EVERY_S)
                _pass_on(event, values, emit, ended)
    ended.raise_what_ended_it()


class _Ended:
    """How the training came to its end, in the lead's words and in Ray's."""

    def __init__(self) -> None:
        self.cancelled = False
        self.failed: str | None = None
        self.refused: dict[str, Any] | None = None
        self.ray_error: BaseException | None = None

    def raise_what_ended_it(self) -> None:
        from trainer.group import PeerLost
        from trainer.methods.common import BelowBar, Cancelled

        if self.cancelled:
            raise Cancelled
        if self.refused is not None:
            raise BelowBar(self.refused)
        if self.failed is not None:
            raise ValueError(self.failed)
        if self.ray_error is not None:
            raise PeerLost(f"the training on Ray ended: {self.ray_error}") from self.ray_error


def _pass_on(event: str, values: dict[str, Any], emit: Emit, ended: _Ended) -> None:
    if event == "cancelled":
        ended.cancelled = True
    elif event == "refused":
        ended.refused = values["report"]
    elif event == "failed":
        ended.failed = values["reason"]
    else:
        emit(event, **values)


def _fit(folder: Path, job: Job, said: Any, ended: _Ended) -> None:
    """Train on the connected cluster, in a thread of its own; what goes wrong is kept in `ended`."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    cache = folder / "cache"
    try:
        cache.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="ray-", ignore_cleanup_errors=True) as storage:
            TorchTrainer(
                train_share,
                train_loop_config={"folder": str(folder), "said": said},
                torch_config=TorchConfig(backend="gloo"),  # GPUs are connected afterwards (group.connect)
                scaling_config=ScalingConfig(num_workers=job.training.processes, use_gpu=_on_gpus(job)),
                run_config=RunConfig(
                    name=f"round-{job.round_id}", storage_path=storage, failure_config=FailureConfig(max_failures=0)
                ),
            ).fit()
    except Exception as error:
        ended.ray_error = error


def train_share(config: dict[str, Any]) -> None:
    """What each of Ray's workers runs: its share of the training."""
    from trainer import group
    from trainer.failures import in_words
    from trainer.methods.common import BelowBar, Cancelled
    from trainer.worker import train, yield_to_others

    folder = Path(config["folder"])
    job = read_job(folder)
    yield_to_others(job.training.niceness)
    group.forget_rendezvous()

    def say(event: str, **values: Any) -> None:
        if group.is_lead():
            config["said"].put((event, values))

    lead = group.is_lead()
    try:
        train(folder, job, say)
    except Cancelled:
        say("cancelled")
    except BelowBar as refusal:
        say("refused", report=refusal.report)
    except group.PeerLost:
        raise
    except Exception as error:
        if lead:
            config["said"].put(("failed", {"reason": in_words(error)}))
        raise


def _on_gpus(job: Job) -> bool:
    """Whether workers are to have a GPU each: Ray places them where one is, whatever this host has."""
    import ray

    return job.device == "cuda" or (job.device == "auto" and ray.cluster_resources().get("GPU", 0) >= 1)


def _set_environment(job: Job) -> None:
    """Ray reads these when it is imported, and hands them to its processes."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
    os.environ["TRAIN_ENABLE_SHARE_CUDA_VISIBLE_DEVICES"] = "0"  # one GPU a worker: libraries take all that they find
    if not job.training.ray_address:  # what a cluster of one host and one training has no use for
        os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
        os.environ["RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION"] = "0"
        os.environ["RAY_TRAIN_METRICS_ENABLED"] = "0"
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _remove_leftovers() -> None:
    """Remove the files of clusters whose training was killed: Ray's processes go with it, its files do not."""
    for left in _SHORT.glob(f"{_FILES}[0-9]*-*"):
        pid = left.name.removeprefix(_FILES).partition("-")[0]
        if left.stat().st_uid == os.getuid() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _cluster(job: Job) -> Iterator[None]:
    """Be connected to the cluster of the settings, or to one of our own on this host."""
    _set_environment(job)
    import ray

    training = job.training
    quiet: dict[str, Any] = {"log_to_driver": True, "logging_level": "warning"}
    if training.ray_address:
        ray.init(address=training.ray_address, **quiet)
        try:
            yield
        finally:
            ray.shutdown()
        return
    _remove_leftovers()
    files = tempfile.mkdtemp(prefix=f"{_FILES}{os.getpid()}-", dir=_SHORT)
    try:
        ray.init(
            num_cpus=training.processes + 1,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=files,
            **quiet,
        )
        try:
            yield
        finally:
            ray.shutdown()
    finally:
        shutil.rmtree(files, ignore_errors=True)
