"""What `make bench-training` says of its runs."""

import pytest

from benchmarks._training_work import Work
from benchmarks.training import Runs, distance, rows_of

WORK = Work(model_dir="", base_model="", dtype="float32", steps=3, threads=1, batch_size=4)


def runs(step_s: float, peak_mib: float, losses: list[float]) -> Runs:
    """Three repeats, one of them disturbed."""
    results = [
        {"first_s": 2 * own, "step_s": [own, own], "losses": losses} for own in (step_s, 10 * step_s, 0.9 * step_s)
    ]
    return Runs(results, [peak_mib, peak_mib + 1, peak_mib - 1])


def test_ours_stands_beside_each_peer_that_ran_by_its_median() -> None:
    found = {
        ("dpo", "ours"): runs(0.5, 900.0, [0.7, 0.6, 0.5]),
        ("dpo", "trl"): runs(2.0, 1800.0, [0.7, 0.6, 0.512]),
        ("dpo", "factory"): runs(4.0, 2000.0, [0.7, 0.7, 0.7]),
    }
    rows = {row.case: row for row in rows_of("dpo", found, WORK)}
    assert (rows["DPO: stock trl"].ours, rows["DPO: stock trl"].peer) == (8.0, 2.0)
    assert rows["DPO: LLaMA-Factory"].peer == 1.0
    assert rows["DPO, peak memory (PSS): stock trl"].peer == 1800.0
    assert rows["DPO, distance of the loss curves: stock trl"].ours == pytest.approx(100 * 0.004 / 0.604)
    assert not [case for case in rows if "tuned" in case]
    assert "DPO, distance of the loss curves: LLaMA-Factory" not in rows  # its first weights are others


def test_curves_of_different_lengths_are_no_curves_of_one_work() -> None:
    with pytest.raises(SystemExit, match="different work"):
        distance([0.7, 0.6], [0.7])
