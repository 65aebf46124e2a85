"""A round's folder and the lines of its process: what is written is what is read."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.trainer.parts import question, reply_text
from trainer.events import EventWriter, parse_event
from trainer.job import (
    CANCEL_FILE,
    HELD_OUT_FILE,
    JOB_FILE,
    TRAIN_FILE,
    Job,
    PairRow,
    PromptRow,
    VoteRow,
    read_job,
    read_prompts,
    read_rows,
    remove_texts,
    write_job,
)

ROWS = (
    VoteRow(1, 0, question('ünï "quoted"\n<|im_end|>'), reply_text("a\u2028b", logprob_nats=-1.5), True),
    PairRow(2, 1, question("x"), reply_text("y", ended_by_stop_text=True), reply_text("z", finish_reason="length")),
)


def test_a_folder_reads_back_as_it_was_written(job: Job, tmp_path: Path) -> None:
    prompts = [PromptRow(question("p"), "reply-9"), PromptRow(question("q"))]
    job = replace(job, live_adapter_sha256="a" * 64, live_version=3)
    (tmp_path / CANCEL_FILE).touch()
    write_job(tmp_path, job, ROWS[:1], ROWS, prompts)
    assert read_job(tmp_path) == job
    assert read_rows(tmp_path, TRAIN_FILE) == [ROWS[0]]
    assert read_rows(tmp_path, HELD_OUT_FILE) == list(ROWS)
    assert read_prompts(tmp_path) == prompts
    assert not (tmp_path / CANCEL_FILE).exists(), "an old wish to stop is forgotten"
    assert job.live_adapter_dir == Path(job.adapters_dir) / ("a" * 64)


def test_texts_are_removed_and_the_rest_stays(job: Job, tmp_path: Path) -> None:
    write_job(tmp_path, job, ROWS, ROWS, [PromptRow(question("p"))])
    remove_texts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [JOB_FILE]


def test_an_unknown_key_in_a_job_is_named(job: Job, tmp_path: Path) -> None:
    write_job(tmp_path, job, (), (), ())
    values = json.loads((tmp_path / JOB_FILE).read_text()) | {"methd": "kto"}
    (tmp_path / JOB_FILE).write_text(json.dumps(values))
    with pytest.raises(ValueError, match="unknown key 'methd'"):
        read_job(tmp_path)


def test_an_event_is_one_line_and_a_number_that_is_not_finite_is_missing() -> None:
    stream = io.StringIO()
    EventWriter(stream)("metric", step=3, values={"loss": 0.5, "grad_norm": math.nan, "list": [math.inf, 1]})
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert parse_event(line) == {
        "event": "metric",
        "step": 3,
        "values": {"loss": 0.5, "grad_norm": None, "list": [None, 1]},
    }


@pytest.mark.parametrize("line", ["", "hello", '{"event": "metr', "[]", '{"event": "unknown"}', "3"])
def test_what_is_no_event_is_passed_over(line: str) -> None:
    assert parse_event(line) is None
