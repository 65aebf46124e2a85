"""Live and canary served at once: who gets which, what a comparison is drawn from, and that the pointer decides."""

import asyncio
import json
from collections import Counter
from itertools import count

import pytest

from feedback_store.replies import get_comparison, get_reply
from feedback_store.versions import (
    add_candidate,
    live_version,
    promote,
    rollback,
    start_canary,
    stop_canary,
)
from feedback_store.versions import canary as stored_canary
from serving.api.drawing import new_id
from serving.canary import CanaryShare
from serving.engine import AdapterRefused, PolicyRef, VersionNotServed
from serving.policies import PolicyFollower

WHO = {"actor": "admin", "reason": "look"}
USER = [{"role": "user", "content": "hello"}]


@pytest.fixture
def follower(store, words, tmp_path, context):
    follower = PolicyFollower(store, words, tmp_path / "adapters", look_every_s=0.01)
    context.canary = lambda: follower.canary
    context.prepare_version = follower.prepare
    context.on_pointer_moved = follower.pointer_moved
    follower.start()
    yield follower
    follower.close()


def ask(client, **fields):
    return client.post("/v1/chat/completions", json={"messages": USER, **fields})


def version_of(answer):
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    assert answer.headers["x-policy-version"] == str(answer.json()["policy_version"]) == str(choice["policy_version"])
    return choice["policy_version"]


def test_a_share_is_met_within_chance_and_a_conversation_stays_on_its_side():
    names = [new_id() for _ in range(4000)]
    tenth, half = CanaryShare(2, 0.1), CanaryShare(2, 0.5)
    taken = {name for name in names if tenth.answers(name)}
    assert 0.08 < len(taken) / len(names) < 0.12  # 4 standard deviations
    assert taken == {name for name in names if tenth.answers(name)}
    assert taken < {name for name in names if half.answers(name)}
    assert not any(CanaryShare(2, 0).answers(name) for name in names)


def test_the_next_canary_takes_other_conversations():
    names = [str(number) for number in range(4000)]
    first, second = ({name for name in names if CanaryShare(version, 0.1).answers(name)} for version in (2, 3))
    assert 0.04 < len(first & second) / len(first) < 0.18


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_conversation_without_an_id_is_named_on_its_raters_side(share):
    canary = CanaryShare(2, share)
    sides = set()
    for number in range(200):
        rater = f"rater-{number}"
        sides.add(canary.answers(rater))
        assert canary.answers(canary.name_conversation(rater, new_id)) == canary.answers(rater)
    assert sides == {True, False}


def test_naming_a_conversation_ends_even_when_no_name_falls_on_the_raters_side():
    canary = CanaryShare(2, 0.5)
    rater = next(name for name in map(str, count()) if canary.answers(name))
    other = next(name for name in map(str, count()) if not canary.answers(name))
    assert canary.name_conversation(rater, lambda: other) == other


def test_conversations_of_the_canary_are_answered_by_it_and_stamped_with_its_hash(
    client, admin, candidate, follower, store
):
    moved = admin.post("/v1/versions/2/canary", json={"share": 0.5, "reason": "a day", "expected_live": 1})
    assert (moved.status_code, moved.json()["action"], moved.json()["share"]) == (200, "canary", 0.5)
    seen = {}
    for number in range(24):
        answer = ask(client, metadata={"conversation_id": f"c-{number}"}, user="anna")
        seen[number] = version_of(answer)
        assert seen[number] == (2 if follower.canary.answers(f"c-{number}") else 1)
        reply = store.read(get_reply, answer.json()["id"])
        assert (reply.policy_version, reply.adapter_sha256) == (seen[number], "a" * 64 if seen[number] == 2 else None)
    assert set(seen.values()) == {1, 2}
    for number, version in seen.items():  # whoever asks, the conversation decides
        assert version_of(ask(client, metadata={"conversation_id": f"c-{number}"}, user="ben")) == version


def test_a_rater_without_conversations_stays_on_one_side_also_when_the_id_is_sent_back(
    client, admin, candidate, follower
):
    admin.post("/v1/versions/2/canary", json={"share": 0.5, "reason": "a day"})
    seen = set()
    for number in range(16):
        first = ask(client, user=f"rater-{number}")
        side = version_of(first)
        assert {version_of(ask(client, user=f"rater-{number}")) for _ in range(3)} == {side}
        conversation = {"conversation_id": first.json()["conversation_id"]}
        assert version_of(ask(client, user=f"rater-{number}", metadata=conversation)) == side
        seen.add(side)
    assert seen == {1, 2}


def test_a_comparison_pits_live_against_canary_in_a_random_and_logged_order(client, admin, candidate, follower, store):
    admin.post("/v1/versions/2/canary", json={"share": 0, "reason": "comparisons alone"})
    orders = Counter()
    for _ in range(24):
        answer = ask(client, n=2, seed=5, user="anna", metadata={"compare": True})
        completion = answer.json()
        shown = [choice["policy_version"] for choice in completion["choices"]]
        assert answer.headers["x-policy-version"] == ", ".join(map(str, shown))
        assert completion["policy_version"] == shown[0]
        comparison = store.read(get_comparison, completion["comparison_id"])
        rows = [store.read(get_reply, reply_id) for reply_id in comparison.reply_ids]
        assert [row.policy_version for row in rows] == shown
        assert [row.shown_position for row in rows] == [0, 1]
        for row in rows:
            assert row.adapter_sha256 == (None if row.policy_version == 1 else "a" * 64)
            assert row.metadata["drawn"] == row.policy_version - 1
            assert row.sampling.seed == 5 + row.metadata["drawn"]
        orders[tuple(shown)] += 1
    assert set(orders) == {(1, 2), (2, 1)}  # one chance in 8 million that a fair shuffle fails here
    assert version_of(ask(client)) == 1


def test_a_streamed_comparison_names_each_choices_version(client, admin, candidate, follower, store):
    admin.post("/v1/versions/2/canary", json={"share": 0, "reason": "comparisons alone"})
    answer = ask(client, n=4, stream=True, metadata={"compare": True})
    chunks = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n")[:-2]]
    receipts = chunks[-1]["thumbwise"]
    assert sorted(receipts["policy_versions"]) == [1, 1, 2, 2]
    stored = [store.read(get_reply, reply_id).policy_version for reply_id in receipts["reply_ids"]]
    assert stored == receipts["policy_versions"]
    assert answer.headers["x-policy-version"] == ", ".join(map(str, stored))


def test_replies_that_are_not_compared_are_of_one_version(client, admin, candidate, follower):
    admin.post("/v1/versions/2/canary", json={"share": 0.5, "reason": "a day"})
    for number in range(12):
        choices = ask(client, n=3, metadata={"conversation_id": f"c-{number}"}).json()["choices"]
        assert len({choice["policy_version"] for choice in choices}) == 1


def test_the_status_shows_the_canary_until_it_ends(admin, candidate, follower):
    before = admin.get("/v1/status").json()
    assert (before["canary"], before["canary_share"], before["serving_canary_version"]) == (None, None, None)
    admin.post("/v1/versions/2/canary", json={"share": 0.25, "reason": "a day"})
    during = admin.get("/v1/status").json()
    assert (during["canary"]["version"], during["canary"]["state"], during["canary_share"]) == (2, "canary", 0.25)
    assert (during["live"]["version"], during["serving_version"], during["serving_canary_version"]) == (1, 1, 2)
    ended = admin.post("/v1/canary/stop", json={"reason": "seen enough", "expected_canary": 2})
    assert (ended.json()["action"], ended.json()["version"]) == ("canary_stop", 2)
    after = admin.get("/v1/status").json()
    assert (after["canary"], after["serving_canary_version"]) == (None, None)
    assert after["pointer_revision"] == during["pointer_revision"] + 1


def test_a_share_out_of_range_a_stale_page_and_a_second_canary_are_refused(admin, candidate, follower, store):
    url = "/v1/versions/2/canary"
    for share in (-0.1, 1, 2, "0.1", None):
        answer = admin.post(url, json={"share": share, "reason": "x"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "share"), share
    assert admin.post(url, json={"share": 0.1, "reason": "x", "expected_live": 3}).status_code == 409
    assert admin.post("/v1/versions/9/canary", json={"share": 0.1, "reason": "x"}).status_code == 404
    assert admin.post("/v1/canary/stop", json={"reason": "x"}).status_code == 409
    assert store.read(stored_canary) is None


def test_an_adapter_that_is_refused_becomes_no_canary(admin, context, candidate, store):
    def refuse(version):
        raise AdapterRefused(f"version {version}: lora_A holds NaN")

    context.prepare_version = refuse
    answer = admin.post("/v1/versions/2/canary", json={"share": 0.1, "reason": "x"})
    assert answer.status_code == 409 and "NaN" in answer.json()["error"]["message"]
    assert store.read(stored_canary) is None


@pytest.mark.parametrize("end", ["promote", "rollback", "stop"])
def test_whatever_ends_a_canary_is_seen_by_the_next_request(client, admin, candidate, follower, end):
    admin.post("/v1/versions/2/promote", json={"reason": "so that there is a way back"})
    admin.post("/v1/versions/1/canary", json={"share": 0.999, "reason": "nearly all"})
    assert version_of(ask(client, user="anna")) == 1
    path, live = {
        "promote": ("/v1/versions/1/promote", 1),
        "rollback": ("/v1/rollback", 1),
        "stop": ("/v1/canary/stop", 2),
    }[end]
    assert admin.post(path, json={"reason": "enough"}).status_code == 200
    assert follower.canary is None
    assert version_of(ask(client, user="anna")) == live


def test_a_server_that_was_not_told_follows_the_canary_by_itself(store, candidate, follower):
    from tests.waiting import until

    store.write(start_canary, 2, 0.3, **WHO)
    until(lambda: follower.canary == CanaryShare(2, 0.3))
    store.write(start_canary, 2, 0.6, **WHO)
    until(lambda: follower.canary == CanaryShare(2, 0.6))
    store.write(stop_canary, **WHO)
    until(lambda: follower.canary is None)


def test_a_restart_serves_what_the_pointer_says(store, candidate, words, tmp_path):
    store.write(start_canary, 2, 0.3, **WHO)
    restarted = PolicyFollower(store, words, tmp_path / "adapters")
    restarted.follow()
    assert restarted.canary == CanaryShare(2, 0.3)
    assert words.live == PolicyRef(1)
    assert words.loaded_versions == {1: 0, 2: 0}


def test_a_canary_whose_adapter_is_damaged_leaves_the_live_version_serving(store, candidate, words, tmp_path):
    load = words.load

    def refuse(policy):
        if policy.version == 2:
            raise AdapterRefused("altered or damaged")
        load(policy)

    words.load = refuse
    store.write(start_canary, 2, 0.3, **WHO)
    restarted = PolicyFollower(store, words, tmp_path / "adapters")
    restarted.follow()
    assert (restarted.canary, words.live) == (None, PolicyRef(1))
    assert restarted.refused is not None and "damaged" in restarted.refused
    words.load = load
    restarted.follow()  # the disk is mended
    assert [restarted.canary, restarted.refused] == [CanaryShare(2, 0.3), None]


def test_a_live_version_that_is_refused_ends_no_reply_and_no_canary(store, candidate, words, tmp_path):
    third = store.write(
        add_candidate, base_model="words", adapter_sha256="b" * 64, parent=1, method="kto", round_id=None,
        gate_report=None, metrics={},
    )  # fmt: skip
    load = words.load

    def refuse(policy):
        if policy.version == third.version:
            raise AdapterRefused("altered or damaged")
        load(policy)

    words.load = refuse
    follower = PolicyFollower(store, words, tmp_path / "adapters")
    store.write(promote, third.version, **WHO)
    store.write(start_canary, 2, 0.3, **WHO)
    follower.follow()
    assert (words.live, follower.canary) == (PolicyRef(1), CanaryShare(2, 0.3))
    store.write(rollback, **WHO)
    follower.follow()
    assert store.read(live_version).version == 1
    assert (words.live, follower.canary, follower.refused) == (PolicyRef(1), None, None)


def test_a_canary_that_ends_between_the_look_and_the_start_is_looked_up_again(client, context, words, candidate):
    words.load(PolicyRef(2, "a" * 64))
    looks = []

    def canary():
        looks.append(1)
        return CanaryShare(2, 0.999) if len(looks) <= 3 else None

    context.canary = canary
    assert version_of(ask(client, user="anna")) == 1


def test_a_canary_that_is_never_served_does_not_keep_a_request_waiting(client, context, words):
    context.canary = lambda: CanaryShare(7, 0.999)
    assert version_of(ask(client, user="anna")) == 1
    answer = ask(client, n=2, metadata={"compare": True})
    assert [choice["policy_version"] for choice in answer.json()["choices"]] == [1, 1]
    assert words.in_flight[1] == 0


def test_an_engine_of_words_serves_only_what_is_live_or_canary(words):
    from feedback_store.records import Sampling
    from serving.engine import ReplyRequest

    words.load(PolicyRef(2, "a" * 64))
    with pytest.raises(VersionNotServed, match="version 2 takes no requests"):
        words.start(ReplyRequest((1,), Sampling(), version=2))

    async def last_policy():
        words.make_live(1, canary=2)
        async for item in words.start(ReplyRequest((1,), Sampling(), version=2)):
            last = item
        return last.policy

    assert asyncio.run(last_policy()) == PolicyRef(2, "a" * 64)
