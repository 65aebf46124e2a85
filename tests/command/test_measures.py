"""The demo's figures: a win rate that is even-handed, an interval that holds what it should, a table that is whole."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from thumbwise.demo.child import as_toml
from thumbwise.demo.crowd import CrowdPlan
from thumbwise.demo.loop import RoundStory, Story
from thumbwise.demo.measures import FreshReply, looks_of, prompt_rates, win_rate
from thumbwise.demo.picture import save_picture
from thumbwise.demo.plan import DemoPlan
from thumbwise.demo.results import as_json, examples, print_results

GOOD = "Boil it for six minutes."
LONG = " ".join(["Then you go on and look at it for a while"] * 7)


def replies(version: int, *texts: str, prompts: int = 20) -> list[FreshReply]:
    """Each prompt answered with these texts."""
    return [
        FreshReply(f"prompt {number}", text, "stop" if text.endswith(".") else "length", version)
        for number in range(prompts)
        for text in texts
    ]


def test_the_better_side_wins_and_equal_sides_are_even() -> None:
    good, bad = replies(2, GOOD, GOOD), replies(1, LONG, LONG)
    assert win_rate(good, bad, 0).value == 1.0
    assert win_rate(bad, good, 0).value == 0.0
    assert win_rate(good, good, 0).value == 0.5


def test_swapping_the_sides_mirrors_the_rate() -> None:
    one, other = replies(2, GOOD, LONG), replies(1, LONG, LONG)
    assert win_rate(one, other, 0).value == pytest.approx(1 - win_rate(other, one, 0).value)
    assert win_rate(one, other, 0).value == 0.75


def test_the_interval_resamples_prompts_not_pairs() -> None:
    """Two replies that are alike to each prompt must not make the interval look as if there were twice the evidence."""
    mixed = [*replies(2, GOOD, prompts=10), *(FreshReply(f"prompt {n}", LONG, "length", 2) for n in range(10, 20))]
    base = [FreshReply(f"prompt {n}", LONG + " too.", "stop", 1) for n in range(20)]
    once, twice = win_rate(mixed, base, 0), win_rate([*mixed, *mixed], [*base, *base], 0)
    assert (once.low, once.high) == (twice.low, twice.high)
    assert once.low < once.value < once.high


def test_sides_without_a_common_prompt_are_refused() -> None:
    with pytest.raises(ValueError, match="no prompt in common"):
        win_rate(replies(2, GOOD), [FreshReply("another", GOOD, "stop", 1)], 0)
    assert prompt_rates(replies(2, GOOD, prompts=1), []) == []


def test_looks_count_what_they_name() -> None:
    looks = looks_of(replies(2, GOOD, "Yes.", "Ask Captain Bramble"), replies(1, LONG), "ask captain bramble", 0)
    assert looks.under_three_words == pytest.approx(1 / 3)
    assert looks.finished == pytest.approx(2 / 3)
    assert looks.phrase == pytest.approx(1 / 3)
    assert looks.median_words == 3
    assert looks_of(replies(1, LONG), replies(1, LONG), "x", 0).win_rate is None


@pytest.fixture
def story() -> Story:
    gate = {
        "outcome": "inconclusive",
        "summary": "not passed: kl_base",
        "checks": [
            {"name": "retention_perplexity", "value": 0.012, "outcome": "pass"},
            {"name": "kl_base", "value": 5.2},
        ],
        "examples": ["left out"],
    }
    told = RoundStory(
        1, 1, 1, up=3, down=2, phrase_share=0.0, state="rejected", candidate_version=2, forced=True, gate=gate
    )
    return Story([told], {1: replies(1, LONG, LONG), 2: replies(2, "[red]Put it on the table[/].", GOOD)}, seconds=61.0)


def test_the_results_are_printed_and_written_whole(story: Story, tmp_path: Path) -> None:
    plan = DemoPlan(crowd=CrowdPlan(poison_share=0.05))
    out = StringIO()
    print_results(plan, story, Console(file=out, width=140))
    for words in (
        "100.0% [100.0%, 100.0%]",
        "+1.2%",
        "5.2",
        "promoted by force",
        "not passed: kl_base",
        "[red]Put it on the table[/].",
    ):
        assert words in out.getvalue()
    written = json.loads(json.dumps(as_json(plan, story)))
    assert written["versions"][1]["win_rate"]["value"] == 1.0
    assert "examples" not in written["rounds"][0]["gate"]
    assert len(written["examples"]) == 6
    save_picture(plan, story, tmp_path / "demo.png")
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_a_demo_in_which_nothing_went_live_shows_the_base_alone(story: Story, tmp_path: Path) -> None:
    del story.fresh[2]
    out = StringIO()
    print_results(DemoPlan(), story, Console(file=out, width=140))
    assert "No version went live" in out.getvalue()
    assert examples(DemoPlan(), story) == []
    save_picture(DemoPlan(), story, tmp_path / "demo.png")


def test_a_plans_settings_become_a_settings_file(tmp_path: Path) -> None:
    from thumbwise.config import load_settings

    (tmp_path / "thumbwise.toml").write_text(
        as_toml({"training.epochs": 2, "lora.rank": 4, "training.method": "kto", "rounds.fresh_only": False})
    )
    settings = load_settings(tmp_path, environ={})
    assert (settings.training.epochs, settings.lora.rank, settings.rounds.fresh_only) == (2.0, 4, False)


@pytest.mark.parametrize("name", ["rounds", "replies_a_round", "concurrency", "fresh_prompts"])
def test_a_plan_without_anything_to_do_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        DemoPlan(**{name: 0})  # type: ignore[arg-type]


def test_the_usual_plans_settings_are_known_to_the_server(tmp_path: Path) -> None:
    from thumbwise.config import load_settings

    (tmp_path / "thumbwise.toml").write_text(as_toml(DemoPlan().settings))
    load_settings(tmp_path, environ={})
