"""Two processes train what one trains: by torchrun and on Ray, step for step, for every method."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.trainer.parts import PEFT_NOISE, QUICK_TRAINING, MakeHouse, ask, fill_with_feedback, read_round
from tests.trainer.several_program import train_share_and_another
from tests.trainer.test_methods import one_step, pairs, votes
from tests.trainer.test_online import QUICK_ONLINE, prompts
from tests.trainer.test_resume import examples
from tests.trainer.test_reward_model import QUICK_REWARD, comparisons
from tests.waiting import until
from trainer.child import TrainingProcess, child_environment, launch_arguments
from trainer.job import SEALED_FILE, Job, Row, VoteRow, write_job
from trainer.round_folder import RUN_LOCK
from trainer.settings import TrainingSettings
from trainer.supervisor import Supervisor
from trainer.worker import train

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]
METHODS = ("kto", "kto-kl", "dpo", "sft", "ppo", "grpo")
EASY_BAR = {"min_held_out": 3, "min_accuracy_bound": 0.0, "min_share_of_ceiling": 0.0, "max_calibration_error": 1.0}
TO_ROUNDING = 2e-5
TWO: dict[str, Any] = {"launcher": "torchrun", "processes": 2}


def more_votes() -> list[VoteRow]:
    """Eleven: batches of four leave three, so that one process has a row more than the other."""
    return [replace(row, feedback_id=n) for n, row in enumerate((votes() * 2)[:11])]


def make_folder(job: Job, folder: Path, method: str, **training: Any) -> Job:
    """Write a folder whose training takes several steps; return its job."""
    rows: dict[str, list[Any]] = {"kto": more_votes(), "kto-kl": more_votes(), "dpo": pairs()[:5], "sft": examples()}
    settings: dict[str, Any] = {"batch_size": 4, "epochs": 1, "learning_rate": 1e-2, "checkpoint_every": 1}
    settings |= {"kto_loss": "kto"} if method == "kto-kl" else {}
    settings |= {"chosen_likelihood_weight": 0.2} if method == "dpo" else {}
    made = one_step(job, method.partition("-")[0], **settings | training)
    reward = QUICK_REWARD.model_copy(update=EASY_BAR | {"epochs": 2, "batch_size": 3})
    online = QUICK_ONLINE.model_copy(update={"iterations": 2, "prompts": 3, "reply_tokens": 6})
    made = replace(made, reward=reward, online=online, adapters_dir=str(folder / "sealed" / "adapters"))
    train_rows: list[Row] = rows.get(method) or list(comparisons(24))
    held_out: list[Row] = list(comparisons(6))
    write_job(folder, made, train_rows, held_out, prompts(4), prompts(5))
    return made


def curve(events: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Every step's numbers, but those of time."""
    return [
        {name: value for name, value in event["values"].items() if not name.endswith(("_per_s", "step_s"))}
        for event in events
        if event["event"] == "metric"
    ]


def assert_alike(found: list[dict[str, float]], wanted: list[dict[str, float]], within: float) -> None:
    assert len(found) == len(wanted) >= 2
    for step, (one, other) in enumerate(zip(found, wanted, strict=True)):
        if step == 0:  # candidate and reference are one yet: which reply it likes better is a matter of rounding
            one.pop("accuracy", None)
            other.pop("accuracy", None)
        bound = TO_ROUNDING if all(name.startswith("reward/") for name in one) else within  # nothing is drawn for those
        assert one == pytest.approx(other, abs=bound, rel=bound), f"step {step}"


def rounding(method: str) -> float:
    """How far sums in another order may lead apart. PPO and GRPO learn from what they drew: each update adds to it."""
    return 1e-3 if method in ("ppo", "grpo") else TO_ROUNDING


def trained_alone(job: Job, folder: Path, method: str, **training: Any) -> list[dict[str, float]]:
    folder.mkdir()
    made = make_folder(job, folder, method, **training)
    events: list[Any] = []
    train(folder, made, lambda event, **values: events.append({"event": event, **values}))
    return curve(events)


@pytest.fixture
def alone(job: Job, tmp_path: Path) -> Callable[..., list[dict[str, float]]]:
    """Train in this process; return the curve."""
    return lambda method, **training: trained_alone(
        job, tmp_path / f"alone-{method}-{len(training)}", method, **training
    )


@pytest.mark.timeout(300)
def test_two_processes_started_by_torchrun_take_and_stop_at_the_steps_of_one_for_every_method(
    job: Job, tmp_path: Path, alone: Any
) -> None:
    folders = {method: tmp_path / method for method in METHODS}
    for method, folder in folders.items():
        make_folder(job, folder, method)
    cancelled = tmp_path / "cancelled-at-2"
    make_folder(job, cancelled, "kto", epochs=100)
    command = [sys.executable, *launch_arguments(TrainingSettings(**TWO)), "-m", "tests.trainer.several_program"]
    environment = child_environment(1, tmp_path) | {"GLOO_SOCKET_IFNAME": "lo"}
    ran = subprocess.run(
        [*command, *map(str, folders.values()), str(cancelled)],
        env=environment,
        check=False,
        timeout=280,
        capture_output=True,
    )
    assert ran.returncode == 0, ran.stderr.decode()[-3000:]
    for method, folder in folders.items():
        found = curve(json.loads((folder / "events.json").read_text(encoding="utf-8")))
        assert_alike(found, alone(method), rounding(method))
    steps = [int((cancelled / f"cancelled-{rank}").read_text()) for rank in range(2)]
    assert steps[0] == steps[1] == 2, "both stop at the step at which the lead is told"


@pytest.mark.parametrize("method", ["kto", "kto-kl", "dpo", "sft", "ppo", "grpo"])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(alone: Any, method: str) -> None:
    assert_alike(alone(method, rows_at_once=1), alone(method), rounding(method))


def weights_sealed(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    sealed = json.loads((folder / SEALED_FILE).read_text(encoding="utf-8"))["adapter_sha256"]
    return load_file(folder / "sealed" / "adapters" / sealed / "adapter_model.safetensors")


def helper_of(folder: Path) -> int:
    """The process id of the training process that is not the lead."""
    lead = int((folder / RUN_LOCK).read_text())
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().split(b"\0")
        except OSError:
            continue
        others = b"torch.distributed.run" not in command and int(path.parent.name) != lead
        if os.fsencode(folder) in command and b"trainer.worker" in command and others:
            return int(path.parent.name)
    raise AssertionError("there is no second process")


def said_by(process: TrainingProcess, at: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """Everything a training says; `at` is called with each of its steps."""
    said: list[dict[str, Any]] = []
    while (events := process.events(60)) is not None:
        assert events, "nothing was said for a minute"
        for event in events:
            said.append(event)
            if event["event"] == "metric":
                at(event)
    return said


def kill_at(step: int, pid: Callable[[], int]) -> Callable[[dict[str, Any]], None]:
    return lambda event: os.kill(pid(), signal.SIGKILL) if event["step"] == step else None


@pytest.mark.timeout(300)
def test_a_round_of_two_processes_dies_and_goes_on_as_a_whole(job: Job, tmp_path: Path, alone: Any) -> None:
    folder = tmp_path / "round"
    made = make_folder(job, folder, "kto", epochs=4, **TWO)

    process = TrainingProcess(folder, 2, made.training)
    said = said_by(process, kill_at(3, lambda: helper_of(folder)))
    assert process.wait() != 0, "one is gone: all are"
    assert {event["event"] for event in said} <= {"state", "metric"}, "the round may be taken up again"

    process = TrainingProcess(folder, 2, made.training)
    while not any(event["event"] == "metric" for event in process.events(60) or ()):
        pass
    helper = helper_of(folder)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    until(lambda: not Path(f"/proc/{helper}").exists())

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    over_hosts = TrainingSettings(**TWO, hosts=2, master_port=port)
    join = ["--nnodes", "2", "--nproc-per-node", "1", "--node-rank", "1", "--master-addr", "127.0.0.1"]
    join += ["--master-port", str(port), "-m", "trainer.worker", "join"]
    command = [sys.executable, "-m", "torch.distributed.run", *join]
    with subprocess.Popen(command, env=child_environment(1, tmp_path), stdin=subprocess.DEVNULL) as other_host:
        process = TrainingProcess(folder, 1, over_hosts)
        said = said_by(process, lambda event: None)
        assert process.wait() == 0, process.why_it_died(1)
        assert other_host.wait(60) == 0
    assert [event["event"] for event in said if event["event"] not in ("metric", "state")] == ["sealed", "gate", "done"]
    assert len(curve(said)) <= 8, "it went on from its checkpoint"
    assert_alike(curve(said)[-2:], alone("kto", epochs=4)[-2:], within=1e-4)


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:`use_\\w+` is deprecated:DeprecationWarning")  # Ray asks itself by old names
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra thumbwise[ray] is not installed")
def test_two_workers_of_ray_take_the_steps_of_one_process(
    job: Job, tmp_path: Path, alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.ray_train import train_on_ray

    folder, events = tmp_path / "kto", []
    made = make_folder(job, folder, "kto", launcher="ray", processes=2)
    make_folder(job, tmp_path / "dpo", "dpo")
    monkeypatch.setattr("trainer.ray_train.train_share", train_share_and_another)  # its workers start slowly: once
    train_on_ray(folder, made, lambda event, **values: events.append({"event": event, **values}))
    assert_alike(curve(events), alone("kto"), rounding("kto"))
    assert weights_sealed(folder)
    another = json.loads((tmp_path / "dpo" / "events.json").read_text(encoding="utf-8"))
    assert_alike(curve(another), alone("dpo"), rounding("dpo"))


@pytest.mark.parametrize(("launcher", "starts"), [("here", 1), ("torchrun", 2)])
def test_a_training_that_lost_one_of_several_is_started_again(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch, launcher: str, starts: int
) -> None:
    """One process that ends with a status has failed by itself; of several, one may have been killed."""
    started: list[TrainingSettings] = []

    class Ends:
        def __init__(self, folder: Path, threads: int, training: TrainingSettings) -> None:
            started.append(training)

        def events(self, timeout_s: float) -> None:
            return None

        def end(self) -> None:
            pass

        def wait(self) -> int:
            return 1

        def why_it_died(self, status: int) -> str:
            return "ended with status 1"

    monkeypatch.setattr("trainer.round_run.TrainingProcess", Ends)
    processes = 2 if launcher == "torchrun" else 1
    house = make_house(training=QUICK_TRAINING.model_copy(update={"launcher": launcher, "processes": processes}))
    house.store.write(fill_with_feedback, 1)
    round_id = ask(house)
    Supervisor(house.context).run_next()
    assert read_round(house.store, round_id).state == "failed"
    assert [one.processes for one in started] == [processes] * starts


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"processes": 2}, 'launcher "here", which is one process'),
        ({"launcher": "ray", "processes": 2, "hosts": 2}, 'wanted: "torchrun"'),
        ({"launcher": "torchrun", "processes": 3, "hosts": 2}, "a multiple of training.hosts = 2"),
    ],
)
def test_settings_that_cannot_be_launched_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainingSettings(**settings)
