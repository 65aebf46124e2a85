"""Figures that cost much: a page does not wait for them, says so, and has them when it looks again."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from feedback_store.dashboard.memory import KEPT_TIMES_ITS_COST, Memory
from scripts.seed_store import seed_store
from tests.dashboard.conftest import House, Person

COUNTING = "Being counted."


@pytest.mark.parametrize("path", ["overview", "rounds"])
def test_a_page_is_there_before_its_slow_figures_and_has_them_later(
    house: House, person: Callable[..., Person], path: str
) -> None:
    house.parts.patience_s = 0.05
    done = threading.Event()
    ready = house.parts.readiness

    def slow() -> dict:
        done.wait(30)
        return ready()

    house.parts.readiness = slow
    otto = person("operator")
    first = otto.get(f"/dashboard/{path}")
    assert first.status_code == 200 and COUNTING in first.text and "data-again" in first.text
    done.set()
    house.parts.patience_s = 20
    assert COUNTING not in otto.get(f"/dashboard/{path}").text


def test_a_page_with_figures_of_a_while_ago_looks_again(
    house: House, person: Callable[..., Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    house.parts.patience_s = 20
    otto = person("operator")
    pages = ("overview", "people", "rounds", "versions")
    for path in pages:
        assert "data-again" not in otto.get(f"/dashboard/{path}").text
    monkeypatch.setattr(Memory, "_fresh_for", lambda memory, cost_s: -1.0)
    for path in pages:
        assert "data-again" in otto.get(f"/dashboard/{path}").text


def test_win_rates_and_the_canarys_course_stand_on_the_page_of_versions(
    house: House, person: Callable[..., Person]
) -> None:
    seed_store(house.store, replies=900, events=3_000)
    page = person("operator").get("/dashboard/versions").text
    assert "Preferred over the live version" in page and "Bradley–Terry" in page
    assert "How the canary does" in page and "Comparisons that the canary won, as they came" in page
    assert 'class="threshold"' in page


def test_what_took_long_is_kept_for_longer() -> None:
    clock = [0.0]
    memory = Memory(fresh_s=5.0, clock=lambda: clock[0])
    worked: list[float] = []

    async def costs(seconds: float) -> int:
        worked.append(seconds)
        clock[0] += seconds
        return len(worked)

    async def story() -> None:
        assert await memory.get("cheap", lambda: costs(0.0)) == 1
        assert await memory.get("dear", lambda: costs(2.0)) == 2
        clock[0] += 2 * KEPT_TIMES_ITS_COST - 1
        assert await memory.get("dear", lambda: costs(2.0)) == 2
        clock[0] += 2
        assert await memory.get("dear", lambda: costs(2.0)) == 2  # worked out anew behind the page
        await asyncio.sleep(0)
        assert worked == [0.0, 2.0, 2.0]

    asyncio.run(story())


def test_what_is_not_known_in_time_is_none_and_its_error_reaches_who_waits() -> None:
    memory = Memory()

    async def story() -> None:
        gate = asyncio.Event()

        async def late() -> str:
            await gate.wait()
            return "here"

        assert await memory.soon("late", late, patience_s=0.01) is None
        gate.set()
        assert await memory.soon("late", late, patience_s=20) == "here"

        async def broken() -> str:
            raise ValueError("no figures")

        with pytest.raises(ValueError, match="no figures"):
            await memory.soon("broken", broken, patience_s=20)

    asyncio.run(story())
