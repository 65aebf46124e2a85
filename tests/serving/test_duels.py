"""Active duels: which candidates a comparison shows, how probable that was, and what is kept of hinted replies."""

import asyncio
import json
from collections import Counter
from itertools import combinations, cycle
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._word_engine import WordEngine, WordStream
from feedback_store.replies import get_comparison, get_reply, recent_replies
from serving.duels import Said, chances, choose, distance, with_hint
from serving.engine import PolicyRef, QueueFull
from serving.engine.base_model import load_model
from serving.engine.torch_engine import TorchEngine
from serving.engine.weights import BaseWeights
from serving.settings import DuelSettings, PolicySettings, ServingSettings
from tests.serving.test_api_chat import stream

COMPARED = {"n": 2, "metadata": {"compare": True}}
SURELY: dict[str, Any] = {"explore": 1e-12, "hint_share": 0.0}
TEXTS = st.builds(Said, st.text("abc  ", max_size=40), st.sampled_from(["stop", "length"]))
SHORT, LONG = (
    Said("Robin.", "stop"),
    Said("There are so many birds that one hardly knows where to begin, but", "length"),
)
SAME = Said("robin", "stop")


@given(TEXTS, TEXTS)
def test_a_distance_has_no_direction_and_lies_between_a_copy_and_the_other_extreme(first, second):
    assert 0 <= distance(first, second) == distance(second, first) <= 1
    assert distance(first, first) == 0


def test_a_distance_sees_length_ends_and_words():
    assert distance(SHORT, SAME) == 0, "letter case and signs say nothing"
    assert distance(SHORT, LONG) > 0.95
    assert distance(Said("a b c d", "stop"), Said("a b c d", "length")) == pytest.approx(1 / 3)
    assert distance(Said("a b c d", "stop"), Said("e f g h", "stop")) == pytest.approx(1 / 3)
    assert 0 < distance(Said("知更鸟是鸟", "stop"), Said("知更鸟是一种鸟", "stop")) < 0.5, "signs stand for words"


@given(st.lists(TEXTS, min_size=2, max_size=5), st.floats(0.01, 1), st.booleans())
def test_the_chances_of_all_sets_add_up_to_one_and_none_is_nothing(candidates, explore, trusted):
    rewards = [float(len(one.text)) for one in candidates] if trusted else None
    found = chances(candidates, 2, explore, rewards)
    assert set(found) == set(combinations(range(len(candidates)), 2))
    assert sum(found.values()) == pytest.approx(1)
    assert min(found.values()) >= explore / len(found) - 1e-12


def test_the_most_different_two_are_shown_but_for_the_explored_share():
    found = chances([SHORT, SAME, LONG, Said("A robin sings.", "stop")], 2, 0.2)
    best = max(found, key=found.__getitem__)
    assert best in [(0, 2), (1, 2)] and found[0, 2] == found[1, 2] == pytest.approx(0.2 / 6 + 0.4)
    assert found[0, 1] == pytest.approx(0.2 / 6)


def test_a_trusted_model_shows_those_that_it_is_least_sure_of_and_not_two_copies():
    candidates = [SHORT, SAME, LONG, Said("A long walk through many words, that never ends because", "length")]
    found = chances(candidates, 2, 0.1, rewards=[1.0, 1.0, 0.7, -2.0])
    assert max(found, key=found.__getitem__) in [(0, 2), (1, 2)]
    assert found[0, 1] == pytest.approx(0.1 / 6), "nobody learns from a choice between two copies"


def test_what_was_drawn_is_drawn_as_often_as_it_says():
    candidates, dice = [SHORT, LONG, Said("A robin sings.", "stop")], Random(1)
    told = chances(candidates, 2, 0.5)
    drawn = [choose(candidates, 2, 0.5, dice) for _ in range(4000)]
    counts = Counter(one.members for one in drawn)
    for members, chance in told.items():
        assert counts[members] / 4000 == pytest.approx(chance, abs=0.03)  # 3.8 standard deviations
    assert all(one.propensity == pytest.approx(told[one.members]) for one in drawn)
    assert {one.by for one in drawn} == {"distance", "chance"}


@given(st.lists(TEXTS, min_size=3, max_size=5), st.floats(0.01, 1), st.data())
def test_weighed_by_its_chance_a_figure_is_that_of_pairs_drawn_by_chance(candidates, explore, data):
    found = chances(candidates, 2, explore)
    figure = {one: data.draw(st.floats(-1, 1)) for one in found}
    expected = sum(chance * figure[one] / (len(found) * chance) for one, chance in found.items())
    assert expected == pytest.approx(sum(figure.values()) / len(found), abs=1e-9)


def test_a_hint_stands_behind_the_system_prompt():
    user = {"role": "user", "content": "hello"}
    assert with_hint((user,), "Be brief.") == ({"role": "system", "content": "Be brief."}, user)
    led = with_hint(({"role": "system", "content": "You are kind."}, user), "Be brief.")
    assert led == ({"role": "system", "content": "You are kind.\n\nBe brief."}, user)


class Lengths(WordEngine):
    """The engine of words, whose replies have these lengths in turn. `room`: replies it takes before it is full."""

    def __init__(self, *lengths, room=10_000):
        super().__init__()
        self._lengths, self.room, self.started = cycle(lengths), room, []

    def start(self, request):
        if len(self.started) >= self.room:
            raise QueueFull(1.0)
        self.started.append(request)
        engine = WordEngine(length=next(self._lengths))
        return WordStream(engine, request, self.live)


def shown_lengths(completion):
    return [len(choice["message"]["content"].split()) for choice in completion["choices"]]


def test_a_comparison_shows_the_most_different_of_several_and_logs_its_chance(context, chat, store):
    context.engine, context.duels = Lengths(8, 8, 20, 1), DuelSettings(**SURELY)
    left = Counter()
    for _ in range(24):
        completion = chat(**COMPARED)
        assert sorted(shown_lengths(completion)) == [1, 16]
        left[shown_lengths(completion)[0]] += 1
    assert set(left) == {1, 16}  # sides stay random: one chance in 8 million that a fair shuffle fails here
    comparison = store.read(get_comparison, completion["comparison_id"])
    assert comparison.drawing | {"distance": None} == {
        "candidates": 4, "sets": 6, "propensity": 1.0, "by": "distance", "distance": None,
    }  # fmt: skip
    assert [choice["reply_id"] for choice in completion["choices"]] == list(comparison.reply_ids)
    replies = [store.read(get_reply, name) for name in comparison.reply_ids]
    assert [reply.shown_position for reply in replies] == [0, 1]
    assert len(store.read(recent_replies, 100)) == 2 * 24, "what nobody saw is no reply"
    assert completion["usage"]["completion_tokens"] == 17


def test_an_export_of_events_says_how_probable_a_comparison_was(context, client, admin, chat):
    context.engine, context.duels = Lengths(8, 9, 1, 8), DuelSettings(explore=1.0)
    completion = chat(**COMPARED)
    act = {"rater": "anna", "comparison_id": completion["comparison_id"], "verdict": "tie", "reason": "alike"}
    assert client.post("/v1/feedback", json=act).status_code == 200
    (row,) = (json.loads(line) for line in admin.get("/v1/export").text.splitlines())
    assert (row["propensity"], row["sets"], row["reason"]) == (round(1 / 6, 9), 6, "alike")


def test_a_share_of_the_comparisons_is_drawn_by_chance(context, chat, store):
    context.engine, context.duels = Lengths(8, 9, 1, 8), DuelSettings(explore=1.0)
    found = [store.read(get_comparison, chat(**COMPARED)["comparison_id"]).drawing for _ in range(12)]
    assert {one["by"] for one in found} == {"chance"}
    assert {one["propensity"] for one in found} == {round(1 / 6, 9)}


def test_a_stream_brings_whole_replies_of_those_that_are_shown(context, client, store):
    context.engine, context.duels = Lengths(8, 8, 20, 1), DuelSettings(**SURELY)
    chunks = stream(client, **COMPARED)
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks[:2]] == ["assistant"] * 2
    texts = ["", ""]
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    receipts = chunks[-1]["thumbwise"]
    assert sorted(len(text.split()) for text in texts) == [1, 16]
    assert [store.read(get_reply, name).text for name in receipts["reply_ids"]] == texts
    assert store.read(get_comparison, receipts["comparison_id"]).drawing["candidates"] == 4


@pytest.mark.parametrize(
    ("duels", "fields"),
    [
        ({"show": "drawn"}, {}),
        ({"candidates": 2}, {}),
        ({}, {"temperature": 0}),  # all of them would be one
    ],
)
def test_where_there_is_nothing_to_choose_no_more_are_drawn_than_shown(context, chat, store, duels, fields):
    context.engine, context.duels = Lengths(8), DuelSettings(**duels)
    completion = chat(**COMPARED, **fields)
    assert len(context.engine.started) == 2
    assert store.read(get_comparison, completion["comparison_id"]).drawing is None


def test_replies_that_are_not_compared_are_no_duel(context, chat):
    context.engine = Lengths(8)
    chat(n=2)
    assert len(context.engine.started) == 2


def test_a_queue_without_room_for_more_shows_what_fits(context, chat, store):
    context.engine, context.duels = Lengths(8), DuelSettings(**SURELY)
    context.engine.room = 3
    start = context.engine.start
    full = context.engine.started

    def forgetful(request):
        try:
            return start(request)
        except QueueFull:
            full.clear()  # the three that had begun are stopped
            raise

    context.engine.start = forgetful
    completion = chat(**COMPARED)
    assert len(completion["choices"]) == 2
    assert store.read(get_comparison, completion["comparison_id"]).drawing is None


@pytest.mark.parametrize(("broken", "status"), [(2, 200), (3, 429)])
def test_candidates_that_break_off_are_left_out_while_enough_are_left(context, client, broken, status):
    context.engine, context.duels = Lengths(8), DuelSettings(**SURELY)
    start = context.engine.start

    class Breaking:
        policy = PolicyRef(1)

        def cancel(self):
            pass

        async def __aiter__(self):
            yield await self.next()

        async def next(self):
            raise QueueFull(1.0)

    def breaking(request):
        stream = start(request)
        return Breaking() if len(context.engine.started) <= broken else stream

    context.engine.start = breaking
    body = {"messages": [{"role": "user", "content": "hello"}], **COMPARED}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == status
    assert status == 429 or len(answer.json()["choices"]) == 2


def test_a_trusted_reward_model_chooses_and_its_failure_costs_nobody_a_reply(context, chat, store):
    context.engine, context.duels = Lengths(8, 9, 1, 2), DuelSettings(**SURELY)
    context.duel_rewards = lambda prompt, drawn: [float(len(ids) == 1) / 2 + float(len(ids) == 9) for ids in drawn]
    completion = chat(**COMPARED)
    assert store.read(get_comparison, completion["comparison_id"]).drawing["by"] == "uncertainty"

    def broken(prompt, drawn):
        raise RuntimeError("no memory")

    context.duel_rewards = broken
    completion = chat(**COMPARED)
    assert store.read(get_comparison, completion["comparison_id"]).drawing["by"] == "distance"


def test_a_hinted_reply_is_one_to_the_plain_prompt_and_unscored_its_probability_is_unknown(context, chat, store):
    context.engine = Lengths(8)
    context.duels = DuelSettings(hint_share=0.999999, hints=("Be brief.",), explore=1.0)
    completion = chat(**COMPARED)
    prompts = Counter(request.prompt_ids for request in context.engine.started)
    hinted, plain = prompts.most_common()
    assert (hinted[1], plain[1]) == (3, 1), "one candidate at least is drawn without a hint"
    replies = [store.read(get_reply, choice["reply_id"]) for choice in completion["choices"]]
    assert any(reply.metadata.get("hint") == "Be brief." for reply in replies)
    for reply in replies:
        assert reply.rendered_prompt == "user: hello" and reply.messages == ({"role": "user", "content": "hello"},)
        assert reply.prompt_tokens == len(plain[0])
        assert (reply.logprob_nats is None) == ("hint" in reply.metadata)


@pytest.fixture
def tiny(context, tiny_model_dir):
    base = BaseWeights(tiny_model_dir, PolicySettings(dtype="float32", device="cpu"))
    context.engine = TorchEngine(base, ServingSettings(threads=1, max_batch=8), PolicyRef(1))
    yield context.engine
    context.engine.close(0)


def by_teacher_forcing(model, prompt_ids, completion_ids):
    """log p(completion | prompt) by transformers' own forward."""
    ids = torch.tensor([[*prompt_ids, *completion_ids]])
    with torch.no_grad():
        logprobs = torch.log_softmax(model(ids).logits[0, len(prompt_ids) - 1 : -1].float(), -1)
    return float(logprobs.gather(1, torch.tensor(completion_ids)[:, None]).sum())


def test_a_hinted_replys_log_probability_is_that_of_teacher_forcing_without_the_hint(
    tiny, context, chat, store, tiny_model_dir, monkeypatch
):
    context.duels = DuelSettings(hint_share=0.999999, hints=("Sing of birds and rain, again and again.",), explore=1.0)
    asked = []
    score = TorchEngine.logprob_nats

    async def noted(engine, prompt_ids, completion_ids, version, *, user=None):
        found = await score(engine, prompt_ids, completion_ids, version, user=user)
        asked.append((prompt_ids, completion_ids, found))
        return found

    monkeypatch.setattr(TorchEngine, "logprob_nats", noted)
    completion = chat("tell me a story about a bird", temperature=1.0, max_tokens=24, **COMPARED)
    replies = [store.read(get_reply, choice["reply_id"]) for choice in completion["choices"]]
    hinted = [reply for reply in replies if "hint" in reply.metadata]
    assert hinted and len(asked) == len(hinted)
    plain_ids = tiny.render(hinted[0].messages)[1]
    model = load_model(tiny_model_dir, torch.float32)
    expected = [by_teacher_forcing(model, plain_ids, ids) for _, ids, _ in asked]
    assert {prompt for prompt, _, _ in asked} == {plain_ids}
    assert sorted(reply.logprob_nats for reply in hinted) == pytest.approx(sorted(expected), abs=1e-3)


@pytest.mark.parametrize("tokens", [1, 3, 700])
def test_a_given_completion_is_scored_in_chunks_beside_replies_under_way(tiny, tiny_model_dir, tokens):
    dice = Random(tokens)
    prompt = tiny.render(({"role": "user", "content": "hello"},))[1]
    given = tuple(dice.randrange(3, 300) for _ in range(tokens))

    async def both():
        from feedback_store.records import Sampling
        from serving.engine import ReplyEnd, ReplyRequest

        reply = tiny.start(ReplyRequest(prompt, Sampling(max_tokens=40, seed=1)))
        found, again = await asyncio.gather(*(tiny.logprob_nats(prompt, given, 1) for _ in range(2)))
        ends = [item async for item in reply if isinstance(item, ReplyEnd)]
        return found, again, ends[0], await tiny.logprob_nats(prompt, ends[0].token_ids, 1)

    found, again, end, drawn_again = asyncio.run(both())
    model = load_model(tiny_model_dir, torch.float32)
    assert found == pytest.approx(by_teacher_forcing(model, prompt, given), abs=1e-3 * tokens)
    assert again == pytest.approx(found, abs=1e-3 * tokens)
    assert drawn_again == pytest.approx(end.logprob_nats, abs=1e-3), (
        "what was drawn has the probability it was drawn at"
    )
