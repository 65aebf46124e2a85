"""Charts are read at a glance: their labels stand beside each other, the first and the last always."""

from itertools import pairwise

import pytest

from feedback_store.dashboard.charts import LEFT, RIGHT, WIDTH, Point, line_chart, thinned


@pytest.mark.parametrize("label", ["{n}", "comparison {n}", "第 {n} 次比较", "a place whose name is rather long {n}"])
@pytest.mark.parametrize("count", [1, 2, 3, 38])
def test_the_places_of_the_x_axis_do_not_run_into_each_other(label: str, count: int) -> None:
    points = [Point(float(n), 0.5, label.format(n=n)) for n in range(count)]
    chart = line_chart("anything", [("", points)], str)
    assert chart is not None
    places = [x for x, _ in chart.marks]
    assert chart.marks[0][1] == points[0].at and chart.marks[-1][1] == points[-1].at
    assert all(LEFT <= x <= WIDTH - RIGHT for x in places)
    wide = 11.5 if "第" in label else 6.0
    if len(places) > 2:  # with two, both ends are needed, however long they are
        assert all(right - left > wide * len(label) * 0.7 for left, right in pairwise(places))


def test_a_longer_series_is_thinned_and_keeps_its_ends() -> None:
    points = [Point(float(n), float(n), str(n)) for n in range(1000)]
    kept = thinned(points, 40)
    assert len(kept) == 40 and (kept[0], kept[-1]) == (points[0], points[-1])
