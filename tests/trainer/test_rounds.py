"""Whole rounds on the tiny model: a real store, the real training process, the real supervisor."""

import json
import threading
import time

from feedback_store import annotation_labels, replies, rounds, versions
from feedback_store.connection import Connection
from feedback_store.records import Comparison
from serving.adapters import check_adapter
from tests.trainer.parts import (
    EASY_ROUNDS,
    QUICK_TRAINING,
    MakeHouse,
    ask,
    fill_with_feedback,
    make_reply,
    read_round,
)
from tests.waiting import until
from trainer.job import HELD_OUT_FILE, JOB_FILE, LOG_FILE, ROLLOUTS_FILE, SEALED_FILE, TRAIN_FILE, UNJUDGED_FILE
from trainer.method_settings import OnlineSettings, RewardSettings
from trainer.readiness import readiness
from trainer.supervisor import Supervisor


def test_a_kto_round_goes_live_and_a_dpo_round_continues_from_its_adapter(make_house: MakeHouse) -> None:
    house = make_house()
    store, context = house.store, house.context
    store.write(fill_with_feedback, 1)
    moved: list[int] = []
    prepared: list[int] = []
    context.on_pointer_moved = lambda: moved.append(store.read(versions.live_version).version)
    context.prepare_version = prepared.append
    first = ask(house)
    assert Supervisor(context).run_next()

    kto = read_round(store, first)
    assert kto.state == "published", kto.reason
    assert (kto.method, kto.reference_version, kto.candidate_version) == ("kto", 1, 2)
    assert kto.gate_report is not None and kto.gate_report["outcome"] == "pass"
    assert prepared == [2] and moved == [2]
    live = store.read(versions.live_version)
    assert (live.version, live.parent, live.method, live.round_id) == (2, 1, "kto", first)
    assert live.adapter_sha256 is not None
    check_adapter(context.adapters_dir / live.adapter_sha256, live.adapter_sha256, context.base_model)

    points = store.read(rounds.metrics, first)
    assert {"loss", "grad_norm", "reward_margin", "tokens_per_s", "progress"} <= {point.name for point in points}
    assert max(point.step for point in points) == live.metrics["steps"]
    frozen = dict(store.read(rounds.selection, first))
    assert set(frozen.values()) == {"train", "held_out"}
    assert kto.selection["train"] == live.metrics["rows"]

    folder = context.round_folder(first)
    assert not (folder / TRAIN_FILE).exists() and not (folder / HELD_OUT_FILE).exists()
    assert {path.name for path in folder.iterdir()} == {JOB_FILE, SEALED_FILE, LOG_FILE}
    assert not Supervisor(context).run_next()  # nothing waits

    # The second round: feedback on version 2 alone, pairs, and a gate that nothing can pass.
    store.write(fill_with_feedback, 2, adapter=live.adapter_sha256)
    second = ask(house, method="dpo", settings={"gate": {"max_kl_live_nats": 1e-9}})
    assert Supervisor(context).run_next()

    dpo = read_round(store, second)
    assert (dpo.state, dpo.method, dpo.reference_version) == ("rejected", "dpo", 2)
    assert dpo.reason is not None and "KL against the live version" in dpo.reason
    rejected = store.read(versions.get_version, 3)
    assert (rejected.state, rejected.parent) == ("rejected", 2)
    assert store.read(versions.live_version).version == 2
    assert dpo.gate_report is not None
    distance = {check["name"]: check["value"] for check in dpo.gate_report["checks"]}
    # Continued from live: further from the base than from live.
    assert distance["kl_base"] > distance["kl_live"] > 0
    assert moved == [2]


def test_a_cancelled_round_ends_its_process_and_leaves_no_texts(make_house: MakeHouse) -> None:
    house = make_house(training=QUICK_TRAINING.model_copy(update={"epochs": 300}))
    store, context = house.store, house.context
    store.write(fill_with_feedback, 1)
    round_id = ask(house)
    states: list[bool] = []
    context.on_training = states.append
    supervisor = Supervisor(context)
    supervisor.start()
    until(lambda: store.read(rounds.metrics, round_id))
    store.write(rounds.cancel_round, round_id, "test")
    begun = time.monotonic()
    until(lambda: states == [True, False])
    until(lambda: not (context.round_folder(round_id) / TRAIN_FILE).exists())
    assert time.monotonic() - begun < 5
    supervisor.close()
    assert read_round(store, round_id).state == "cancelled"
    assert [version.version for version in store.read(versions.list_versions)] == [1]


def test_a_round_whose_supervisor_stopped_goes_on_from_its_sealed_adapter(make_house: MakeHouse) -> None:
    house = make_house(rounds=EASY_ROUNDS.model_copy(update={"lease_s": 1.5}))
    store, context = house.store, house.context
    store.write(fill_with_feedback, 1)
    round_id = ask(house)
    sealed = context.round_folder(round_id) / SEALED_FILE

    class StopOnceSealed(threading.Event):
        """Set from the moment the adapter is sealed: however quick the gate, its report is never published."""

        def is_set(self) -> bool:
            return sealed.exists() or super().is_set()

    Supervisor(context, StopOnceSealed()).run_next()
    assert read_round(store, round_id).state in ("training", "gating")
    adapter = json.loads(sealed.read_text())["adapter_sha256"]
    metrics = len(store.read(rounds.metrics, round_id))

    second = Supervisor(context)
    until(second.run_next)  # when the lease has run out
    ended = read_round(store, round_id)
    assert ended.state == "published", ended.reason
    assert ended.fence == 2
    assert len(store.read(rounds.metrics, round_id)) == metrics, "it trained again"
    assert store.read(versions.live_version).adapter_sha256 == adapter


def compare_without_a_verdict(connection: Connection, count: int) -> None:
    """Comparisons that nobody has judged yet."""
    for n in range(count):
        names = (f"new-{n}-a", f"new-{n}-b")
        for place, (name, text) in enumerate(zip(names, ("yes, thank you", "a bird"), strict=True)):
            said = make_reply(name, text, f"choose {n}", comparison_id=f"new-{n}", shown_position=place)
            replies.add_reply(connection, said)
        replies.add_comparison(connection, Comparison(f"new-{n}", names, None, None, "web"))


QUICK_REWARDED: dict[str, object] = {
    "rounds": EASY_ROUNDS.model_copy(update={"min_reward_pairs": 10, "max_votes_per_rater": 50}),
    "reward": RewardSettings(
        learning_rate=2e-2, head_learning_rate=2e-2, epochs=8, batch_size=4, min_held_out=3, min_accuracy_bound=0.3
    ),
    "online": OnlineSettings(
        iterations=2, prompts=4, replies=3, reply_tokens=8, minibatch=6, max_kl_nats=1e6, stop_when_hacked=False
    ),
}


def test_a_ppo_round_trains_its_reward_model_and_then_a_policy_that_comes_to_its_gate(make_house: MakeHouse) -> None:
    house = make_house(**QUICK_REWARDED)
    store, context = house.store, house.context
    store.write(fill_with_feedback, 1, people=40)
    round_id = ask(house, method="ppo")
    assert Supervisor(context).run_next()
    ended = read_round(store, round_id)
    assert ended.candidate_version == 2 and ended.gate_report is not None, ended.reason
    made = store.read(versions.get_version, 2)  # two iterations on noise: whether its gate passes is chance
    assert (made.method, made.metrics["stopped_by"], made.metrics["reference"]) == ("ppo", "iterations", "live")
    report = ended.selection["reward_model"]
    assert report["passed"] and report["sha256"] == made.metrics["reward_model"]
    sealed = context.data_dir / "rewards" / report["sha256"]
    assert {path.name for path in sealed.iterdir()} >= {"head.safetensors", "manifest.json"}
    points = store.read(rounds.metrics, round_id)
    names = {point.name for point in points}
    assert {"reward/loss", "reward", "kl_nats", "value_loss", "finished", "entropy_nats"} <= names
    steps_of_reward = max(point.step for point in points if point.name == "reward/loss")
    assert min(point.step for point in points if point.name == "kl_nats") > steps_of_reward
    assert ended.selection["rollout_prompts"] > 40
    assert {path.name for path in context.round_folder(round_id).iterdir()} >= {JOB_FILE, SEALED_FILE, LOG_FILE}
    assert not (context.round_folder(round_id) / ROLLOUTS_FILE).exists()


def test_a_reward_model_below_its_bar_trains_no_policy_and_asks_for_labels(make_house: MakeHouse) -> None:
    strict = QUICK_REWARDED | {"reward": RewardSettings(epochs=1, min_held_out=3, min_share_of_ceiling=1.0,
                                                        min_accuracy_bound=0.999, label_requests=5)}  # fmt: skip
    house = make_house(**strict)
    store, context = house.store, house.context
    store.write(fill_with_feedback, 1, people=40)
    store.write(compare_without_a_verdict, 3)
    round_id = ask(house, method="grpo")
    assert Supervisor(context).run_next()
    ended = read_round(store, round_id)
    assert ended.state == "rejected"
    assert ended.reason is not None and "the reward model is below its bar" in ended.reason
    assert "Ask people to judge the 5 comparisons" in ended.reason
    assert [version.version for version in store.read(versions.list_versions)] == [1]
    report = store.read(readiness, context.rounds, context.training, context.reward)
    assert len(report.ask) == 5
    assert report.missing["grpo"][-1].words == "0 of 5 labels until GRPO may run"
    given = store.write(annotation_labels.next_assignment, "user:ada")
    assert given is not None and given.task.queue == "uncertain"
    assert given.task.comparison_id.startswith("new-"), "what nobody has judged comes first"
    saved = store.write(annotation_labels.save, "user:ada", given.label.label_id, 0, ranked=given.label.shown[:1])
    store.write(annotation_labels.finish, "user:ada", given.label.label_id, saved.revision)
    after = store.read(readiness, context.rounds, context.training, context.reward)
    assert after.missing["grpo"][-1].words == "1 of 5 labels until GRPO may run"
    assert not (context.round_folder(round_id) / UNJUDGED_FILE).exists()
    assert not {item.name: item.met for item in report.requirements["ppo"]}["reward model's accuracy's lower bound"]


def test_a_reward_round_ends_with_a_reward_model_and_no_version(make_house: MakeHouse) -> None:
    house = make_house(**QUICK_REWARDED)
    store, context = house.store, house.context
    store.write(fill_with_feedback, 1, people=40)
    round_id = ask(house, method="reward")
    assert Supervisor(context).run_next()
    ended = read_round(store, round_id)
    assert (ended.state, ended.candidate_version) == ("published", None), ended.reason
    assert ended.selection["reward_model"]["passed"]
    assert ended.reason is not None and "is above its bar" in ended.reason
    assert store.read(versions.live_version).version == 1
