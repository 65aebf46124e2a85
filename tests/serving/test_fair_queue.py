"""Whose turn it is, and who may still wait."""

import random
from collections import Counter

import pytest

from serving.engine import QueueFull
from serving.engine.fair_queue import FairQueue, check_room


def filled(*items: tuple[str | None, int]) -> FairQueue[tuple[str | None, int]]:
    queue: FairQueue[tuple[str | None, int]] = FairQueue()
    for item in items:
        queue.append(item[0], item)
    return queue


def emptied(queue: FairQueue[tuple[str | None, int]]) -> list[tuple[str | None, int]]:
    return [queue.popleft() for _ in range(len(queue))]


def test_users_take_turns_and_each_users_own_order_is_kept() -> None:
    queue = filled(("a", 1), ("a", 2), ("a", 3), ("b", 1), ("c", 1), ("c", 2))
    assert emptied(queue) == [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("c", 2), ("a", 3)]
    with pytest.raises(LookupError):
        queue.popleft()


def test_who_was_just_served_comes_after_who_arrives_now() -> None:
    queue = filled(("a", 1), ("a", 2))
    queue.popleft()
    queue.append("b", ("b", 1))
    assert emptied(queue) == [("a", 2), ("b", 1)]
    queue = filled(("a", 1), ("a", 2), ("b", 1))
    queue.popleft()
    queue.append("c", ("c", 1))
    assert emptied(queue) == [("b", 1), ("a", 2), ("c", 1)]


def test_those_without_a_name_are_one_user() -> None:
    queue = filled((None, 1), (None, 2), ("a", 1))
    assert emptied(queue) == [(None, 1), ("a", 1), (None, 2)]


@pytest.mark.parametrize("seed", range(20))
def test_looking_ahead_shows_the_order_in_which_items_leave(seed: int) -> None:
    chance = random.Random(seed)
    queue = filled()
    arrived: Counter[str] = Counter()
    for _ in range(200):
        if chance.random() < 0.6:
            user = chance.choice("aaaabcd")
            arrived[user] += 1
            queue.append(user, (user, arrived[user]))
        elif queue and chance.random() < 0.8:
            queue.popleft()
        elif queue:
            queue.remove(chance.choice(list(queue)))
        assert len(list(queue)) == len(queue)
    ahead = list(queue)
    assert emptied(queue) == ahead


@pytest.mark.parametrize("flood", [1, 10, 100])
def test_however_many_one_user_sends_anothers_request_waits_a_turn(flood: int) -> None:
    queue = filled(*(("flood", number) for number in range(flood)), ("b", 1))
    assert list(queue).index(("b", 1)) == 1


def test_removing_takes_the_item_out_and_its_empty_lane_too() -> None:
    queue = filled(("a", 1), ("b", 1), ("a", 2))
    queue.remove(("b", 1))
    assert queue.waiting_of("b") == 0 and queue.waiting_of("a") == 2
    assert emptied(queue) == [("a", 1), ("a", 2)]
    with pytest.raises(LookupError):
        queue.remove(("a", 1))


def admitted(limit: int, users: list[str]) -> Counter[str]:
    """Who gets how many places when all ask in turn for as long as anybody is admitted."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    places: Counter[str] = Counter()
    refused: set[str] = set()
    while refused != set(users):
        for user in users:
            try:
                check_room([queue], user, limit, 0)
            except QueueFull:
                refused.add(user)
            else:
                queue.append(user, (user, places[user]))
                places[user] += 1
    return places


@pytest.mark.parametrize(("floods", "most"), [(1, 50), (2, 34), (4, 20)])
def test_floods_leave_as_much_free_as_each_of_them_holds(floods: int, most: int) -> None:
    users = [f"user-{number}" for number in range(floods)]
    places = admitted(100, users)
    assert max(places.values()) == most
    assert 100 - sum(places.values()) >= most - 2


def test_a_newcomer_finds_room_beside_a_flood_and_a_full_queue_refuses_everybody() -> None:
    queue = filled(*(("flood", number) for number in range(4)))
    with pytest.raises(QueueFull) as refused:
        check_room([queue], "flood", 8, 0)
    assert refused.value.own == 4
    for number in range(4):
        check_room([queue], f"new-{number}", 8, 0)
        queue.append(f"new-{number}", (f"new-{number}", 1))
    with pytest.raises(QueueFull, match="queue is full") as refused:
        check_room([queue], "new-9", 8, 0)
    assert refused.value.own is None


@pytest.mark.parametrize(("wait_s", "told_s"), [(0, 1), (7.5, 7.5), (900, 60)])
def test_a_refusal_says_how_long_others_waited_within_bounds(wait_s: float, told_s: float) -> None:
    with pytest.raises(QueueFull) as refused:
        check_room([filled(("a", 1))], "b", 1, wait_s)
    assert refused.value.retry_after_s == told_s
