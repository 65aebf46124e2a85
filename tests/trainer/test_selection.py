"""Which feedback a round learns from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_store.raters import staff_rater_id
from feedback_store.records import BOTH_BAD, TIE, Comparison, Feedback, Reply
from tests.trainer.parts import act, make_reply
from trainer.feedback_rows import Correction, Pair, Vote, prompt_key
from trainer.floods import share_of
from trainer.job import ExampleRow, PairRow, VoteRow
from trainer.judgements import Judgements, allowed_rows, cap_per_rater, judgements, usable
from trainer.selection import Selection, held_out, select
from trainer.settings import RoundSettings, TrainingSettings

SHOWN = {
    "c": Comparison("c", ("a", "b"), None, None, "web"),
    "c3": Comparison("c3", ("x", "y", "z"), None, None, "web"),
}


def votes_of(found: Judgements) -> dict[str, bool]:
    return {vote.reply_id: vote.up for vote in found.votes}


def keys_of(replies: Mapping[str, Reply]) -> dict[str, str]:
    """The prompts of the replies whose text is kept, as the store's evidence has them."""
    return {name: prompt_key(reply.messages or ()) for name, reply in replies.items() if reply.text is not None}


def pairs_of(found: Judgements) -> list[tuple[str, str]]:
    return [(pair.chosen, pair.rejected) for pair in found.pairs]


@pytest.mark.parametrize(
    ("said", "votes", "pairs"),
    [
        (act(1, "r", reply_id="a", thumb="up"), {"a": True}, []),
        (act(1, "r", reply_id="a", thumb="down"), {"a": False}, []),
        (act(1, "r", "verdict", comparison_id="c", verdict="b"), {"b": True, "a": False}, [("b", "a")]),
        (act(1, "r", "verdict", comparison_id="c", verdict=TIE), {}, []),
        (act(1, "r", "verdict", comparison_id="c", verdict=BOTH_BAD), {"a": False, "b": False}, []),
        (act(1, "r", "verdict", comparison_id="gone", verdict="b"), {}, []),
        (
            act(1, "r", "ranking", comparison_id="c3", ranking=("y", "x", "z")),
            {"y": True, "z": False},
            [("y", "x"), ("y", "z"), ("x", "z")],
        ),
        (act(1, "r", "correction", reply_id="a", correction="better"), {}, []),
    ],
)
def test_each_kind_of_act_says_what_it_says(said: Feedback, votes: dict[str, bool], pairs: list[Any]) -> None:
    found = judgements([said], SHOWN)
    assert votes_of(found) == votes
    assert pairs_of(found) == pairs
    assert found.ties == (said.act.verdict == TIE)


def test_verdicts_give_no_thumbs_when_the_setting_says_so() -> None:
    found = judgements([act(1, "r", "verdict", comparison_id="c", verdict="b")], SHOWN, verdicts_as_thumbs=False)
    assert votes_of(found) == {}
    assert pairs_of(found) == [("b", "a")]


def test_a_rater_has_one_vote_a_reply_and_a_thumb_beats_what_a_comparison_implies() -> None:
    acts = [
        act(1, "r", reply_id="a", thumb="up"),
        act(2, "r", "verdict", comparison_id="c", verdict="b"),
        act(3, "s", "verdict", comparison_id="c", verdict="b"),
    ]
    found = judgements(acts, SHOWN)
    assert {(vote.rater_id, vote.reply_id, vote.up) for vote in found.votes} == {
        ("r", "a", True),
        ("r", "b", True),
        ("s", "a", False),
        ("s", "b", True),
    }


def test_a_later_ranking_replaces_the_pairs_of_an_earlier_verdict() -> None:
    acts = [
        act(1, "r", "verdict", comparison_id="c", verdict="b"),
        act(2, "r", "ranking", comparison_id="c", ranking=("a", "b")),
    ]
    assert pairs_of(judgements(acts, SHOWN)) == [("a", "b")]
    assert pairs_of(judgements(acts[::-1], SHOWN)) == [("a", "b")]


@pytest.mark.parametrize(
    ("rows", "at_least", "cap"),
    [
        ({"r": 3}, 10, 10),
        ({f"r{n}": 10 for n in range(20)} | {"flood": 10_000}, 10, 10),  # 5 % of 210 is 10
        ({f"r{n}": 10 for n in range(100)} | {"keen": 10_000}, 10, 20),  # twice the mean of 10.1
        ({f"r{n}": 90 for n in range(100)}, 10, 180),  # nobody is left out where all give much
        ({}, 10, 10),
    ],
)
def test_a_flood_does_not_raise_its_own_cap(rows: dict[str, int], at_least: int, cap: int) -> None:
    assert cap_per_rater(rows, at_least) == cap


@pytest.mark.parametrize(
    ("rows", "allowed"),
    [
        ({}, {}),
        ({"me": 500}, {"me": 10}),
        ({"me": 99, "a": 10, "b": 10}, {"me": 10, "a": 10, "b": 10}),
        ({f"r{n}": 10 for n in range(100)} | {"flood": 10_000}, {f"r{n}": 20 for n in range(100)} | {"flood": 10}),
        ({"a": 10, "b": 10, "flood": 10_000}, {"a": 10, "b": 10, "flood": 0}),
    ],
)
def test_a_flood_is_cut_to_a_hundredth_of_what_the_others_bring(rows: dict[str, int], allowed: dict[str, int]) -> None:
    assert allowed_rows(rows, 10) == allowed


def test_one_rater_voting_ten_thousand_times_has_at_most_a_hundredth_of_the_weight() -> None:
    votes = tuple(Vote(n, f"r{n % 40}", f"a{n}", True, "thumb") for n in range(400))
    votes += tuple(Vote(1_000 + n, "flood", f"b{n}", False, "thumb") for n in range(10_000))
    replies = {vote.reply_id: make_reply(vote.reply_id) for vote in votes}
    kept = usable(Judgements(votes, ()), keys_of(replies), max_votes_per_rater=10, seed=0)
    weight = Counter(vote.rater_id for vote in kept.votes)
    assert weight["flood"] <= 0.01 * len(kept.votes)
    assert weight["r0"] == 10, "the others keep theirs"
    assert kept.counts["votes_over_cap"] == 10_400 - len(kept.votes)


def test_a_flood_weighs_a_hundredth_at_most_as_the_method_weighs_rows_in_either_split() -> None:
    honest = tuple(Vote(n, f"r{n % 60}", f"a{n}", n % 10 > 0, "thumb") for n in range(600))  # nine in ten are up
    votes = honest + tuple(Vote(1_000 + n, "flood", f"b{n}", False, "thumb") for n in range(10_000))
    replies = {vote.reply_id: make_reply(vote.reply_id, prompt=f"prompt {vote.feedback_id % 90}") for vote in votes}
    flood, trained_on = 0, 0
    for seed in range(10):
        kept = usable(Judgements(votes, ()), keys_of(replies), max_votes_per_rater=10, seed=seed)
        assert kept.floods == {"flood"}
        found = select(
            kept, lambda _: replies, method="kto", rounds=RoundSettings(), training=TrainingSettings(seed=seed)
        )
        for rows in (found.train, found.held_out):
            assert share_of(flood, rows, 5.0) <= 0.01
        assert {row.rater for row in found.train} - {flood}
        trained_on += any(row.rater == flood for row in found.train)
        assert found.counts["votes_over_cap"] + found.counts["rows_of_floods_left_out"] > 9_900
    assert trained_on, "a hundredth is not nothing"


def test_annotators_have_a_cap_of_their_own_that_widens_nobody_elses() -> None:
    anna = staff_rater_id("user:anna")
    votes = tuple(Vote(n, f"r{n % 20}", f"a{n}", True, "thumb") for n in range(200))
    votes += tuple(Vote(1_000 + n, anna, f"b{n}", False, "verdict") for n in range(500))
    votes += tuple(Vote(2_000 + n, "busy", f"c{n}", True, "thumb") for n in range(40))
    replies = {vote.reply_id: make_reply(vote.reply_id) for vote in votes}
    kept = usable(Judgements(votes, ()), keys_of(replies), max_votes_per_rater=10, max_labels_per_annotator=150, seed=0)
    weight = Counter(vote.rater_id for vote in kept.votes)
    assert (weight[anna], weight["r0"], weight["busy"]) == (150, 10, 10)
    usual = usable(Judgements(votes, ()), keys_of(replies), max_votes_per_rater=10, seed=0)
    assert Counter(vote.rater_id for vote in usual.votes)[anna] == RoundSettings().max_labels_per_annotator


def test_the_cap_keeps_the_two_sides_of_a_verdict_together() -> None:
    votes = tuple(Vote(n // 2, "r", f"a{n}", n % 2 == 0, "verdict") for n in range(20))
    replies = {vote.reply_id: make_reply(vote.reply_id) for vote in votes}
    kept = usable(Judgements(votes, ()), keys_of(replies), max_votes_per_rater=5, seed=0)
    assert len(kept.votes) == 4
    assert set(Counter(vote.feedback_id for vote in kept.votes).values()) == {2}


def test_rows_without_kept_text_are_left_out_and_counted() -> None:
    votes = tuple(Vote(n, "r", f"a{n}", True, "thumb") for n in range(3))
    pairs = (Pair(9, "r", "a0", "a1"), Pair(10, "r", "a0", "a2"))
    replies = {"a0": make_reply("a0"), "a1": make_reply("a1", None), "a2": make_reply("a2")}
    del replies["a2"]
    kept = usable(Judgements(votes, pairs), keys_of(replies), max_votes_per_rater=10, seed=0)
    assert [vote.reply_id for vote in kept.votes] == ["a0"]
    assert (kept.counts["votes_without_text"], kept.counts["pairs_without_text"]) == (2, 2)


@given(st.sets(st.text(min_size=1, max_size=4), min_size=2, max_size=40), st.floats(0.01, 0.49), st.integers(0, 5))
def test_the_held_out_share_is_kept_and_no_one_is_ever_all(names: set[str], share: float, seed: int) -> None:
    out = held_out(names, share, seed, "rater")
    assert out < names
    assert len(out) == -int(-share * len(names) // 1)
    assert out == held_out(sorted(names, reverse=True), share, seed, "rater")


def test_a_rater_mostly_stays_on_its_side_when_others_join() -> None:
    few, many = {f"r{n}" for n in range(40)}, {f"r{n}" for n in range(50)}
    before, after = held_out(few, 0.2, 0, "rater"), held_out(many, 0.2, 0, "rater")
    assert len(before & after) >= len(before) - 3


def test_a_prompt_is_the_same_in_other_letters_and_spacing() -> None:
    said = [{"role": "user", "content": "Tell me  MORE\n"}]
    assert prompt_key(said) == prompt_key([{"role": "user", "content": "tell me more"}])
    assert prompt_key(said) != prompt_key([{"role": "system", "content": "tell me more"}])


def scene() -> tuple[Judgements, dict[str, Reply]]:
    """30 raters, 40 prompts: a vote and a pair on every one of 120 places."""
    votes, pairs, replies = [], [], {}
    for n in range(120):
        for name in (f"a{n}", f"b{n}"):
            replies[name] = make_reply(name, f"text of {name}", prompt=f"prompt {n % 40}")
        votes.append(Vote(2 * n, f"r{n % 30}", f"a{n}", n % 3 == 0, "thumb"))
        pairs.append(Pair(2 * n + 1, f"r{n % 30}", f"a{n}", f"b{n}"))
    return Judgements(tuple(votes), tuple(pairs)), replies


def chosen(method: Any = "kto", seed: int = 0, **changes: Any) -> Selection:
    found, replies = scene()
    kept = usable(found, keys_of(replies), max_votes_per_rater=10, seed=seed)
    rounds = changes.pop("rounds", RoundSettings())
    values = {"gate_prompts": 50} | changes
    return select(kept, lambda _: replies, method=method, rounds=rounds, training=TrainingSettings(seed=seed), **values)


@pytest.mark.parametrize("method", ["kto", "dpo"])
def test_no_held_out_rater_or_prompt_is_trained_on(method: Any) -> None:
    found = chosen(method)
    kind = VoteRow if method == "kto" else PairRow
    assert found.train and all(isinstance(row, kind) for row in found.train)
    assert {type(row) for row in found.held_out} == {VoteRow, PairRow}
    assert found.counts["raters_held_out"] == 5  # ⌈15 % of 30⌉
    assert found.counts["prompts_held_out"] == 6
    trained_raters = {row.rater for row in found.train}
    trained_prompts = {prompt_key(row.messages) for row in found.train}
    assert len(trained_raters) == 25
    for row in found.held_out:
        assert row.rater not in trained_raters or prompt_key(row.messages) not in trained_prompts
    assert found.prompts
    assert not {prompt_key(prompt.messages) for prompt in found.prompts} & trained_prompts


def test_the_same_feedback_and_seed_give_the_same_selection() -> None:
    assert chosen() == chosen()
    assert chosen().frozen != chosen(seed=1).frozen


def test_every_act_that_counts_is_frozen_once_with_its_split() -> None:
    found = chosen()
    frozen = dict(found.frozen)
    assert len(frozen) == len(found.frozen)
    assert {row.feedback_id for row in found.train} == {name for name, split in frozen.items() if split == "train"}
    assert {row.feedback_id for row in found.held_out} == {name for name, split in frozen.items() if split != "train"}


@pytest.mark.parametrize("method", ["kto", "dpo", "ppo"])
def test_texts_are_read_of_drawn_rows_alone_and_what_went_meanwhile_is_no_row(method: Any) -> None:
    found, replies = scene()
    kept = usable(found, keys_of(replies), max_votes_per_rater=10, seed=0)
    asked: set[str] = set()
    gone = {f"a{n}" for n in range(0, 120, 7)}

    def texts(names: Sequence[str]) -> dict[str, Reply]:
        asked.update(names)
        return {name: replies[name] for name in names if name not in gone}

    rounds = RoundSettings(max_rows=20, max_held_out_rows=10)
    chosen_rows = select(kept, texts, method=method, rounds=rounds, training=TrainingSettings(seed=0), gate_prompts=9)
    rows = (*chosen_rows.train, *chosen_rows.held_out)
    named = {name for row in rows for name in _names(row)}
    assert named and not named & gone and named <= asked
    assert not {prompt.reply_id for prompt in (*chosen_rows.prompts, *chosen_rows.rollouts)} & gone
    assert chosen_rows.counts["train"] == len(chosen_rows.train) < 20
    if method != "ppo":  # whose rollouts are of all prompts
        assert len(asked) <= 2 * (20 + 10 + 10)


def _names(row: Any) -> set[str]:
    return {row.reply.reply_id} if isinstance(row, VoteRow) else {row.chosen.reply_id, row.rejected.reply_id}


def test_further_prompts_fill_the_gate_only_when_they_were_not_trained_on() -> None:
    others = [make_reply("fresh", "said", prompt="a fresh prompt"), make_reply("old", "said", prompt="prompt 0")]
    found = chosen(other_prompts=others)
    assert "fresh" in {prompt.reply_id for prompt in found.prompts}
    trained = {prompt_key(row.messages) for row in found.train}
    assert prompt_key(make_reply("old", prompt="prompt 0").messages or ()) in trained
    assert "old" not in {prompt.reply_id for prompt in found.prompts}
    assert len(chosen(gate_prompts=3).prompts) == 3
    # Held-out prompts come first.
    assert "fresh" not in {prompt.reply_id for prompt in chosen(gate_prompts=3, other_prompts=others).prompts}


def test_only_approved_corrections_are_learnt() -> None:
    acts = [act(n, f"r{n}", "correction", reply_id=f"a{n}", correction=f"better {n}") for n in range(3)]
    assert judgements(acts, {}).corrections == ()
    assert judgements(acts, {}, approved={1}).corrections == (Correction(1, "r1", "a1", "better 1"),)


def test_sft_learns_corrections_among_as_many_liked_replies_to_other_prompts() -> None:
    found, replies = scene()
    corrections = tuple(Correction(1000 + n, f"r{n % 30}", f"b{n}", f"better {n}") for n in range(12))
    kept = usable(replace(found, corrections=corrections), keys_of(replies), max_votes_per_rater=10, seed=0)
    chosen_rows = select(
        kept, lambda _: replies, method="sft", rounds=RoundSettings(), training=TrainingSettings(seed=0)
    )
    rows = [row for row in chosen_rows.train if isinstance(row, ExampleRow)]
    taught = [row for row in rows if row.source == "correction"]
    replay = [row for row in rows if row.source == "replay"]
    assert len(rows) == len(chosen_rows.train) and 0 < len(taught) <= 12
    assert len(replay) == len(taught) == chosen_rows.counts["train_corrections"]
    assert {row.reply.text for row in taught} <= {f"better {n}" for n in range(12)}
    corrected = {prompt_key(row.messages) for row in taught}
    assert not corrected & {prompt_key(row.messages) for row in replay}
    assert all(vote.up for vote in found.votes if vote.feedback_id in {row.feedback_id for row in replay})
    held = {row.rater for row in chosen_rows.held_out} - {row.rater for row in rows}
    assert held and {row.feedback_id for row in rows} <= {n for n, split in chosen_rows.frozen if split == "train"}
    training = TrainingSettings(seed=0, replay_share=0.6)
    more = select(kept, lambda _: replies, method="sft", rounds=RoundSettings(), training=training)
    assert sum(row.source == "replay" for row in more.train if isinstance(row, ExampleRow)) == 1.5 * len(taught)


def test_of_more_rows_than_a_round_takes_a_draw_is_left_and_the_rest_counted() -> None:
    votes = tuple(Vote(n, f"r{n % 100}", f"a{n}", n % 4 > 0, "thumb") for n in range(1_000))
    votes += tuple(Vote(2_000 + n // 2, f"r{n % 100 // 2}", f"b{n}", n % 2 == 0, "verdict") for n in range(200))
    replies = {vote.reply_id: make_reply(vote.reply_id, prompt=f"prompt {vote.feedback_id % 90}") for vote in votes}
    kept = usable(Judgements(votes, ()), keys_of(replies), max_votes_per_rater=20, seed=0)

    def drawn(seed: int = 0, **most: int) -> Selection:
        settings = {"rounds": RoundSettings(**most), "training": TrainingSettings(seed=seed)}  # type: ignore[arg-type]
        return select(kept, lambda _: replies, method="kto", **settings)  # type: ignore[arg-type]

    whole, some = drawn(), drawn(max_rows=300, max_held_out_rows=100)
    assert 299 <= len(some.train) <= 300 and 99 <= len(some.held_out) <= 100
    assert set(some.frozen) < set(whole.frozen)
    assert some.counts["rows_over_cap"] == len(whole.train) + len(whole.held_out) - len(some.train) - len(some.held_out)
    assert whole.counts["rows_over_cap"] == 0
    of_act = Counter(row.feedback_id for row in some.train if row.feedback_id >= 2_000)
    assert set(of_act.values()) == {2}, "the two sides of a verdict stay together"
    ups = [row.up for row in some.train if isinstance(row, VoteRow)]
    assert 0.6 < sum(ups) / len(ups) < 0.8, "as of all"
    assert len({row.rater for row in some.train}) > 70, "of nearly everybody"
    assert drawn(max_rows=300) == drawn(max_rows=300) and drawn(max_rows=300) != drawn(seed=1, max_rows=300)


@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_rollouts_are_of_real_prompts_that_judge_nobody(method: Any) -> None:
    others = [make_reply(f"o{n}", "said", prompt=f"another {n}") for n in range(8)]
    found = chosen(method, gate_prompts=10, other_prompts=others)
    rollouts = {prompt_key(prompt.messages) for prompt in found.rollouts}
    assert len(rollouts) == len(found.rollouts) == found.counts["rollout_prompts"]
    assert {prompt_key(row.messages) for row in found.train} <= rollouts
    assert not rollouts & {prompt_key(prompt.messages) for prompt in found.prompts}
    judged = {prompt_key(row.messages) for row in found.held_out}
    assert not rollouts & (judged - {prompt_key(row.messages) for row in found.train})
    assert all(isinstance(row, PairRow) for row in found.train)
    assert chosen("dpo").rollouts == ()
