"""Feedback out and in over HTTP."""

import io
import json

import pyarrow.parquet as pq
import pytest


@pytest.fixture
def rated(admin, chat):
    """Two thumbs, a verdict and a correction."""
    up, down = chat("one", user="anna"), chat("two", user="anna")
    pair = chat("three", user="anna", n=2, seed=1, metadata={"compare": True})
    acts = [
        {"reply_id": up["id"], "thumb": "up"},
        {"reply_id": down["id"], "thumb": "down"},
        {"comparison_id": pair["comparison_id"], "verdict": pair["choices"][0]["reply_id"]},
        {"reply_id": down["id"], "correction": "better words"},
    ]
    for act in acts:
        assert admin.post("/v1/feedback", json={"rater": "anna", **act}).status_code == 200


def rows_of(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize(("format", "count"), [("events", 4), ("unpaired", 2), ("preference", 1), ("sft", 1)])
def test_every_format_goes_out_and_comes_back_without_doubling(admin, rated, format, count):
    exported = admin.get("/v1/export", params={"format": format})
    assert len(rows_of(exported)) == count
    report = admin.post("/v1/import", params={"format": format}, content=exported.content)
    assert report.status_code == 200
    assert (report.json()["rows"], report.json()["added"]) == (count, 0)


def test_filters_narrow_an_export(admin, rated):
    assert rows_of(admin.get("/v1/export?since=2999-01-01T00:00:00Z")) == []
    assert rows_of(admin.get("/v1/export?channel=web")) == []
    assert rows_of(admin.get("/v1/export?policy_version=2")) == []
    assert len(rows_of(admin.get("/v1/export?until=2999-01-01T00:00:00%2B02:00&channel=api&policy_version=1"))) == 4


def test_an_export_can_be_a_parquet_file(admin, rated):
    answer = admin.get("/v1/export?format=unpaired&file=parquet")
    assert answer.headers["content-disposition"] == 'attachment; filename="thumbwise-unpaired.parquet"'
    assert sorted(pq.read_table(io.BytesIO(answer.content)).column("label").to_pylist()) == [False, True]


def test_rows_of_another_program_come_in_and_a_bad_one_stops_them_all(admin):
    row = {
        "prompt": [{"role": "user", "content": "hi"}],
        "completion": [{"role": "assistant", "content": "hello"}],
        "label": True,
    }
    good, bad = json.dumps(row), json.dumps({**row, "label": "yes"})
    refused = admin.post("/v1/import?format=unpaired", content=f"{good}\n{bad}\n")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "2.label"
    assert refused.json()["report"]["bad_rows"] == 1
    assert admin.post("/v1/import?format=unpaired", content=good).json()["added"] == 1
    assert len(rows_of(admin.get("/v1/export?format=unpaired"))) == 1


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("format=csv", "format"),
        ("since=yesterday", "since"),
        ("since=2026-01-01T00:00:00", "since"),
        ("until=0001-01-01T00:00:00%2B14:00", "until"),
        ("channel=A%20B", "channel"),
        ("policy_version=0", "policy_version"),
        ("file=csv", "file"),
    ],
)
def test_a_bad_filter_is_named(admin, query, param):
    answer = admin.get(f"/v1/export?{query}")
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param
