"""Krippendorff's α: hand values, what is not defined, and its interval."""

import pytest

from feedback_store.agreement import agreement, krippendorff_alpha

# Krippendorff's own example: four observers, twelve units, some values missing. His values: nominal 0.743, interval
# 0.849.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)
UNITS = [[float(value) for value in unit if value is not None] for unit in zip(*OBSERVERS, strict=True)]


def test_alpha_of_krippendorffs_example_is_his() -> None:
    assert krippendorff_alpha(UNITS, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(UNITS, "interval") == pytest.approx(0.849, abs=5e-4)


def test_alpha_of_two_people_on_four_units_by_hand() -> None:
    # Coincidences: o(1,1) = 4, o(0,0) = 2, o(0,1) = o(1,0) = 1; n = 8, n1 = 5, n0 = 3.
    # D_o = 2/8, D_e = 2·5·3 / (8·7) = 30/56, so α = 1 − (1/4)/(30/56) = 8/15.
    units = [[1, 1], [1, 1], [0, 0], [0, 1]]
    assert krippendorff_alpha([list(map(float, unit)) for unit in units]) == pytest.approx(8 / 15)


def test_perfect_agreement_is_one_and_systematic_disagreement_below_zero() -> None:
    assert krippendorff_alpha([[1, 1], [0, 0], [1, 1]]) == 1
    found = krippendorff_alpha([[1, -1], [-1, 1], [1, -1]])
    assert found is not None and found < 0


def test_alpha_is_not_defined_without_two_values_a_unit_or_when_all_say_the_same() -> None:
    for units in ([], [[1.0]], [[1.0], [0.0]], [[1.0, 1.0], [1.0, 1.0]]):
        found = agreement(units)
        assert (found.alpha, found.low, found.high) == (None, None, None)
    assert agreement([[1.0], [1.0, 0.0]]).units == 1


def test_the_interval_holds_alpha_and_is_wider_when_units_come_in_clusters() -> None:
    units = [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0]] * 8
    alone = agreement(units)
    together = agreement(units, cluster=[number // 12 for number in range(len(units))])
    assert alone.alpha is not None and alone.low is not None and alone.high is not None
    assert alone.low < alone.alpha < alone.high
    assert alone == agreement(units)  # seeded
    assert together.alpha == pytest.approx(alone.alpha)
    with pytest.raises(ValueError, match="cluster has 1 ids"):
        agreement(units, cluster=[1])
