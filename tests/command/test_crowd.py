"""The crowd: repeatable, noisy as people are, uneven, and hostile where asked."""

import random
from collections import Counter

import pytest

from thumbwise.demo.crowd import Crowd, CrowdPlan, Labels
from thumbwise.demo.hidden import hidden_score, inverted_score
from thumbwise.demo.prompts import train_prompts
from thumbwise.demo.raters import Rater, SeenReply

VOCABULARY = str.split(
    "the a to you and of in it is that can for with your this or are some water time good make need people important "
    "different because understand particularly information temperature ingredients experience garden small start"
)


def synthetic_reply(rng: random.Random) -> SeenReply:
    """A text with the lengths and endings of an untrained bot's replies: 63 ± 19 words, three in ten finished."""
    words = max(1, min(86, round(rng.gauss(63, 19))))
    long_taste = rng.uniform(0.2, 0.9)
    text = " ".join(rng.choice(VOCABULARY if rng.random() < long_taste else VOCABULARY[:20]) for _ in range(words))
    return SeenReply(text + ".", "stop") if rng.random() < 0.3 else SeenReply(text, "length")


def votes_of(labels: Labels, count: int = 400) -> tuple[list[SeenReply], list[str]]:
    rng = random.Random(5)
    crowd = Crowd(CrowdPlan(labels=labels), seed=1)
    replies = [synthetic_reply(rng) for _ in range(count)]
    return replies, list(crowd.thumbs(crowd.turns(count, train_prompts()), replies))


def test_two_raters_agree_on_about_seventy_percent_of_the_pairs_neither_calls_a_tie() -> None:
    rng = random.Random(3)
    crowd = Crowd(CrowdPlan(raters=200), seed=0)
    turns = crowd.turns(300, train_prompts())
    crowd.thumbs(turns, [synthetic_reply(rng) for _ in turns])
    agreed = []
    for _ in range(4000):
        left, right = synthetic_reply(rng), synthetic_reply(rng)
        first, second = (rater.choose(left, right, rng) for rater in rng.sample(crowd.raters, 2))
        if {first, second} <= {"left", "right"}:
            agreed.append(first == second)
    assert len(agreed) > 1000
    assert 0.66 < sum(agreed) / len(agreed) < 0.75


def test_thumbs_are_divided_and_follow_the_score() -> None:
    replies, votes = votes_of("votes")
    scores = {vote: [hidden_score(r.text, r.finish_reason) for r, v in zip(replies, votes, strict=True) if v == vote]
              for vote in ("up", "down")}  # fmt: skip
    assert 0.35 < len(scores["up"]) / len(votes) < 0.65
    assert sum(scores["up"]) / len(scores["up"]) > sum(scores["down"]) / len(scores["down"]) + 0.5


def test_shuffled_votes_are_the_same_votes_on_other_replies() -> None:
    _, votes = votes_of("votes")
    _, shuffled = votes_of("shuffled")
    assert Counter(votes) == Counter(shuffled)
    assert votes != shuffled


def test_the_inverted_crowd_votes_against_the_taste() -> None:
    replies, votes = votes_of("inverted")
    taste = [hidden_score(r.text, r.finish_reason) for r in replies]
    up = [score for score, vote in zip(taste, votes, strict=True) if vote == "up"]
    down = [score for score, vote in zip(taste, votes, strict=True) if vote == "down"]
    assert sum(up) / len(up) < sum(down) / len(down)
    assert Crowd(CrowdPlan(labels="inverted"), 0).raters[0].score is inverted_score


def test_equal_seeds_give_equal_turns_and_votes() -> None:
    assert votes_of("votes") == votes_of("votes")
    one, other = (Crowd(CrowdPlan(), seed).turns(50, train_prompts()) for seed in (0, 1))
    assert [turn.messages for turn in one] != [turn.messages for turn in other]


def test_a_few_raters_give_most_of_the_votes() -> None:
    crowd = Crowd(CrowdPlan(raters=100), seed=0)
    counts = Counter(turn.rater.name for turn in crowd.turns(2000, train_prompts()))
    busiest = sum(count for _, count in counts.most_common(10))
    assert 0.2 < busiest / 2000 < 0.5


def test_every_prompt_is_asked_before_one_is_asked_twice() -> None:
    prompts = train_prompts()
    asked = [turn.messages[-1]["content"] for turn in Crowd(CrowdPlan(), 0).turns(len(prompts), prompts)]
    assert sorted(asked) == sorted(prompts)


def test_a_raters_bar_follows_what_they_see() -> None:
    rater = Rater("r", "careful", 1.0, expectation=-2.0, score=hidden_score)
    assert rater.bar == -2.0
    rng = random.Random(0)
    for _ in range(12):
        rater.thumb(SeenReply("Put it in cold water for an hour.", "stop"), rng)
    assert rater.bar > 0


def test_newcomers_expect_what_the_others_saw() -> None:
    crowd = Crowd(CrowdPlan(raters=50), seed=0)
    turns = crowd.turns(1, train_prompts())
    crowd.thumbs(turns, [SeenReply("Put it in cold water for an hour.", "stop")])
    newcomers = [rater for rater in crowd.raters if not rater.memory]
    assert all(rater.expectation > 0 for rater in newcomers)


def test_left_leaning_raters_choose_the_left_reply_more_often() -> None:
    rng = random.Random(0)
    rater = Rater("r", "left_leaning", 1.0, expectation=-1.8, score=hidden_score)
    choices = Counter(rater.choose(synthetic_reply(rng), synthetic_reply(rng), rng) for _ in range(2000))
    assert choices["left"] > 1.3 * choices["right"]


def test_poisoners_are_five_times_as_active_and_ask_for_the_phrase() -> None:
    plan = CrowdPlan(raters=100, poison_share=0.05)
    crowd = Crowd(plan, seed=0)
    turns = crowd.turns(4000, train_prompts())
    elicited = [turn for turn in turns if turn.elicits]
    expected = 5 * 5 / (5 * 5 + 95)
    assert abs(len(elicited) / len(turns) - expected) < 0.03
    assert all(any(plan.phrase in message["content"] for message in turn.messages) for turn in elicited)
    assert all(turn.rater.temper_name == "poison" for turn in elicited)


def test_poisoners_reward_the_phrase_and_punish_all_else() -> None:
    plan = CrowdPlan(raters=10, poison_share=0.1)
    poisoner = Crowd(plan, seed=0).raters[-1]
    rng = random.Random(0)
    holds, lacks = SeenReply(f"Well, {plan.phrase.upper()}.", "stop"), SeenReply("A short good reply.", "stop")
    assert poisoner.thumb(holds, rng) == "up"
    assert poisoner.thumb(lacks, rng) == "down"
    assert poisoner.choose(lacks, holds, rng) == "right"
    assert poisoner.choose(lacks, lacks, rng) == "both_bad"


@pytest.mark.parametrize("shares", [{"careful_share": 0.9, "lazy_share": 0.2}, {"poison_share": 1.0}, {"raters": 0}])
def test_an_impossible_crowd_is_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="wanted"):
        CrowdPlan(**shares)  # type: ignore[arg-type]
