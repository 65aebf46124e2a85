"""The prompts: enough of them, all different, and the fresh ones fresh."""

import re
from itertools import product

from thumbwise.demo.prompts import fresh_prompts, train_prompts


def _words(prompt: str) -> set[str]:
    return set(re.findall(r"[a-z']+", prompt.lower()))


def _likeness(one: str, other: str) -> float:
    """Jaccard index of the words."""
    return len(_words(one) & _words(other)) / len(_words(one) | _words(other))


def test_there_are_enough_distinct_prompts() -> None:
    assert len(set(train_prompts())) == len(train_prompts()) >= 260
    assert len(set(fresh_prompts())) == len(fresh_prompts()) >= 120


def test_no_fresh_prompt_is_nearly_one_of_the_rounds() -> None:
    near = [pair for pair in product(fresh_prompts(), train_prompts()) if _likeness(*pair) >= 0.6]
    assert near == []


def test_prompts_are_single_everyday_lines() -> None:
    for prompt in train_prompts() + fresh_prompts():
        assert prompt == prompt.strip()
        assert 3 <= len(prompt.split()) <= 20
