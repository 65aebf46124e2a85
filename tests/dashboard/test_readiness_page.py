"""What readiness says, on the Rounds page and on the Annotate page."""

from collections.abc import Callable

from tests.dashboard.conftest import House, Person
from tests.trainer.test_readiness_stores import choices, label, reward_round, thumbs


def test_the_rounds_page_says_what_each_method_lacks_in_numbers(house: House, person: Callable[..., Person]) -> None:
    house.store.write(thumbs(30, 3))
    page = person("operator").get("/dashboard/rounds").text
    assert "167 more thumbs, 47 of them down" in page
    assert "not known: too few rated the same" in page and "wrong tool" not in page


def test_the_pages_count_the_labels_that_a_weak_reward_model_asked_for(
    house: House, person: Callable[..., Person]
) -> None:
    for fill in (choices(30, judged_by=2, agreeing=0.1), reward_round([0.1] * 14 + [-0.1] * 11), label(3)):
        house.store.write(fill)
    olga = person("operator")
    annotate, rounds = olga.get("/dashboard/annotate").text, olga.get("/dashboard/rounds").text
    assert "3 of 25 labels until PPO may run" in annotate
    assert "3 of 25 labels until PPO may run" in rounds
    assert "below its bar" in rounds and "right on 56 %; agreement allows 82 %" in rounds
    assert "Alignment is the wrong tool here." in rounds and "People cannot agree" in rounds
    chinese = olga.client.get("/dashboard/rounds", headers={"accept-language": "zh-Hans"}).text
    assert "这里不适合用对齐训练" in chinese and "还差" in chinese
