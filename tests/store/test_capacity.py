"""The store of many raters in small (`make bench-capacity` goes to a million), and what of it must not grow faster."""

from pathlib import Path

from sqlalchemy import event

from benchmarks import capacity
from benchmarks._capacity_fill import grow
from benchmarks._capacity_step import STEPS
from feedback_store import exports, feedback
from feedback_store.store import Store
from tests.databases import url_of


def test_a_store_that_grew_is_one_that_was_filled_at_once_and_every_look_at_it_works(tmp_path: Path) -> None:
    with Store.open(url_of(tmp_path / "grown")) as grown, Store.open(url_of(tmp_path / "filled")) as filled:
        grow(grown, 0, 100)
        grow(grown, 100, 300)
        grow(filled, 0, 300)
        counted = grown.read(feedback.counts)
        assert counted["events"] == filled.read(feedback.counts)["events"] > 350
        assert counted["raters"] == 300 and counted["verdicts"] == 30
        for step in STEPS.values():
            assert step(grown) >= 0
        assert STEPS["selection"](grown) > 50


def test_an_export_asks_for_no_more_the_more_raters_there_are_beside_it(tmp_path: Path) -> None:
    """Who declined was once read whole for each five hundred acts: a million raters' export took hours."""
    with Store.open(url_of(tmp_path)) as store:
        grow(store, 0, 1_200)
        asked: list[str] = []
        event.listen(
            store._databases.readers, "before_cursor_execute", lambda c, k, statement, *_: asked.append(statement)
        )
        with store.reading() as connection:
            rows = list(exports.export_rows(connection, "unpaired"))
        of_raters = [statement for statement in asked if "FROM raters" in statement and "rater_id IN" not in statement]
        assert len(rows) > 500 and not of_raters
        assert [row["reply_id"] for row in rows if int(row["reply_id"][1:].partition("-")[0]) % 7 == 0] == []


def test_the_table_holds_each_size_beside_what_the_smaller_one_lets_expect() -> None:
    def size(raters: int, seconds: float) -> capacity.Size:
        looks = dict.fromkeys(capacity.STEPS, capacity.Look(seconds, 100.0 * seconds, 7))
        return capacity.Size(raters, 7, 50.0 * seconds, 1.0, looks)

    found = {row.case: row for row in capacity.rows([size(1_000, 1.0), size(10_000, 20.0)])}
    assert found["1,000 raters: readiness"].peer is None
    assert (found["10,000 raters: readiness"].ours, found["10,000 raters: readiness"].peer) == (20, 10)
    assert found["10,000 raters: the People page's figures"].peer == 1
    assert found["10,000 raters: most memory of any of them"].peer == 1_000
