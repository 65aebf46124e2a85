"""Charts as geometry: what a template draws as SVG, with the same numbers in words beside it.

Drawn on the server: they are there without a script, print, cost no library, and a screen reader gets the numbers. All
are small (360 × 170 units, about the pixels of a phone), so that their type stays readable at any width; a page sets
several side by side.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from unicodedata import east_asian_width

WIDTH, HEIGHT = 360, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 24
MOST_ROWS = 40
"""Of the table beside a chart: a longer series is thinned evenly, its ends kept."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a place; `low` and `high` bound its interval. `at`: the place in words."""

    x: float
    y: float
    at: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A drawn series."""

    name: str
    path: str
    band: str
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart. `grid` and `marks` are places with their labels; `points` is what a cursor can read (JSON);
    `threshold`: the height of a dashed line."""

    title: str
    latest: str
    summary: str
    lines: tuple[Line, ...]
    grid: tuple[tuple[float, str], ...]
    marks: tuple[tuple[float, str], ...]
    points: str
    rows: tuple[tuple[str, ...], ...]
    threshold: float | None = None


def line_chart(
    title: str,
    series: Sequence[tuple[str, Sequence[Point]]],
    spoken: Callable[[float], str],
    *,
    latest: str = "",
    floor: float | None = None,
    ceiling: float | None = None,
    threshold: float | None = None,
) -> Chart | None:
    """Draw series over a common x; None when there is no point. floor, ceiling: what the y axis must reach. threshold:
    a dashed line across."""
    known = [(name, [point for point in points if math.isfinite(point.y)]) for name, points in series]
    everything = [point for _, points in known for point in points]
    if not everything:
        return None
    values = [point.y for point in everything]
    bounds = [bound for point in everything for bound in (point.low, point.high) if bound is not None]
    low, high = min(values + bounds), max(values + bounds)
    air = (high - low or abs(high) or 1.0) * 0.08
    low, high = low - air, high + air
    low = low if floor is None else min(floor, low + air)
    high = high if ceiling is None else max(ceiling, high - air)
    x_of = _scale(min(point.x for point in everything), max(point.x for point in everything), LEFT, WIDTH - RIGHT)
    y_of = _scale(low, high, HEIGHT - BOTTOM, TOP)
    lines = tuple(_line(name, points, x_of, y_of) for name, points in known)
    cursor = [
        [round(x_of(point.x), 1), round(y_of(point.y), 1), _said(point, spoken, name if len(known) > 1 else "")]
        for name, points in known
        for point in points
    ]
    last = everything[-1]
    return Chart(
        title=title,
        latest=latest or _said(last, spoken, ""),
        summary=f"{title}: {_said(everything[0], spoken, '')} … {_said(last, spoken, '')}; "
        f"{spoken(min(values))} – {spoken(max(values))}",
        lines=lines,
        grid=tuple((round(y_of(value), 1), spoken(value)) for value in ticks(low, high, 4)),
        marks=_marks(everything, x_of),
        points=json.dumps(cursor),
        rows=tuple(
            (point.at, *([name] if len(known) > 1 else []), _value(point, spoken))
            for name, points in known
            for point in thinned(points, MOST_ROWS)
        ),
        threshold=None if threshold is None or not low <= threshold <= high else round(y_of(threshold), 1),
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers in [low, high], about `count` of them: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(1, count)
    if rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` of the points, evenly spread, the ends among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(index * (len(points) - 1) / (most - 1))] for index in range(most)]


@dataclass(frozen=True, slots=True)
class Whisker:
    """A value with its interval on a scale from 0 to 100, and where the line to pass is."""

    value: float | None
    low: float | None
    high: float | None
    marks: tuple[float, ...]


def whisker(
    value: float | None, interval: Sequence[float] | None, scale: tuple[float, float], marks: Sequence[float] = ()
) -> Whisker:
    """Place a value, its interval and thresholds on a common scale; what lies beyond it is put at its end."""
    place = _scale(*scale, 2.0, 98.0)

    def at(number: float | None) -> float | None:
        return None if number is None else round(min(98.0, max(2.0, place(number))), 1)

    low, high = interval if interval is not None else (None, None)
    return Whisker(at(value), at(low), at(high), tuple(round(min(98.0, max(2.0, place(one))), 1) for one in marks))


def _line(name: str, points: Sequence[Point], x_of: Callable[[float], float], y_of: Callable[[float], float]) -> Line:
    def path(pairs: Sequence[tuple[float, float]]) -> str:
        return "".join(f"{'L' if index else 'M'}{x_of(x):.1f} {y_of(y):.1f}" for index, (x, y) in enumerate(pairs))

    bounded = [point for point in points if point.low is not None and point.high is not None]
    band = ""
    if len(bounded) > 1:
        upper = [(point.x, point.high or 0.0) for point in bounded]
        lower = [(point.x, point.low or 0.0) for point in reversed(bounded)]
        band = path(upper + lower) + "Z"
    dots = tuple((round(x_of(point.x), 1), round(y_of(point.y), 1)) for point in points) if len(points) <= 31 else ()
    if len(points) > 31:
        dots = ((round(x_of(points[-1].x), 1), round(y_of(points[-1].y), 1)),)
    return Line(name, path([(point.x, point.y) for point in points]), band, dots)


def _marks(points: Sequence[Point], x_of: Callable[[float], float]) -> tuple[tuple[float, str], ...]:
    """Label a few places of the x axis, the first and the last always, as many as stand beside each other."""
    places = {point.x: point.at for point in points}
    xs = sorted(places)
    for wanted in range(min(4, len(xs)), 2, -1):
        chosen = sorted({xs[round(index * (len(xs) - 1) / (wanted - 1))] for index in range(wanted)})
        if _stand_apart([(x_of(x), _width(places[x])) for x in chosen]):
            break
    else:
        chosen = sorted({xs[0], xs[-1]})
    return tuple((round(x_of(x), 1), places[x]) for x in chosen)


def _stand_apart(labels: Sequence[tuple[float, float]]) -> bool:
    """Whether labels of these middles and widths leave each other room; the last one ends where its place is."""
    spans = [(x - width / 2, x + width / 2) for x, width in labels[:-1]]
    spans.append((labels[-1][0] - labels[-1][1], labels[-1][0]))
    return all(before[1] + 6 <= after[0] for before, after in pairwise(spans))


def _width(text: str) -> float:
    """About how wide a label is drawn: Chinese characters are square."""
    return sum(11.5 if east_asian_width(letter) in "WF" else 6.3 for letter in text)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    if high == low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _said(point: Point, spoken: Callable[[float], str], name: str) -> str:
    return f"{name + ': ' if name else ''}{_value(point, spoken)} · {point.at}"


def _value(point: Point, spoken: Callable[[float], str]) -> str:
    if point.low is None or point.high is None:
        return spoken(point.y)
    return f"{spoken(point.y)} ({spoken(point.low)} – {spoken(point.high)})"
